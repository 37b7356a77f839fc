"""Identities of workloads for one run: a certificate authority that lives in memory, and SPIFFE certificates by it."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.envoy.bootstrap import Tls

_DAY: Final = datetime.timedelta(days=1)
_PEM: Final = serialization.Encoding.PEM


class Authority:
    """A certificate authority; what it signs holds for a day."""

    def __init__(self, name: str = "run authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate: Final = self._sign(self._name, self._key.public_key(), constraints, [])

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.certificate.public_bytes(_PEM)

    def leaf(self, *names: str, common_name: str = "workload") -> tuple[bytes, bytes]:
        """A new identity: certificate and key, in PEM.

        Args:
            names: URIs (with ``://``), addresses or DNS names, in this order.
            common_name: Of the subject.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        leaf = self._sign(subject, key.public_key(), constraints, [_name(name) for name in names])
        return leaf.public_bytes(_PEM), key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def issue(self, folder: Path, *names: str, common_name: str = "workload") -> Tls:
        """Write ``cert.pem``, ``key.pem`` and ``ca.pem`` of a new identity into a folder, which is made; see `leaf`."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = self.leaf(*names, common_name=common_name)
        for file, data in (("cert.pem", certificate), ("key.pem", key), ("ca.pem", self.pem)):
            (folder / file).write_bytes(data)
            (folder / file).chmod(0o600)
        return Tls(str(folder / "cert.pem"), str(folder / "key.pem"), str(folder / "ca.pem"))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        constraints: x509.BasicConstraints,
        names: list[x509.GeneralName],
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(constraints, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
