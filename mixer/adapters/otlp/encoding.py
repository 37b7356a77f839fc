"""A span by OpenTelemetry's semantic conventions, in the SDK's form and as bytes.

Source: semantic conventions 1.4x, "HTTP spans", "RPC spans" and "gRPC"; spec adapters 4.10 for what a span is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Final

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.network_attributes import (
    NETWORK_LOCAL_ADDRESS,
    NETWORK_PEER_ADDRESS,
    NETWORK_PROTOCOL_NAME,
)
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mixer.adapters.spans.span import UNNAMED_SERVICE, Span, TagValue
from mixer.attributes.values import format_ip

# Names that the conventions do not promise to keep, and the library therefore not either.
HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"
HTTP_REQUEST_SIZE: Final = "http.request.size"
HTTP_RESPONSE_SIZE: Final = "http.response.size"
RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
RPC_GRPC_STATUS_CODE: Final = "rpc.grpc.status_code"
SERVICE_PEER_NAME: Final = "service.peer.name"

_SIZES: Final = (HTTP_REQUEST_BODY_SIZE, HTTP_RESPONSE_BODY_SIZE, HTTP_REQUEST_SIZE, HTTP_RESPONSE_SIZE)
_UNNAMED_SPAN: Final = "unknown"
_SERVICES: Final = 1024
"""How many resources are remembered; their names come from traffic."""
_UNSET: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)
_GRPC_NAMES: Final[Mapping[str, str]] = {
    text: code.name for code in grpc.StatusCode for text in (str(code.value[0]), code.name)
}
_GRPC_SERVER_ERRORS: Final = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)


class _Resource(Resource):
    """The encoder groups spans by resource, and the library's hash writes JSON each time; these are unique by name."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class SpanEncoder:
    """Makes requests of spans; every service that reports is a resource of its own."""

    def __init__(self, resource_attributes: Mapping[str, str]) -> None:
        attributes = dict(resource_attributes)

        def resource(service: str) -> Resource:
            return _Resource({**attributes, SERVICE_NAME: service or UNNAMED_SERVICE})

        self._resource: Callable[[str], Resource] = functools.lru_cache(maxsize=_SERVICES)(resource)
        self._scope = InstrumentationScope("mixer", version("mixer"))

    def encode(self, spans: Sequence[Span]) -> bytes:
        """An ``ExportTraceServiceRequest``.

        Raises:
            ValueError: A span holds what protobuf cannot.
        """
        request = encode_spans([self._readable(span) for span in spans])
        return bytes(request.SerializeToString())

    def _readable(self, span: Span) -> ReadableSpan:
        attributes, status = conventional(span)
        return ReadableSpan(
            name=span.name or _UNNAMED_SPAN,
            context=SpanContext(span.trace_id, span.span_id, False, _SAMPLED),
            parent=SpanContext(span.trace_id, span.parent_id, not span.is_client) if span.parent_id else None,
            resource=self._resource(span.local.name),
            attributes=attributes,
            kind=SpanKind.CLIENT if span.is_client else SpanKind.SERVER,
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


def conventional(span: Span) -> tuple[dict[str, TagValue], Status]:
    """The attributes and the status of a span; a tag wins over what follows from the instance's other fields.

    A tag whose text is empty is left out: an expression has no other way to say that there is nothing to say.
    """
    attributes: dict[str, TagValue] = {name: size for name, size in zip(_SIZES, span.sizes, strict=True) if size}
    if 100 <= span.http_status <= 599:
        attributes[HTTP_RESPONSE_STATUS_CODE] = span.http_status
    is_grpc = span.protocol.lower() == "grpc"
    if is_grpc:
        attributes[RPC_SYSTEM_NAME] = "grpc"
    elif span.protocol:
        attributes[NETWORK_PROTOCOL_NAME] = span.protocol.lower()
    _name_ends(span, attributes)
    attributes.update((key, value) for key, value in span.tags.items() if value != "")
    error = ""
    if is_grpc and (code := _grpc_code(attributes)):
        if code in _GRPC_SERVER_ERRORS or (span.is_client and code != "OK"):
            error = code
    elif span.http_status >= (400 if span.is_client else 500):
        error = str(span.http_status)
    if not error:
        return attributes, _UNSET
    attributes.setdefault(ERROR_TYPE, error)
    return attributes, _ERROR


def _name_ends(span: Span, attributes: dict[str, TagValue]) -> None:
    local_ip, remote_ip = (format_ip(end.ip) if end.ip else "" for end in (span.local, span.remote))
    if local_ip:
        attributes[NETWORK_LOCAL_ADDRESS] = local_ip
    if remote_ip:
        attributes[NETWORK_PEER_ADDRESS] = remote_ip
    if span.remote.name:
        attributes[SERVICE_PEER_NAME] = span.remote.name
    if span.is_client and (address := span.remote.name or remote_ip):
        attributes[SERVER_ADDRESS] = address
    elif not span.is_client and remote_ip:
        attributes[CLIENT_ADDRESS] = remote_ip


def _grpc_code(attributes: dict[str, TagValue]) -> str:
    """The name of the status that a tag gives, by number or by name; the attribute of today's name is set to it."""
    for name in (RPC_RESPONSE_STATUS_CODE, RPC_GRPC_STATUS_CODE):
        if name in attributes:
            code = _GRPC_NAMES.get(str(attributes[name]), "")
            if code:
                attributes[RPC_RESPONSE_STATUS_CODE] = code
            return code
    return ""
