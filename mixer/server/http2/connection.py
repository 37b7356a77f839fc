"""One connection: frames in, frames out; what they ask for is the business of `calls`."""

from __future__ import annotations

import asyncio
from typing import Final, cast

import structlog

from mixer.api.rpc import Methods
from mixer.server.http2 import frames, heads
from mixer.server.http2.calls import Calls, Limits
from mixer.server.http2.frames import ErrorCode, PeerError

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.http2")

MAX_FRAME_BYTES: Final = 256 << 10
CONNECTION_WINDOW: Final = 16 << 20
MAX_RESETS: Final = 1_000
"""How many more calls a peer may break off than it lets end."""

FAREWELL_S: Final = 1.0
"""How long a draining connection waits for the peer to have heard of it."""


class Connection(asyncio.Protocol):
    """The server's side of one HTTP/2 connection; ``others`` is the set of all, which it joins and leaves."""

    def __init__(self, methods: Methods, limits: Limits, others: set[Connection]) -> None:
        self._limits = limits
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._reader = frames.FrameReader(MAX_FRAME_BYTES)
        self._heads = heads.HeadDecoder()
        self._stream_window = min(frames.MAX_WINDOW, max(frames.DEFAULT_WINDOW, limits.message_bytes + (64 << 10)))
        self._calls = Calls(methods, limits, window=self._stream_window, ended=self._ended)
        self._sender = self._calls.sender
        self._preface: bytes | None = b""
        self._settled = False
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and what there is of a header block
        self._last = 0
        self._uncredited = 0
        self._resets = 0
        self._draining = False
        self._said_goodbye = False
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
        self._calls.drop_all()
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
            raise PeerError(ErrorCode.PROTOCOL_ERROR, self._greeting_fault())
        self._preface = data if len(data) < size else None
        return data[size:]

    def _greeting_fault(self) -> str:
        if self._transport.get_extra_info("sslcontext") is not None:
            return "this port speaks HTTP/2"
        return "this port speaks HTTP/2 without TLS"

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
                self._sender.resize(value, self._calls.outgoing())
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
        self._calls.begin(stream, head)
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
        self._calls.feed(call, len(payload), frames.unpadded(flags, payload), done=bool(flags & frames.END_STREAM))

    def _reset(self, stream: int) -> None:
        if stream > self._last:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "the end of a stream that never began")
        if stream in self._calls:
            self._resets += 1
            if self._resets > MAX_RESETS:
                raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too many calls broken off")
            self._calls.drop(stream)

    def _ended(self) -> None:
        self._resets = max(0, self._resets - 1)
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
        if self._calls.end_conversations():
            self._close()

    def _close(self) -> None:
        self._sender.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
