"""stdio: log entries and metrics as lines on a standard stream or in a file. Source: spec adapters 4.3.

Read in this order: `params` (what an operator writes), `lines` (what a line looks like), `sinks` and `backups`
(where lines go), `handler` (puts them together).
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.stdio.handler import StdioHandler, build
from mixer.adapters.stdio.params import StdioParams, Stream, validate
from mixer.templates import LOGENTRY, METRIC

INFO: Final = AdapterInfo(
    name="stdio",
    templates=(LOGENTRY, METRIC),
    params=StdioParams,
    build=build,
    validate=validate,
    description="Writes log entries and metrics to a standard stream or a file.",
    shared=lambda params: params.log_stream is Stream.ROTATED_FILE,  # two processes would rotate it twice
)

__all__ = ["INFO", "StdioHandler", "StdioParams", "build"]
