"""The two ends of an ASGI request as the application gets them: everything passes through, counted and not kept.

What is denied never comes here. The record is made as soon as the response is sent to its end; an application may go
on working after that.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from proxy.middleware.exchange import Exchange, bytes_of, header_map
from proxy.middleware.operations import Changes

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

ABNORMAL: Final = 1006
"""The code of a WebSocket whose connection broke."""


class HttpFlow:
    """``receive`` and ``send`` of a request.

    Args:
        exchange: Where all of it is counted.
        receive: The server's.
        send: The server's.
        changes: What is done to the headers of the response; None for nothing.
    """

    __slots__ = ("_body_sent", "_changes", "_exchange", "_receive", "_send", "_trailers")

    def __init__(self, exchange: Exchange, receive: Receive, send: Send, changes: Changes | None = None) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._changes = changes
        self._trailers = False
        self._body_sent = False

    async def receive(self) -> Message:
        """The next message from the client."""
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            self._exchange.request_bytes += len(message.get("body") or b"")
        elif kind == "http.disconnect":
            self._exchange.client_gone()
        return message

    async def send(self, message: Message) -> None:
        """Send a message to the client."""
        exchange = self._exchange
        kind = message["type"]
        if kind == "http.response.start":
            message = _settled(message, self._changes)
        try:
            await self._send(message)
        except OSError:  # so servers say that nobody is there any more
            exchange.client_gone()
            raise
        if kind == "http.response.body":
            exchange.response_bytes += len(message.get("body") or b"")
            self._body_over(bool(message.get("more_body", False)))
        elif kind == "http.response.start":
            self._begins(message)
        elif kind == "http.response.trailers":
            headers = tuple(message.get("headers") or ())
            exchange.trailers(header_map(headers), bytes_of(headers))
            if self._body_sent and not message.get("more_trailers", False):
                exchange.complete()
        elif kind == "http.response.pathsend":
            exchange.response_bytes += _file_size(message.get("path"))
            self._body_over(False)
        elif kind == "http.response.zerocopysend":
            exchange.response_bytes += message.get("count") or 0
            self._body_over(bool(message.get("more_body", False)))

    def _begins(self, message: Message) -> None:
        headers = tuple(message.get("headers") or ())
        self._trailers = bool(message.get("trailers", False))
        self._exchange.begins(message["status"], header_map(headers), bytes_of(headers))

    def _body_over(self, more: bool) -> None:
        if not more:
            self._body_sent = True
            if not self._trailers:
                self._exchange.complete()


class WebSocketFlow:
    """``receive`` and ``send`` of a WebSocket: its handshake is the response, its messages are the bodies.

    Args:
        exchange: Where all of it is counted.
        receive: The server's.
        send: The server's.
        accepted_status: What the client gets for a handshake: 101, or 200 over HTTP/2 and later.
        changes: What is done to the headers of the handshake; None for nothing.
    """

    __slots__ = ("_accepted_status", "_changes", "_exchange", "_receive", "_send")

    def __init__(
        self, exchange: Exchange, receive: Receive, send: Send, accepted_status: int, changes: Changes | None = None
    ) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._accepted_status = accepted_status
        self._changes = changes

    async def receive(self) -> Message:
        """The next message from the client."""
        message = await self._receive()
        kind = message["type"]
        if kind == "websocket.receive":
            self._exchange.request_bytes += _message_bytes(message)
        elif kind == "websocket.disconnect":
            exchange = self._exchange
            if not exchange.status or message.get("code") == ABNORMAL:
                exchange.client_gone()
            exchange.complete()
        return message

    async def send(self, message: Message) -> None:
        """Send a message to the client."""
        exchange = self._exchange
        kind = message["type"]
        if kind in ("websocket.accept", "websocket.http.response.start"):
            message = _settled(message, self._changes)
        try:
            await self._send(message)
        except OSError:
            exchange.client_gone()
            raise
        if kind == "websocket.send":
            exchange.response_bytes += _message_bytes(message)
        elif kind == "websocket.accept":
            self._begins(self._accepted_status, message)
        elif kind == "websocket.close":
            if not exchange.status:
                exchange.begins(403, {}, 0)
            exchange.complete()
        elif kind == "websocket.http.response.start":
            self._begins(message["status"], message)
        elif kind == "websocket.http.response.body":
            exchange.response_bytes += len(message.get("body") or b"")
            if not message.get("more_body", False):
                exchange.complete()

    def ended(self) -> None:
        """The application is done; servers close what it accepted and left open."""
        if self._exchange.status == self._accepted_status:
            self._exchange.complete()

    def _begins(self, status: int, message: Message) -> None:
        headers = tuple(message.get("headers") or ())
        self._exchange.begins(status, header_map(headers), bytes_of(headers))


def _settled(message: Message, changes: Changes | None) -> Message:
    """The head of a response after header operations; its headers can be read several times."""
    headers = message.get("headers") or ()
    if changes is not None:
        return {**message, "headers": changes.applied(headers)}
    return message if isinstance(headers, list | tuple) else {**message, "headers": list(headers)}


def _message_bytes(message: Message) -> int:
    data = message.get("bytes")
    if data is not None:
        return len(data)
    text = message.get("text") or ""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _file_size(path: Any) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, TypeError, ValueError):
        return 0
