"""The calls of one connection: from the data of a stream to a method, and back.

A unary call is served by one task once its request is complete. A conversation (any streaming method) has its
task from the beginning, and a queue of what the peer says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from mixer.api.codes import Code
from mixer.api.rpc import Methods, ServiceError, Stream, Unary
from mixer.server.http2 import frames, heads
from mixer.server.http2.flow import Outgoing, Sender
from mixer.server.http2.frames import ErrorCode
from mixer.server.http2.heads import Head
from mixer.server.http2.messages import MessageReader, framed

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.http2")

Inbox: TypeAlias = "asyncio.Queue[tuple[bytes | None, int] | None]"
"""Messages, each with the bytes of window that it gives back; None at the end."""


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

    __slots__ = ("begun", "credit", "head", "held", "inbox", "message", "out", "peer_done", "reader", "serve", "task")

    def __init__(self, head: Head, out: Outgoing, reader: MessageReader, serve: Unary | None, credit: int) -> None:
        self.head: Final = head
        self.out: Final = out
        self.reader: Final = reader
        self.serve: Final = serve
        self.credit = credit
        self.held = 0
        self.begun = False
        self.peer_done = False
        self.message: bytes | None = None
        self.inbox: Inbox | None = None
        self.task: asyncio.Task[None] | None = None


class Calls:
    """The calls in progress of one connection.

    ``ended`` is told whenever one has been answered; those that the peer breaks off end in silence.
    """

    def __init__(self, methods: Methods, limits: Limits, *, window: int, ended: Callable[[], None]) -> None:
        self._methods = methods
        self._limits = limits
        self._window = window
        self._tell = ended
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Call] = {}
        self._cancelled: set[asyncio.Task[None]] = set()
        self._held = 0
        self.sender = Sender(self._ended)

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, stream: int) -> bool:
        return stream in self._calls

    def get(self, stream: int) -> Call | None:
        """The call on a stream, while it is in progress."""
        return self._calls.get(stream)

    def outgoing(self) -> list[Outgoing]:
        """The sending halves of all."""
        return [call.out for call in self._calls.values()]

    def begin(self, stream: int, head: Head) -> None:
        """A call whose headers are there."""
        out = Outgoing(stream, self.sender.initial_window)
        serve = self._methods.unary.get(head.path)
        call = Call(head, out, MessageReader(self._limits.message_bytes, head.encoding), serve, self._window)
        self._calls[stream] = call
        if serve is None:
            conversation = self._methods.streams.get(head.path)
            if conversation is None:
                self._fail(call, Code.UNIMPLEMENTED, f"unknown method {head.path}")
                return
            call.inbox = asyncio.Queue()
            call.task = self._loop.create_task(self._converse(call, conversation))

    def feed(self, call: Call, cost: int, data: bytes, *, done: bool) -> None:
        """Data of a call; ``cost`` counts its padding, too, and ``done`` says that there will be no more."""
        call.held += cost
        self._held += cost
        call.peer_done = done
        try:
            if self._held > self._limits.held_bytes:
                raise ServiceError(Code.RESOURCE_EXHAUSTED, "too many bytes in progress on this connection")
            arrived = call.reader.feed(data) if data else []
            if done and not call.reader.idle:
                raise ServiceError(Code.INTERNAL, "the request is cut off")
            if call.inbox is not None:
                _hand_over(call.inbox, arrived, cost, done)
            else:
                self._collect(call, arrived)
        except ServiceError as exc:
            self._fail(call, exc.code, exc.message)

    def drop(self, stream: int) -> None:
        """Give up a call whose peer does not wait any more."""
        self._cancel(self._remove(stream))

    def drop_all(self) -> None:
        """Give up all."""
        for stream in list(self._calls):
            self.drop(stream)

    def end_conversations(self) -> bool:
        """End all calls if only conversations are left, which might never end; answers whether none is left."""
        if any(call.inbox is None for call in self._calls.values()):
            return False
        for call in list(self._calls.values()):
            self._fail(call, Code.UNAVAILABLE, "the server is going away")
        return True

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

    async def _answer(self, call: Call, message: bytes) -> None:
        assert call.serve is not None
        try:
            answer = await call.serve(message, call.head)
        except ServiceError as exc:
            self._fail(call, exc.code, exc.message)
        except asyncio.CancelledError:
            self._fail(call, Code.CANCELLED, "the call was cancelled")  # nothing, when that is why
            raise
        except Exception as exc:
            log.error("method_crashed", exc_info=exc)
            self._fail(call, Code.INTERNAL, "internal error")
        else:
            if call.out.stream in self._calls:
                self.sender.send(call.out, _response(call.out.stream), framed(answer), heads.OK_TRAILERS)

    async def _converse(self, call: Call, serve: Stream) -> None:
        try:
            async with aclosing(serve(self._requests(call), call.head)) as answers:
                async for answer in answers:
                    await self.sender.room(call.out)
                    head = b"" if call.begun else _response(call.out.stream)
                    call.begun = True
                    self.sender.send(call.out, head, framed(answer))
            await self.sender.room(call.out)
        except ServiceError as exc:
            self._fail(call, exc.code, exc.message)
        except asyncio.CancelledError:
            self._fail(call, Code.CANCELLED, "the call was cancelled")  # nothing, when that is why
            raise
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
                    self.sender.write(frames.window_update(stream, credit))
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
        self.sender.write(frames.frame(frames.HEADERS, end, stream, head + heads.trailers(code, message)))
        self._ended(stream)
        self._cancel(call)
        if not peer_done:
            self.sender.write(frames.rst_stream(stream, ErrorCode.NO_ERROR))

    def _cancel(self, call: Call) -> None:
        """End the work for a call that is over, unless that is who asks."""
        task = call.task
        if task is not None and not task.done() and task is not asyncio.current_task(self._loop):
            self._cancelled.add(task)  # or nobody but the garbage collector would hold it
            task.add_done_callback(self._cancelled.discard)
            task.cancel()

    def _ended(self, stream: int) -> None:
        self._remove(stream)
        self._tell()

    def _remove(self, stream: int) -> Call:
        call = self._calls.pop(stream)
        self._held -= call.held
        self.sender.forget(stream)
        return call


def _hand_over(inbox: Inbox, arrived: list[bytes], credit: int, done: bool) -> None:
    # What a frame cost is given back with the first message after it.
    for message in arrived:
        inbox.put_nowait((message, credit))
        credit = 0
    if credit:
        inbox.put_nowait((None, credit))
    if done:
        inbox.put_nowait(None)


def _response(stream: int) -> bytes:
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, heads.RESPONSE)
