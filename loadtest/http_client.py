"""A client for HTTP/1.1 that costs little: ready bytes out, one answer in, over a connection that stays open."""

from __future__ import annotations

import asyncio
from typing import Self

import httptools


class HttpError(Exception):
    """A connection that broke, or an answer that is none."""


class HttpConnection(asyncio.Protocol):
    """One connection, with one request at a time; statuses are counted in ``statuses``."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect; raises OSError when nobody listens."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    async def call(self, request: bytes) -> int:
        """Send a request and wait for its whole answer.

        Returns:
            The status.

        Raises:
            HttpError: The connection broke.
        """
        if self._transport is None or self._transport.is_closing():
            raise HttpError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(f"no answer of HTTP/1.1: {exc}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Of `asyncio.Protocol`."""
        self._fail("the connection was closed")

    def on_message_complete(self) -> None:
        """Of the parser."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HttpError(why))


def request_bytes(host: str, path: str, headers: dict[str, str]) -> bytes:
    """A GET."""
    lines = [f"GET {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
