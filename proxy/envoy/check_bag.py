"""What Envoy asks about, as an attribute bag: one table from attributes to where they are in the question.

Nothing is computed before somebody asks for it: rules read a dozen attributes of forty, and a header map of thirty
entries is best left alone. `Seen` is a question in either form of external authorization, gRPC or HTTP.
Source: spec envoy 3.2 to 3.4, spec proxy 3.1 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from mixer.attributes import ABSENT, Absent, AttributeValue, Timestamp, ValueType
from proxy.envoy.identity import Token, namespace_of
from proxy.envoy.values import ip_bytes

FORWARDED_HEADER: Final = "x-istio-attributes"
OWN_HEADERS: Final = (FORWARDED_HEADER, "x-envoy-auth-partial-body")
"""Headers of the question that are no headers of the request as the service gets it."""

INBOUND: Final = "inbound"
OUTBOUND: Final = "outbound"
_GRPC_TYPES: Final = frozenset(("application/grpc", "application/grpc+proto", "application/grpc+json"))


class Seen(Protocol):
    """A request, or a connection, as a check sees it; an empty text is one that Envoy does not know.

    Attributes:
        tcp: It is a connection.
        service: Key of the service's configuration.
        forwarded: The ``x-istio-attributes`` header.
        stream: Envoy's name for the request or connection, when it was told to send it.
        static: Attributes that were configured for the route.
    """

    @property
    def tcp(self) -> bool: ...  # noqa: D102
    @property
    def service(self) -> str: ...  # noqa: D102
    @property
    def forwarded(self) -> str: ...  # noqa: D102
    @property
    def stream(self) -> str: ...  # noqa: D102
    @property
    def static(self) -> Mapping[str, AttributeValue]: ...  # noqa: D102

    def headers(self) -> Mapping[str, str]:
        """Headers of the request with pseudo headers, without `OWN_HEADERS`."""
        ...

    def method(self) -> str:
        """Its method."""
        ...

    def path(self) -> str:
        """Its path with the query."""
        ...

    def host(self) -> str:
        """Its authority."""
        ...

    def scheme(self) -> str:
        """Its scheme."""
        ...

    def time(self) -> Timestamp:
        """When it began, or when it came here."""
        ...

    def peer_ip(self) -> str:
        """The other end of the connection that it came on."""
        ...

    def local_ip(self) -> str:
        """The end of that connection at Envoy."""
        ...

    def local_port(self) -> int:
        """Its port, 0 when unknown."""
        ...

    def peer_principal(self) -> str:
        """Who calls, by certificate."""
        ...

    def local_principal(self) -> str:
        """Who is called, by certificate."""
        ...

    def has_peer_certificate(self) -> bool:
        """Whether the caller showed a certificate."""
        ...

    def server_name(self) -> str:
        """The name asked for in the TLS handshake."""
        ...

    def token(self) -> Token:
        """The token that was verified."""
        ...

    def local_labels(self) -> Mapping[str, str]:
        """Labels of the workload that is called."""
        ...

    def filter_metadata(self, name: str) -> Mapping[str, str]:
        """What another filter found out, by the filter's name."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A row of the table.

    Attributes:
        type: The attribute's type.
        grpc: Where it is in the gRPC form's ``CheckRequest``, in words.
        http: Where it is in the HTTP form; empty when it is not.
        read: Fetches it.
        in_log: A log entry tells it as well, so it need not be kept until then.
        as_left: The log entry tells it as it left for the service, so it is kept when the answer changes headers.
    """

    type: ValueType
    grpc: str
    http: str
    read: Callable[[Seen], AttributeValue | Absent]
    in_log: bool = False
    as_left: bool = False


def _ip(text: str) -> bytes | Absent:
    try:
        return ip_bytes(text) if text else ABSENT
    except ValueError:
        return ABSENT


def is_grpc(headers: Mapping[str, str]) -> bool:
    """Whether a request with these headers is a gRPC call."""
    return headers.get("content-type", "") in _GRPC_TYPES


def _header(name: str) -> Callable[[Seen], AttributeValue | Absent]:
    return lambda seen: seen.headers().get(name) or ABSENT


def _url_path(seen: Seen) -> str | Absent:
    return seen.path().partition("?")[0] or ABSENT


def query_params(path: str) -> dict[str, str]:
    """The parameters in a path's query: not decoded, the first value of a name. Source: spec proxy 3.1."""
    found: dict[str, str] = {}
    for pair in path.partition("?")[2].split("&"):
        if pair:
            name, _, value = pair.partition("=")
            found.setdefault(name, value)
    return found


