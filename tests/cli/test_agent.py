"""The agent in this process: how it starts, follows its specs, and ends."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from mixer.cli import agent as agent_module
from mixer.cli.agent import Agent, AgentOptions
from mixer.errors import StoreUnavailableError
from mixer.server.transport import TransportKind
from mixer.store import Resource, ResourceKey, StoreContents
from proxy.client import HttpClientConfig, TcpClientConfig
from proxy.client.remote import RemoteOptions


def options(**more: Any) -> AgentOptions:
    return AgentOptions(
        RemoteOptions("127.0.0.1:1"), HttpClientConfig(), TcpClientConfig(), monitoring_port=0,
        **({"port": 0, "drain_s": 0.5} | more),
    )  # fmt: skip


EMPTY = StoreContents({})
BROKEN = StoreContents(
    {ResourceKey("QuotaSpec", "default", "q"): Resource(ResourceKey("QuotaSpec", "default", "q"), {})}
)


class Store:
    """What each `load` and each turn of each `watch` gives; exceptions are raised."""

    def __init__(self, *watches: list[Any], first: Any = EMPTY) -> None:
        self._watches = list(watches)
        self._first = first

    async def load(self) -> StoreContents:
        if isinstance(self._first, Exception):
            raise self._first
        assert isinstance(self._first, StoreContents)
        return self._first

    async def watch(self) -> AsyncIterator[StoreContents]:
        for state in self._watches.pop(0):
            if isinstance(state, Exception):
                raise state
            yield state
        await asyncio.Event().wait()


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  a condition of another object
            await asyncio.sleep(0.005)


async def test_specs_are_followed_after_a_watch_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "WATCH_AGAIN_S", 0.01)
    agent = Agent(options(), Store([OSError("too many open files")], [BROKEN]))
    await agent.start()
    try:
        await until(lambda: agent.problems)
    finally:
        await agent.stop()


async def test_specs_are_followed_after_a_state_that_could_not_be_applied() -> None:
    agent = Agent(options(), Store([StoreContents({}, problems=None), BROKEN]))  # type: ignore[arg-type]
    await agent.start()
    try:
        await until(lambda: agent.problems)
    finally:
        await agent.stop()


async def test_nothing_is_left_of_a_start_that_failed() -> None:
    agent = Agent(options(), Store(first=StoreUnavailableError("no such folder")))

    with pytest.raises(StoreUnavailableError):
        await agent.start()

    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    assert not {task.get_name() for task in tasks if not task.get_name().startswith("Task-")}


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_socket_file_of_an_agent_that_died_is_taken_over(tmp_path: Path, kind: TransportKind) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # closed without an unlink, as by SIGKILL
    assert stat.S_ISSOCK(path.stat().st_mode)

    agent = Agent(options(address=f"unix://{path}", transport=kind))
    await agent.start()
    try:
        async with aio.insecure_channel(f"unix://{path}") as channel:
            answer = await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
        assert answer == b"\x08\x01"
    finally:
        await agent.stop()


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_port_that_is_taken_is_named(kind: TransportKind) -> None:
    first = Agent(options(transport=kind))
    await first.start()
    try:
        second = Agent(options(port=first.ports["port"], transport=kind))
        with pytest.raises(OSError, match=str(first.ports["port"])):
            await second.start()
    finally:
        await first.stop()


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_watch_of_the_health_hears_of_the_end_and_does_not_put_it_off(kind: TransportKind) -> None:
    agent = Agent(options(transport=kind, drain_s=30.0))
    await agent.start()
    async with aio.insecure_channel(f"127.0.0.1:{agent.ports['port']}") as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        states = [await watch.read()]
        async with asyncio.timeout(5):
            stopping = asyncio.create_task(agent.stop())
            states.append(await watch.read())
            await stopping

    assert states == [b"\x08\x01", b"\x08\x02"]
