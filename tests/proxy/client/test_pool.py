from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.client.pool import FAILED, Prefetch, PrefetchPool, RateCounter

ANSWER_S = 0.2


class Server(Protocol):
    def alloc(self, amount: int, now: float) -> tuple[int, float]: ...


@dataclass
class FixedWindow:
    """So many units in each window; a grant holds until the window ends."""

    rate: int
    window_s: float
    window: int = -1
    left: int = 0

    def alloc(self, amount: int, now: float) -> tuple[int, float]:
        window = int(now / self.window_s + 1e-9)
        if window != self.window:
            self.window, self.left = window, self.rate
        given = min(amount, self.left)
        self.left -= given
        return given, (window + 1) * self.window_s - now


@dataclass
class TokenBucket:
    """Units that come back evenly; full at first."""

    rate: int
    window_s: float
    tokens: float = 0.0
    then: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.rate

    def alloc(self, amount: int, now: float) -> tuple[int, float]:
        self.tokens = min(self.rate, self.tokens + (now - self.then) * self.rate / self.window_s)
        self.then = now
        given = min(amount, int(self.tokens))
        self.tokens -= given
        return given, self.window_s


@dataclass
class Simulation:
    """One client and one server, which answers after 200 ms."""

    server: Server
    pool: PrefetchPool = field(default_factory=PrefetchPool)
    under_way: deque[tuple[float, Prefetch]] = field(default_factory=deque)
    calls: list[float] = field(default_factory=list)

    def check(self, now: float, amount: int = 1) -> bool:
        while self.under_way and self.under_way[0][0] <= now:
            due, prefetch = self.under_way.popleft()
            self.pool.answer(prefetch, *self.server.alloc(prefetch.amount, due), due)
        taken, wanted = self.pool.check(amount, now)
        if wanted is not None:
            self.under_way.append((now + ANSWER_S, wanted))
            self.calls.append(now)
        return taken is not None


def deviation(server: Server, rate: int, window_s: float, traffic: float) -> float:
    """Percent by which what passed differs from what was allowed, over ten windows of even traffic."""
    simulation = Simulation(server)
    count = round(rate * 10 * traffic)
    passed = sum(simulation.check(number * window_s * 10 / count) for number in range(count))
    allowed = min(count, rate * 10)
    return 100 * abs(passed - allowed) / allowed


LIMITS = {
    # rate and window: deviation allowed at 92-90 %, 100 %, 108-110 %, 50 % and 1000 % of the rate
    ("fixed", 1200, 60.0): (0, 0.6, 0.15, 0, 6),
    ("fixed", 20, 1.0): (26, 23, 25, 4, 23),
    ("bucket", 1200, 60.0): (0, 0, 8, 0, 10),
    # The last one is 23 in the reference. Of ours, 10 are the bucket that is full at first, the rest is what passes
    # in the 200 ms before the first answer says no.
    ("bucket", 20, 1.0): (0, 0, 3.5, 3, 26.5),
}


@pytest.mark.parametrize(("kind", "rate", "window_s"), LIMITS)
def test_deviation_stays_within_the_limits_of_the_reference(kind: str, rate: int, window_s: float) -> None:
    shares = (0.92, 1.0, 1.08, 0.5, 10.0) if window_s > 1 else (0.9, 1.0, 1.1, 0.5, 10.0)
    server = FixedWindow if kind == "fixed" else TokenBucket
    found = [deviation(server(rate, window_s), rate, window_s, share) for share in shares]
    assert all(one <= limit + 1e-9 for one, limit in zip(found, LIMITS[kind, rate, window_s], strict=True)), found


def test_pool_that_gets_nothing_asks_twice_a_second() -> None:
    class Nothing:
        def alloc(self, amount: int, now: float) -> tuple[int, float]:
            return 0, 60.0

    simulation = Simulation(Nothing())
    passed = [simulation.check(number / 10) for number in range(31)]
    assert simulation.calls == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert passed == [True, True] + [False] * 29


def test_refused_amount_takes_nothing() -> None:
    """Scenario 21: five tokens; 1 passes, 5 do not, 4 do."""
    pool = PrefetchPool()
    taken, wanted = pool.check(1, 0.0)
    assert wanted == Prefetch(10, 1)
    assert taken is not None
    pool.answer(wanted, 5, 1.0, 0.2)
    assert not pool.open
    assert pool.available(0.3) == 4
    assert pool.check(5, 0.3)[0] is None
    assert pool.available(0.3) == 4
    assert pool.check(4, 0.3)[0] is not None


