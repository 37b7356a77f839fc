from __future__ import annotations

import asyncio
import itertools
import time

import grpc
import pytest
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

from loadtest.drivers import Samples, Window, closed_loop, open_loop, send_times

WINDOW = Window(begins=100.0, opens=101.0, closes=110.0)


@given(rate=st.floats(0.5, 500), clients=st.integers(1, 5))
def test_constant_arrivals_of_all_clients_are_evenly_spaced(rate: float, clients: int) -> None:
    times = sorted(
        due
        for client in range(clients)
        for due in send_times(rate, WINDOW, poisson=False, seed=1, client=client, clients=clients)
    )
    assert times[0] == WINDOW.begins
    assert all(due < WINDOW.closes for due in times)
    assert len(times) == pytest.approx(10 * rate, abs=1)
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([1 / rate] * (len(times) - 1))


@pytest.mark.parametrize("clients", [1, 3])
def test_poisson_arrivals_have_the_rate_and_the_spread_of_chance(clients: int) -> None:
    window = Window(0.0, 0.0, 400.0)
    times = sorted(
        due
        for client in range(clients)
        for due in send_times(50, window, poisson=True, seed=3, client=client, clients=clients)
    )
    gaps = [b - a for a, b in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)  # the mark of exponential gaps


def test_poisson_arrivals_are_the_same_for_the_same_seed_and_differ_between_clients() -> None:
    first, again, other = (
        list(send_times(20, WINDOW, poisson=True, seed=7, client=client, clients=2)) for client in (0, 0, 1)
    )
    assert first == again != other


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        next(send_times(0, WINDOW, poisson=False, seed=1))


class Backend:
    """Answers after a while; what it was sent is in ``bodies``."""

    def __init__(self, delay_s: float = 0.0, fails: bool = False) -> None:
        self.delay_s, self.fails = delay_s, fails
        self.bodies: list[bytes] = []
        self.now = self.most = 0

    async def __call__(self, body: bytes) -> bytes:
        self.bodies.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.delay_s)
        self.now -= 1
        if self.fails:
            raise aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())
        return b""


def window(seconds: float = 0.1, warmup_s: float = 0.02) -> Window:
    return Window.starting(time.monotonic(), warmup_s, seconds)


async def test_a_closed_loop_keeps_its_calls_in_flight() -> None:
    backends = [Backend(0.005), Backend(0.005)]
    samples = await closed_loop(backends, [b"a", b"b"], window(), in_flight=3)
    assert [backend.most for backend in backends] == [3, 3]
    assert samples.sent == samples.answered == sum(len(backend.bodies) for backend in backends)
    assert 0 < samples.completed == len(samples.latencies) < samples.sent
    assert all(latency >= 0.004 for latency in samples.latencies)


async def test_a_loop_takes_requests_in_turn() -> None:
    backend = Backend(0.002)
    await closed_loop([backend], [b"a", b"b", b"c"], window(), in_flight=1)
    assert backend.bodies[:5] == [b"a", b"b", b"c", b"a", b"b"]


async def test_failed_calls_are_counted_by_code_and_do_not_complete() -> None:
    samples = await closed_loop([Backend(0.002, fails=True)], [b"a"], window(), in_flight=1)
    assert samples.errors == {"UNAVAILABLE": samples.sent}
    assert samples.answered == samples.completed == 0
    assert samples.latencies


async def test_an_open_loop_sends_what_is_due_however_slow_answers_are() -> None:
    when = window(seconds=0.1, warmup_s=0.02)
    backend = Backend(delay_s=0.2)
    times = list(send_times(200, when, poisson=False, seed=1))
    samples = await open_loop([backend], [b"a"], when, times)
    assert samples.sent == samples.answered == len(times)
    assert backend.most == len(times)
    assert samples.completed == 0
    assert len(samples.latencies) == sum(due >= when.opens for due in times)


async def test_an_open_loop_counts_latency_from_when_a_request_was_due() -> None:
    """The loop stalls once; all requests that were due meanwhile are charged for the wait."""
    when = window(seconds=0.2, warmup_s=0)
    loop = asyncio.get_running_loop()
    loop.call_later(0.02, time.sleep, 0.12)
    samples = await open_loop([Backend()], [b"a"], when, send_times(100, when, poisson=False, seed=1))
    assert sum(latency > 0.02 for latency in samples.latencies) >= 8
    assert max(samples.latencies) > 0.1
    assert max(samples.lags) > 0.1


def test_samples_of_clients_are_merged() -> None:
    left, right = Samples(completed=1, sent=2, answered=1), Samples(completed=3, sent=3, answered=3)
    left.latencies.append(0.1)
    right.latencies.append(0.2)
    left.errors["UNAVAILABLE"] += 1
    right.errors["UNAVAILABLE"] += 2
    left.merge(right)
    assert list(left.latencies) == [0.1, 0.2]
    assert (left.completed, left.sent, left.answered) == (4, 5, 4)
    assert left.errors == {"UNAVAILABLE": 3}
