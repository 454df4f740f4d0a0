{# A time as UTC without a zone, whatever the session's zone: days and hours are the same on every server. #}
{% macro utc(column) %}({{ column }} at time zone 'UTC'){% endmacro %}
