"""Asking an Open Policy Agent by its REST API; the one module of opa that knows aiohttp.

Source: OPA's documentation, "Data API", "Get a Document (with Input)".
"""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp
from yarl import URL

from mixer.adapters.opa.breaker import Breaker
from mixer.errors import BackendUnavailableError

_MAX_ANSWER_BYTES: Final = 1 << 16
_CONNECTIONS: Final = 100


class OpaServer:
    """An agent, and the document that decides there."""

    def __init__(self, server_url: str, path: str, *, token: str, timeout_s: float, breaker: Breaker) -> None:
        base = server_url.rstrip("/")
        self._url = URL(f"{base}/v1/data{path}", encoded=True)
        self._timeout_s, self._breaker = timeout_s, breaker
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            headers=headers,
        )

    async def decide(self, document: str) -> bool | None:
        """The decision for an input document; None: undefined, or no boolean.

        Raises:
            BackendUnavailableError: The agent is away, slow, spared, or its answer is none.
        """
        if not self._breaker.enter():
            raise BackendUnavailableError("OPA did not answer and is not asked for a while")
        ended = False
        try:
            decision = await self._ask(document)
            self._breaker.succeed()
            ended = True
        except BackendUnavailableError:
            self._breaker.fail()
            ended = True
            raise
        finally:
            if not ended:
                self._breaker.abandon()
        return decision

    async def _ask(self, document: str) -> bool | None:
        try:
            body = f'{{"input":{document}}}'
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                if response.status != 200:
                    raise BackendUnavailableError(f"OPA answers {response.status}")
                return _decision(await _whole(response))
        except TimeoutError as exc:
            raise BackendUnavailableError(f"OPA did not answer in {self._timeout_s:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise BackendUnavailableError(f"OPA cannot be asked: {type(exc).__name__}") from exc

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise BackendUnavailableError(f"OPA answers with more than {_MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _decision(body: bytes) -> bool | None:
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BackendUnavailableError("OPA's answer is no JSON") from None
    if not isinstance(answer, dict):
        raise BackendUnavailableError("OPA's answer is no JSON object")
    result = answer.get("result")
    return result if isinstance(result, bool) else None
