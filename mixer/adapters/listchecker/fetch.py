"""Getting the text of a list from a web server; the one module of listchecker that knows aiohttp."""

from __future__ import annotations

from typing import Final, Protocol

import aiohttp
from yarl import URL

from mixer.errors import BackendUnavailableError

_CHUNK: Final = 1 << 16


def is_web_address(url: str) -> bool:
    """Whether there is something to fetch from: ``http`` or ``https``, and a host."""
    try:
        parts = URL(url)
        return parts.scheme in ("http", "https") and bool(parts.host)
    except ValueError:
        return False


class ListSource(Protocol):
    """Where the text of a list comes from."""

    def __str__(self) -> str: ...

    async def fetch(self) -> bytes:
        """Get the text as it is now.

        Raises:
            BackendUnavailableError: There was no usable answer.
        """
        ...

    async def aclose(self) -> None:
        """Free what is held; safe twice."""
        ...


class HttpSource:
    """A plain GET: redirects are followed, certificates checked, cookies and compression unpacked as sent.

    A connection is not kept between fetches, which are minutes apart.
    """

    def __init__(self, url: str, *, timeout_s: float, max_bytes: int) -> None:
        self._url = URL(url)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        )

    def __str__(self) -> str:
        """The address without what may be secret: user, password, query."""
        return str(self._url.with_user(None).with_query(None).with_fragment(None))

    async def fetch(self) -> bytes:
        """Get the body, whole, within the limits of time and size."""
        try:
            async with self._session.get(self._url) as response:
                if response.status != 200:
                    raise BackendUnavailableError(f"{self} answers {response.status}")
                return await self._body(response)
        except TimeoutError as exc:
            raise BackendUnavailableError(f"{self} did not answer in {self._timeout_s:g} s") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise BackendUnavailableError(f"{self} cannot be fetched: {_reason(exc)}") from exc

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > self._max_bytes:
                raise BackendUnavailableError(f"{self} answers with more than {self._max_bytes} bytes")
        return bytes(body)

    async def aclose(self) -> None:
        """Close the session."""
        await self._session.close()


def _reason(exc: Exception) -> str:
    # A response error would print the URL with its secrets.
    return type(exc).__name__ if isinstance(exc, aiohttp.ClientResponseError) else str(exc) or type(exc).__name__
