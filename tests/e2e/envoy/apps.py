"""Small real services to stand behind an Envoy: HTTP, gRPC and TCP, all in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from aiohttp import web


@asynccontextmanager
async def http_app(port: int) -> AsyncIterator[list[dict[str, Any]]]:
    """Answers what it got; ``/status/503`` gives that status. Yields the requests that reached it."""
    seen: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): ",".join(request.headers.getall(name)) for name in request.headers}
        got = {"method": request.method, "path": request.path_qs, "headers": headers, "body": len(body)}
        seen.append(got)
        status = int(request.path.removeprefix("/status/")) if request.path.startswith("/status/") else 200
        return web.json_response(got, status=status, headers={"x-app": "yes"})

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield seen
    finally:
        await runner.cleanup()


@asynccontextmanager
async def tcp_app(port: int) -> AsyncIterator[list[bytes]]:
    """Sends back what it gets, in capitals. Yields what it got."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                seen.append(data)
                writer.write(data.upper())
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield seen
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
        await server.wait_closed()


@asynccontextmanager
async def grpc_app(port: int) -> AsyncIterator[list[bytes]]:
    """``/echo.Echo/Say`` answers its request; ``/echo.Echo/Fail`` aborts NOT_FOUND. Yields what it got."""
    seen: list[bytes] = []

    async def say(data: bytes, context: Any) -> bytes:
        seen.append(data)
        return data

    async def fail(data: bytes, context: Any) -> bytes:
        seen.append(data)
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here")
        raise AssertionError

    methods = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in (("Say", say), ("Fail", fail))}
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await server.start()
    try:
        yield seen
    finally:
        await server.stop(0)
