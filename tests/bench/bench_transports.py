"""What each transport costs: CPU of the whole process tree of a server, for each call of an empty handler.

Run ``python tests/bench/bench_transports.py`` for the whole table, or name rows. A row is served by a process of
its own and driven in a closed loop from this one, so the machine needs two free cores. The client is grpcio's,
over loopback. Figures are CPU from ``/proc``, which other load on the machine disturbs less than times.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc import aio

from mixer.api.encode import encode_check, encode_report
from mixer.api.rpc import NO_HEAD, CallHead, Methods
from mixer.attributes import Duration, Timestamp
from mixer.server.http2 import Http2Transport

SERVICE = "istio.mixer.v1.Mixer"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
LARGE_FRAMES = {"grpc.http2.max_frame_size": MIB}
LOOKAHEAD = {"grpc.http2.lookahead_bytes": 4 * MIB}
READ_CHUNKS = {"grpc.experimental.tcp_read_chunk_size": MIB, "grpc.experimental.tcp_max_read_chunk_size": MIB}


@dataclass(frozen=True)
class Row:
    """A transport with its settings."""

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


ROWS = {
    "aio": Row("aio"),
    "aio-uvloop": Row("aio-uvloop"),
    "sync": Row("sync"),
    "aio-uvloop frame=1M": Row("aio-uvloop", LARGE_FRAMES),
    "aio-uvloop lookahead=4M": Row("aio-uvloop", LOOKAHEAD),
    "aio-uvloop bdp=0": Row("aio-uvloop", {"grpc.http2.bdp_probe": 0}),
    "aio-uvloop bdp=0 lookahead=4M": Row("aio-uvloop", {"grpc.http2.bdp_probe": 0, **LOOKAHEAD}),
    "aio-uvloop frame=1M bdp=0 lookahead=4M": Row(
        "aio-uvloop", {"grpc.http2.bdp_probe": 0, **LOOKAHEAD, **LARGE_FRAMES}
    ),
    "aio-uvloop read=1M": Row("aio-uvloop", READ_CHUNKS),
    "aio-uvloop minimal": Row("aio-uvloop", {"grpc.minimal_stack": 1}),
    "aio-uvloop throughput": Row("aio-uvloop", {"grpc.optimization_target": "throughput"}),
    "aio-uvloop latency": Row("aio-uvloop", {"grpc.optimization_target": "latency"}),
    "aio-uvloop frame size tuning": Row("aio-uvloop", {}, {"GRPC_EXPERIMENTS": "tcp_frame_size_tuning,tcp_rcv_lowat"}),
    "aio-uvloop poll": Row("aio-uvloop", {}, {"GRPC_POLL_STRATEGY": "poll"}),
    "aio-uvloop epoll1": Row("aio-uvloop", {}, {"GRPC_POLL_STRATEGY": "epoll1"}),
    "aio-uvloop no event engine": Row(
        "aio-uvloop",
        {},
        {"GRPC_EXPERIMENTS": "-event_engine_listener,-event_engine_client,-event_engine_poller_for_python"},
    ),
    "aio-uvloop event engine poller": Row("aio-uvloop", {}, {"GRPC_EXPERIMENTS": "event_engine_poller_for_python"}),
    "pyvoy": Row("pyvoy"),
    "http2": Row("http2"),
}


async def empty(data: bytes, head: CallHead = NO_HEAD) -> bytes:
    """The handler."""
    return b""


async def serve_aio(options: Mapping[str, Any]) -> None:
    """grpc.aio, on whatever loop runs."""

    async def call(data: bytes, _: Any) -> bytes:
        return await empty(data)

    server = aio.server(options=[("grpc.so_reuseport", 0), *options.items()])
    methods = {name: grpc.unary_unary_rpc_method_handler(call) for name in ("Check", "Report")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def serve_sync(options: Mapping[str, Any]) -> None:
    """grpcio with threads."""
    server = grpc.server(ThreadPoolExecutor(8), options=list(options.items()))
    methods = {name: grpc.unary_unary_rpc_method_handler(lambda data, _: b"") for name in ("Check", "Report")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


async def serve_http2() -> None:
    """Mixer's own HTTP/2."""
    server = Http2Transport(Methods({f"/{SERVICE}/{name}": empty for name in ("Check", "Report")}))
    port = await server.bind("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


async def asgi_app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """A gRPC call as ASGI sees it."""
    if scope["type"] != "http":
        return
    body = []
    while True:
        event = await receive()
        body.append(event.get("body", b""))
        if not event.get("more_body"):
            break
    answer = await empty(b"".join(body)[5:])
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/grpc")],
            "trailers": True,
        }
    )
    await send({"type": "http.response.body", "body": b"\0" + len(answer).to_bytes(4, "big") + answer})
    await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False})


