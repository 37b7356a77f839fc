"""Messages between an owner and one worker, over a pair of connected sockets that only the two hold."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

Message: TypeAlias = tuple[Any, ...]
"""A word that says what it is, then what belongs to it."""

_LENGTH_BYTES = 8
_LARGE_BYTES = 1 << 18


class Link:
    """One end. Messages arrive whole, once and in order, until the other end is gone.

    They are pickled: both ends are the same program, and nobody else can write to the socket.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, end: socket.socket) -> Link:
        """Take over a socket."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    @property
    def waiting_bytes(self) -> int:
        """How much the other end has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, *message: Any) -> None:
        """Send without waiting; to one who is gone it is no error.

        Raises:
            Exception: Something in the message cannot be pickled; nothing is sent then.
        """
        self._write(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    async def send_large(self, make: Callable[[], Message]) -> None:
        """Make and send a message that takes its time, in a thread; messages sent meanwhile go first."""
        self._write(await asyncio.to_thread(lambda: pickle.dumps(make(), pickle.HIGHEST_PROTOCOL)))

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    async def receive(self) -> Message | None:
        """The next message, None when the other end is gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            data = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        message: Message = await asyncio.to_thread(pickle.loads, data) if size > _LARGE_BYTES else pickle.loads(data)
        return message

    async def close(self) -> None:
        """Let what was sent go out, then close; safe when the other end is gone."""
        try:
            self._writer.close()
            await self._writer.wait_closed()
        except ConnectionError:
            pass
