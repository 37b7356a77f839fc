"""A Forward receiver that misbehaves on demand, and a bench that builds handlers against it."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.fluentd import INFO, FluentdHandler
from mixer.adapters.testing import FakeClock, RecordingEnv, build_handler
from mixer.attributes import Timestamp
from mixer.templates.logentry import LogEntryInstance

collect_ignore = [] if os.environ.get("MIXER_FORWARD_RECEIVER") else ["test_fluentd_opentelemetry_receiver.py"]

NOON = Timestamp.parse("2026-03-01T12:00:00.123456789Z")


class Receiver:
    """Takes PackedForward messages; ``plan`` says what to do with each, and when it is empty, ``mode``.

    Modes: ``ack``; ``silent`` (keeps the chunk, says nothing); ``wrong`` (acknowledges another chunk, keeps
    nothing); ``garbage`` (answers nonsense); ``hello`` (asks for authentication); ``cut`` (resets in the
    middle of a message); ``cut_after`` (keeps the chunk, resets instead of acknowledging); ``freeze`` (keeps
    nothing, says nothing).
    """

    def __init__(self) -> None:
        self.plan: deque[str] = deque()
        self.mode = "ack"
        self.messages: list[list[Any]] = []
        self.kept: dict[str, list[Any]] = {}
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of all chunks kept, each chunk once."""
        return [record for message in self.kept.values() for _, record in entries_of(message)]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Gone, connections too; `start` comes back on the same port."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        unpacker = msgpack.Unpacker(timestamp=0)
        try:
            while True:
                size = 3 if (self.plan[0] if self.plan else self.mode) == "cut" else 1 << 16
                data = await reader.read(size)
                if not data:
                    break
                if size == 3:
                    if self.plan:
                        self.plan.popleft()
                    break
                unpacker.feed(data)
                for message in unpacker:
                    if not self._answer(message, writer):
                        return
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    def _answer(self, message: list[Any], writer: asyncio.StreamWriter) -> bool:
        mode = self.plan.popleft() if self.plan else self.mode
        self.messages.append(message)
        chunk = message[2].get("chunk", f"message {len(self.messages)}")
        if mode in ("ack", "silent", "cut_after"):
            self.kept.setdefault(chunk, message)
        if mode == "ack" and "chunk" in message[2]:
            writer.write(msgpack.packb({"ack": chunk}))
        elif mode == "wrong":
            writer.write(msgpack.packb({"ack": chunk[::-1]}))
        elif mode == "garbage":
            writer.write(b"\xc1\xff garbage")
        elif mode == "hello":
            writer.write(msgpack.packb(["HELO", {"nonce": b"n"}]))
        return mode not in ("cut", "cut_after")


def entries_of(message: list[Any]) -> list[Any]:
    """The ``[time, record]`` pairs of a message."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(message[1])
    entries = list(unpacker)
    assert len(entries) == message[2]["size"]
    return entries


class Bench:
    """Builds handlers, moves their time, reads their books."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.clock = FakeClock()
        self.shared: dict[str, Any] = {}
        self.recording = RecordingEnv(self.clock, shared=self.shared)

    async def build(self, instances: Sequence[InstanceInfo] = (), **params: Any) -> FluentdHandler:
        params = {"address": self.receiver.address, "pushTimeoutDuration": "5s", **params}
        handler = await build_handler(INFO, params, instances=instances, env=self.recording)
        assert isinstance(handler, FluentdHandler)
        await asyncio.sleep(0)
        return handler

    async def until(self, condition: Callable[[], bool], *, step_s: float = 0.5) -> None:
        """Move the handler's time on until something holds."""
        for _ in range(1000):
            if condition():
                return
            await self.clock.advance(step_s)
            await asyncio.sleep(0.002)
        raise AssertionError(f"never came true; books {self.books()}, log {self.recording.logged}")

    def books(self) -> dict[str, int]:
        """All counts, by name, and dropped ones by reason; asserts that they balance."""
        counts: dict[str, int] = {}
        for family in self.recording.metrics.collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    name = sample.name.removeprefix("mixer_fluentd_").removeprefix("entries_").removesuffix("_total")
                    key = sample.labels.get("reason", name)
                    counts[key] = counts.get(key, 0) + int(sample.value)
                    if key != name:
                        counts["dropped"] = counts.get("dropped", 0) + int(sample.value)
        came = counts["accepted"] + counts["recovered"]
        assert came == counts["delivered"] + counts.get("dropped", 0) + counts["left_in_spool"] + counts["buffered"]
        return {name: count for name, count in counts.items() if count}


def log_entry(number: int, name: str = "log", **variables: Any) -> LogEntryInstance:
    return LogEntryInstance(name, {"n": number, **variables}, NOON, "info")


@pytest.fixture(scope="session")
def entry():
    """Makes numbered log entries."""
    return log_entry


@pytest.fixture
def unpacked():
    """Reads the entries of a message."""
    return entries_of


@pytest.fixture
async def receiver():
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def bench(receiver):
    bench = Bench(receiver)
    yield bench
    assert bench.recording.crashes == []
    await bench.recording.aclose()


@pytest.fixture(scope="session")
def bench_type():
    """For tests that make their own event loops: the receiver's and the bench's classes."""
    return Receiver, Bench
