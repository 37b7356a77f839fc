"""What an operator writes below ``connection`` of a handler, and what can be wrong with it. Source: spec runtime 1.6."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, ProtoEnum, ProtoModel, enum_field

_TARGET: Final = re.compile(
    r"(?:(?:dns:(?://[^/]*/)?|ipv4:|ipv6:)?(?:\[[0-9a-fA-F:.%]+\]|[^:/\[\]\s,]+):(?P<port>\d{1,5})"
    r"|unix:(?:///|/?)[^\s]+|unix-abstract:\S+)"
)
_HEADER: Final = re.compile(r"[0-9a-z_.-]+")


class AuthHeader(ProtoEnum):
    """How a token stands in the header ``authorization``: as it is, or after the word Bearer."""

    PLAIN = 0
    BEARER = 1


class OAuth(ProtoModel):
    """Where tokens come from, by OAuth's grant for client credentials."""

    client_id: str = ""
    client_secret: str = ""
    """Path of the file that holds the secret."""
    token_url: str = ""
    scopes: list[str] = []
    endpoint_params: dict[str, str] = {}
    """More parameters for the token request."""


class Tls(ProtoModel):
    """The backend shows a certificate, Mixer a token."""

    ca_certificates: str = ""
    """Path of authorities to trust besides those of the machine."""
    token_path: str | None = None
    oauth: OAuth | None = None
    auth_header: enum_field(AuthHeader) | None = None  # type: ignore[valid-type]
    custom_header: str | None = None
    server_name: str = ""
    """The name that the certificate must have; by default that of the address."""


class Mutual(ProtoModel):
    """Both show a certificate."""

    private_key: str = ""
    client_certificate: str = ""
    ca_certificates: str = ""
    server_name: str = ""


class Authentication(ProtoModel):
    """One of two ways; neither means an open connection."""

    tls: Tls | None = None
    mutual: Mutual | None = None


class Connection(ProtoModel):
    """Where the backend is, how long it may take for a call, and who is who."""

    address: str = ""
    timeout: DurationField | None = None
    authentication: Authentication | None = None

    @property
    def tls(self) -> Tls | None:
        """How to identify with a token, if so."""
        return self.authentication.tls if self.authentication else None

    @property
    def mutual(self) -> Mutual | None:
        """How to identify with a certificate, if so."""
        return self.authentication.mutual if self.authentication else None


def connection_faults(connection: Connection) -> Iterator[FieldError]:
    """Every fault that shows without looking at files or asking the backend."""
    if not connection.address:
        yield FieldError(("address",), "empty connection address", "host:port")
    else:
        found = _TARGET.fullmatch(connection.address)
        if found is None or not 0 < int(found["port"] or 1) < 65536:
            yield FieldError(("address",), "this is no address", "host:port, or unix:///path")
    if connection.timeout is not None and connection.timeout <= 0:
        yield FieldError(("timeout",), "must be positive")
    path = ("authentication",)
    if connection.tls is not None and connection.mutual is not None:
        yield FieldError(path, "tls and mutual exclude each other", "one of them")
    if connection.tls is not None:
        yield from (fault.below(*path, "tls") for fault in _tls_faults(connection.tls))
    if connection.mutual is not None:
        for name in ("private_key", "client_certificate"):
            if not getattr(connection.mutual, name):
                yield FieldError((*path, "mutual", name), "must not be empty", "the path of a file")


def _tls_faults(tls: Tls) -> Iterator[FieldError]:
    if tls.token_path is not None and tls.oauth is not None:
        yield FieldError((), "tokenPath and oauth exclude each other", "one of them")
    elif tls.oauth is not None:
        yield from (fault.below("oauth") for fault in _oauth_faults(tls.oauth))
    elif not tls.token_path:
        yield FieldError((), "names no source of tokens", "tokenPath or oauth")
    if tls.auth_header is not None and tls.custom_header is not None:
        yield FieldError((), "authHeader and customHeader exclude each other", "one of them")
    elif tls.token_path and tls.auth_header is None and tls.custom_header is None:
        yield FieldError((), "does not say how the token is sent", "authHeader or customHeader")
    header = tls.custom_header
    if header is not None and (not _HEADER.fullmatch(header.lower()) or header.lower().startswith("grpc-")):
        yield FieldError(("customHeader",), "this is no name of a header", "letters, digits, '-', '_' and '.'")


def _oauth_faults(oauth: OAuth) -> Iterator[FieldError]:
    for name in ("client_id", "client_secret"):
        if not getattr(oauth, name):
            yield FieldError((name,), "must not be empty", "a file's path" if name == "client_secret" else "")
    parts = urlsplit(oauth.token_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        yield FieldError(("token_url",), "this is no address of a web page", "https://host/path")
