"""What is sent: collected for one write a turn of the loop, and held back where the peer's windows are full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from mixer.server.http2.frames import (
    DATA,
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_WINDOW,
    ErrorCode,
    PeerError,
    frame,
)


class Outgoing:
    """The sending half of a stream.

    Attributes:
        window: How many bytes of DATA the peer takes on this stream.
        data: What waits for windows.
        trailers: What ends the stream once ``data`` is sent; None while more may come.
        room: Set whenever nothing waits.
    """

    __slots__ = ("data", "room", "stream", "trailers", "window")

    def __init__(self, stream: int, window: int) -> None:
        self.stream: Final = stream
        self.window = window
        self.data = b""
        self.trailers: bytes | None = None
        self.room: asyncio.Event | None = None


class Sender:
    """The sending half of a connection; ``ended`` is told of each stream whose end has been written."""

    def __init__(self, ended: Callable[[int], None]) -> None:
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._frames: list[bytes] = []
        self._blocked: dict[int, Outgoing] = {}
        self._window = DEFAULT_WINDOW
        self._max_frame = DEFAULT_FRAME_BYTES
        self.initial_window = DEFAULT_WINDOW

    def attach(self, transport: asyncio.Transport) -> None:
        """Where it goes."""
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send whole frames, together with whatever else this turn of the loop brings."""
        if not self._frames:
            self._loop.call_soon(self.flush)
        self._frames.append(data)

    def flush(self) -> None:
        """Send what was collected."""
        frames, self._frames = self._frames, []
        if frames and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(frames))

    def send(self, out: Outgoing, head: bytes, data: bytes, trailers: bytes | None = None) -> None:
        """Send DATA after ready frames ``head``, and the end of the stream when there are trailers."""
        if not out.data and len(data) <= min(out.window, self._window, self._max_frame):  # nearly always
            out.window -= len(data)
            self._window -= len(data)
            body = frame(DATA, 0, out.stream, data) if data else b""
            if trailers is None:
                self.write(head + body)
            else:
                self.write(head + body + frame(HEADERS, END_HEADERS | END_STREAM, out.stream, trailers))
                self._ended(out.stream)
            return
        if head:
            self.write(head)
        out.data += data
        out.trailers = trailers
        self._pump(out)

    def forget(self, stream: int) -> None:
        """The stream is gone; what waited for it too."""
        self._blocked.pop(stream, None)

    async def room(self, out: Outgoing) -> None:
        """Wait until nothing of a stream waits."""
        if out.data:
            out.room = asyncio.Event()
            await out.room.wait()

    def resize(self, initial: int, streams: Iterable[Outgoing]) -> None:
        """The peer changed the window that each stream begins with, also of those that run."""
        if initial > MAX_WINDOW:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond all bounds")
        by = initial - self.initial_window
        self.initial_window = initial
        for out in streams:
            out.window += by
        self._pump_all()

    def resize_frames(self, largest: int) -> None:
        """The peer takes frames of that size."""
        if not DEFAULT_FRAME_BYTES <= largest < 1 << 24:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "a frame size out of bounds")
        self._max_frame = largest

    def grant(self, by: int, out: Outgoing | None) -> None:
        """The peer takes so many bytes more, on a stream or on the whole connection."""
        if by == 0:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
        if out is None:
            self._window += by
        else:
            out.window += by
        if (self._window if out is None else out.window) > MAX_WINDOW:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond all bounds")
        if self._blocked:
            self._pump_all()

    def _pump_all(self) -> None:
        for out in list(self._blocked.values()):
            self._pump(out)

    def _pump(self, out: Outgoing) -> None:
        while out.data and (size := min(len(out.data), out.window, self._window, self._max_frame)) > 0:
            self.write(frame(DATA, 0, out.stream, out.data[:size]))
            out.data = out.data[size:]
            out.window -= size
            self._window -= size
        if out.data:
            self._blocked[out.stream] = out
            return
        self._blocked.pop(out.stream, None)
        if out.room is not None:
            out.room.set()
        if out.trailers is not None:
            self.write(frame(HEADERS, END_HEADERS | END_STREAM, out.stream, out.trailers))
            self._ended(out.stream)
