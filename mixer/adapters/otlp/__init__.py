"""otlp: spans to an OpenTelemetry Collector, Jaeger, or whatever else takes OTLP, over gRPC or HTTP.

What it shares with other exporters of spans is in `mixer.adapters.spans`; here are `params` (what an operator
writes), `encoding` (a span by OpenTelemetry's conventions, as bytes) and `receivers` (gRPC and HTTP).

Source: spec adapters 4.10; OTLP 1.x; OpenTelemetry semantic conventions for HTTP and RPC. Decisions: ADR 0013.
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.otlp.params import OtlpParams, validate
from mixer.adapters.otlp.receivers import build
from mixer.templates import TRACESPAN

INFO: Final = AdapterInfo(
    name="otlp",
    templates=(TRACESPAN,),
    params=OtlpParams,
    build=build,
    validate=validate,
    description="Sends spans of traces to an OpenTelemetry Collector or Jaeger, by OTLP over gRPC or HTTP.",
)

__all__ = ["INFO", "OtlpParams", "build"]
