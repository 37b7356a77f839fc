"""What a decision for Envoy costs: CPU from bytes to bytes, and over real transports beside an empty call.

Run ``python tests/bench/bench_ext_authz.py`` for all of it, or ``--in-process`` for the first table alone. A request has
twelve headers, as a mesh sends them; two rules read five of its attributes. The second table is CPU of the server
process from ``/proc``, driven from this process in a closed loop, so the machine needs two free cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import TypeAlias

import uvloop
from grpc import aio

from mixer.adapters.loading import load_adapters
from mixer.api.rpc import NO_HEAD, CallHead, Methods
from mixer.cli.envoy import HTTP_PORT, EnvoyGuest
from mixer.cli.ports import read_ready_line
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.clock import SystemClock
from mixer.server.guests import Guests, House
from mixer.server.http2 import Http2Transport
from mixer.server.transport import GrpcTransport
from mixer.store.file import FileStore
from proxy.envoy import paths
from proxy.envoy.gen.auth_pb2 import CheckRequest
from proxy.envoy.gen.ratelimit_pb2 import RateLimitRequest
from proxy.envoy.http1 import Connection

ROOT = Path(__file__).parents[2]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROUNDS = 4

Metadata: TypeAlias = tuple[tuple[str, str], ...]

METADATA: Metadata = (
    ("x-envoy-expected-rq-timeout-ms", "500"),
    ("x-envoy-internal", "true"),
    ("x-forwarded-for", "10.44.0.7"),
    ("x-mixer-stream", "5d8f6c9b-4c2d-4f0e-9a3c-000000000007"),
)
"""What Envoy sends along with a question."""

CONFIG = """
kind: handler
metadata: {name: deny, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: shish}}}
---
kind: instance
metadata: {name: nothing, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: istio-system}
spec:
  match: request.headers["x-user"] == "bad" && destination.service.host == "reviews.default.svc.cluster.local"
  actions: [{handler: deny, instances: [nothing]}]
---
kind: rule
metadata: {name: outside, namespace: istio-system}
spec:
  match: context.protocol == "http" && (source.namespace | "") != "default" && request.path.startsWith("/admin")
  actions: [{handler: deny, instances: [nothing]}]
