"""An authority for tests: certificates with any names, among them the URIs of SPIFFE, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import loadtest.certificates


class KeyPair(NamedTuple):
    """Paths of a certificate and its key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a folder; ``ca`` is the path of its own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._authority = loadtest.certificates.Authority(name)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._authority.pem)

    def issue(self, file: str, names: Sequence[str]) -> KeyPair:
        """A certificate for DNS names, addresses and URIs, as ``file.pem`` and ``file.key``; replaces one there."""
        pair = KeyPair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        certificate, key = self._authority.leaf(*names, common_name=file)
        pair.key.write_bytes(key)
        pair.certificate.write_bytes(certificate)
        return pair
