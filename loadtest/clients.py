"""Client processes: each has its connections and its share of the requests, and runs one window after another."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

import uvloop
from grpc import aio

from loadtest.drivers import CALL_TIMEOUT_S, Call, Samples, Window, closed_loop, open_loop, send_times
from loadtest.encoded import Requests
from loadtest.osinfo import tree_usage
from loadtest.scenario import Load

_CONNECT_S = 30.0
_START_GAP_S = 0.2
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))


class ClientError(Exception):
    """A client process that failed; says why."""


@dataclass(frozen=True, slots=True)
class _Order:
    load: Load
    window: Window
    seed: int


@dataclass(frozen=True, slots=True)
class _Client:
    """What a client process needs to know of itself."""

    number: int
    of: int
    target: str
    connections: int
    requests: Requests


class ClientPool:
    """Client processes that are connected to a server and wait for orders. Use it as a context manager."""

    def __init__(self, target: str, requests: Requests, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._pids: list[int] = []
        self._members: list[tuple[BaseProcess, Connection[Any, Any]]] = []
        for number in range(load.processes):
            mine, theirs = context.Pipe()
            client = _Client(number, load.processes, target, load.connections, requests.part(number, load.processes))
            process = context.Process(target=_main, args=(theirs, client), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, mine))
        try:
            for _, pipe in self._members:
                _receive(pipe)
        except BaseException:
            self._end()
            raise

    def run(self, load: Load, seed: int, meanwhile: Callable[[Window], None]) -> Samples:
        """Drive one window; ``meanwhile`` is called once clients have their orders, and may wait."""
        window = Window.starting(time.monotonic() + _START_GAP_S, load.warmup_s, load.seconds)
        for _, pipe in self._members:
            pipe.send(_Order(load, window, seed))
        meanwhile(window)
        samples = Samples()
        for _, pipe in self._members:
            samples.merge(_receive(pipe))
        return samples

    def cpu_s(self) -> float:
        """CPU time that the clients have used so far."""
        return sum(tree_usage(process.pid).cpu_s for process, _ in self._members if process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process, pipe in self._members:
            pipe.close()  # the client sees the end of its orders
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()


def _receive(pipe: Connection[Any, Any]) -> Any:
    try:
        answer = pipe.recv()
    except EOFError as exc:
        raise ClientError("a client process ended without an answer") from exc
    if isinstance(answer, str):
        raise ClientError(answer)
    return answer


def _main(pipe: Connection[Any, Any], client: _Client) -> None:
    os.environ.pop("http_proxy", None)
    uvloop.run(_serve_orders(pipe, client))


async def _serve_orders(pipe: Connection[Any, Any], client: _Client) -> None:
    channels = [aio.insecure_channel(client.target, options=_OPTIONS) for _ in range(client.connections)]
    try:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await asyncio.gather(*(channel.channel_ready() for channel in channels))
        except TimeoutError:
            pipe.send(f"no connection to {client.target} within {_CONNECT_S:g} s")
            return
        calls = [_caller(channel, client.requests.method) for channel in channels]
        pipe.send(True)
        while True:
            try:
                order: _Order = await asyncio.to_thread(pipe.recv)
            except EOFError:
                return
            pipe.send(await _carry_out(order, calls, client))
    finally:
        for channel in channels:
            await channel.close(None)


def _caller(channel: aio.Channel, method: str) -> Call:
    # Without serializers, gRPC takes and gives bytes.
    call = channel.unary_unary(method, None, None)
    return lambda body: call(body, timeout=CALL_TIMEOUT_S)


async def _carry_out(order: _Order, calls: list[Call], client: _Client) -> Samples:
    load, bodies = order.load, client.requests.bodies
    if not load.rate:
        return await closed_loop(calls, bodies, order.window, load.in_flight)
    times = send_times(
        load.rate, order.window, poisson=load.poisson, seed=order.seed, client=client.number, clients=client.of
    )
    return await open_loop(calls, bodies, order.window, times)
