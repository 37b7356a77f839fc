"""Posting a batch to a web server; the one module of the span exporters that knows aiohttp."""

from __future__ import annotations

import contextlib
import math
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp
from yarl import URL

from mixer.adapters.spans.courier import NotTakenError, RefusedError
from mixer.adapters.spans.params import shown_address

_LATER: Final = frozenset((408, 429, 502, 503, 504))
"""Statuses after which the same batch may be taken. Source: OTLP 1.x, "Retryable Response Codes"; 408: RFC 9110."""
_MAX_ANSWER_BYTES: Final = 1 << 16
_MAX_PAUSE_S: Final = 86_400.0


class Poster:
    """One session; connections are kept between batches, made again when lost."""

    def __init__(
        self, url: str, headers: Mapping[str, str], *, timeout_s: float, trust: ssl.SSLContext | None = None
    ) -> None:
        self._url, self._timeout_s = URL(url), timeout_s
        self._shown = shown_address(url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, ssl=trust or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            headers=dict(headers),
        )

    async def post(self, body: bytes) -> tuple[str, bytes]:
        """Send; the type and the start of the body of an answer that says it was taken.

        Raises:
            NotTakenError: The server is away, slow, or asks to be asked later.
            RefusedError: It answers anything else.
        """
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                if 200 <= response.status < 300:
                    return response.content_type, await _start_of(response)
                message = f"{self._shown} answers {response.status}"
                if response.status in _LATER:
                    raise NotTakenError(message, _pause_s(response.headers.get("Retry-After", "")))
                raise RefusedError(message)
        except TimeoutError as exc:
            raise NotTakenError(f"{self._shown} did not answer in {self._timeout_s:g} s") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise NotTakenError(f"{self._shown}: {_reason(exc)}") from exc

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    """What there is of the body; the status has said already that the batch was taken."""
    body = bytearray()
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= _MAX_ANSWER_BYTES:
                break
    return bytes(body[:_MAX_ANSWER_BYTES])


def _pause_s(retry_after: str) -> float:
    """Seconds; 0 for none, and for a date, which would need clocks that agree."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _MAX_PAUSE_S) if math.isfinite(seconds) else 0.0


def _reason(exc: Exception) -> str:
    # A response error would print the URL with its secrets.
    return type(exc).__name__ if isinstance(exc, aiohttp.ClientResponseError) else str(exc) or type(exc).__name__
