"""The side of TLS that calls: whom to trust, which name to expect, and, for mutual TLS, what to show.

gRPC in Python tells of a handshake that failed in words of its C library or not at all; `ClientCertificates.fault_of`
tries a handshake of its own and says in one line what is wrong.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from mixer.errors import CertificateError
from mixer.tls.files import CLIENT_NAMES, Material, Names, Paths, load_into, read, system_roots
from mixer.tls.handshakes import Refusals
from mixer.tls.renewal import Renewed
from mixer.tls.server import HTTP2

_PROBE_S: Final = 2.0
_ALERT_S: Final = 0.3
"""TLS 1.3 tells a client that it is refused only after the client's handshake is over."""

_ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server demands a client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refuses the handshake; it may demand a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not know the authority of the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refuses the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the server refuses the client certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "the server does not know the authority of the client certificate",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server speaks no version of TLS from 1.2 on",
    "UNSUPPORTED_PROTOCOL": "the server speaks no version of TLS from 1.2 on",
}

_DEMANDED: Final = "the server closes the connection after the handshake; it may demand a client certificate"
_UNKNOWN: Final = "the server closes the connection after the handshake; it may not accept the client certificate"
_CUT: Final = "the server closes the connection during the handshake; it may not speak TLS"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to call over TLS.

    Attributes:
        ca: Path of the authorities to trust, in PEM; empty for those of this machine.
        certificate: Path of the certificate chain to show; empty for none.
        key: Path of its key.
        server_name: DNS name or address that the server's certificate must have; empty for that of the address.
        names: What these settings are called, for complaints.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    names: Names = CLIENT_NAMES


class ClientCertificates:
    """Whom to trust and what to show, as the files now have it."""

    def __init__(self, tls: ClientTls, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read the files.

        Raises:
            CertificateError: They are not fit for use, or there is nobody to trust.
        """
        self.server_name: Final = tls.server_name
        self._paths = Paths(tls.certificate, tls.key, tls.ca, tls.names)
        self.refusals: Final = Refusals()
        self._system = b"" if tls.ca else system_roots()
        if not tls.ca and not self._system:
            raise CertificateError(f"this machine has no file of authorities to trust; give {tls.names.authorities}")
        self.renewed: Final = Renewed(self._paths, self._make, monotonic)

    def _make(self) -> Material:
        material = read(self._paths)
        self._context(material)
        return material

    def _context(self, material: Material) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols([HTTP2])
        if self._system:
            context.load_verify_locations(cadata=self._system.decode("ascii", "replace"))
        load_into(context, self._paths, material)
        return context

    @property
    def not_after_s(self) -> float:
        """When the certificate in use ends, as a Unix time; 0 without one."""
        return self.renewed.current().not_after_s

    def credentials(self, material: Material | None = None) -> grpc.ChannelCredentials:
        """For grpcio; a channel keeps what it was made with."""
        material = material or self.renewed.current()
        return grpc.ssl_channel_credentials(
            material.authorities or self._system, material.key or None, material.chain or None
        )

    async def fault_of(self, address: str) -> str:
        """What TLS with a server has to complain of; empty for nothing, or when nobody listens at all."""
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not port.isdecimal():
            return ""
        return await asyncio.to_thread(self._try, host.strip("[]"), int(port))

    def _try(self, host: str, port: int) -> str:
        try:
            material = self.renewed.current()
            context = self._context(material)
            with (
                socket.create_connection((host, port), _PROBE_S) as plain,
                context.wrap_socket(plain, server_hostname=self.server_name or host) as secured,
            ):
                secured.settimeout(_ALERT_S)
                if not secured.recv(1):  # many servers, ours among them, tell no reason
                    return _UNKNOWN if material.chain else _DEMANDED
        except ssl.SSLCertVerificationError as exc:
            return f"the server's certificate is not accepted: {exc.verify_message.rstrip('.')}"
        except ssl.SSLEOFError:
            return _CUT
        except ssl.SSLError as exc:
            return _ALERTS.get(exc.reason or "", f"the handshake fails: {exc.reason or exc}")
        except ConnectionResetError:
            return _CUT
        except (OSError, ValueError, CertificateError):
            return ""
        return ""


def channel_options(certificates: ClientCertificates) -> tuple[tuple[str, Any], ...]:
    """Options of a channel with `ClientCertificates.credentials`."""
    name = certificates.server_name
    return (("grpc.ssl_target_name_override", name),) if name else ()
