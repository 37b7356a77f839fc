"""A Mixer at the other end of a real connection, which answers, denies, fails, hangs and goes away."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mixer.api.answer import QuotaAnswer
from mixer.api.codes import Code
from mixer.api.decode import CheckEnvelope, QuotaDemand, decode_check_bytes, decode_report_bytes
from mixer.api.messages import CheckResponse
from mixer.api.rpc import CallHead, Methods, ServiceError
from mixer.attributes import MappingBag
from mixer.errors import MixerCallError
from mixer.server.transport import TransportKind, new_transport
from proxy.client.delivery import NOT_ENCODABLE, TOO_LARGE, DeliveryLimits
from proxy.client.remote import FIRST_WORD_COUNT, RemoteMixer, RemoteOptions
from proxy.mixer import CheckCall
from proxy.mixer import QuotaDemand as Demand

BAG = MappingBag({"source.name": "a", "request.headers": {"x": "y"}, "response.code": 200})


class Server:
    """Mixer's two methods, scripted: an exception is raised, anything else is answered OK."""

    def __init__(self) -> None:
        self.script: list[Exception | Callable[[], Awaitable[Any]]] = []
        self.checks: list[tuple[dict[str, Any], CheckEnvelope]] = []
        self.reports: list[tuple[str, list[dict[str, Any]]]] = []
        self.forwarded = ""

    async def turn(self) -> None:
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            await step()

    async def check(self, data: bytes, head: CallHead) -> bytes:
        bag, envelope = decode_check_bytes(data)
        self.checks.append(({name: bag.peek(name) for name in bag.names()}, envelope))
        self.forwarded = head.header("x-istio-attributes")
        await self.turn()
        response = CheckResponse()
        response.precondition.status.message = "seen"
        for name, demand in envelope.quotas.items():
            response.quotas[name].granted_amount = demand.amount
        return response.SerializeToString()

    async def report(self, data: bytes, head: CallHead) -> bytes:
        batch = decode_report_bytes(data)
        await self.turn()
        records = [{name: bag.peek(name) for name in bag.names()} for bag in batch.bags]
        self.reports.append((batch.deduplication_id, records))
        return b""

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[str]:
        methods = Methods({"/istio.mixer.v1.Mixer/Check": self.check, "/istio.mixer.v1.Mixer/Report": self.report})
        transport = new_transport(TransportKind.HTTP2, methods)
        bound = await transport.bind(f"127.0.0.1:{port}")
        await transport.start()
        try:
            yield f"127.0.0.1:{bound}"
        finally:
            await transport.stop(0)


@pytest.fixture
async def server() -> Server:
    return Server()


@asynccontextmanager
async def remote(address: str, **options: Any) -> AsyncIterator[RemoteMixer]:
    quick: dict[str, Any] = {"base_retry_wait_s": 0.001, "max_retry_wait_s": 0.01}
    mixer = RemoteMixer(RemoteOptions(address, **{**quick, **options}), rng=random.Random(1))
    try:
        yield mixer
    finally:
        await mixer.aclose()


async def test_check_asks_all_that_the_call_says(server: Server) -> None:
    async with server.listening() as address, remote(address, forward="Zm9v") as mixer:
        call = CheckCall(BAG, {"rq": Demand(5, True)}, "id-1", quotas_only=True)

        answer = await mixer.check(call)

    assert (answer.code, answer.message) == (Code.OK, "seen")
    assert answer.quotas == {"rq": QuotaAnswer(5, referenced={})}
    attributes = {"source.name": "a", "request.headers": {"x": "y"}, "response.code": 200}
    assert server.checks == [(attributes, CheckEnvelope(222, "id-1", {"rq": QuotaDemand(5, True)}, True))]
    assert server.forwarded == "Zm9v"


async def test_failed_check_is_tried_again_with_the_same_message(server: Server) -> None:
    server.script = [ServiceError(Code.UNAVAILABLE, "away"), ServiceError(Code.ABORTED, "again")]
    async with server.listening() as address, remote(address, max_retries=2) as mixer:
        answer = await mixer.check(CheckCall(BAG, deduplication_id="same"))
        assert mixer.check_retries == 2
        assert mixer.check_attempts == {Code.UNAVAILABLE: 1, Code.ABORTED: 1, Code.OK: 1}

    assert answer.message == "seen"
    assert [envelope.deduplication_id for _, envelope in server.checks] == ["same"] * 3


@pytest.mark.parametrize(
    ("code", "attempts"),
    [
        (Code.UNAVAILABLE, 3),
        (Code.RESOURCE_EXHAUSTED, 3),
        (Code.INVALID_ARGUMENT, 1),
        (Code.INTERNAL, 1),
        (Code.PERMISSION_DENIED, 1),
    ],
)
async def test_check_without_answer_fails_with_the_code(server: Server, code: Code, attempts: int) -> None:
    server.script = [ServiceError(code, "no")] * 9
    async with server.listening() as address, remote(address, max_retries=2) as mixer:
        with pytest.raises(MixerCallError, match="no") as raised:
            await mixer.check(CheckCall(BAG))

    assert (raised.value.code, len(server.checks)) == (code, attempts)


