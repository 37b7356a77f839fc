"""fluentd: log entries to Fluentd, or to whatever speaks its Forward protocol. Source: spec adapters 4.2.

Read in this order: `params` (what an operator writes), `entries` (a log entry as bytes), `chunks` (what is sent and
acknowledged), `memory` or `spool` (where entries wait; on disk in `journal` and `records`), `connection` and `shipper` (how they leave), `ledger` (what became of
them), `handler` (puts them together).
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.fluentd.handler import FluentdHandler, build
from mixer.adapters.fluentd.params import FluentdParams, validate
from mixer.templates import LOGENTRY

INFO: Final = AdapterInfo(
    name="fluentd",
    templates=(LOGENTRY,),
    params=FluentdParams,
    build=build,
    validate=validate,
    description="Sends log entries to Fluentd; buffers them, in memory or on disk, while it is away.",
)

__all__ = ["INFO", "FluentdHandler", "FluentdParams", "build"]
