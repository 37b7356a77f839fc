"""An ASGI scope as an attribute bag's `proxy.envoy.check_bag.Seen`: a request as the application will see it.

``request.path`` is made of the path that the application routes by: where the client wrote it with percent signs, they
are decoded and only what needs them is encoded again. So ``/%61dmin`` and ``/admin`` are one path to rules, too.
Source: spec proxy 3.1 and 3.3, the ASGI specification for scopes and its TLS extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from cryptography import x509

from mixer.attributes import Timestamp
from proxy.envoy.identity import principal
from proxy.middleware.exchange import header_map
from proxy.middleware.untold import NOTHING, Untold

FORWARDED: Final = b"x-istio-attributes"

_SCHEMES: Final = {"ws": "http", "wss": "https"}
_SAFE: Final = "/:@!$&'()*+,;=-._~"


class RequestSeen(Untold):
    """See `proxy.envoy.check_bag.Seen`; what it reads of the scope is fixed when it is made."""

    __slots__ = ("_headers", "_path", "_raw_headers", "_scope", "_time", "forwarded")

    def __init__(self, scope: Mapping[str, Any], time_ns: int) -> None:
        """Take a scope of type ``http`` or ``websocket``, and when it came."""
        self._scope = dict(scope)  # frameworks write into theirs
        self._time = time_ns
        self._raw_headers: tuple[tuple[bytes, bytes], ...] = tuple(scope["headers"])
        self._headers: dict[str, str] | None = None
        self._path: str | None = None
        self.forwarded = ""
        for name, value in self._raw_headers:
            if name == FORWARDED:  # names are in lower case, says ASGI
                self.forwarded = value.decode("latin-1")

    @property
    def header_bytes(self) -> int:
        """Bytes of names and values."""
        return sum(len(name) + len(value) for name, value in self._raw_headers)

    def headers(self) -> Mapping[str, str]:
        """Headers with pseudo headers; ``host`` is ``:authority``, as proxies have it."""
        if self._headers is None:
            found = header_map(pair for pair in self._raw_headers if pair[0] != FORWARDED)
            host = found.pop("host", "")
            pseudo = {":method": self.method(), ":path": self.path(), ":authority": host}
            if self._scope.get("http_version", "1.1")[:1] not in ("0", "1"):
                pseudo[":scheme"] = self.scheme()
            self._headers = {**pseudo, **found}
        return self._headers

    def method(self) -> str:
        """The method; a WebSocket begins with GET."""
        return str(self._scope.get("method", "GET"))

    def path(self) -> str:
        """The path with the query."""
        if self._path is None:
            path = one_form(self._scope["path"], self._scope.get("raw_path"))
            query = self._scope.get("query_string", b"")
            self._path = f"{path}?{query.decode('utf-8', 'replace')}" if query else path
        return self._path

    def host(self) -> str:
        """The Host header."""
        for name, value in self._raw_headers:
            if name == b"host":
                return value.decode("utf-8", "replace")
        return ""

    def scheme(self) -> str:
        """``http`` or ``https``, for WebSockets too."""
        scheme = self._scope.get("scheme", "http")
        return _SCHEMES.get(scheme, str(scheme))

    def time(self) -> Timestamp:
        """When it came."""
        return Timestamp(self._time)

    def peer_ip(self) -> str:
        """The client's address, where the server knows one."""
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    def peer_principal(self) -> str:
        """Who calls, by a certificate that was verified."""
        chain = self._client_chain()
        return uri_of(chain[0]) if chain else ""

    def local_principal(self) -> str:
        """Who is called, by certificate."""
        certificate = self._tls().get("server_cert")
        return uri_of(certificate) if certificate else ""

    def has_peer_certificate(self) -> bool:
        """Whether the caller showed a certificate that was verified."""
        return bool(self._client_chain())

    def _tls(self) -> Mapping[str, Any]:
        return (self._scope.get("extensions") or NOTHING).get("tls") or NOTHING

    def _client_chain(self) -> tuple[str, ...]:
        tls = self._tls()
        return () if tls.get("client_cert_error") else tuple(tls.get("client_cert_chain") or ())


def one_form(path: str, raw_path: bytes | None) -> str:
    """A path in the one form that all its spellings have."""
    if raw_path is not None and b"%" not in raw_path and raw_path.isascii() and raw_path.decode("ascii") == path:
        return path
    return quote(path, safe=_SAFE, errors="replace")


@lru_cache(maxsize=1024)  # the same peers come again
def uri_of(certificate: str) -> str:
    """The principal in a certificate in PEM: its first URI, without ``spiffe://``; empty when there is none."""
    try:
        names = x509.load_pem_x509_certificate(certificate.encode()).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return ""
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return principal(uris[0]) if uris else ""
