"""The question of ``ext_authz`` in its gRPC form: a ``CheckRequest`` and the headers of the call that brings it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from mixer.api.rpc import CallHead
from mixer.attributes import AttributeValue, Timestamp
from proxy.envoy.check_bag import FORWARDED_HEADER, INBOUND, OUTBOUND, OWN_HEADERS
from proxy.envoy.gen.auth_pb2 import AttributeContext
from proxy.envoy.identity import Token, metadata_map, principal, token_of
from proxy.envoy.values import read_texts

SERVICE_KEY: Final = "service_config"
"""The context extension that names the service's configuration; all others are attributes."""

STREAM_HEADER: Final = "x-mixer-stream"
CONNECTION_HEADER: Final = "x-mixer-conn"
LISTENER_HEADER: Final = "x-mixer-listener"
DEADLINE_HEADER: Final = "x-envoy-expected-rq-timeout-ms"

_NO_STATIC: Final[Mapping[str, AttributeValue]] = {}
_NO_TEXTS: Final[Mapping[str, str]] = {}
_SECOND: Final = 1_000_000_000
known_principal: Final = lru_cache(maxsize=4096)(principal)


@lru_cache(maxsize=1024)  # a route says the same each time
def _static(extensions: frozenset[tuple[str, str]]) -> tuple[Mapping[str, AttributeValue], tuple[str, ...]]:
    return read_texts(sorted(extensions))


def static_of_listener(listener: str) -> Mapping[str, AttributeValue]:
    """What the name of a listener tells: its direction, when it begins with one, as names of access logs do."""
    direction = listener.partition("_")[0]
    return {"context.reporter.kind": direction} if direction in (INBOUND, OUTBOUND) else _NO_STATIC


def timeout_s(head: CallHead) -> float | None:
    """How long Envoy waits for the answer, None when it does not say."""
    return _seconds(head.header(DEADLINE_HEADER))


@lru_cache(maxsize=64)  # filters have few settings
def _seconds(text: str) -> float | None:
    return int(text) / 1000 if text.isdecimal() and len(text) < 10 and int(text) else None


class GrpcSeen:
    """See `proxy.envoy.check_bag.Seen`; reads the message when it is asked.

    Attributes:
        faults: What is wrong with context extensions that are left out.
    """

    __slots__ = (
        "_context", "_head", "_headers", "_http", "_metadata", "_now", "_raw", "_token", "faults", "forwarded",
        "service", "static", "tcp",
    )  # fmt: skip

    def __init__(self, context: AttributeContext, head: CallHead, now: Callable[[], int]) -> None:
        """Take a question.

        Args:
            context: The attributes of a ``CheckRequest``.
            head: Of the call.
            now: Nanoseconds since 1970, for what has no time.
        """
        self._context = context
        self._http: Any = context.request.http
        self._head = head
        self._now = now
        self._raw: Mapping[str, str] = _NO_TEXTS
        self._headers: dict[str, str] | None = None
        self._metadata: Any = context.metadata_context.filter_metadata if context.HasField("metadata_context") else {}
        self._token: Token | None = None
        self.static = _NO_STATIC
        self.faults: tuple[str, ...] = ()
        self.forwarded = ""
        # A request has a method at least; the network filter's question has neither.
        self.tcp = not self._http.path and not self._http.method
        extensions = context.context_extensions
        self.service = ""
        if extensions:
            texts = {name: extensions[name] for name in extensions}  # dict() of such a map goes through Python
            self.service = texts.pop(SERVICE_KEY, "")
            if texts:
                self.static, self.faults = _static(frozenset(texts.items()))
        if (not self.service or self.tcp) and (listener := head.header(LISTENER_HEADER)):
            self.service = self.service or listener
            if not extensions:
                self.static = static_of_listener(listener)
        if not self.tcp:
            raw: Any = self._http.headers
            if not raw and self._http.HasField("header_map"):
                raw = _joined(self._http.header_map.headers)
            self._raw = raw
            self.forwarded = raw.get(FORWARDED_HEADER, "")

    @property
    def stream(self) -> str:
        """Envoy's stream id, when the filter was told to send it."""
        return self._head.header(STREAM_HEADER)

    def headers(self) -> Mapping[str, str]:
        """Headers without our own; copied for the first who asks for all of them."""
        headers = self._headers
        if headers is None:
            raw = self._raw
            self._headers = headers = {name: raw[name] for name in raw}
            for name in OWN_HEADERS:
                headers.pop(name, None)
        return headers

    def method(self) -> str:
        """The method."""
        return self._http.method  # type: ignore[no-any-return]

    def path(self) -> str:
        """The path with the query."""
        return self._http.path  # type: ignore[no-any-return]

    def host(self) -> str:
        """The authority."""
        return self._http.host  # type: ignore[no-any-return]

    def scheme(self) -> str:
        """The scheme."""
        return self._http.scheme  # type: ignore[no-any-return]

    def time(self) -> Timestamp:
        """When Envoy began with it."""
        request = self._context.request
        if request.HasField("time"):
            time = request.time
            return Timestamp(time.seconds * _SECOND + time.nanos)
        return Timestamp(self._now())

    def peer_ip(self) -> str:
        """The TCP peer."""
        return self._context.source.address.socket_address.address

    def local_ip(self) -> str:
        """The listener's address."""
        return self._context.destination.address.socket_address.address

    def local_port(self) -> int:
        """The listener's port."""
        return self._context.destination.address.socket_address.port_value

    def peer_principal(self) -> str:
        """A URI, a SPIFFE one without its scheme."""
        return known_principal(self._context.source.principal)

    def local_principal(self) -> str:
        """A URI, a SPIFFE one without its scheme."""
        return known_principal(self._context.destination.principal)

    def has_peer_certificate(self) -> bool:
        """Nothing says so outright; one without a name shows only when certificates are sent along."""
        source = self._context.source
        return bool(source.principal or source.certificate)

    def server_name(self) -> str:
        """The SNI."""
        return self._context.tls_session.sni

    def token(self) -> Token:
        """What the JWT filter verified."""
        if self._token is None:
            self._token = token_of(self._metadata)
        return self._token

    def local_labels(self) -> Mapping[str, str]:
        """Labels of Envoy's node."""
        return dict(self._context.destination.labels)

    def filter_metadata(self, name: str) -> Mapping[str, str]:
        """Strings, and lists of strings, in a filter's metadata."""
        metadata = self._metadata
        return metadata_map(metadata[name]) if name in metadata else _NO_TEXTS


def _joined(pairs: Any) -> dict[str, str]:
    """Raw headers as a map, values of one name joined."""
    headers: dict[str, str] = {}
    for pair in pairs:
        name = pair.key.lower()
        value = pair.raw_value.decode("utf-8", "replace") if pair.raw_value else pair.value
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers
