"""Spans that Envoy exports by OTLP: each span of a request that it served becomes a record for Report.

So tracespan instances may be made where no access log comes. Records of spans have ``context.protocol`` `PROTOCOL`:
a request whose access log comes as well is reported twice, and rules for requests must not count it twice. Other
spans (calls of Envoy's own, such as the checks) are no requests and are passed over.

Ids stand in ``request.headers`` as a Zipkin tracer would have sent them to the service, and ``traceparent`` as it
came: with the caller's span. Source: spec envoy 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import structlog
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import CollectorRegistry, Counter

from mixer.api.codes import Code
from mixer.api.rpc import NO_HEAD, CallHead, Methods, ServiceError
from mixer.attributes import AttributeBag, AttributeValue, Duration, MappingBag, Timestamp
from proxy.client.node import local_node
from proxy.envoy.check_bag import query_params
from proxy.envoy.log_entry import count
from proxy.envoy.values import ip_bytes
from proxy.policy import PolicyClient

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.envoy.otlp")

SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
EXPORT: Final = f"/{SERVICE}/Export"

PROTOCOL: Final = "span"
"""``context.protocol`` of these records; ``api.protocol`` says ``http`` or ``grpc``."""

REPORTED, NOT_SERVER, REJECTED, NOT_TAKEN = "reported", "not_server", "rejected", "not_taken"

_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8
_NOT_TOLD: Final = "-"


class OtlpMetrics:
    """What becomes of spans."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.spans = Counter(
            "mixer_envoy_spans",
            "Spans that came: reported, not_server (no request that Envoy served), rejected (unusable), not_taken.",
            ("outcome",),
            registry=self.registry,
        )


class Traces:
    """The trace service of OTLP."""

    def __init__(self, client: PolicyClient, metrics: OtlpMetrics) -> None:
        """Hand records to a client."""
        self._client = client
        self._metrics = metrics

    @property
    def methods(self) -> Methods:
        """The service, for a gRPC port."""
        return Methods({EXPORT: self.export})

    async def export(self, data: bytes, head: CallHead = NO_HEAD) -> bytes:
        """Take a serialized ``ExportTraceServiceRequest``; the answer tells how many spans were unusable.

        Raises:
            ServiceError: The request is malformed.
        """
        try:
            request = ExportTraceServiceRequest.FromString(data)
        except DecodeError as exc:
            raise ServiceError(Code.INVALID_ARGUMENT, f"malformed ExportTraceServiceRequest: {exc}") from exc
        faults: list[str] = []
        passed_over = 0
        for resource in request.resource_spans:
            service = _texts(resource.resource.attributes).get("service.name", "")
            records: list[AttributeBag] = []
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                if span.kind != Span.SPAN_KIND_SERVER:
                    passed_over += 1
                    continue
                try:
                    records.append(self._client.compose(MappingBag(span_attributes(span)), service=service))
                except ValueError as exc:
                    faults.append(str(exc))
            if records:
                await self._report(records, service)
        self._metrics.spans.labels(NOT_SERVER).inc(passed_over)
        answer = ExportTraceServiceResponse()
        if faults:
            self._metrics.spans.labels(REJECTED).inc(len(faults))
            answer.partial_success.rejected_spans = len(faults)
            answer.partial_success.error_message = f"the first of them: {faults[0]}"
        serialized: bytes = answer.SerializeToString()
        return serialized

    async def _report(self, records: list[AttributeBag], service: str) -> None:
        outcome = REPORTED
        try:
            waiting = self._client.report(records, service=service)
            if waiting is not None:
                await waiting
        except Exception as exc:  # the client promises not to raise; spans are not sent again if it does
            outcome = NOT_TAKEN
            log.error("spans_not_taken", spans=len(records), exc_info=exc)
        self._metrics.spans.labels(outcome).inc(len(records))


def span_attributes(span: Span) -> dict[str, AttributeValue]:
    """The attributes of a request, from the span that Envoy made of it.

    Raises:
        ValueError: Its ids or times cannot be right.
    """
    trace, own, parent = span.trace_id, span.span_id, span.parent_span_id
    if len(trace) != _TRACE_BYTES or not any(trace):
        raise ValueError(f"trace_id: {_TRACE_BYTES} bytes expected that are not all zero, got {trace.hex() or 'none'}")
    if len(own) != _SPAN_BYTES or not any(own):
        raise ValueError(f"span_id: {_SPAN_BYTES} bytes expected that are not all zero, got {own.hex() or 'none'}")
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if not 0 < start <= end < 1 << 63:
        raise ValueError(f"times: a start and an end not before it expected, got {start} and {end}")
    tags = _texts(span.attributes)
    sampled = span.flags & 1
    headers = {"x-b3-traceid": trace.hex(), "x-b3-spanid": own.hex(), "x-b3-sampled": str(sampled)}
    if any(parent):
        headers["x-b3-parentspanid"] = parent.hex()
        headers["traceparent"] = f"00-{trace.hex()}-{parent.hex()}-{sampled:02x}"
    grpc = "grpc.path" in tags or "grpc.status_code" in tags
    values: dict[str, AttributeValue] = {
        "context.protocol": PROTOCOL,
        "api.protocol": "grpc" if grpc else "http",
        "context.reporter.kind": "inbound",
        "context.proxy_error_code": tags.get("response_flags", "-"),
        "request.time": Timestamp(start),
        "response.time": Timestamp(end),
        "response.duration": Duration(end - start),
        "request.size": _number(tags.get("request_size", "")) or 0,
        "response.size": _number(tags.get("response_size", "")) or 0,
    }
    for name, tag, header in (
        ("request.method", "http.method", ":method"),
        ("request.useragent", "user_agent", "user-agent"),
        ("", "guid:x-request-id", "x-request-id"),
    ):
        text = tags.get(tag, "")
        if text and text != _NOT_TOLD:
            headers[header] = text
            if name:
                values[name] = text
    values.update(_of_url(tags.get("http.url", ""), headers))
    code = _number(tags.get("http.status_code", ""))
    values["response.code"] = 500 if code is None or not 100 <= code <= 999 else code
    if "grpc.status_code" in tags:
        values["response.grpc_status"] = tags["grpc.status_code"]
        values["response.grpc_message"] = tags.get("grpc.message", "")
    with suppress(ValueError):  # a pipe, or nothing
        values["origin.ip"] = values["source.ip"] = ip_bytes(tags.get("peer.address", ""))
    node = tags.get("node_id", "")
    if node.count("~") == 3:
        values.update({name: text for name, text in local_node({}, node).attributes(outbound=False).items() if text})
    values["request.headers"] = headers
    return values


def _of_url(url: str, headers: dict[str, str]) -> dict[str, AttributeValue]:
    """What a URL tells, which Envoy may have cut; pseudo headers are added."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    if not parts.netloc:
        return {}
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    headers[":authority"], headers[":path"] = parts.netloc, path
    found: dict[str, AttributeValue] = {
        "request.host": parts.netloc,
        "request.path": path,
        "request.scheme": parts.scheme or "http",
    }
    if parts.path:
        found["request.url_path"] = parts.path
    if parameters := query_params(path):
        found["request.query_params"] = parameters
    return found


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes that are texts, numbers or truth values, as texts: Envoy sends all of them as texts."""
    found = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        if kind == "string_value":
            found[attribute.key] = attribute.value.string_value
        elif kind in ("int_value", "bool_value", "double_value"):
            found[attribute.key] = str(getattr(attribute.value, kind))
    return found


def _number(text: str) -> int | None:
    return count(int(text)) if text.isascii() and text.isdigit() and len(text) <= 20 else None
