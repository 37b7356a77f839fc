"""A span as Zipkin's v2 JSON. Source: spec adapters 4.10, "Span construction" 5 to 7 and "Zipkin v2 JSON"."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any, Final

from mixer.adapters.spans.span import UNNAMED_SERVICE, Endpoint, Span
from mixer.attributes.values import stringify

_CANONICAL: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def encode(spans: Sequence[Span]) -> bytes:
    """A JSON list of spans."""
    return json.dumps([_object(span) for span in spans], ensure_ascii=False, separators=(",", ":")).encode()


def canonical_code(http_status: int) -> str:
    """The name of the status that an HTTP status stands for; empty when it is unknown (0)."""
    if not http_status:
        return ""
    return "OK" if 200 <= http_status < 400 else _CANONICAL.get(http_status, "UNKNOWN")


def _object(span: Span) -> dict[str, Any]:
    start_us, duration_ns = span.start_ns // 1000, span.end_ns - span.start_ns
    fields: dict[str, Any] = {
        "traceId": f"{span.trace_id:032x}" if span.trace_id >> 64 else f"{span.trace_id:016x}",
        "id": f"{span.span_id:016x}",
        "kind": "CLIENT" if span.is_client else "SERVER",
        "timestamp": start_us,
        "localEndpoint": _endpoint(span.local),
    }
    if span.parent_id:
        fields["parentId"] = f"{span.parent_id:016x}"
    if span.name:
        fields["name"] = span.name
    if duration_ns:
        fields["duration"] = max((duration_ns + 500) // 1000, 1)
    first, last = ("Sent", "Received") if span.is_client else ("Received", "Sent")
    *_, request_bytes, response_bytes = span.sizes
    fields["annotations"] = [
        {"timestamp": start_us, "value": f"{first} {request_bytes} bytes"},
        {"timestamp": span.end_ns // 1000, "value": f"{last} {response_bytes} bytes"},
    ]
    if tags := _tags(span):
        fields["tags"] = tags
    return fields


def _tags(span: Span) -> dict[str, str]:
    tags: dict[str, str] = {}
    code = canonical_code(span.http_status)
    if code:
        tags["http.status_code"] = str(span.http_status)
        tags["opencensus.status_description"] = code
        if code != "OK":
            tags["error"] = code
    tags.update((key, stringify(value)) for key, value in span.tags.items())
    return tags


def _endpoint(endpoint: Endpoint) -> dict[str, str]:
    fields = {"serviceName": endpoint.name or UNNAMED_SERVICE}
    if len(endpoint.ip) == 16:
        fields["ipv6"] = str(ipaddress.IPv6Address(endpoint.ip))
    else:
        fields["ipv4"] = str(ipaddress.IPv4Address(endpoint.ip or bytes(4)))
    return fields
