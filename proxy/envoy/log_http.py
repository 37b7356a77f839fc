"""Log entries of requests as attribute bags: one table for the beginning of a request, one for its end.

Attributes of the check win over `REQUEST_ROWS`: method and path of an entry are those after the check changed them.
Source: spec envoy 4.2 and 5.3, spec proxy 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mixer.attributes import ABSENT, Absent, AttributeBag, AttributeValue, Timestamp
from proxy.envoy.check_bag import OWN_HEADERS, is_grpc, query_params
from proxy.envoy.flags import DENIED, NONE, flags_text
from proxy.envoy.gen.accesslog_pb2 import HTTPAccessLogEntry
from proxy.envoy.gen.core_pb2 import Address, RequestMethod
from proxy.envoy.identity import Token, token_of
from proxy.envoy.log_bag import DerivedBag, Merge, ReportBag
from proxy.envoy.log_entry import (
    CONNECTION_ROWS,
    DENIAL_ROWS,
    END_ROWS,
    INBOUND,
    VERDICT_ROWS,
    LogEntry,
    LogStream,
    Row,
    count,
    duration_of,
    ip_of,
    port_of,
    readers,
    timestamp_of,
)
from proxy.envoy.log_trace import hop_headers
from proxy.status import http_code

NO_ANSWER: Final = 500
"""``response.code`` of a request that ended without an answer. Source: spec proxy 3.2."""

_METHODS: Final = {number: name for name, number in RequestMethod.items() if number}


class HttpEntry(LogEntry):
    """An entry of a request."""

    __slots__ = ("_token", "request", "response")

    def __init__(self, stream: LogStream, entry: HTTPAccessLogEntry) -> None:
        super().__init__(stream, entry.common_properties)
        self.request = entry.request
        self.response = entry.response
        self._token: Token | None = None

    @property
    def path(self) -> str:
        """The path with its query, before the route rewrote it."""
        return self.request.original_path or self.request.path

    @property
    def token(self) -> Token:
        """What the JWT filter verified."""
        if self._token is None:
            self._token = token_of(self.metadata)
        return self._token


# The beginning


def _headers(entry: HttpEntry) -> dict[str, str] | Absent:
    logged = entry.request.request_headers
    return {name: logged[name] for name in logged if name not in OWN_HEADERS} or ABSENT


def _method(entry: HttpEntry) -> str | Absent:
    request = entry.request
    return _METHODS.get(request.request_method) or request.request_headers.get(":method") or ABSENT


def _protocol(entry: HttpEntry) -> str:
    return "grpc" if is_grpc(entry.request.request_headers) else "http"


REQUEST_ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        **CONNECTION_ROWS,
        "request.headers": Row("request.request_headers: those that are configured", _headers),
        "request.host": Row("request.authority", lambda entry: entry.request.authority),
        "request.path": Row("request.original_path, else path", lambda entry: entry.path),
        "request.url_path": Row("the same up to ?", lambda entry: entry.path.partition("?")[0] or ABSENT),
        "request.query_params": Row("the same behind ?", lambda entry: query_params(entry.path) or ABSENT),
        "request.method": Row("request.request_method, else request_headers[:method]", _method),
        "request.scheme": Row("request.scheme, http by default", lambda entry: entry.request.scheme or "http"),
        "request.referer": Row("request.referer", lambda entry: entry.request.referer or ABSENT),
        "request.useragent": Row("request.user_agent", lambda entry: entry.request.user_agent or ABSENT),
        "request.time": Row("start_time", lambda entry: timestamp_of(entry.common.start_time)),
        "request.auth.principal": Row("metadata: iss/sub of the token", lambda entry: entry.token.principal or ABSENT),
        "request.auth.audiences": Row(
            "metadata: first of aud of the token", lambda entry: entry.token.audiences or ABSENT
        ),
        "request.auth.presenter": Row("metadata: azp of the token", lambda entry: entry.token.presenter or ABSENT),
        "request.auth.claims": Row("metadata: texts of the token", lambda entry: entry.token.claims or ABSENT),
        "request.auth.raw_claims": Row(
            "metadata: the token as JSON", lambda entry: entry.token.raw_claims or ABSENT
        ),
        "context.protocol": Row("grpc or http, by request_headers[content-type]", _protocol),
    }
)  # fmt: skip


# The end


def _total(headers: int, body: int) -> int:
    return count(headers + body)


def _code(entry: HttpEntry) -> int:
    response = entry.response
    if not response.HasField("response_code"):
        return NO_ANSWER
    code = response.response_code.value
    record = entry.record
    if record is None or not record.code or record.direct or code != 200:
        return code
    # A gRPC caller gets its denial as a status in a 200; metrics know denials by their HTTP code.
    return http_code(record.code) if response.response_headers.get("grpc-status", "0") != "0" else code


def _flags(entry: HttpEntry) -> str:
    told = flags_text(entry.common)
    record = entry.record
    if record is None or not record.direct or record.code or DENIED not in told:
        return told
    # Envoy takes every answer of the check for a denial; one whose status is OK is none.
    return ",".join(flag for flag in told.split(",") if flag != DENIED) or NONE


def _response_headers(entry: HttpEntry) -> dict[str, str] | Absent:
    response = entry.response
    headers, trailers = response.response_headers, response.response_trailers
    merged = {name: headers[name] for name in headers}
    for name in trailers:
        merged[name] = trailers[name]
    return merged or ABSENT


def _grpc(entry: HttpEntry) -> Mapping[str, str] | None:
    response = entry.response
    if "grpc-status" in response.response_trailers:
        return response.response_trailers
    return response.response_headers if "grpc-status" in response.response_headers else None


def _grpc_status(entry: HttpEntry) -> str | Absent:
    told = _grpc(entry)
    return ABSENT if told is None else told["grpc-status"]


def _grpc_message(entry: HttpEntry) -> str | Absent:
    told = _grpc(entry)
    return ABSENT if told is None else told.get("grpc-message", "")


def _response_time(entry: HttpEntry) -> Timestamp:
    common = entry.common
    return Timestamp(timestamp_of(common.start_time) + duration_of(common.duration))


RESPONSE_ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        **VERDICT_ROWS,
        **DENIAL_ROWS,
        **END_ROWS,
        "context.proxy_error_code": Row(
            f"{END_ROWS['context.proxy_error_code'].field}, without {DENIED} when the check answered OK directly",
            _flags,
        ),
        "response.code": Row(f"response.response_code, {NO_ANSWER} when there is none", _code),
        "response.headers": Row("response.response_headers, response_trailers over them", _response_headers),
        "response.time": Row("start_time + duration", _response_time),
        "response.duration": Row("duration", lambda entry: duration_of(entry.common.duration)),
        "request.size": Row("request.request_body_bytes", lambda entry: count(entry.request.request_body_bytes)),
        "response.size": Row("response.response_body_bytes", lambda entry: count(entry.response.response_body_bytes)),
        "request.total_size": Row(
            "request.request_headers_bytes + request_body_bytes",
            lambda entry: _total(entry.request.request_headers_bytes, entry.request.request_body_bytes),
        ),
        "response.total_size": Row(
            "response.response_headers_bytes + response_body_bytes",
            lambda entry: _total(entry.response.response_headers_bytes, entry.response.response_body_bytes),
        ),
        "response.grpc_status": Row("grpc-status of response_trailers, else of response_headers", _grpc_status),
        "response.grpc_message": Row("grpc-message next to grpc-status", _grpc_message),
    }
)


def _merged_headers(entry: HttpEntry, before: AttributeValue | Absent) -> AttributeValue | Absent:
    record = entry.record
    came = None if record is None else record.attributes.get("request.headers")
    logged = entry.request.request_headers
    left = {name: logged[name] for name in logged if name not in OWN_HEADERS}
    hop = hop_headers(left, came if isinstance(came, Mapping) else None)
    if isinstance(before, Mapping):
        left.update(before)
    left.update(hop)
    return left or ABSENT


def _local_end(entry: LogEntry) -> Address | None:
    return entry.common.downstream_local_address if entry.stream.direction == INBOUND else None


def _destination_ip(entry: LogEntry, before: AttributeValue | Absent) -> AttributeValue | Absent:
    if before is not ABSENT:
        return before
    found = ip_of(entry.common.upstream_remote_address)
    return found if found is not ABSENT or (local := _local_end(entry)) is None else ip_of(local)


def _destination_port(entry: LogEntry, before: AttributeValue | Absent) -> AttributeValue | Absent:
    if before is not ABSENT:
        return before
    found = port_of(entry.common.upstream_remote_address)
    return found if found is not ABSENT or (local := _local_end(entry)) is None else port_of(local)


MERGES: Final[Mapping[str, Merge]] = MappingProxyType(
    {"request.headers": _merged_headers, "destination.ip": _destination_ip, "destination.port": _destination_port}
)
"""What the end adds to (headers of the trace), or only fills in: the chosen host, else the local end when inbound."""

_REQUEST: Final = readers(REQUEST_ROWS)
_RESPONSE: Final = readers(RESPONSE_ROWS)


def request_bag(entry: HttpEntry) -> DerivedBag:
    """The request as it was when it began."""
    return DerivedBag(entry, _REQUEST)


def response_bag(entry: HttpEntry, composed: AttributeBag) -> ReportBag:
    """The record of the request, over the composed attributes of its beginning."""
    return ReportBag(entry, composed, _RESPONSE, MERGES)
