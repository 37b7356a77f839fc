"""HTTP/1.1 for small questions: requests in, whole answers out, on a connection that Envoy keeps open.

A protocol on httptools, because the answer to a check costs less than any web framework's way to it. Requests of one
connection are answered in their order, pipelined or not; what exceeds a bound or makes no sense is answered and ends
the connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeAlias, cast

import httptools
import structlog

from mixer.tls import HTTP1, ServerCertificates, asyncio_tls

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.envoy.http1")

_HEAD_TOO_LARGE: Final = (431, "the request's head is too large", "head_too_large")
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a client is borne with.

    Attributes:
        head_bytes: Of a request's line and headers.
        body_bytes: Of a request's body, which is read and dropped.
        waiting: Requests of one connection that wait for their turn; then nothing more is read.
        head_s: From the beginning of a request to its end.
        connections: At one time; further ones are closed at once.
    """

    head_bytes: int = 256 << 10
    body_bytes: int = 16 << 20
    waiting: int = 64
    head_s: float = 10.0
    connections: int = 4096


@dataclass(slots=True)
class Request:
    """A request; names of headers are in lower case. ``refused``: the HTTP status that it gets in any case."""

    method: str = ""
    url: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    keep_alive: bool = True
    refused: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; headers are sent as they are, in UTF-8."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: str = ""


App: TypeAlias = Callable[[Request], Awaitable[Answer]]


class HttpServer:
    """Serves an application on one port."""

    def __init__(self, app: App, refused: Callable[[str], None], bounds: Bounds | None = None) -> None:
        """Prepare; ``refused`` hears why a request was not given to the application."""
        self.app = app
        self.refused = refused
        self.bounds = bounds or Bounds()
        self.connections: set[Connection] = set()
        self.draining = False
        self.certificates: ServerCertificates | None = None
        """Serve TLS with these; to be set before `listen`."""
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Serve; returns the bound port.

        Raises:
            OSError: The port is taken.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self),
            host,
            port,
            backlog=1024,
            reuse_port=reuse_port or None,
            **asyncio_tls(self.certificates, HTTP1),
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new connections, let requests in progress finish for so long, then cut them off."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        ends = [connection.drain() for connection in list(self.connections)]
        if ends:
            await asyncio.wait(ends, timeout=grace_s)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.gather(*ends, return_exceptions=True)


class Connection(asyncio.Protocol):
    """One connection; a task of its own answers its requests."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._bounds = server.bounds
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._ready: deque[Request] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._current = Request()
        self._head_bytes = self._body_bytes = self._named_bytes = 0
        self._in_request = self._last = self._paused = self._busy = False
        self._deadline: asyncio.TimerHandle | None = None

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        server = self._server
        if len(server.connections) >= self._bounds.connections or server.draining:
            server.refused("too_many_connections")
            self._transport.abort()
            return
        server.connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._answer_all(), name="answer checks over HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        """End; what is in progress is of no use to anybody."""
        self._server.connections.discard(self)
        self._set_deadline(False)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._last:
            return
        self._head_bytes += len(data)  # what belongs to a body is taken off again
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:  # the request is whole; it is a question, not an upgrade
            offset = exc.args[0] if exc.args and isinstance(exc.args[0], int) else len(data)
            self._parser = httptools.HttpRequestParser(self)
            if offset < len(data):
                self._head_bytes = 0
                self.data_received(data[offset:])
                return
        except httptools.HttpParserError as exc:
            self._refuse(400, f"bad request: {exc}", "malformed")
        if self._in_request and not self._last:
            if self._head_bytes > self._bounds.head_bytes:
                self._refuse(*_HEAD_TOO_LARGE)
            elif self._body_bytes > self._bounds.body_bytes:
                self._refuse(413, "the request's body is too large", "body_too_large")
        if self._in_request != (self._deadline is not None):
            self._set_deadline(self._in_request)
        if len(self._ready) >= self._bounds.waiting and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if self._ready and self._wake is not None:
            self._wake.set_result(None)
            self._wake = None

    def eof_received(self) -> bool:
        """The client sends no more; it still gets what it asked for, except over TLS, which ends both ways at once."""
        self._last = True
        return (self._busy or bool(self._ready)) and self._server.certificates is None

    def _set_deadline(self, on: bool) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if on:
            self._deadline = asyncio.get_running_loop().call_later(self._bounds.head_s, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        self._refuse(408, "the request did not come in time", "slow")
        if self._wake is not None:
            self._wake.set_result(None)
            self._wake = None

    def _refuse(self, status: int, reason: str, why: str) -> None:
        self._server.refused(why)
        self._last = True
        self._in_request = False
        self._ready.append(Request(keep_alive=False, refused=status, reason=reason))

    # The parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._current = Request()
        self._body_bytes = self._named_bytes = 0
        self._in_request = True

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._named_bytes += len(url)
        self._current.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self._named_bytes += len(name) + len(value) + 4
        text = _NAMES.get(name) or _name(name)
        try:
            self._current.headers.append((text, value.decode()))
        except UnicodeDecodeError:
            self._current.headers.append((text, value.decode("utf-8", "replace")))

    def on_body(self, body: bytes) -> None:
        """A piece of its body, which nobody reads."""
        self._head_bytes -= len(body)
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        request = self._current
        request.method = self._parser.get_method().decode()
        request.keep_alive = self._parser.should_keep_alive() or self._parser.should_upgrade()
        self._in_request = False
        self._head_bytes = 0
        if self._named_bytes > self._bounds.head_bytes:  # it came so fast that it is whole already
            self._refuse(*_HEAD_TOO_LARGE)
        elif not self._last:
            self._ready.append(request)

    # Answers

    async def _answer_all(self) -> None:
        transport = self._transport
        while True:
            while self._ready:
                request = self._ready.popleft()
                if self._paused and len(self._ready) < self._bounds.waiting:
                    self._paused = False
                    transport.resume_reading()
                self._busy = True
                answer = await self._answer(request)
                self._busy = False
                last = not request.keep_alive or self._server.draining or (self._last and not self._ready)
                transport.write(_encoded(answer, last=last, bodiless=request.method == "HEAD"))
                if last:
                    transport.close()
                    return
                if not self._writable.is_set():
                    await self._writable.wait()
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    async def _answer(self, request: Request) -> Answer:
        if request.refused:
            return Answer(request.refused, (), request.reason)
        try:
            return await self._server.app(request)
        except Exception as exc:
            log.error("request_crashed", exc_info=exc)
            return Answer(500, (), f"internal error: {type(exc).__name__}")

    def drain(self) -> asyncio.Task[None]:
        """Close after what is in progress; the task ends with the connection."""
        assert self._task is not None
        self._last = True
        if not self._busy and not self._ready:
            self._transport.close()
        return self._task

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()


_NAMES: Final[dict[bytes, str]] = {}
"""Names of headers that came before, so many as an Envoy sends ever."""


def _name(name: bytes) -> str:
    text = name.decode("latin-1").lower()
    if len(_NAMES) < 1024 and len(name) < 64:
        _NAMES[name] = text
    return text


def _encoded(answer: Answer, *, last: bool, bodiless: bool) -> bytes:
    status = answer.status
    body = answer.body.encode("utf-8", "replace")
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Answer')}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in answer.headers]
    if status not in (204, 304):
        lines.append(f"content-length: {len(body)}\r\n")
    lines.append("connection: close\r\n\r\n" if last else "\r\n")
    head = "".join(lines).encode("utf-8", "replace")
    return head if bodiless or status in (204, 304) or not body else head + body
