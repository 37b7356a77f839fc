"""Services that come along: guarded, told of configurations, and without harm to the server when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from mixer.api.codes import Code
from mixer.api.rpc import NO_HEAD, CallHead, Methods, ServiceError
from mixer.errors import WireError
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.clock import SystemClock
from mixer.server.guests import Guests, House
from mixer.store import StoreContents


class Guest:
    """Serves ``/g/Do`` and ``/g/Watch``; what it does is what it is sent."""

    ports = ("a-port",)

    def __init__(self, house: House) -> None:
        self.house = house
        self.told: list[StoreContents] = []
        self.configuration_fault: Exception | None = None
        self.ended = False
        self.methods = Methods({"/g/Do": self.do}, {"/g/Watch": self.watch})

    async def do(self, data: bytes, head: CallHead) -> bytes:
        faults = {b"wire": WireError("bad"), b"service": ServiceError(Code.NOT_FOUND, "no"), b"crash": KeyError("x")}
        if data in faults:
            raise faults[data]
        return data

    async def watch(self, requests: AsyncIterator[bytes], head: CallHead) -> AsyncGenerator[bytes, None]:
        try:
            async for request in requests:
                yield request
        finally:
            self.ended = True
        yield b"last"

    def configure(self, contents: StoreContents) -> None:
        self.told.append(contents)
        if self.configuration_fault is not None:
            raise self.configuration_fault

    async def listen(self, name: str, host: str, port: int, *, reuse_port: bool = False) -> int:
        return 7

    async def start(self) -> None: ...

    async def stop(self, grace_s: float) -> None: ...


class Hosted:
    def __init__(self) -> None:
        self.metrics = RuntimeMetrics()
        self.controller = Controller(
            SnapshotBuilder({}), clock=SystemClock(), scrape=self.metrics.registry, metrics=self.metrics
        )
        self.guests = Guests([self._invite], House(self.controller, self.metrics))
        self.methods = self.guests.methods

    def _invite(self, house: House) -> Guest:
        self.guest = Guest(house)
        return self.guest

    def counted(self, method: str, status: str) -> float:
        labels = {"grpc_server_method": method, "grpc_server_status": status}
        return self.metrics.registry.get_sample_value("grpc_io_server_completed_rpcs_total", labels) or 0.0


@pytest.fixture
async def hosted() -> AsyncIterator[Any]:
    here = Hosted()
    yield here
    await here.controller.aclose()


async def test_calls_before_the_first_configuration_are_refused(hosted: Hosted) -> None:
    with pytest.raises(ServiceError) as caught:
        await hosted.methods.unary["/g/Do"](b"x", NO_HEAD)

    assert caught.value.code is Code.UNAVAILABLE
    assert hosted.counted("g/Do", "UNAVAILABLE") == 1


@pytest.mark.parametrize(
    ("data", "code"), [(b"wire", Code.INVALID_ARGUMENT), (b"service", Code.NOT_FOUND), (b"crash", Code.INTERNAL)]
)
async def test_faults_become_statuses_and_are_counted(hosted: Hosted, data: bytes, code: Code) -> None:
    await hosted.controller.apply(StoreContents({}))

    with pytest.raises(ServiceError) as caught:
        await hosted.methods.unary["/g/Do"](data, NO_HEAD)

    assert caught.value.code is code
    assert hosted.counted("g/Do", code.name) == 1
    assert await hosted.methods.unary["/g/Do"](b"fine", NO_HEAD) == b"fine"


async def test_guests_hear_of_each_configuration_and_may_fail_over_one(hosted: Hosted) -> None:
    contents = StoreContents({})
    hosted.guest.configuration_fault = RuntimeError("cannot")

    await hosted.controller.apply(contents)

    assert hosted.guest.told == [contents]
    assert hosted.controller.ready.is_set()


async def test_streams_end_with_the_drain(hosted: Hosted) -> None:
    await hosted.controller.apply(StoreContents({}))
    first = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield b"1"
        first.set()
        await asyncio.Event().wait()

    async def drain() -> None:
        await first.wait()
        hosted.guests.drain()

    task = asyncio.create_task(drain())
    answers = [answer async for answer in hosted.methods.streams["/g/Watch"](endless(), NO_HEAD)]
    await task

    assert answers == [b"1", b"last"]
    assert hosted.guest.ended
    assert hosted.counted("g/Watch", "OK") == 1


async def test_ports_are_served_by_who_knows_them(hosted: Hosted) -> None:
    assert await hosted.guests.listen("127.0.0.1", {"a-port": 0}) == {"a-port": 7}
    with pytest.raises(ValueError, match="nobody serves b-port"):
        await hosted.guests.listen("127.0.0.1", {"b-port": 0})
