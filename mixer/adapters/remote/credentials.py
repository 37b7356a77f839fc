"""Files of keys, certificates and tokens, read again when they change; and tokens that an OAuth server issues.

Errors name the field of the configuration, never what is in it: somebody may have written the secret itself where
the path of its file belongs.

Source: spec runtime 6.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote_plus

import aiohttp
import grpc
from cryptography import x509

from mixer.adapters.base import Clock
from mixer.adapters.remote.connection import AuthHeader, Mutual, OAuth, Tls
from mixer.errors import AdapterError, BackendUnavailableError
from mixer.tls import system_roots

LOOK_AGAIN_S: Final = 1.0
"""A file is looked at no more often than this."""

_TOKEN_LIMIT_S: Final = 5.0
_TOKEN_MARGIN_S: Final = 30.0
"""A token is renewed so long before its end, or when half of its life is over."""
_DEFAULT_LIFE_S: Final = 300.0
_LARGEST_ANSWER: Final = 1 << 20

Metadata = Sequence[tuple[str, str]]


class WatchedFile:
    """The content of a file; a change is noticed within a second, a file that has gone leaves its last content."""

    def __init__(self, path: str, field: str, clock: Clock) -> None:
        self.path, self._field, self._clock = Path(path), field, clock
        self._looked_at = clock.monotonic()
        self._stamp: tuple[int, int, int] = (0, 0, 0)
        self._data = b""
        try:
            self._read()
        except OSError as exc:
            raise AdapterError(f"the file of {field} cannot be read: {exc.strerror}") from None

    def _read(self) -> None:
        found = self.path.stat()
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp != self._stamp:
            self._data = self.path.read_bytes()
            self._stamp = stamp

    @property
    def data(self) -> bytes:
        """The content."""
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = now
            with contextlib.suppress(
                OSError
            ):  # being replaced, or taken away: what was good is so until told otherwise
                self._read()
        return self._data

    @property
    def text(self) -> str:
        """The content as one line, which is what can stand in a header.

        Raises:
            AdapterError: It cannot.
        """
        try:
            text = self.data.decode("ascii").strip()
        except UnicodeDecodeError:
            text = ""
        if not text or not text.isprintable():
            raise AdapterError(f"the file of {self._field} holds no single line of text")
        return text


class Tokens(Protocol):
    """Where the headers come from that say who Mixer is."""

    async def metadata(self) -> Metadata:
        """The headers for a call now.

        Raises:
            AdapterError: There is no token.
        """
        ...

    def refused(self) -> None:
        """The backend did not accept the last headers."""
        ...


class NoTokens:
    """Nothing to show."""

    async def metadata(self) -> Metadata:
        """No headers."""
        return ()

    def refused(self) -> None:
        """Nothing can be done."""


class FileTokens:
    """A token that somebody else keeps fresh in a file."""

    def __init__(self, tls: Tls, clock: Clock) -> None:
        self._file = WatchedFile(tls.token_path or "", "authentication.tls.tokenPath", clock)
        self._header = (tls.custom_header or "authorization").lower()
        self._prefix = "Bearer " if tls.custom_header is None and tls.auth_header == AuthHeader.BEARER else ""
        _ = self._file.text  # a file without a token is a fault now, not at the first call

    async def metadata(self) -> Metadata:
        """The token as the file has it."""
        return ((self._header, self._prefix + self._file.text),)

    def refused(self) -> None:
        """The file is read anew by itself."""


class OAuthTokens:
    """Tokens of an OAuth server, by the grant for client credentials; one is fetched at a time, and used until old."""

    def __init__(self, oauth: OAuth, clock: Clock) -> None:
        self._oauth, self._clock = oauth, clock
        self._secret = WatchedFile(oauth.client_secret, "authentication.tls.oauth.clientSecret", clock)
        _ = self._secret.text
        self._token = ""
        self._renew_at = 0.0
        self._fetching = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """The token, fetched if there is none or it is about to end."""
        if not self._token or self._clock.monotonic() >= self._renew_at:
            async with self._fetching:
                if not self._token or self._clock.monotonic() >= self._renew_at:
                    await self._fetch()
        return (("authorization", f"Bearer {self._token}"),)

    def refused(self) -> None:
        """Fetch another one before the next call."""
        self._token = ""

    async def _fetch(self) -> None:
        oauth = self._oauth
        form = {"grant_type": "client_credentials", **oauth.endpoint_params}
        if oauth.scopes:
            form["scope"] = " ".join(oauth.scopes)
        login = aiohttp.encode_basic_auth(quote_plus(oauth.client_id), quote_plus(self._secret.text))
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TOKEN_LIMIT_S)) as session,
                session.post(
                    oauth.token_url, data=form, headers={"Authorization": login}, allow_redirects=False
                ) as answer,
            ):
                body = await answer.content.read(_LARGEST_ANSWER)
                if answer.status != 200:
                    raise BackendUnavailableError(f"the token server answers with status {answer.status}")
            said = json.loads(body)
            token, life = said["access_token"], float(said.get("expires_in") or _DEFAULT_LIFE_S)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise BackendUnavailableError(f"no token from the token server: {str(exc) or 'it is silent'}") from None
        except (ValueError, KeyError, TypeError):
            raise BackendUnavailableError("the token server's answer holds no access_token") from None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise BackendUnavailableError("the token server's answer holds no access_token")
        self._token = token
        self._renew_at = self._clock.monotonic() + max(life - _TOKEN_MARGIN_S, life / 2)


def open_tokens(tls: Tls | None, clock: Clock) -> Tokens:
    """The tokens that a configuration asks for.

    Raises:
        AdapterError: A file cannot be read.
    """
    if tls is None:
        return NoTokens()
    return FileTokens(tls, clock) if tls.oauth is None else OAuthTokens(tls.oauth, clock)


class Certificates:
    """The authorities to trust and, for mutual TLS, the pair to show, as the files now have them."""

    def __init__(self, authentication: Tls | Mutual, clock: Clock) -> None:
        kind = "tls" if isinstance(authentication, Tls) else "mutual"

        def watched(path: str, field: str) -> WatchedFile:
            return WatchedFile(path, f"authentication.{kind}.{field}", clock)

        authorities = authentication.ca_certificates
        self._system = system_roots()
        self._authorities = watched(authorities, "caCertificates") if authorities else None
        self._pair: tuple[WatchedFile, WatchedFile] | None = None
        if isinstance(authentication, Mutual):
            self._pair = (
                watched(authentication.private_key, "privateKey"),
                watched(authentication.client_certificate, "clientCertificate"),
            )
        self.check()

    def check(self) -> None:
        """Make sure that the files hold what they should.

        Raises:
            AdapterError: They do not.
        """
        if not self.roots:
            raise AdapterError("there are no certificates of authorities to trust")
        try:
            self.context()
            self.identities()
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "reason", None) or type(exc).__name__
            raise AdapterError(f"the certificates or the key cannot be used: {reason}") from None

    @property
    def roots(self) -> bytes:
        """All authorities to trust, in PEM."""
        own = self._authorities.data if self._authorities is not None else b""
        return self._system + b"\n" + own if self._system and own else self._system or own

    @property
    def pair(self) -> tuple[bytes, bytes] | None:
        """Key and certificate chain to show, in PEM."""
        return None if self._pair is None else (self._pair[0].data, self._pair[1].data)

    @property
    def state(self) -> tuple[bytes | None, ...]:
        """Differs when any of the files does."""
        return (self._authorities.data if self._authorities else None, *(self.pair or ()))

    def identities(self) -> frozenset[str]:
        """The URIs in the certificate that is shown, such as ``spiffe://cluster.local/ns/a/sa/b``."""
        pair = self.pair
        return frozenset() if pair is None else uris_of(x509.load_pem_x509_certificates(pair[1])[0])

    def credentials(self) -> grpc.ChannelCredentials:
        """All of it, for gRPC."""
        key, chain = self.pair or (None, None)
        return grpc.ssl_channel_credentials(self.roots, key, chain)

    def context(self) -> ssl.SSLContext:
        """All of it, for a connection of our own, which checks the chain and leaves the name to its user."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=self.roots.decode("ascii", "replace"))
        if self._pair is not None:
            key, chain = self._pair
            context.load_cert_chain(
                chain.path, key.path, password=lambda: b""
            )  # a locked key is an error, not a prompt
        return context


def uris_of(certificate: x509.Certificate) -> frozenset[str]:
    """The URIs among the names of a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(names.get_values_for_type(x509.UniformResourceIdentifier))