---
kind: handler
metadata: {name: mq, namespace: istio-system}
spec: {compiledAdapter: memquota, params: {quotas: [{name: requests.instance.istio-system, maxAmount: 1000000000}]}}
---
kind: instance
metadata: {name: requests, namespace: istio-system}
spec: {compiledTemplate: quota, params: {dimensions: {user: 'request.headers["x-user"] | "nobody"'}}}
---
kind: rule
metadata: {name: count, namespace: istio-system}
spec: {actions: [{handler: mq, instances: [requests]}]}
"""
QUOTA = """
kind: QuotaSpec
metadata: {name: requests, namespace: istio-system}
spec: {rules: [{quotas: [{quota: requests, charge: 1}]}]}
---
kind: QuotaSpecBinding
metadata: {name: requests, namespace: istio-system}
spec: {services: [{service: '*'}], quotaSpecs: [{name: requests}]}
"""

HEADERS = {
    ":method": "GET",
    ":path": "/reviews/7?verbose=1",
    ":authority": "reviews:9080",
    ":scheme": "http",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36",
    "accept": "*/*",
    "x-request-id": "5d8f6c9b-4c2d-4f0e-9a3c-000000000007",
    "x-forwarded-proto": "http",
    "x-user": "good",
    "cookie": "session=" + "0" * 64,
    "referer": "http://productpage.default.svc.cluster.local:9080/productpage",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


def check_bytes(user: str = "good") -> bytes:
    """A question in the gRPC form."""
    request = CheckRequest()
    context = request.attributes
    context.source.address.socket_address.address = "10.44.0.7"
    context.source.address.socket_address.port_value = 45576
    context.source.principal = "spiffe://cluster.local/ns/default/sa/productpage"
    context.destination.address.socket_address.address = "10.44.0.9"
    context.destination.address.socket_address.port_value = 9080
    context.destination.principal = "spiffe://cluster.local/ns/default/sa/reviews"
    context.request.time.seconds = 1_767_225_600
    http = context.request.http
    http.id, http.method, http.path, http.host = "16128269828410123215", "GET", HEADERS[":path"], "reviews:9080"
    http.scheme, http.protocol = "http", "HTTP/1.1"
    for name, value in HEADERS.items():
        http.headers[name] = value
    http.headers["x-user"] = user
    context.context_extensions["service_config"] = "reviews"
    context.context_extensions["destination.service.host"] = "reviews.default.svc.cluster.local"
    return request.SerializeToString()


def http_bytes(user: str = "good") -> bytes:
    """A question in the HTTP form."""
    headers = {name: value for name, value in HEADERS.items() if not name.startswith(":")}
    headers |= {
        "host": "reviews:9080",
        "x-user": user,
        "content-length": "0",
        "x-mixer-source": "10.44.0.7:45576",
        "x-mixer-dest": "10.44.0.9:9080",
        "x-mixer-peer": "spiffe://cluster.local/ns/default/sa/productpage",
        "x-mixer-stream": "5d8f6c9b-4c2d-4f0e-9a3c-000000000007",
        "x-mixer-service": "reviews",
        "x-mixer-context": "destination.service.host=reviews.default.svc.cluster.local",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET /check{HEADERS[':path']} HTTP/1.1\r\n{lines}\r\n".encode()


def limit_bytes() -> bytes:
    """A question of the rate limit service."""
    request = RateLimitRequest(domain="d")
    descriptor = request.descriptors.add()
    descriptor.entries.add(key="quota", value="requests")
    descriptor.entries.add(key="request.headers[x-user]", value="good")
    return request.SerializeToString()


def write_config(folder: Path, *, quota: bool) -> None:
    """The configuration, as files."""
    (folder / "attributes.yaml").write_text((ROOT / "config/mesh/attributes.yaml").read_text())
    (folder / "rules.yaml").write_text(CONFIG)
    (folder / "specs.yaml").write_text(QUOTA if quota else "")


# In this process


async def timed(what: str, call: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Print the CPU of one call, in microseconds: the best of five rounds."""
    for _ in range(200):
        await call()
    best = 1e9
    for _ in range(5):
        count, started = 0, process_time()
        end = started + seconds / 5
        while process_time() < end:
            for _ in range(50):
                await call()
            count += 50
        best = min(best, (process_time() - started) / count)
    print(f"| {what} | {best * 1e6:.1f} |", flush=True)


class Sink(asyncio.Transport):
    """A transport that counts answers."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def write(self, data: object) -> None:
        """Take an answer."""
        self.written.set()

    def is_closing(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to close."""

    def abort(self) -> None:
        """Nothing to close."""


async def ask(connection: Connection, sink: Sink, data: bytes) -> None:
    """One question on a connection."""
    sink.written.clear()
    connection.data_received(data)
    await sink.written.wait()


async def in_process(seconds: float) -> None:
    """Bytes to bytes, without a socket."""
    for quota in (False, True):
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            write_config(folder, quota=quota)
            metrics = RuntimeMetrics()
            controller = Controller(
                SnapshotBuilder(load_adapters(), default_namespace="istio-system"),
                clock=SystemClock(),
                scrape=metrics.registry,
                metrics=metrics,
            )
            guests: list[EnvoyGuest] = []

            def invite(house: House, guests: list[EnvoyGuest] = guests) -> EnvoyGuest:
                guests.append(EnvoyGuest(house))
                return guests[0]

            house = Guests([invite], House(controller, metrics))
            await controller.start(FileStore(folder))
            methods = house.methods.unary
            kind = "with a quota" if quota else "rules only"
            for user in ("good", "bad"):
                data = check_bytes(user)
                await timed(f"gRPC form, {kind}, {user}", partial(methods[paths.CHECK], data, NO_HEAD), seconds)
            connection, sink = Connection(guests[0].http_server), Sink()
            connection.connection_made(sink)
            for user in ("good", "bad"):
                data = http_bytes(user)
                await timed(f"HTTP form, {kind}, {user}", partial(ask, connection, sink, data), seconds)
            connection.connection_lost(None)
            if quota:
                data = limit_bytes()
                await timed("rate limit", partial(methods[paths.SHOULD_RATE_LIMIT], data, NO_HEAD), seconds)
            await house.stop(1)
            await controller.aclose()


# Over sockets


async def empty(data: bytes, head: CallHead = NO_HEAD) -> bytes:
    """The handler to compare with."""
    return b""


