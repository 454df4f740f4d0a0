"""Prometheus and Alertmanager of this home: what they are asked to watch, by which rules, and who may look.

Enters: settings. Leaves: the command and the configuration of either, and answers from them. `rules/` holds the rules
that the running Prometheus reads; `page/` is what Alertmanager shows where its package brings no page. What is measured
is the business of `its_platform.metrics`.
"""
