"""One connection to a Forward receiver: sends chunks and reads their acknowledgements.

fluent-logger's senders block a thread and read no acknowledgements, hence this one (ADR 0010).
Source: Fluentd's Forward protocol v1, "Connection lifetime" and "Response".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from mixer.adapters.fluentd.chunks import Batch, Chunk

DIAL_TIMEOUT_S: Final = 3.0
_WINDOW: Final = 64
"""How many chunks are sent before their acknowledgements are read; keeps those within any receive buffer."""
_MAX_ACK_BYTES: Final = 1 << 16
_FAULTS: Final = (OSError, EOFError, ValueError, msgpack.UnpackException)
"""What a network and a stranger at its other end can cause; ValueError: a name that is none, or no MessagePack."""


class DeliveryError(Exception):
    """A batch, or a part of it, was not delivered; the message says why."""


class ForwardConnection:
    """Connects when it has to; any fault closes it, and the next push starts afresh."""

    def __init__(self, host: str, port: int, *, timeout_s: float, ask_ack: bool) -> None:
        self._host, self._port = host, port
        self._timeout_s, self._ask_ack = timeout_s, ask_ack
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def push(self, batch: Batch, delivered: Callable[[Chunk], None]) -> None:
        """Send what is pending in a batch; each chunk leaves it, and is told to ``delivered``, when it is done.

        Raises:
            DeliveryError: Some chunks are still pending; those may have arrived all the same.
        """
        try:
            reader, writer = await self._connect()
            async with asyncio.timeout(self._timeout_s):
                while batch.pending:
                    await self._send(batch.pending[:_WINDOW], reader, writer, batch, delivered)
        except BaseException as exc:
            self._abort()
            if isinstance(exc, TimeoutError):
                what = "acknowledged" if self._ask_ack else "taken"
                raise DeliveryError(str(exc) or f"not {what} within {self._timeout_s:g} s") from exc
            if isinstance(exc, _FAULTS):
                raise DeliveryError(str(exc) or type(exc).__name__) from exc
            raise

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None:
            await asyncio.sleep(0)  # lets the loop notice an end that is already there
            if not self._streams[0].at_eof():
                return self._streams
            self._abort()
        timeout_s = min(DIAL_TIMEOUT_S, self._timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                self._streams = await asyncio.open_connection(self._host, self._port)
        except TimeoutError as exc:
            raise TimeoutError(str(exc) or f"no connection within {timeout_s:g} s") from exc
        self._streams[1].transport.set_write_buffer_limits(high=0)  # drain() waits until the system has it all
        return self._streams

    async def _send(
        self,
        chunks: list[Chunk],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        batch: Batch,
        delivered: Callable[[Chunk], None],
    ) -> None:
        def done(chunk: Chunk) -> None:
            batch.pending.remove(chunk)
            delivered(chunk)

        for chunk in chunks:
            writer.write(chunk.message(ask_ack=self._ask_ack))
            await writer.drain()
            if not self._ask_ack:
                done(chunk)
        if self._ask_ack:
            awaited = {chunk.id: chunk for chunk in chunks}
            unpacker = msgpack.Unpacker(max_buffer_size=_MAX_ACK_BYTES)
            while awaited:
                data = await reader.read(4096)
                if not data:
                    raise EOFError("connection closed before all was acknowledged")
                unpacker.feed(data)
                for response in unpacker:
                    done(_acknowledged(response, awaited))

    def _abort(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def aclose(self) -> None:
        """Close; what was sent is still carried over."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()


def _acknowledged(response: Any, awaited: dict[str, Chunk]) -> Chunk:
    if isinstance(response, dict) and isinstance(ack := response.get("ack"), str):
        chunk = awaited.pop(ack, None)
        if chunk is not None:
            return chunk
        raise ValueError("acknowledgement of a chunk that was not sent")
    if isinstance(response, list) and response[:1] == ["HELO"]:
        raise ValueError("the receiver asks for authentication, which this adapter does not do")
    raise ValueError("answer that is no acknowledgement")