async def serve_empty(kind: str) -> None:
    """An empty call on one of the transports."""
    methods = Methods({paths.CHECK: empty})
    server = (
        Http2Transport(methods)
        if kind == "http2"
        else GrpcTransport(methods, max_message_bytes=1 << 20, max_concurrent_streams=1024)
    )
    port = await server.bind("127.0.0.1:0")
    await server.start()
    print(f"mixs is ready: port={port}", flush=True)
    await asyncio.Event().wait()


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def drive_grpc(port: int, data: bytes, metadata: Metadata, seconds: float) -> int:
    """Calls in a closed loop, 16 at a time; answers how many."""
    async with aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(paths.CHECK)  # type: ignore[call-arg, unused-ignore]
        end = time.perf_counter() + seconds
        counts = [0] * 16

        async def loop(index: int) -> None:
            while time.perf_counter() < end:
                await call(data, metadata=metadata)
                counts[index] += 1

        await asyncio.gather(*(loop(index) for index in range(16)))
        return sum(counts)


def drive_http(port: int, data: bytes, seconds: float) -> int:
    """Requests on 16 connections, one after the other on each."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    end = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < end:
        for one in sockets:
            one.sendall(data)
        for one in sockets:
            one.recv(65536)
            count += 1
    for one in sockets:
        one.close()
    return count


class Served:
    """A server process, and what a call of some kind costs it."""

    def __init__(self, command: list[str], stack: ExitStack) -> None:
        self._process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        stack.callback(self._process.terminate)
        assert self._process.stdout is not None
        bound = read_ready_line(self._process.stdout.readline())
        assert bound is not None, f"{command} did not start"
        self._bound = bound

    def cost_us(self, port: str, drive: Callable[[int, float], int], seconds: float) -> float:
        """Microseconds of CPU for one call."""
        before = cpu_s(self._process.pid)
        count = drive(self._bound[port], seconds)
        return (cpu_s(self._process.pid) - before) / count * 1e6


def over_sockets(seconds: float) -> None:
    """CPU of a server for each call: the best of several rounds, in which all take turns."""
    print("\n| served | us CPU a call | of the same question's empty answer | of an empty call |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        write_config(folder, quota=False)
        ports = ("--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0")
        server = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{folder}", *ports]
        server += [f"--{HTTP_PORT}", "0", "--log-level", "error"]

        def grpc(data: bytes, metadata: Metadata) -> Callable[[int, float], int]:
            return lambda port, part: uvloop.run(drive_grpc(port, data, metadata, part))

        question, nothing = grpc(check_bytes(), METADATA), grpc(b"", ())
        for kind in ("http2", "grpc"):
            floor = Served([sys.executable, __file__, "--serve", kind], stack)
            ours = Served([*server, "--transport", kind], stack)
            best = [float("inf")] * 3
            for part in (seconds / ROUNDS,) * (ROUNDS + 1):
                found = (
                    floor.cost_us("port", nothing, part),
                    floor.cost_us("port", question, part),
                    ours.cost_us("port", question, part),
                )
                best = list(map(min, best, found))
            print(f"| {kind}: empty call | {best[0]:.0f} | | 1.00 |")
            print(f"| {kind}: the question, answered with nothing | {best[1]:.0f} | 1.00 | {best[1] / best[0]:.2f} |")
            ratios = f"{best[2] / best[1]:.2f} | {best[2] / best[0]:.2f}"
            print(f"| {kind}: gRPC form | {best[2]:.0f} | {ratios} |", flush=True)
        ours = Served(server, stack)
        costs = [
            ours.cost_us(HTTP_PORT, lambda port, part: drive_http(port, http_bytes(), part), seconds / ROUNDS)
            for _ in range(ROUNDS + 1)
        ]
        print(f"| HTTP form | {min(costs):.0f} | | |")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--in-process", action="store_true", help="the first table alone")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve_empty(options.serve))
        return
    print(f"gRPC form: {len(check_bytes())} bytes, HTTP form: {len(http_bytes())} bytes")
    print("| bytes to bytes | us CPU |\n|---|---|")
    uvloop.run(in_process(options.seconds))
    if not options.in_process:
        over_sockets(options.seconds)


if __name__ == "__main__":
    main()
