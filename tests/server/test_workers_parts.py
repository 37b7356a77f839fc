"""The parts of several workers, each by itself in this process."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from mixer.adapters.base import CheckResult, Code, Handler, QuotaArgs, QuotaResult, Status
from mixer.adapters.loading import load_adapters
from mixer.adapters.testing import RecordingEnv
from mixer.attributes import Duration, Timestamp
from mixer.errors import AdapterError, BackendUnavailableError, UnknownQuotaError
from mixer.server.workers.config import SharedBuilder
from mixer.server.workers.link import Link
from mixer.server.workers.processes import how_it_ended, reserve_port
from mixer.server.workers.sharing import OwnerCalls, SharedHandlers, StandIn, with_stand_ins
from mixer.server.workers.totals import Rules, Totals, read
from mixer.store import Origin, Resource, ResourceKey, StoreContents
from mixer.templates.metric import MetricInstance
from mixer.templates.quota import QuotaInstance


class Fake:
    """A worker's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("c", "C.", ("a",), registry=self.registry)
        self.histogram = Histogram("h", "H.", buckets=(1, 2), registry=self.registry)
        self.gauge = Gauge("g", "G.", registry=self.registry)

    def read(self) -> list[Any]:
        return read(self.registry.collect())


class Page:
    """What is scraped, as prometheus-client's encoders take it."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> list[Metric]:
        return list(self._totals.collect())


def values(totals: Totals) -> dict[str, float]:
    lines = generate_latest(Page(totals)).decode().splitlines()  # type: ignore[arg-type]
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#") and "_created" not in line]
    return {name: float(value) for name, value in pairs}


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["count", "observe", "read", "die"]), st.integers(0, 3)), max_size=60
)


@given(STEPS)
def test_totals_are_what_one_process_would_have_counted_up_to_the_last_readings(steps: list[Any]) -> None:
    totals, counted = Totals(), Fake()
    counted.counter.labels("x").inc(0)
    workers = {n: Fake() for n in range(3)}
    unread: dict[int, list[tuple[str, int]]] = {n: [] for n in range(3)}
    generation = dict.fromkeys(range(3), 0)

    def settle(n: int) -> None:
        for what, amount in unread[n]:
            if what == "count":
                counted.counter.labels("x").inc(amount)
            else:
                counted.histogram.observe(amount)
        unread[n].clear()

    before: dict[str, float] = {}
    for n, step, amount in steps:
        if step == "count":
            workers[n].counter.labels("x").inc(amount)
            unread[n].append((step, amount))
        elif step == "observe":
            workers[n].histogram.observe(amount)
            unread[n].append((step, amount))
        elif step == "read":
            totals.update(f"{n}.{generation[n]}", workers[n].read())
            settle(n)
        else:
            totals.depart(f"{n}.{generation[n]}")
            generation[n] += 1
            workers[n] = Fake()
            unread[n].clear()
        now = values(totals)
        assert all(now[name] >= value for name, value in before.items() if name != "g")  # never a reset
        before = now
    expected = Totals()
    expected.update("all", counted.read())
    for name, value in values(totals).items():
        assert value == values(expected)[name]


def test_a_gauge_is_the_value_that_changed_last_also_of_a_worker_that_is_gone() -> None:
    totals, one, two = Totals(), Fake(), Fake()
    one.gauge.set(5)
    totals.update("1", one.read())
    totals.update("2", two.read())
    two.gauge.set(7)
    totals.update("2", two.read())
    totals.update("1", one.read())
    assert values(totals)["g"] == 7
    one.gauge.set(6)
    totals.update("1", one.read())
    totals.depart("1")
    totals.update("2", two.read())

    assert values(totals)["g"] == 6


def test_rules_make_exceptions() -> None:
    totals = Totals(Rules(left_out=("c*",), told_apart=("h",), most=("g",)))
    for worker, value in (("1", 5), ("2", 3)):
        fake = Fake()
        fake.gauge.set(value)
        fake.histogram.observe(1)
        totals.update(worker, fake.read())
    found = values(totals)

    assert found["g"] == 5
    assert found['h_count{worker="1"}'] == found['h_count{worker="2"}'] == 1
    assert not [name for name in found if name.startswith("c")]
    totals.depart("1")
    assert values(totals)["g"] == 3
    assert 'h_count{worker="1"}' not in values(totals)


async def test_a_counter_of_the_prometheus_adapter_keeps_its_name_in_both_formats() -> None:
    info, env = load_adapters()["prometheus"], RecordingEnv()
    params = info.params.model_validate({"metrics": [{"name": "hits", "instanceName": "i", "kind": "COUNTER"}]})
    handler = await info.build(params, (), env.env("p"))
    handler.handle_report([MetricInstance("i", 1, {})])
    totals = Totals()
    for worker in ("1", "2"):
        totals.update(worker, pickle.loads(pickle.dumps(read(env.scrape.collect()))))
    for _ in range(2):
        assert b"# TYPE istio_hits counter\nistio_hits 2.0" in generate_latest(Page(totals))  # type: ignore[arg-type]
        assert b"# TYPE istio_hits unknown" in generate_openmetrics(Page(totals))  # type: ignore[arg-type]
    await handler.aclose()


@pytest.fixture
async def links() -> AsyncIterator[tuple[Link, Link]]:
    one, two = socket.socketpair()
    pair = await Link.open(one), await Link.open(two)
    yield pair
    for link in pair:
        await link.close()


async def test_messages_arrive_whole_and_in_order_until_the_other_end_is_gone(links: tuple[Link, Link]) -> None:
    ours, theirs = links
    sent = [("big", b"x" * 300_000), ("small", 1), ("none", None)]
    for message in sent:
        ours.send(*message)
    closing = asyncio.create_task(ours.close())

    assert [await theirs.receive() for _ in sent] == sent
    assert await theirs.receive() is None
    await closing
    theirs.send("nobody hears it")
    ours.send("nor this")


class Fragile(Handler):
    """Answers, fails or hangs, as the instance says."""

    def handle_check(self, instance: Any, /) -> Any:
        if isinstance(instance, Exception):
            raise instance
        use_count: Any = (lambda: 1) if instance == "unpicklable" else instance
        return CheckResult(Status(Code.PERMISSION_DENIED, "no"), Duration(5), use_count)

    async def handle_quota(self, instance: QuotaInstance, args: QuotaArgs, /) -> QuotaResult:
        await asyncio.sleep(0)
        return QuotaResult(args.amount + len(instance.dimensions), Duration(7))


@pytest.fixture
async def stand_in(links: tuple[Link, Link]) -> AsyncIterator[tuple[StandIn, OwnerCalls, SharedHandlers]]:
    """A handler in an owner, asked by a worker; both are here."""
    owner, worker = links
    settled = asyncio.Event()
    shared, calls = SharedHandlers(settled.wait), OwnerCalls(worker)
    shared.settled_event = settled  # type: ignore[attr-defined]
    shared._handlers["h"] = Fragile()

    async def serve() -> None:
        while (message := await owner.receive()) is not None:
            await shared.answer(owner, *message[1:])

    async def listen() -> None:
        while (message := await worker.receive()) is not None:
            calls.answered(*message[1:])
        calls.lose()

    tasks = [asyncio.create_task(serve()), asyncio.create_task(listen())]
    yield StandIn("h", calls), calls, shared
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_stand_in_answers_as_the_handler_does(stand_in: Any) -> None:
    handler, _, _ = stand_in
    dimensions = {"ip": b"\1\2\3\4", "at": Timestamp(5), "for": Duration(6), "map": {"a": "b"}, "yes": True, "x": 1.5}

    assert await handler.handle_check(3) == Fragile().handle_check(3)
    answer = await handler.handle_quota(QuotaInstance("q", dimensions), QuotaArgs(4))
    assert answer == QuotaResult(10, Duration(7))


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (BackendUnavailableError("away"), BackendUnavailableError),
        (UnknownQuotaError("away"), UnknownQuotaError),
        (AdapterError("away"), AdapterError),
        (ValueError("away"), AdapterError),
    ],
)
async def test_errors_cross_over(stand_in: Any, raised: Exception, kind: type[Exception]) -> None:
    handler, _, _ = stand_in

    with pytest.raises(kind, match="away") as caught:
        await handler.handle_check(raised)
    assert type(caught.value) is kind


async def test_what_cannot_cross_over_fails_that_call_only(stand_in: Any) -> None:
    handler, _, _ = stand_in

    with pytest.raises(AdapterError, match="crashed"):
        await handler.handle_check("unpicklable")
    with pytest.raises(AttributeError, match="pickle"):
        await handler.handle_check(lambda: None)
    assert await handler.handle_check(1)


async def test_handlers_and_owners_that_are_gone_fail_calls_at_once(stand_in: Any, links: tuple[Link, Link]) -> None:
    handler, calls, _ = stand_in
    with pytest.raises(BackendUnavailableError, match="does not run any more"):
        await StandIn("other", calls).handle_check(1)

    await links[0].close()
    for _ in range(2):
        with pytest.raises(BackendUnavailableError):
            await handler.handle_check(1)


async def test_a_late_answer_to_a_call_that_timed_out_is_dropped(stand_in: Any) -> None:
    handler, calls, _ = stand_in
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await handler.handle_check(1)
    await asyncio.sleep(0.05)

    assert not calls._waiting
    assert await handler.handle_check(2)


async def test_shared_handlers_stay_until_all_workers_have_moved_on() -> None:
    settled = asyncio.Event()
    shared = SharedHandlers(settled.wait)
    info = shared.keep(load_adapters()["memquota"])
    params = info.params.model_validate({"quotas": [{"name": "q", "maxAmount": 1}]})
    first = await info.build(params, (), RecordingEnv().env("mq"))
    closing = asyncio.create_task(first.aclose())
    await asyncio.sleep(0)
    assert "mq" in shared._handlers
    second = await info.build(params, (), RecordingEnv().env("mq"))
    settled.set()
    await closing

    assert "mq" in shared._handlers  # the successor's
    await second.aclose()
    assert "mq" not in shared._handlers


async def test_only_shared_handlers_run_in_the_owner_and_only_others_in_a_worker(links: tuple[Link, Link]) -> None:
    adapters = load_adapters()
    shared, calls = SharedHandlers(asyncio.Event().wait), OwnerCalls(links[0])
    kinds = {}
    for name, params in (("denier", {}), ("memquota", {"quotas": []})):
        info = adapters[name]
        decoded = info.params.model_validate(params)
        owner = await shared.keep(info).build(decoded, (), RecordingEnv().env("h"))
        worker = await with_stand_ins(info, calls).build(decoded, (), RecordingEnv().env("h"))
        kinds[name] = type(owner).__name__, type(worker).__name__

    assert kinds == {"denier": ("Handler", "DenierHandler"), "memquota": ("_Kept", "StandIn")}


def rule(text: str) -> StoreContents:
    key = ResourceKey("rule", "istio-system", "r")
    return StoreContents({key: Resource(key, {"match": text, "actions": []}, origin=Origin("f.yaml", 0, 3))})


def test_a_builder_elsewhere_comes_to_the_same_snapshot_though_it_never_saw_the_last_good_version() -> None:
    ours, theirs = SharedBuilder({}), SharedBuilder({})
    ours.build(rule("true"))
    ours.build(rule('"true"'))
    broken = rule("no such thing")
    expected = ours.build(broken)

    got = theirs.build(pickle.loads(pickle.dumps(ours.to_send(broken))))

    assert (got.revision, got.stale, got.problems) == (expected.revision, expected.stale, expected.problems)
    assert got.revision == 3


def test_a_reserved_port_is_taken_for_others_and_free_afterwards() -> None:
    held, port = reserve_port("127.0.0.1", 0)
    with socket.socket() as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        rival.bind(("127.0.0.1", port))
        rival.listen()
        with pytest.raises(OSError, match="in use"):
            reserve_port("127.0.0.1", port)
    held.close()
    again, _ = reserve_port("127.0.0.1", port)
    again.close()


def test_ends_in_words() -> None:
    assert how_it_ended(-9) == "signal SIGKILL"
    assert how_it_ended(3) == "exit code 3"