async def test_check_keeps_its_time_over_all_attempts(server: Server) -> None:
    server.script = [asyncio.Event().wait, *[ServiceError(Code.UNAVAILABLE, "away")] * 100]
    async with server.listening() as address, remote(address, max_retries=100, base_retry_wait_s=0.05) as mixer:
        loop = asyncio.get_running_loop()
        for budget in (0.2, 0.15):
            started = loop.time()
            with pytest.raises(MixerCallError):
                await mixer.check(CheckCall(BAG, timeout_s=budget))
            assert loop.time() - started < budget + 0.1


async def test_check_fails_at_once_when_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with remote(f"127.0.0.1:{unused.getsockname()[1]}") as mixer:
            with pytest.raises(MixerCallError) as raised:
                await mixer.check(CheckCall(BAG))

    assert raised.value.code == Code.UNAVAILABLE


@pytest.mark.parametrize(
    "fault",
    [
        ServiceError(Code.INVALID_ARGUMENT, "Request could not be processed due to invalid attributes."),
        ServiceError(Code.INTERNAL, "inconsistent global dictionary versions used: mixer knows 111 words"),
    ],
    ids=["invalid", "inconsistent"],
)
async def test_dictionary_shrinks_when_the_server_knows_fewer_words(server: Server, fault: ServiceError) -> None:
    """Scenario 46."""
    server.script = [fault]
    async with server.listening() as address, remote(address) as mixer:
        assert (await mixer.check(CheckCall(BAG))).message == "seen"
        await mixer.check(CheckCall(BAG))

    assert [envelope.global_word_count for _, envelope in server.checks] == [222, FIRST_WORD_COUNT, FIRST_WORD_COUNT]
    assert all(attributes["response.code"] == 200 for attributes, _ in server.checks)


async def test_reports_reach_a_server_that_knows_fewer_words(server: Server) -> None:
    """Those that were encoded before that was known as well, under the ids that they had."""
    unknown = ServiceError(Code.INTERNAL, "inconsistent global dictionary versions used: mixer knows 111 words")
    server.script = [unknown, lambda: asyncio.sleep(0), unknown]
    async with server.listening() as address, remote(address, delivery=DeliveryLimits(in_flight=1)) as mixer:
        await mixer.report([BAG, MappingBag({"check.cache_hit": True, "b": b"\x00"})])
        await mixer.report([BAG])
        while mixer.delivery.pending:  # noqa: ASYNC110  counted by the delivery
            await asyncio.sleep(0.005)
        await mixer.report([BAG])
        await mixer.delivery.aclose(5)
        books = mixer.delivery.books

    plain = {name: BAG.peek(name) for name in BAG.names()}
    assert [records for _, records in server.reports] == [
        [plain, {"check.cache_hit": True, "b": b"\x00"}],
        [plain],
        [plain],
    ]
    assert len({batch for batch, _ in server.reports}) == 3
    assert (books.delivered, books.refused, books.dropped) == (4, 0, {})


async def test_bag_that_the_wire_cannot_carry_is_no_crash(server: Server) -> None:
    async with server.listening() as address, remote(address) as mixer:
        with pytest.raises(MixerCallError, match=r"attribute n: the integer does not fit 64 bits") as raised:
            await mixer.check(CheckCall(MappingBag({"n": 1 << 70})))

    assert (raised.value.code, server.checks) == (Code.INVALID_ARGUMENT, [])


async def test_reports_survive_the_absence_of_mixer(server: Server) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    async with remote(f"127.0.0.1:{port}") as mixer:
        for n in range(5):
            await mixer.report([MappingBag({"request.id": f"{n}-{m}"}) for m in range(3)])
        while not mixer.delivery.books.attempts[Code.UNAVAILABLE]:  # noqa: ASYNC110  counted by the delivery
            await asyncio.sleep(0.005)
        async with server.listening(port):
            await mixer.delivery.aclose(5)

    got = [record["request.id"] for _, records in server.reports for record in records]
    assert sorted(got) == sorted(f"{n}-{m}" for n in range(5) for m in range(3))
    assert mixer.delivery.books.delivered == 15


async def test_each_attempt_of_a_report_has_the_same_id_and_each_report_its_own(server: Server) -> None:
    server.script = [ServiceError(Code.UNAVAILABLE, "away")]
    limits = DeliveryLimits(in_flight=1, base_wait_s=0.001)
    async with server.listening() as address, remote(address, delivery=limits) as mixer:
        await mixer.report([BAG])
        await mixer.report([BAG])
        await mixer.delivery.aclose(5)

    ids = [dedup for dedup, _ in server.reports]
    assert len(ids) == len(set(ids)) == 2
    assert ids[0][:36] == ids[1][:36]


async def test_large_report_is_cut_and_what_cannot_be_sent_is_counted(server: Server) -> None:
    large = [MappingBag({"request.id": str(n) + "x" * 300}) for n in range(20)]
    faulty = MappingBag({"n": 1 << 70})
    huge = MappingBag({"request.id": "x" * 5000})
    async with server.listening() as address, remote(address, message_bytes=2000) as mixer:
        await mixer.report([*large, faulty, huge])
        await mixer.delivery.aclose(5)
        books = mixer.delivery.books

    assert sum(len(records) for _, records in server.reports) == 20
    assert (books.accepted, books.delivered, books.dropped) == (22, 20, {NOT_ENCODABLE: 1, TOO_LARGE: 1})
