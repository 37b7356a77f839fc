"""zipkin: spans to Zipkin, or to whatever takes its v2 JSON over HTTP. Source: spec adapters 4.10.

What it shares with other exporters of spans is in `mixer.adapters.spans`; here are `params` (what an operator
writes) and `encoding` (a span as Zipkin reads it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixer.adapters.base import AdapterInfo, Env, InstanceInfo
from mixer.adapters.spans.courier import Taken
from mixer.adapters.spans.handler import SpanHandler, start
from mixer.adapters.spans.http import Poster
from mixer.adapters.spans.params import Limits, plain_headers
from mixer.adapters.spans.span import Span
from mixer.adapters.zipkin.encoding import encode
from mixer.adapters.zipkin.params import BATCH, ZipkinParams, validate
from mixer.templates import TRACESPAN


class ZipkinReceiver:
    """A collector; any 2xx says that it took the whole batch."""

    def __init__(self, poster: Poster) -> None:
        self._poster = poster

    def encode(self, spans: Sequence[Span], /) -> bytes:
        """A JSON list."""
        return encode(spans)

    async def send(self, body: bytes, /) -> Taken:
        """POST it."""
        await self._poster.post(body)
        return Taken()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._poster.aclose()


async def build(params: ZipkinParams, instances: Sequence[InstanceInfo], env: Env) -> SpanHandler:
    """A running handler."""
    limits = Limits.of(params, batch=BATCH)
    headers = {**plain_headers(params.headers), "content-type": "application/json"}
    receiver = ZipkinReceiver(Poster(params.url, headers, timeout_s=limits.timeout_s))
    return start("zipkin", params, receiver, limits, env)


INFO: Final = AdapterInfo(
    name="zipkin",
    templates=(TRACESPAN,),
    params=ZipkinParams,
    build=build,
    validate=validate,
    description="Sends spans of traces to Zipkin, as JSON over HTTP; Jaeger and others take it, too.",
)

__all__ = ["INFO", "ZipkinParams", "build"]
