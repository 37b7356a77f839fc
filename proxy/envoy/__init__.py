"""Envoy's protocols: external authorization, rate limits, access logs, spans; and the configuration that an Envoy needs.

Questions and their answers:

* `ext_authz`, `ext_authz_http`, `rate_limit`: the services; `http1` carries the second one;
* `question`: a question over gRPC, `check_bag`: any question as an attribute bag;
* `identity`: who calls, `values`: attributes that come as text;
* `answers`: verdicts as Envoy takes them;
* `keeping`, `correlation`: what a check leaves for its report, and how it travels.

Logs:

* `access_log`, `otlp`: the services;
* `log_http`, `log_tcp`: tables from entries to attributes, over `log_entry`, `log_bag`, `log_trace` and `flags`;
* `log_record`: the check's record in an entry, `recent`: checks of connections for entries that cannot have one yet;
* `log_connections`: which events of a connection are reported.

Configuration:

* `bootstrap`: what Envoy is told, written by ``mixproxy envoy-config``;
* `paths`, `gen`, `proto`, `generate`: names of the services, and their messages.

`metrics` counts for all of them.
"""