def _unless_told(
    name: str, read: Callable[[Seen], AttributeValue | Absent]
) -> Callable[[Seen], AttributeValue | Absent]:
    """An address of the listener: what the operator says of the workload is better, and outbound it is another's."""

    def destination(seen: Seen) -> AttributeValue | Absent:
        static = seen.static
        if name in static:
            return static[name]
        return ABSENT if static.get("context.reporter.kind") == OUTBOUND else read(seen)

    return destination


_STRING, _MAP = ValueType.STRING, ValueType.STRING_MAP

_CONNECTION: Final[Mapping[str, Source]] = {
    "origin.ip": Source(
        ValueType.IP_ADDRESS, "source.address", "x-mixer-source", lambda seen: _ip(seen.peer_ip()), in_log=True
    ),
    "source.principal": Source(
        _STRING, "source.principal, a URI, without spiffe://", "x-mixer-peer", lambda seen: seen.peer_principal() or ABSENT
    ),
    "source.user": Source(_STRING, "as source.principal", "x-mixer-peer", lambda seen: seen.peer_principal() or ABSENT),
    "source.namespace": Source(
        _STRING,
        "source.principal, what follows /ns/",
        "x-mixer-peer",
        lambda seen: namespace_of(seen.peer_principal()) or ABSENT,
    ),
    "destination.principal": Source(
        _STRING, "destination.principal, a URI, without spiffe://", "", lambda seen: seen.local_principal() or ABSENT
    ),
    "destination.ip": Source(
        ValueType.IP_ADDRESS, "destination.address, unless context.reporter.kind is outbound", "x-mixer-dest",
        _unless_told("destination.ip", lambda seen: _ip(seen.local_ip())),
    ),
    "destination.port": Source(
        ValueType.INT64, "destination.address, unless context.reporter.kind is outbound", "x-mixer-dest",
        _unless_told("destination.port", lambda seen: seen.local_port() or ABSENT),
    ),
    "connection.mtls": Source(
        ValueType.BOOL,
        "source.principal or source.certificate is there",
        "x-mixer-peer is there",
        lambda seen: seen.has_peer_certificate(),
    ),
    "connection.requested_server_name": Source(
        _STRING, "tls_session.sni", "x-mixer-sni", lambda seen: seen.server_name() or ABSENT
    ),
}  # fmt: skip

