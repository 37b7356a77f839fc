"""What files of certificates, keys and authorities hold, and what can be wrong with it.

Every complaint names the setting and the path, never the content: somebody may have put a key where a certificate
belongs.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from mixer.errors import CertificateError

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.tls")


class Names(NamedTuple):
    """What the settings are called where somebody wrote them, for complaints."""

    certificate: str = "certificate"
    key: str = "key"
    authorities: str = "authorities"


SERVER_NAMES: Final = Names(authorities="client_ca")
CLIENT_NAMES: Final = Names(authorities="ca")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the files are; an empty path is none."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""
    names: Names = CLIENT_NAMES

    def faults(self) -> tuple[str, ...]:
        """What is wrong with the combination, before any file is read."""
        names = self.names
        if bool(self.certificate) == bool(self.key):
            return ()
        given, lacking = (names.certificate, names.key) if self.certificate else (names.key, names.certificate)
        return (f"{given} needs {lacking}",)

    def stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Differs when a file has been written or replaced; None for one that is not there."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.authorities) if path)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True, slots=True)
class Material:
    """What the files hold, found to be sound.

    Attributes:
        chain: The certificate and what leads from it to an authority, in PEM; empty for none.
        key: Its key, in PEM.
        authorities: Certificates to check peers against, in PEM; empty for none.
        not_after_s: When the certificate ends, as a Unix time; 0 for none.
    """

    chain: bytes = b""
    key: bytes = field(default=b"", repr=False)
    authorities: bytes = b""
    not_after_s: float = 0.0


def read(paths: Paths) -> Material:
    """Read and judge.

    Raises:
        CertificateError: A file cannot be read, holds something else, or does not fit the other.
    """
    for fault in paths.faults():
        raise CertificateError(fault)
    names = paths.names
    chain = key = authorities = b""
    not_after_s = 0.0
    if paths.authorities:
        authorities = _read(names.authorities, paths.authorities)
        _certificates(names.authorities, paths.authorities, authorities)
    if paths.certificate:
        chain = _read(names.certificate, paths.certificate)
        key = _read(names.key, paths.key)
        leaf = _certificates(names.certificate, paths.certificate, chain)[0]
        if _public_key(paths, key) != _public_bytes(leaf.public_key()):
            raise CertificateError(
                f"{names.key} {paths.key}: not the key of the certificate in {names.certificate} {paths.certificate}"
            )
        not_after_s = leaf.not_valid_after_utc.timestamp()
        if not_after_s < time.time():
            log.warning(
                "certificate_has_expired", certificate=paths.certificate, not_after=str(leaf.not_valid_after_utc)
            )
    return Material(chain, key, authorities, not_after_s)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise CertificateError(f"{name} {path}: {exc.strerror}") from None


def _certificates(name: str, path: str, data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise CertificateError(f"{name} {path}: holds no certificate in PEM") from None


def _public_key(paths: Paths, data: bytes) -> bytes:
    where = f"{paths.names.key} {paths.key}"
    try:
        return _public_bytes(serialization.load_pem_private_key(data, None).public_key())
    except TypeError:
        raise CertificateError(f"{where}: is locked with a passphrase; expected a key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{where}: holds no private key in PEM that is understood") from None


def _public_bytes(key: object) -> bytes:
    data: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data


def load_into(context: ssl.SSLContext, paths: Paths, material: Material) -> None:
    """Give a context the pair that was judged, and what peers are checked against.

    Raises:
        CertificateError: OpenSSL has an objection, or the files have just changed.
    """
    names = paths.names
    try:
        if material.authorities:
            context.load_verify_locations(cadata=material.authorities.decode("ascii", "replace"))
        if material.chain:
            context.load_cert_chain(paths.certificate, paths.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or type(exc).__name__
        told = [f"{name} {path}" for name, path in zip(names, paths_of(paths), strict=True) if path]
        raise CertificateError(f"{', '.join(told)}: cannot be used: {reason}") from None
    # OpenSSL reads paths; what it read must be what was judged.
    if material.chain and (
        _read(names.certificate, paths.certificate) != material.chain or _read(names.key, paths.key) != material.key
    ):
        raise CertificateError(f"{names.certificate} {paths.certificate}: is being replaced")


def paths_of(paths: Paths) -> tuple[str, str, str]:
    """The three paths, in the order of `Names`."""
    return paths.certificate, paths.key, paths.authorities


def _no_password() -> bytes:
    return b""  # a locked key is an error, not a question on the terminal


def system_roots() -> bytes:
    """The authorities that this machine trusts, in PEM; empty when it has none in one file."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return b""
