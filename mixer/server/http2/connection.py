"""One connection: frames in, calls of methods, frames out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog

from mixer.adapters.base import Code
from mixer.server.http2 import frames, heads
from mixer.server.http2.flow import Outgoing, Sender
from mixer.server.http2.frames import ErrorCode, PeerError
from mixer.server.http2.messages import MessageReader, framed
from mixer.server.methods import Methods, Stream, Unary
from mixer.server.status import ServiceError

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.http2")

MAX_FRAME_BYTES: Final = 256 << 10
CONNECTION_WINDOW: Final = 16 << 20
MAX_RESETS: Final = 1_000
"""How many more calls a peer may break off than it lets end."""

FAREWELL_S: Final = 1.0
"""How long a draining connection waits for the peer to have heard of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may ask for.

    Attributes:
        message_bytes: Size of a request, after decompression.
        streams: Calls in progress.
        held_bytes: Of all requests that are arriving or being served.
    """

    message_bytes: int = 1 << 20
    streams: int = 1024
    held_bytes: int = 64 << 20


class Call:
    """A call in progress: ``task`` serves it once its request is there; ``inbox`` is a stream's requests."""

    __slots__ = ("begun", "credit", "held", "inbox", "message", "out", "peer_done", "reader", "serve", "task")

    def __init__(self, out: Outgoing, reader: MessageReader, serve: Unary | None, credit: int) -> None:
        self.out: Final = out
        self.reader: Final = reader
        self.serve: Final = serve
        self.credit = credit
        self.held = 0
        self.begun = False
        self.peer_done = False
        self.message: bytes | None = None
        self.inbox: asyncio.Queue[tuple[bytes, int] | None] | None = None
        self.task: asyncio.Task[None] | None = None


