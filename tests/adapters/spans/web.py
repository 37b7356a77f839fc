"""A web server that takes POSTs and misbehaves on demand."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web


class WebReceiver:
    """Answers by ``plan``, then by ``mode``: a status, or ``(status, headers, body)``, or one of these words.

    ``slow`` (never answers), ``cut`` (resets instead of answering), ``endless`` (200 and a body without end),
    ``stuck`` (200 and a body that stops in its middle).
    """

    def __init__(self) -> None:
        self.mode: Any = 202
        self.plan: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.attempts = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Gone, connections too; `start` comes back on the same port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.attempts += 1
        does = self.plan.pop(0) if self.plan else self.mode
        body = await request.read()
        if does == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if isinstance(does, str):
            does = (200, {}, does)
        status, headers, answer = does if isinstance(does, tuple) else (does, {}, b"")
        if 200 <= status < 300:
            self.requests.append((request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        if answer == "slow":
            await asyncio.sleep(30)
        if answer == "stuck":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"half")
            await asyncio.sleep(30)
        if answer == "endless":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(10_000):
                await response.write(bytes(1 << 16))
            return response
        return web.Response(status=status, headers=headers, body=answer)
