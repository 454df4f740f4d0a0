{# What DuckDB and PostgreSQL say differently. Both give rows to join laterally: columns `key` and `value`, or `value`. #}

{% macro json_pairs(column) -%}
    {{ return(adapter.dispatch("json_pairs")(column)) }}
{%- endmacro %}

{% macro duckdb__json_pairs(column) %}json_each({{ column }}){% endmacro %}

{% macro postgres__json_pairs(column) %}jsonb_each_text(cast({{ column }} as jsonb)){% endmacro %}


{% macro json_items(column) -%}
    {{ return(adapter.dispatch("json_items")(column)) }}
{%- endmacro %}

{% macro duckdb__json_items(column) %}json_each({{ column }}){% endmacro %}

{% macro postgres__json_items(column) %}jsonb_array_elements(cast({{ column }} as jsonb)){% endmacro %}