def test_prefetch_follows_the_traffic_of_the_last_second() -> None:
    pool = PrefetchPool()
    wanted: list[int] = []
    for number in range(100):
        prefetch = pool.check(1, number / 200)[1]
        if prefetch is not None:
            wanted.append(prefetch.amount)
            pool.answer(prefetch, prefetch.amount, 10.0, number / 200)
    assert wanted == [10, 10, 14, 24, 40, 66]


def test_shortfall_is_paid_by_other_grants_when_the_own_is_spent() -> None:
    pool = PrefetchPool()
    first = pool.check(10, 0.0)[1]
    second = pool.check(1, 0.0)[1]
    assert first is not None
    assert second is not None
    pool.answer(second, 10, 60.0, 0.1)
    before = pool.available(0.1)
    pool.answer(first, 4, 60.0, 0.1)
    assert before - pool.available(0.1) == 6
    assert not pool.open


def test_more_than_was_asked_for_is_kept_when_the_provisional_grant_is_spent() -> None:
    pool = PrefetchPool()
    prefetch = pool.check(10, 0.0)[1]
    assert prefetch is not None
    pool.answer(prefetch, 13, 1.0, 0.2)
    assert (pool.available(0.3), pool.open) == (3, False)
    assert pool.check(11, 0.3)[0] is None


def test_failed_prefetch_is_granted_and_leaves_the_pool_open() -> None:
    pool = PrefetchPool()
    prefetch = pool.check(1, 0.0)[1]
    assert prefetch is not None
    pool.answer(prefetch, FAILED, 0.0, 1.0)
    assert pool.open
    assert pool.available(60.9) == 9
    assert pool.available(61.1) == 0


def test_unanswered_provisional_grant_ends_after_a_minute() -> None:
    pool = PrefetchPool()
    pool.check(1, 0.0)
    assert pool.available(59.9) == 9
    assert pool.available(60.1) == 0


def test_tokens_given_back_are_there_again_with_their_expiry() -> None:
    pool = PrefetchPool()
    prefetch = pool.check(1, 0.0)[1]
    assert prefetch is not None
    pool.answer(prefetch, 10, 1.0, 0.0)
    taken = pool.check(9, 0.5)[0]
    assert taken is not None
    pool.give_back(taken)
    assert pool.available(0.6) >= 9
    assert pool.passed == 1


def test_counter_forgets_slot_by_slot() -> None:
    counter = RateCounter()
    for tenth in range(20):
        counter.advance(100 + tenth / 10)
        counter.add(1)
    assert counter.total == 10
    counter.advance(101.92)
    assert counter.total == 10
    counter.advance(102.46)
    assert counter.total == 5
    counter.advance(200)
    assert counter.total == 0


STEPS = st.lists(
    st.tuples(st.floats(0, 2), st.integers(1, 12), st.booleans(), st.sampled_from(["all", "none", "half", "fail"])),
    max_size=60,
)


@given(STEPS)
def test_pool_never_passes_more_than_was_granted_or_is_provisional(steps: list[tuple[float, int, bool, str]]) -> None:
    """What passed is covered by grants, by prefetches under way, and by the shortfall of provisional ones."""
    pool = PrefetchPool()
    under_way: list[Prefetch] = []
    now, passed, granted, shortfall = 0.0, 0, 0, 0
    for wait, amount, answering, how in steps:
        now += wait
        if answering and under_way:
            prefetch = under_way.pop(0)
            given = {"all": prefetch.amount, "none": 0, "half": prefetch.amount // 2, "fail": FAILED}[how]
            pool.answer(prefetch, given, 1.0, now)
            counted = prefetch.amount if given == FAILED else given
            granted += counted
            shortfall += prefetch.amount - counted if prefetch.grant else 0
        before = pool.available(now)
        taken, wanted = pool.check(amount, now)
        if wanted is not None:
            under_way.append(wanted)
        provisional = wanted.amount if wanted is not None and wanted.grant else 0
        if taken is not None:
            assert sum(part for _, part in taken) == amount
            passed += amount
        assert pool.available(now) == before + provisional - (amount if taken is not None else 0)
        assert passed + pool.available(now) <= granted + shortfall + sum(p.amount for p in under_way if p.grant)
    assert (pool.passed, pool.granted, pool.in_flight) == (passed, granted, len(under_way))


@given(STEPS)
def test_refusal_and_return_change_nothing_but_the_traffic_count(steps: list[tuple[float, int, bool, str]]) -> None:
    """A request that was charged and given everything back leaves as many tokens as one that never came."""
    pool = PrefetchPool()
    now = 0.0
    for wait, amount, answering, _ in steps:
        now += wait
        taken, wanted = pool.check(amount, now)
        if taken is not None and not answering:
            before = pool.available(now)
            pool.give_back(taken)
            assert pool.available(now) == before + amount
        if wanted is not None:
            pool.answer(wanted, wanted.amount // 2, 0.5, now)
