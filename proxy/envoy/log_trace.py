"""The trace that a request belongs to, as the ``x-b3-*`` headers that tracespan instances read.

Envoy's tracer writes ids into the headers that leave for the service: ``x-b3-*`` (Zipkin) or ``traceparent``
(OpenTelemetry). A tracer of one kind passes headers of the other kind on as they came, so a header that the client
has sent with the same value is not this hop's.
Source: spec envoy 7, W3C Trace Context.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

B3: Final = ("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled")
TRACEPARENT: Final = "traceparent"

_TRACEPARENT: Final = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII | re.DOTALL
)
_NO_HEADERS: Final[Mapping[str, str]] = {}


def b3_of(traceparent: str, parent: str = "") -> dict[str, str]:
    """The ``x-b3-*`` headers for the span in a ``traceparent``; none when it cannot be read.

    Args:
        traceparent: As it left.
        parent: As it came; its span is the parent when the trace is the same.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return {}
    trace, span, bits = found.groups()
    headers = {"x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": str(int(bits, 16) & 1)}
    before = _TRACEPARENT.fullmatch(parent)
    if before is not None and before[1] == trace and before[2] != span:
        headers["x-b3-parentspanid"] = before[2]
    return headers


def hop_headers(left: Mapping[str, str], came: Mapping[str, str] | None) -> Mapping[str, str]:
    """The ``x-b3-*`` headers of this hop.

    Args:
        left: Headers as they left for the service, those of them that are logged.
        came: Headers as they came, None when nobody saw them.
    """
    came = _NO_HEADERS if came is None else came
    b3 = {name: left[name] for name in B3 if name in left}
    span, parent = b3.get("x-b3-spanid"), left.get(TRACEPARENT, "")
    b3_is_own = span is not None and span != came.get("x-b3-spanid")
    if not b3_is_own and parent and parent != came.get(TRACEPARENT):
        return b3_of(parent, came.get(TRACEPARENT, "")) or b3
    return b3 or b3_of(parent)
