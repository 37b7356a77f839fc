"""A gRPC call as an attribute bag's `proxy.envoy.check_bag.Seen`, as far as the Python server tells of it.

It tells neither the authority nor the content type, and nothing of its own address: ``request.host`` is empty, and
``destination.*`` is what is configured. Source: spec proxy 3.1 and 3.3.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from mixer.attributes import Timestamp
from proxy.middleware.request import uri_of
from proxy.middleware.untold import NOTHING, Untold

FORWARDED: Final = "x-istio-attributes"
FRAME_BYTES: Final = 5
"""Before each message of a body."""


class CallSeen(Untold):
    """See `proxy.envoy.check_bag.Seen`; made of a call's path, its metadata and its context."""

    __slots__ = ("_auth", "_context", "_headers", "_method", "_time", "forwarded", "header_bytes", "metadata")

    def __init__(self, method: str, context: Any, time_ns: int) -> None:
        """Take a call.

        Args:
            method: ``/package.Service/Method``.
            context: Its context.
            time_ns: When it came.
        """
        self._method = method
        self._context = context
        self._time = time_ns
        self._headers: dict[str, str] | None = None
        self._auth: Mapping[str, Any] | None = None
        metadata = tuple(context.invocation_metadata() or ())
        self.forwarded = ""
        self.header_bytes = len(method)
        for name, value in metadata:
            self.header_bytes += len(name) + len(value)
            if name == FORWARDED:
                self.forwarded = value
        self.metadata = tuple(pair for pair in metadata if pair[0] != FORWARDED) if self.forwarded else metadata

    def headers(self) -> Mapping[str, str]:
        """Metadata as headers, with those that every gRPC call has."""
        if self._headers is None:
            self._headers = {
                ":method": "POST",
                ":path": self._method,
                ":scheme": self.scheme(),
                "content-type": "application/grpc",
                **metadata_map(self.metadata),
            }
        return self._headers

    def method(self) -> str:
        """POST, always."""
        return "POST"

    def path(self) -> str:
        """``/package.Service/Method``."""
        return self._method

    def host(self) -> str:
        """The server does not tell."""
        return ""

    def scheme(self) -> str:
        """By the security of the transport."""
        return "https" if b"ssl" in self._auth_context().get("transport_security_type", ()) else "http"

    def time(self) -> Timestamp:
        """When it came."""
        return Timestamp(self._time)

    def peer_ip(self) -> str:
        """The client's address, empty on Unix sockets."""
        return peer_address(self._context.peer() or "")

    def peer_principal(self) -> str:
        """Who calls, by certificate."""
        certificate = self._certificate()
        return uri_of(certificate.decode("latin-1")) if certificate else ""

    def has_peer_certificate(self) -> bool:
        """Whether the caller showed a certificate; one that cannot be verified ends in no call."""
        return bool(self._certificate())

    def _auth_context(self) -> Mapping[str, Any]:
        if self._auth is None:
            self._auth = self._context.auth_context() or NOTHING
        return self._auth

    def _certificate(self) -> bytes:
        return next(iter(self._auth_context().get("x509_pem_cert", ())), b"")


def peer_address(peer: str) -> str:
    """The address in gRPC's name of a peer, such as ``ipv4:10.0.0.1:4711``; empty when there is none."""
    family, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""


def metadata_map(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Metadata as attributes have headers: values of one name joined, binary ones as they are on the wire."""
    found: dict[str, str] = {}
    for name, value in metadata:
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode().rstrip("=") if name.endswith("-bin") else value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found
