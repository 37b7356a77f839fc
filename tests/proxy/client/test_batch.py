from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mixer.api.codes import Code
from mixer.attributes import MappingBag
from mixer.errors import MixerCallError
from proxy.client import Transport, read_config
from proxy.client.batch import Batcher, Reporter
from proxy.client.stats import Counters
from tests.proxy.client.fakes import FakeMixer, settle, until

Make = Callable[..., Reporter]


def record(number: int) -> MappingBag:
    return MappingBag({"n": number})


def sizes(mixer: FakeMixer) -> list[int]:
    return [len(batch) for batch in mixer.reports]


@pytest.fixture
def mixer() -> FakeMixer:
    return FakeMixer()


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
async def make(mixer: FakeMixer, counters: Counters) -> AsyncIterator[Make]:
    made: list[Reporter] = []

    def build(data: dict[str, Any] | None = None, **bounds: int) -> Reporter:
        transport, problems = read_config(Transport, data or {})
        assert transport is not None, problems
        made.append(Reporter(mixer, transport, counters, **bounds))
        return made[-1]

    yield build
    for reporter in made:
        await reporter.aclose()
    assert len(asyncio.all_tasks()) == 1


async def test_batch_is_sent_when_it_is_full_and_the_rest_at_the_end(
    make: Make, mixer: FakeMixer, counters: Counters
) -> None:
    """Scenario 41."""
    reporter = make({"reportBatchMaxEntries": 3})
    for number in range(10):
        assert reporter.report([record(number)]) is None
    await settle()
    assert sizes(mixer) == [3, 3, 3]
    assert reporter.pending == 1
    await reporter.aclose(1.0)
    assert sizes(mixer) == [3, 3, 3, 1]
    assert [bag.get("n") for batch in mixer.reports for bag in batch] == list(range(10))
    assert (counters.report_calls, counters.remote_report_calls, counters.remote_report_successes) == (10, 4, 4)
    assert reporter.pending == 0


async def test_batch_is_sent_a_while_after_its_first_record(make: Make, mixer: FakeMixer) -> None:
    """Scenario 42."""
    reporter = make({"reportBatchMaxTime": "50ms"})
    reporter.report([record(1)])
    await asyncio.sleep(0)
    reporter.report([record(2)])
    assert not mixer.reports
    await until(lambda: bool(mixer.reports))
    assert sizes(mixer) == [2]
    reporter.flush()
    await settle()
    assert sizes(mixer) == [2]


def test_one_call_of_many_records_fills_several_batches() -> None:
    batcher = Batcher(3)
    assert [len(batch) for batch in batcher.add([record(n) for n in range(8)])] == [3, 3]
    assert len(batcher.flush()) == 2
    assert batcher.flush() == []


async def test_full_batch_stops_the_timer_of_its_first_record(make: Make, mixer: FakeMixer) -> None:
    reporter = make({"reportBatchMaxEntries": 2, "reportBatchMaxTime": "5ms"})
    reporter.report([record(1), record(2)])
    await asyncio.sleep(0.02)
    assert sizes(mixer) == [2]


async def test_oldest_waiting_batch_makes_room(make: Make, mixer: FakeMixer, counters: Counters) -> None:
    mixer.gate = asyncio.Event()
    reporter = make({"reportBatchMaxEntries": 2}, outstanding=6, in_flight=1)
    for number in range(10):
        reporter.report([record(number)])
        await settle()
    assert reporter.pending == 6
    assert (counters.batches_dropped["buffer_full"], counters.records_dropped["buffer_full"]) == (2, 4)
    mixer.gate.set()
    await reporter.aclose(1.0)
    assert [[bag.get("n") for bag in batch] for batch in mixer.reports] == [[0, 1], [6, 7], [8, 9]]


async def test_only_so_many_calls_are_made_at_once(make: Make, mixer: FakeMixer) -> None:
    mixer.gate = asyncio.Event()
    reporter = make({"reportBatchMaxEntries": 1}, in_flight=2)
    reporter.report([record(n) for n in range(5)])
    await settle()
    assert len(mixer.reports) == 2
    mixer.gate.set()
    await reporter.aclose(1.0)
    assert len(mixer.reports) == 5


@pytest.mark.parametrize(
    ("error", "counter"),
    [
        (MixerCallError(Code.UNAVAILABLE, "away"), "remote_report_send_errors"),
        (MixerCallError(Code.DEADLINE_EXCEEDED, "slow"), "remote_report_timeouts"),
        (MixerCallError(Code.UNKNOWN, "2 values"), "remote_report_other_errors"),
        (TimeoutError(), "remote_report_timeouts"),
        (ZeroDivisionError(), "remote_report_other_errors"),
    ],
)
async def test_failed_batch_is_lost_and_counted(
    make: Make, mixer: FakeMixer, counters: Counters, error: Exception, counter: str
) -> None:
    mixer.report_error = error
    reporter = make({"reportBatchMaxEntries": 2})
    reporter.report([record(1), record(2)])
    await settle()
    assert getattr(counters, counter) == 1
    assert (counters.records_dropped["call_failed"], reporter.pending) == (2, 0)


async def test_mixer_that_hangs_costs_the_time_limit(make: Make, mixer: FakeMixer, counters: Counters) -> None:
    mixer.gate = asyncio.Event()
    reporter = make({"reportBatchMaxEntries": 1, "reportTimeout": "5ms"})
    reporter.report([record(1)])
    await until(lambda: counters.remote_report_timeouts == 1)
    assert reporter.pending == 0


async def test_close_drops_and_counts_what_cannot_be_sent_in_time(
    make: Make, mixer: FakeMixer, counters: Counters
) -> None:
    mixer.gate = asyncio.Event()
    reporter = make({"reportBatchMaxEntries": 2}, in_flight=1)
    reporter.report([record(n) for n in range(5)])
    await reporter.aclose(0.01)
    assert (counters.records_dropped["shut_down"], counters.batches_dropped["shut_down"]) == (5, 3)
    reporter.report([record(9)])
    assert counters.records_dropped["shut_down"] == 6
    await reporter.aclose()
    assert reporter.pending == 0
