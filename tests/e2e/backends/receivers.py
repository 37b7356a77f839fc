"""Backends as processes of their own: ``python -m tests.e2e.backends.receivers KIND ADDRESS BOOK``.

A receiver writes what it takes into its book *before* it says so, with one system call, so that a book lacks nothing
that was acknowledged, however the process ends. While a file named like the book with ``.full`` behind it exists, the
receiver takes nothing, each kind in the ways that its protocol knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HANGS_S = 30.0


class Book:
    """What one receiver took, and what it refused for good; successors of the process go on with the same file."""

    def __init__(self, path: str) -> None:
        self._full = Path(f"{path}.full")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(self._file, b"\n")  # what a killed predecessor was about to write stays a line of its own

    @property
    def is_full(self) -> bool:
        return self._full.exists()

    def take(self, ids: Sequence[str], delivery: str = "") -> None:
        self._write("taken", ids, delivery)

    def refuse(self, ids: Sequence[str]) -> None:
        """Note what the sender is told not to send again."""
        self._write("refused", ids, "")

    def _write(self, what: str, ids: Sequence[str], delivery: str) -> None:
        os.write(self._file, (json.dumps([what, delivery, list(ids)]) + "\n").encode())


async def serve_fluentd(address: str, book: Book) -> None:
    """A Forward receiver that acknowledges; a full one accepts and never reads."""
    import msgpack

    connections: set[asyncio.Transport] = set()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.unpacker = msgpack.Unpacker(max_buffer_size=1 << 24)
            connections.add(transport)
            if book.is_full:
                transport.pause_reading()

        def connection_lost(self, exc: Exception | None) -> None:
            connections.discard(self.transport)

        def data_received(self, data: bytes) -> None:
            self.unpacker.feed(data)
            for _tag, body, option in self.unpacker:
                entries = msgpack.Unpacker()
                entries.feed(body)
                ids = [record["id"] for _time, record in entries]
                assert len(ids) == option["size"]
                book.take(ids, option["chunk"])
                self.transport.write(msgpack.packb({"ack": option["chunk"]}))

    async def mind_the_room() -> None:
        was_full = False
        while True:
            if book.is_full != was_full:
                was_full = not was_full
                for transport in connections:
                    if transport.is_reading() == was_full:
                        transport.pause_reading() if was_full else transport.resume_reading()
            await asyncio.sleep(0.02)

    host, port = address.split(":")
    server = await asyncio.get_running_loop().create_server(Connection, host, int(port))
    minding = asyncio.create_task(mind_the_room())
    await _until_told()
    minding.cancel()
    server.close()
    for transport in connections:
        transport.abort()


async def serve_otlp(address: str, book: Book) -> None:
    """An OTLP receiver; a full one refuses for now, for good, or in part."""
    import grpc.aio
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    ways = itertools.cycle(("pause", "unavailable", "partly", "pause", "never"))
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay={"nanos": 200_000_000}))
    pause = Status(code=8, details=[detail]).SerializeToString()

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:
            ids = [
                f"{span.trace_id.hex()}/{span.span_id.hex()}"
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            answer = ExportTraceServiceResponse()
            if book.is_full:
                match next(ways):
                    case "pause":
                        await context.abort(
                            grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-status-details-bin", pause),)
                        )
                    case "unavailable":
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "full")
                    case "never":
                        book.refuse(ids)
                        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
                    case _:
                        refused = len(ids) // 2
                        book.refuse(ids[:refused])
                        ids = ids[refused:]
                        answer.partial_success.rejected_spans = refused
            book.take(ids)
            return answer

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    server.add_insecure_port(address)
    await server.start()
    await _until_told()
    await server.stop(1)


async def serve_zipkin(address: str, book: Book) -> None:
    """A collector of Zipkin's JSON; a full one answers 429, 503, 500 or not at all."""
    from aiohttp import web

    ways = itertools.cycle((429, 503, 0, 503, 500))

    async def answer(request: web.Request) -> web.Response:
        ids = [f"{span['traceId']}/{span['id']}" for span in await request.json()]
        if book.is_full:
            status = next(ways)
            if not status:
                await asyncio.sleep(HANGS_S)
            if status == 500:
                book.refuse(ids)
            return web.Response(status=status, headers={"Retry-After": "1"} if status == 429 else {})
        book.take(ids)
        return web.Response(status=202)

    await _serve_web(address, answer)


async def serve_opa(address: str, book: Book) -> None:
    """An agent that denies ``eve`` and nobody else; a full one answers 429, 503, nonsense or not at all."""
    from aiohttp import web

    ways = itertools.cycle((429, 503, 0, 200))

    async def answer(request: web.Request) -> web.Response:
        user = (await request.json())["input"]["subject"]["user"]
        if book.is_full:
            status = next(ways)
            if not status:
                await asyncio.sleep(HANGS_S)
            return web.Response(status=status, body=b"<html>")
        return web.json_response({"result": user != "eve"})

    await _serve_web(address, answer)


async def _serve_web(address: str, answer: Any) -> None:
    from aiohttp import web

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    host, port = address.split(":")
    await web.TCPSite(runner, host, int(port)).start()
    await _until_told()
    await runner.cleanup()


async def serve_statsd(address: str, book: Book) -> None:
    """A server of datagrams, on UDP or, for a path, on a Unix socket; a full one does not read."""
    if "/" in address:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(address)
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        host, port = address.split(":")
        sock.bind((host, int(port)))
    sock.setblocking(False)

    async def read() -> None:
        while True:
            if book.is_full:
                await asyncio.sleep(0.02)
                continue
            data = await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
            book.take([line.partition(":")[0] for line in data.decode().splitlines()])

    reading = asyncio.create_task(read())
    await _until_told()
    await asyncio.sleep(0.05)  # what has arrived is read
    reading.cancel()
    sock.close()


async def _until_told() -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print("ready", flush=True)
    await told.wait()


KINDS = {
    "fluentd": serve_fluentd,
    "otlp": serve_otlp,
    "zipkin": serve_zipkin,
    "opa": serve_opa,
    "statsd": serve_statsd,
}

if __name__ == "__main__":
    asyncio.run(KINDS[sys.argv[1]](sys.argv[2], Book(sys.argv[3])))