class Connection(asyncio.Protocol):
    """The server's side of one HTTP/2 connection; ``others`` is the set of all, which it joins and leaves."""

    def __init__(self, methods: Methods, limits: Limits, others: set[Connection]) -> None:
        self._methods = methods
        self._limits = limits
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._reader = frames.FrameReader(MAX_FRAME_BYTES)
        self._heads = heads.HeadDecoder()
        self._sender = Sender(self._ended)
        self._calls: dict[int, Call] = {}
        self._cancelled: set[asyncio.Task[None]] = set()
        self._preface: bytes | None = b""
        self._settled = False
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and what there is of a header block
        self._last = 0
        self._held = 0
        self._uncredited = 0
        self._resets = 0
        self._draining = False
        self._said_goodbye = False
        self._stream_window = min(frames.MAX_WINDOW, max(frames.DEFAULT_WINDOW, limits.message_bytes + (64 << 10)))
        self.closed = asyncio.Event()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop derives its own from nothing
        self._sender.attach(self._transport)
        self._others.add(self)
        values = {
            frames.SET_MAX_CONCURRENT_STREAMS: self._limits.streams,
            frames.SET_INITIAL_WINDOW_SIZE: self._stream_window,
            frames.SET_MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            frames.SET_MAX_HEADER_LIST_SIZE: heads.MAX_HEADER_BYTES,
        }
        more = CONNECTION_WINDOW - frames.DEFAULT_WINDOW
        self._sender.write(frames.settings(values) + frames.window_update(0, more))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to answer."""
        self._others.discard(self)
        for stream in list(self._calls):
            self._drop(stream)
        self.closed.set()

    def pause_writing(self) -> None:
        """Who does not read answers is not read from."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take what came, to the last complete frame."""
        if self._transport.is_closing():
            return
        try:
            if self._preface is not None:
                data = self._greeted(self._preface + data)
            for kind, flags, stream, payload in self._reader.feed(data):
                self._take(kind, flags, stream, payload)
        except PeerError as exc:
            log.info("peer_refused", code=exc.code.name, reason=exc.message)
            self._sender.write(frames.goaway(self._last, exc.code, exc.message))
            self._close()

    # Frames

    def _greeted(self, data: bytes) -> bytes:
        size = len(frames.PREFACE)
        if data[:size] != frames.PREFACE[: len(data)]:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 without TLS")
        self._preface = data if len(data) < size else None
        return data[size:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "headers were cut short")
        if not self._settled and kind != frames.SETTINGS:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "settings come first")
        if kind == frames.DATA:
            self._data(flags, stream, payload)
        elif kind == frames.HEADERS:
            block = frames.unpadded(flags, payload)
            self._headers(flags, stream, block[5:] if flags & frames.HAS_PRIORITY else block)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, stream, payload)
        elif kind == frames.WINDOW_UPDATE:
            call = self._calls.get(stream)
            by = frames.read_uint31(payload)
            if call is not None or stream == 0:
                self._sender.grant(by, call.out if call is not None else None)
        elif kind == frames.RST_STREAM:
            self._reset(stream)
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.PING:
            self._ping(flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _settings(self, flags: int, payload: bytes) -> None:
        self._settled = True
        if flags & frames.ACK:
            return
        for name, value in frames.read_settings(payload):
            if name == frames.SET_INITIAL_WINDOW_SIZE:
                self._sender.resize(value, [call.out for call in self._calls.values()])
            elif name == frames.SET_MAX_FRAME_SIZE:
                self._sender.resize_frames(value)
        self._sender.write(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a PING of a broken length")
        if not flags & frames.ACK:
            self._sender.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif self._draining:
            self._say_goodbye()

    def _headers(self, flags: int, stream: int, block: bytes) -> None:
        if not stream % 2:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "clients number their streams oddly")
        if not flags & frames.END_HEADERS:
            self._block = stream, flags, block
        else:
            self._begin(stream, flags, block)

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream or not payload:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        _, first_flags, block = self._block
        block += payload
        if len(block) > heads.MAX_HEADER_BYTES:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too many headers")
        self._block = stream, first_flags, block
        if flags & frames.END_HEADERS:
            self._block = None
            self._begin(stream, first_flags, block)

    def _begin(self, stream: int, flags: int, block: bytes) -> None:
        head = self._heads.decode(block)
        if stream <= self._last:  # trailers, or a stream that is over
            if stream in self._calls and flags & frames.END_STREAM:
                self._data(flags, stream, b"")
            return
        self._last = stream
        if self._said_goodbye or len(self._calls) >= self._limits.streams:
            self._sender.write(frames.rst_stream(stream, ErrorCode.REFUSED_STREAM))
            return
        if head.fault:
            end = frames.END_HEADERS | frames.END_STREAM
            self._sender.write(frames.frame(frames.HEADERS, end, stream, heads.http_fault(head.fault)))
            if not flags & frames.END_STREAM:
                self._sender.write(frames.rst_stream(stream, ErrorCode.NO_ERROR))
            return
        out = Outgoing(stream, self._sender.initial_window)
        serve = self._methods.unary.get(head.path)
        call = Call(out, MessageReader(self._limits.message_bytes, head.encoding), serve, self._stream_window)
        self._calls[stream] = call
        if serve is None:
            conversation = self._methods.streams.get(head.path)
            if conversation is None:
                self._fail(call, Code.UNIMPLEMENTED, f"unknown method {head.path}")
                return
            call.inbox = asyncio.Queue()
            call.task = self._loop.create_task(self._converse(call, conversation))
        if flags & frames.END_STREAM:
            self._data(flags, stream, b"")

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        self._uncredited += len(payload)
        if self._uncredited > CONNECTION_WINDOW // 2:
            self._sender.write(frames.window_update(0, self._uncredited))
            self._uncredited = 0
        call = self._calls.get(stream)
        if call is None or call.peer_done:
            if stream > self._last or not stream % 2:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "data of a stream that never began")
            return
        call.credit -= len(payload)
        if call.credit < 0:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "more data than was asked for")
        call.held += len(payload)
        self._held += len(payload)
        data = frames.unpadded(flags, payload)
        call.peer_done = bool(flags & frames.END_STREAM)
        try:
            if self._held > self._limits.held_bytes:
                raise ServiceError(Code.RESOURCE_EXHAUSTED, "too many bytes in progress on this connection")
            arrived = call.reader.feed(data) if data else []
            if call.peer_done and not call.reader.idle:
                raise ServiceError(Code.INTERNAL, "the request is cut off")
            if call.inbox is not None:
                self._hand_over(call.inbox, arrived, len(payload), call.peer_done)
            else:
                self._collect(call, arrived)
        except ServiceError as exc:
            self._fail(call, exc.code, exc.message)

    def _collect(self, call: Call, arrived: list[bytes]) -> None:
        """A unary call begins when its one message and the end of the stream are there."""
        for message in arrived:
            if call.message is not None:
                raise ServiceError(Code.UNIMPLEMENTED, "more than one request in a unary call")
            call.message = message
        if call.peer_done:
            if call.message is None:
                raise ServiceError(Code.UNIMPLEMENTED, "no request in a unary call")
            call.task = self._loop.create_task(self._answer(call, call.message))

    def _hand_over(self, inbox: Any, arrived: list[bytes], credit: int, done: bool) -> None:
        # What a frame cost is given back with the first message after it.
        for message in arrived:
            inbox.put_nowait((message, credit))
            credit = 0
        if credit:
            inbox.put_nowait((None, credit))
        if done:
            inbox.put_nowait(None)

    # Calls

    async def _answer(self, call: Call, message: bytes) -> None:
        assert call.serve is not None
        try:
            answer = await call.serve(message)
        except ServiceError as exc:
            self._fail(call, exc.code, exc.message)
        except Exception as exc:
            log.error("method_crashed", exc_info=exc)
            self._fail(call, Code.INTERNAL, "internal error")
        else:
            if call.out.stream in self._calls:
                self._sender.send(call.out, _response(call.out.stream), framed(answer), heads.OK_TRAILERS)

    async def _converse(self, call: Call, serve: Stream) -> None:
        try:
            async with aclosing(serve(self._requests(call))) as answers:
                async for answer in answers:
                    await self._sender.room(call.out)
                    head = b"" if call.begun else _response(call.out.stream)
                    call.begun = True
                    self._sender.send(call.out, head, framed(answer))
            await self._sender.room(call.out)
        except ServiceError as exc:
            self._fail(call, exc.code, exc.message)
        except Exception as exc:
            log.error("method_crashed", exc_info=exc)
            self._fail(call, Code.INTERNAL, "internal error")
        else:
            self._fail(call, Code.OK, "")

    async def _requests(self, call: Call) -> AsyncIterator[bytes]:
        assert call.inbox is not None
        stream = call.out.stream
        while (item := await call.inbox.get()) is not None:
            message, credit = item
            if credit:
                call.credit += credit
                call.held -= credit
                self._held -= credit
                if not call.peer_done:
                    self._sender.write(frames.window_update(stream, credit))
            if message is not None:
                yield message

    def _fail(self, call: Call, code: int, message: str) -> None:
        """End a call with a status, OK for a stream that is done."""
        stream = call.out.stream
        if stream not in self._calls:
            return
        head = b"" if call.begun else heads.RESPONSE
        peer_done = call.peer_done
        end = frames.END_HEADERS | frames.END_STREAM
        self._sender.write(frames.frame(frames.HEADERS, end, stream, head + heads.trailers(code, message)))
        self._ended(stream)
        self._cancel(call)
        if not peer_done:
            self._sender.write(frames.rst_stream(stream, ErrorCode.NO_ERROR))

    def _reset(self, stream: int) -> None:
        if stream > self._last:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "the end of a stream that never began")
        if stream in self._calls:
            self._resets += 1
            if self._resets > MAX_RESETS:
                raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too many calls broken off")
            self._drop(stream)

    def _drop(self, stream: int) -> None:
        """Give up a call whose peer does not wait any more."""
        call = self._calls[stream]
        self._ended(stream)
        self._cancel(call)

    def _cancel(self, call: Call) -> None:
        """End the work for a call that is over, unless that is who asks."""
        task = call.task
        if task is not None and not task.done() and task is not asyncio.current_task(self._loop):
            self._cancelled.add(task)  # or nobody but the garbage collector would hold it
            task.add_done_callback(self._cancelled.discard)
            task.cancel()

    def _ended(self, stream: int) -> None:
        call = self._calls.pop(stream)
        self._held -= call.held
        self._resets = max(0, self._resets - (call.task is not None and call.task.done()))
        self._sender.forget(stream)
        if self._said_goodbye:
            self._finish()

    # The end

    def drain(self) -> None:
        """Tell the peer to go elsewhere, and close once it has and nothing is in progress."""
        if self._draining or self._transport.is_closing():
            return
        self._draining = True
        # In two steps, so that what the peer sends before it hears of it is served. RFC 9113, 6.8.
        self._sender.write(frames.goaway(frames.MAX_WINDOW, ErrorCode.NO_ERROR))
        self._sender.write(frames.frame(frames.PING, 0, 0, b"farewell"))
        self._loop.call_later(FAREWELL_S, self._say_goodbye)

    def _say_goodbye(self) -> None:
        if not self._said_goodbye and not self._transport.is_closing():
            self._said_goodbye = True
            self._sender.write(frames.goaway(self._last, ErrorCode.NO_ERROR))
            self._finish()

    def _finish(self) -> None:
        """Close when only conversations are left, which might never end."""
        if any(call.inbox is None for call in self._calls.values()):
            return
        for call in list(self._calls.values()):
            self._fail(call, Code.UNAVAILABLE, "the server is going away")
        self._close()

    def _close(self) -> None:
        self._sender.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()


def _response(stream: int) -> bytes:
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, heads.RESPONSE)