async def serve_pyvoy() -> None:
    """An ASGI app inside Envoy."""
    from pyvoy import PyvoyServer  # type: ignore[import-not-found, unused-ignore]

    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    async with PyvoyServer(
        "bench_transports:asgi_app", port=0, lifespan=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        print(server.listener_port, flush=True)
        await asyncio.Event().wait()


def serve(row: Row) -> None:
    """Serve one row until killed."""
    match row.engine:
        case "aio":
            asyncio.run(serve_aio(row.options))
        case "aio-uvloop":
            uvloop.run(serve_aio(row.options))
        case "sync":
            serve_sync(row.options)
        case "pyvoy":
            asyncio.run(serve_pyvoy())
        case "http2":
            uvloop.run(serve_http2())


def processes_below(root: int) -> list[int]:
    """A process and all that it started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def cpu_s(pids: list[int]) -> float:
    """User and system time of processes, from ``/proc``."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS_PER_S


async def drive(port: int, method: str, data: bytes, *, concurrency: int, seconds: float) -> tuple[int, float]:
    """Calls in a closed loop; answers how many, and in which time."""
    async with aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{method}")  # type: ignore[call-arg, unused-ignore]
        await call(data)
        end = time.perf_counter() + seconds
        count = 0

        async def loop() -> None:
            nonlocal count
            while time.perf_counter() < end:
                await call(data)
                count += 1

        started = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(concurrency)))
        return count, time.perf_counter() - started


def check_bytes() -> bytes:
    """A Check of everyday size."""
    return encode_check(attributes(1)).SerializeToString()


def report_bytes(records: int = 100) -> bytes:
    """A Report of everyday size."""
    return encode_report([attributes(n) for n in range(records)]).SerializeToString()


def attributes(n: int) -> dict[str, Any]:
    """A request's attributes, as a sidecar tells them; a good half differs from record to record."""
    return {
        "source.uid": f"kubernetes://productpage-v1-5d8f6c9b4-x{n % 7}k9p.default",
        "destination.uid": f"kubernetes://reviews-v3-5d8f6c9b4-x{n % 5}k9p.default",
        "source.ip": bytes((10, 44, 0, n % 250)),
        "source.namespace": "default",
        "destination.namespace": "default",
        "destination.service.host": "reviews.default.svc.cluster.local",
        "request.path": f"/reviews/{n}",
        "request.id": f"5d8f6c9b-4c2d-4f0e-9a3c-{n:012d}",
        "request.time": Timestamp(1_767_225_600_000_000_000 + n),
        "request.headers": {
            ":authority": "reviews:9080",
            ":method": "GET",
            ":path": f"/reviews/{n}",
            "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36",
            "x-request-id": f"5d8f6c9b-4c2d-4f0e-9a3c-{n:012d}",
            "x-b3-traceid": f"{n:032x}",
            "x-b3-spanid": f"{n:016x}",
            "x-request-start": f"t={1_767_225_600_000 + n}",
            "referer": f"http://productpage.default.svc.cluster.local:9080/productpage?u=reader{n}",
            "cookie": f"session={n:064x}; visitor={n * 7919:064x}",
        },
        "response.time": Timestamp(1_767_225_600_100_000_000 + n),
        "response.code": 200,
        "response.headers": {
            ":status": "200",
            "content-length": f"{1000 + n}",
            "etag": f"{n * 104729:032x}",
            "x-envoy-upstream-service-time": f"{n + 3}",
            "set-cookie": f"seen={n:048x}; Path=/",
        },
        "response.size": 1000 + n,
        "response.duration": Duration(1_000_000 + n),
        "context.protocol": "http",
        "context.reporter.kind": "inbound",
    }


def measure(name: str, row: Row, seconds: float) -> None:
    """Print one line of the table."""
    environment = {**os.environ, **row.env, "GRPC_VERBOSITY": "NONE"}
    command = [sys.executable, __file__, "--serve", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline() or 0)
        if not port:
            print(f"| {name} | did not start | | | |", flush=True)
            return
        cells = []
        for method, data, concurrency in (("Check", check_bytes(), 16), ("Report", report_bytes(), 4)):
            uvloop.run(drive(port, method, data, concurrency=concurrency, seconds=seconds / 4))  # warm
            pids = processes_below(process.pid)
            before = cpu_s(pids)
            count, took = uvloop.run(drive(port, method, data, concurrency=concurrency, seconds=seconds))
            cells += [f"{(cpu_s(pids) - before) / count * 1e6:.0f}", f"{count / took:.0f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        for pid in reversed(processes_below(process.pid)):
            os.kill(pid, 9)


def main() -> None:
    """Measure the rows named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seconds", type=float, default=4.0, help="for each kind of call")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(ROWS[options.serve])
        return
    print(f"Check: {len(check_bytes())} bytes, 16 at a time; Report: {len(report_bytes())} bytes, 4 at a time")
    print("| transport | us CPU a Check | Checks/s | us CPU a Report | Reports/s |\n|---|---|---|---|---|")
    for name in options.rows or ROWS:
        measure(name, ROWS[name], options.seconds)


if __name__ == "__main__":
    main()
