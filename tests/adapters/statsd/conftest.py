"""A StatsD server that keeps what it is sent, and a bench that builds handlers against it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.statsd import INFO, StatsdHandler
from mixer.adapters.testing import FakeClock, RecordingEnv, build_handler
from mixer.attributes import ValueType
from mixer.templates import METRIC
from mixer.templates.metric import MetricInstance


def info(name, value=ValueType.INT64, **dimensions):
    return InstanceInfo(name, METRIC, {"value": value, "dimensions": dimensions})


class Server:
    """A bound datagram socket."""

    def __init__(self, path: str = "") -> None:
        self._socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(path or ("127.0.0.1", 0))
        self._socket.settimeout(2)
        self.address = f"unix://{path}" if path else f"127.0.0.1:{self._socket.getsockname()[1]}"

    async def datagrams(self, count: int) -> list[bytes]:
        return [await asyncio.to_thread(self._socket.recv, 1 << 16) for _ in range(count)]

    def waiting(self) -> int:
        """How many datagrams have arrived that nobody took; takes them."""
        self._socket.setblocking(False)
        count = 0
        try:
            while self._socket.recv(1 << 16):
                count += 1
        except BlockingIOError:
            self._socket.settimeout(2)
        return count

    def close(self) -> None:
        self._socket.close()


class Bench:
    """Builds handlers, moves their time, reads their books."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.recording = RecordingEnv(self.clock)

    async def build(self, params: dict[str, Any], *instances: InstanceInfo, adapter=INFO) -> StatsdHandler:
        handler = await build_handler(adapter, params, instances=instances, env=self.recording)
        assert isinstance(handler, StatsdHandler)
        await self.connected(handler)
        return handler

    async def connected(self, handler) -> None:
        """Names are resolved in a thread, on its own time."""
        for _ in range(200):
            if handler._sender._socket is not None or handler._sender._failures:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("never connected")

    def books(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for family in self.recording.metrics.collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    name = sample.name.split("statsd_", 1)[1].removeprefix("instances_").removesuffix("_total")
                    key = sample.labels.get("reason", name)
                    counts[key] = counts.get(key, 0) + int(sample.value)
                    if key != name:
                        counts["dropped"] = counts.get("dropped", 0) + int(sample.value)
        came = counts.get("unsampled", 0) + counts["sent"] + counts.get("dropped", 0) + counts["buffered"]
        assert counts["accepted"] == came
        return {name: count for name, count in counts.items() if count}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def unix_server(tmp_path):
    server = Server(str(tmp_path / "s"))
    yield server
    server.close()


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    assert bench.recording.crashes == []
    await bench.recording.aclose()


@pytest.fixture(scope="session")
def instance_info():
    return info


@pytest.fixture(scope="session")
def metric():
    return lambda name, value, **dimensions: MetricInstance(name, value, dimensions)
