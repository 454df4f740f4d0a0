"""The platform's own figures, for Prometheus: a small server that reads them when it is asked.

Enters: what the tables, the processes and the files of a home say. Leaves: `/metrics` over TLS, to those who have the
certificate of the platform's client. What could not be read is absent and counted, never zero. Triton tells its own
figures and those of the front by itself; which of all of them are a reason to tell somebody stands in
`its_platform/alerting/rules`.
"""
