"""The transport: listens, and keeps track of connections for the drain."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from mixer.api.rpc import Methods
from mixer.server.http2.calls import Limits
from mixer.server.http2.connection import Connection
from mixer.tls import HTTP2, ServerCertificates, asyncio_tls

BACKLOG = 1024


class Http2Transport:
    """gRPC by the HTTP/2 of this package; see `mixer.server.methods.Transport`."""

    def __init__(
        self,
        methods: Methods,
        limits: Limits | None = None,
        *,
        reuse_port: bool = False,
        certificates: ServerCertificates | None = None,
    ) -> None:
        self._methods = methods
        self._limits = limits or Limits()
        self._reuse_port = reuse_port
        self._certificates = certificates
        self._server: asyncio.Server | None = None
        self._socket_file: Path | None = None
        self._connections: set[Connection] = set()

    async def bind(self, address: str) -> int:
        """Listen on ``host:port`` or ``unix:///path``; returns the port, 0 for a socket file."""
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(self._methods, self._limits, self._connections)

        try:
            if address.startswith("unix:"):
                path = address.removeprefix("unix:").removeprefix("//")
                self._socket_file = Path(path)
                self._server = await loop.create_unix_server(connection, path, backlog=BACKLOG, start_serving=False)
                return 0
            host, _, port = address.rpartition(":")
            self._server = await loop.create_server(
                connection,
                host.strip("[]") or None,
                int(port),
                backlog=BACKLOG,
                reuse_port=self._reuse_port or None,
                start_serving=False,
                **asyncio_tls(self._certificates, HTTP2),
            )
        except (OSError, ValueError) as exc:
            raise OSError(f"cannot listen on {address}: {exc}") from exc
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def start(self) -> None:
        """Accept connections."""
        assert self._server is not None, "bind comes first"
        await self._server.start_serving()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in progress finish for so long, then cut them off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._socket_file is not None:
            with suppress(OSError):
                self._socket_file.unlink()
        open_ones = list(self._connections)
        for connection in open_ones:
            connection.drain()
        closing = asyncio.gather(*(connection.closed.wait() for connection in open_ones))
        with suppress(TimeoutError):
            await asyncio.wait_for(closing, grace_s)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.gather(*(connection.closed.wait() for connection in open_ones))
