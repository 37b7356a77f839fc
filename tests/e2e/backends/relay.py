"""A TCP proxy between Mixer and a backend, in which connections break in the ways of networks."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass(eq=False)
class _Connection:
    """One connection; a hole swallows what comes, both ways, and a mute one what comes back."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    is_hole: bool = False
    is_mute: bool = False


class Relay:
    """Listens on a port of its own, and carries bytes to the backend's port; use it as a context manager."""

    def __init__(self, backend_port: int) -> None:
        self._backend_port = backend_port
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Relay:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.deafen()
        await asyncio.sleep(0.01)  # what the system has accepted becomes a task, too
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # the loop closes what was aborted

    async def listen(self) -> None:
        """Accept connections (again)."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def deafen(self) -> None:
        """Refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """End all connections."""
        for connection in self._connections:
            for writer in connection.writers:
                writer.transport.abort()

    def mute(self) -> None:
        """From now on answers on the connections of today are lost."""
        for connection in self._connections:
            connection.is_mute = True

    def bore(self) -> None:
        """The connections of today lead nowhere from now on, and nobody is told."""
        for connection in self._connections:
            connection.is_hole = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._backend_port)
        except OSError:
            writer.transport.abort()
            return
        except BaseException:
            writer.transport.abort()
            raise
        connection = _Connection((writer, far_writer))
        self._connections.add(connection)
        ways = [
            asyncio.create_task(self._copy(connection, reader, far_writer, is_answer=False)),
            asyncio.create_task(self._copy(connection, far_reader, writer, is_answer=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in connection.writers:
                end.transport.abort()

    async def _copy(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if not connection.is_hole and not (is_answer and connection.is_mute):
                    writer.write(data)
                    await writer.drain()