HTTP_SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        "request.headers": Source(
            _MAP,
            f"request.http.headers (or header_map) without {' and '.join(OWN_HEADERS)}",
            "the headers without x-mixer-*",
            lambda seen: seen.headers() or ABSENT,
        ),
        "request.host": Source(_STRING, "request.http.host", "Host", lambda seen: seen.host()),
        "request.path": Source(_STRING, "request.http.path", "the path behind /check", lambda seen: seen.path()),
        "request.url_path": Source(_STRING, "request.http.path up to ?", "the same", _url_path),
        "request.query_params": Source(
            _MAP, "request.http.path behind ?", "the same", lambda seen: query_params(seen.path()) or ABSENT
        ),
        "request.method": Source(_STRING, "request.http.method", "the method", lambda seen: seen.method() or ABSENT),
        "request.scheme": Source(
            _STRING, "request.http.scheme, http by default", "x-forwarded-proto", lambda seen: seen.scheme() or "http",
            in_log=True,
        ),
        "request.referer": Source(_STRING, "header referer", "header referer", _header("referer"), True, True),
        "request.useragent": Source(
            _STRING, "header user-agent", "header user-agent", _header("user-agent"), True, True
        ),
        "request.time": Source(
            ValueType.TIMESTAMP, "request.time", "time of arrival", lambda seen: seen.time(), in_log=True
        ),
        "context.protocol": Source(
            _STRING,
            "grpc or http, by header content-type",
            "the same",
            lambda seen: "grpc" if is_grpc(seen.headers()) else "http",
        ),
        **_CONNECTION,
        "request.auth.principal": Source(
            _STRING, "metadata_context of jwt_authn: iss/sub", "", lambda seen: seen.token().principal or ABSENT
        ),
        "request.auth.audiences": Source(
            _STRING, "the same: first of aud", "", lambda seen: seen.token().audiences or ABSENT
        ),
        "request.auth.presenter": Source(_STRING, "the same: azp", "", lambda seen: seen.token().presenter or ABSENT),
        "request.auth.claims": Source(
            _MAP, "the same: strings and lists of strings", "", lambda seen: seen.token().claims or ABSENT
        ),
        "request.auth.raw_claims": Source(
            _STRING, "the same: all of it as JSON", "", lambda seen: seen.token().raw_claims or ABSENT
        ),
        "destination.labels": Source(
            _MAP, "destination.labels", "", lambda seen: seen.local_labels() or ABSENT
        ),
    }
)  # fmt: skip
"""Attributes of a request."""

TCP_SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        **_CONNECTION,
        "source.ip": Source(
            ValueType.IP_ADDRESS, "source.address", "", lambda seen: _ip(seen.peer_ip()), in_log=True
        ),
        "context.protocol": Source(_STRING, "tcp", "", lambda seen: "tcp", in_log=True),
        "context.time": Source(ValueType.TIMESTAMP, "time of arrival", "", lambda seen: seen.time(), in_log=True),
        "connection.id": Source(
            _STRING, "call metadata x-mixer-stream", "", lambda seen: seen.stream or ABSENT, in_log=True
        ),
    }
)  # fmt: skip
"""Attributes of a connection."""

_HTTP_READS: Final = {name: source.read for name, source in HTTP_SOURCES.items()}
_TCP_READS: Final = {name: source.read for name, source in TCP_SOURCES.items()}


class _Values(dict[str, AttributeValue | Absent]):
    """Values as far as they were asked for; a name that is new is fetched."""

    __slots__ = ("reads", "seen")

    seen: Seen
    reads: Mapping[str, Callable[[Seen], AttributeValue | Absent]]

    def __missing__(self, name: str) -> AttributeValue | Absent:
        seen = self.seen
        static = seen.static
        read = self.reads.get(name)
        value: AttributeValue | Absent
        if read is None:
            value = static.get(name, ABSENT)
            if value is ABSENT:
                value = seen.filter_metadata(name) or ABSENT
        else:
            value = read(seen)
            if value is ABSENT:
                value = static.get(name, ABSENT)
        self[name] = value
        return value


class SeenBag:
    """The attributes of what is seen; see `mixer.attributes.AttributeBag`."""

    __slots__ = ("_values", "get", "peek")

    def __init__(self, seen: Seen) -> None:
        self._values = values = _Values()
        values.seen = seen
        values.reads = _TCP_READS if seen.tcp else _HTTP_READS
        self.get: Callable[[str], AttributeValue | Absent] = values.__getitem__
        self.peek: Callable[[str], AttributeValue | Absent] = self.get

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """The value of an attribute, or the default."""
        value = self._values[name]
        return default if value is ABSENT else value

    def names(self) -> Iterable[str]:
        """Names of the attributes present; metadata of other filters counts once somebody has asked for it."""
        values = self._values
        known = {**values.reads, **values.seen.static, **dict(values)}
        return [name for name in known if values[name] is not ABSENT]
