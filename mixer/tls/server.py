"""The side of TLS that is called: who we are, and, for mutual TLS, by which authority callers must be known."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from mixer.tls.files import SERVER_NAMES, Material, Names, Paths, load_into, read
from mixer.tls.handshakes import Refusals
from mixer.tls.renewal import Renewed

HTTP2: Final = "h2"
HTTP1: Final = "http/1.1"
"""Protocols as ALPN calls them."""

HANDSHAKE_S: Final = 10.0
"""A caller that takes longer is hung up on."""
FAREWELL_S: Final = 2.0
"""How long a connection that was closed waits for its peer to close it, too."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How to serve TLS.

    Attributes:
        certificate: Path of the certificate chain, in PEM.
        key: Path of its key.
        client_ca: Path of the authorities of callers, which must then show a certificate of one of them; empty: they
            need none.
        names: What these settings are called, for complaints.
    """

    certificate: str
    key: str
    client_ca: str = ""
    names: Names = SERVER_NAMES


@dataclass(frozen=True, slots=True)
class _Served:
    material: Material
    contexts: Mapping[str, ssl.SSLContext]


class ServerCertificates:
    """What a server shows and demands, as the files now have it; one for all ports of a process."""

    def __init__(self, tls: ServerTls, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read the files.

        Raises:
            CertificateError: They are not fit for use.
        """
        self._paths = Paths(tls.certificate, tls.key, tls.client_ca, tls.names)
        self._mutual = bool(tls.client_ca)
        self.refusals: Final = Refusals()
        self.renewed: Final = Renewed(self._paths, self._make, monotonic)

    def _make(self) -> _Served:
        material = read(self._paths)
        return _Served(material, {alpn: self._context(material, alpn) for alpn in (HTTP2, HTTP1)})

    def _context(self, material: Material, alpn: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([alpn])
        self.refusals.watch(context)
        load_into(context, self._paths, material)
        if self._mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate may be trusted, as in gRPC
        return context

    @property
    def not_after_s(self) -> float:
        """When the certificate in use ends, as a Unix time."""
        return self.renewed.current().material.not_after_s

    def context(self, alpn: str) -> ssl.SSLContext:
        """For asyncio: each connection gets the certificate of its moment."""
        context = _CurrentContext(ssl.PROTOCOL_TLS_SERVER)
        context.now = lambda: self.renewed.current().contexts[alpn]
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """For grpcio: the same."""
        last = self.renewed.current()

        def configuration(served: _Served) -> grpc.ServerCertificateConfiguration:
            material = served.material
            return grpc.ssl_server_certificate_configuration(
                [(material.key, material.chain)], material.authorities or None
            )

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal last
            served = self.renewed.current()
            if served is last:
                return None  # go on with the last one
            last = served
            return configuration(served)

        return grpc.dynamic_ssl_server_credentials(configuration(last), fetch, self._mutual)


def asyncio_tls(certificates: ServerCertificates | None, alpn: str) -> dict[str, Any]:
    """Arguments of an event loop's ``create_server``; none for cleartext."""
    if certificates is None:
        return {}
    return {
        "ssl": certificates.context(alpn),
        "ssl_handshake_timeout": HANDSHAKE_S,
        "ssl_shutdown_timeout": FAREWELL_S,
    }


class _CurrentContext(ssl.SSLContext):
    """A context that is never used itself: event loops ask it for each connection, and it asks the current one."""

    now: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        return self.now().wrap_bio(*arguments, **named)
