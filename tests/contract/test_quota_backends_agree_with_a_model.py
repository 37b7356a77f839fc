"""What every rate limiting adapter promises, as laws over arbitrary histories of calls.

A backend enters the suite by an entry in `BACKENDS`. Where backends may differ (how early units come back,
whether they can be given back, what a repeat of a refusal gets), the entry says what it does.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mixer.adapters.base import Handler, QuotaArgs, QuotaResult
from mixer.adapters.memquota import INFO as MEMQUOTA
from mixer.adapters.testing import FakeClock, RecordingEnv, build_handler
from mixer.templates.quota import QuotaInstance
from tests.adapters.redisquota.clocked import clocked_handler
from tests.redis_server import RedisServer

LIMIT = 10
WINDOW_S = 5
KEYS = ("a", "b")


@dataclass(frozen=True)
class Backend:
    """How to run an adapter with one quota ``q`` of LIMIT units in WINDOW_S seconds, and what it leaves open.

    Attributes:
        early_s: Units may come back that much before their time.
        dedup_s: A repeat within this time gets the first answer.
        releases: Negative amounts give units back.
        repeats_refusals: The repeat of a refusal is refused without looking.
        oldest_first: What comes back early is the oldest that is out, otherwise the newest.
        needs_redis: ``build`` takes the address of a Redis, too.
    """

    build: Callable[..., Awaitable[Handler]]
    early_s: float
    dedup_s: float
    releases: bool = True
    repeats_refusals: bool = True
    oldest_first: bool = False
    needs_redis: bool = False


def build_memquota(env: RecordingEnv) -> Awaitable[Handler]:
    quota = {"name": "q", "maxAmount": LIMIT, "validDuration": f"{WINDOW_S}s"}
    return build_handler(MEMQUOTA, {"quotas": [quota], "minDeduplicationDuration": "2s"}, env=env)


_PREFIXES = itertools.count()


def build_redisquota(algorithm: str, env: RecordingEnv, address: str) -> Awaitable[Handler]:
    quota = {"name": "q", "maxAmount": LIMIT, "validDuration": f"{WINDOW_S}s", "bucketDuration": "200ms"}
    params = {
        "redisServerUrl": address,
        "keyPrefix": f"{next(_PREFIXES)}:",  # each example has counters of its own
        "quotas": [{**quota, "rateLimitAlgorithm": algorithm}],
    }

    async def build() -> Handler:
        return clocked_handler(params, env)

    return build()


BACKENDS = {
    "memquota": Backend(build_memquota, early_s=0.1, dedup_s=2),
    "redisquota-rolling": Backend(
        partial(build_redisquota, "ROLLING_WINDOW"), early_s=0.2, dedup_s=WINDOW_S, needs_redis=True
    ),
    "redisquota-leases": Backend(
        partial(build_redisquota, "CONCURRENCY"), early_s=0.00001, dedup_s=WINDOW_S, oldest_first=True, needs_redis=True
    ),
}


@dataclass
class Counter:
    """The model of one counter: each charge that may still be out, as [time, units], oldest first."""

    charges: list[list[float]] = field(default_factory=list)

    def out(self, now: float, age_s: float) -> int:
        """Units charged less than ``age_s`` ago."""
        return int(sum(units for at, units in self.charges if at > now - age_s))

    def give_back(self, units: int, now: float, *, oldest_first: bool) -> None:
        """From one end, of what is out."""
        self.charges = [charge for charge in self.charges if charge[0] > now - WINDOW_S]
        end = 0 if oldest_first else -1
        while units:
            part = min(units, self.charges[end][1])
            self.charges[end][1] -= part
            units -= int(part)
            if not self.charges[end][1]:
                self.charges.pop(end)


class QuotaMachine(RuleBasedStateMachine):
    """Calls in any order, at any time, on two counters."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.env = RecordingEnv(self.clock)
        self.handler = self.runner.run(self._await(backend.build(self.env)))
        self.counters = {key: Counter() for key in KEYS}
        self.answered: list[tuple[float, str, QuotaArgs, int]] = []
        self.ids = 0

    @staticmethod
    async def _await(value: Awaitable[Handler]) -> Handler:
        return await value

    def teardown(self) -> None:
        self.runner.run(self.handler.aclose())
        self.runner.run(self.env.aclose())
        self.runner.close()

    def call(self, key: str, args: QuotaArgs) -> QuotaResult:
        async def run() -> QuotaResult:
            answer = self.handler.handle_quota(QuotaInstance("q", {"source": key}), args)
            return await answer if inspect.isawaitable(answer) else answer

        return self.runner.run(run())

    def advance(self, seconds: float) -> None:
        """Pass about so much time: in steps whose sums are exact, so that the model's end of a window is Redis's."""
        self.runner.run(self.clock.advance(max(round(seconds * 1024), 1) / 1024))

    def new_args(self, amount: int, *, best_effort: bool = False) -> QuotaArgs:
        self.ids += 1
        return QuotaArgs(amount, best_effort, f"id-{self.ids}")

    def available(self, key: str) -> tuple[int, int]:
        """At least and at most as many units are there."""
        counter, now = self.counters[key], self.clock.monotonic()
        return LIMIT - counter.out(now, WINDOW_S), LIMIT - counter.out(now, WINDOW_S - self.backend.early_s)

    @rule(seconds=st.one_of(st.sampled_from((0.1, 0.2, 0.3, 1, WINDOW_S)), st.floats(0.001, 7)))
    def pass_time(self, seconds: float) -> None:
        self.advance(seconds)

    @precondition(lambda self: any(counter.charges for counter in self.counters.values()))
    @rule(pick=st.integers(0, 20), offset_s=st.sampled_from((-0.4, -0.2, -0.001, 0.001, 0.2)))
    def wait_for_a_charge_to_return(self, pick: int, offset_s: float) -> None:
        """Chance alone rarely stops the clock where windows go wrong: around the return of a charge."""
        charged_at = [at for counter in self.counters.values() for at, _ in counter.charges]
        seconds = charged_at[pick % len(charged_at)] + WINDOW_S + offset_s - self.clock.monotonic()
        assume(seconds > 0)
        self.advance(seconds)

    @rule(key=st.sampled_from(KEYS), amount=st.integers(1, LIMIT + 2), best_effort=st.booleans())
    def take(self, key: str, amount: int, best_effort: bool) -> None:
        """Best effort gets the smaller of what is asked and what is there; otherwise it is all or nothing."""
        at_least, at_most = self.available(key)
        args = self.new_args(amount, best_effort=best_effort)
        granted = self.call(key, args).amount
        if best_effort:
            assert min(amount, at_least) <= granted <= min(amount, at_most)
        elif granted:
            assert granted == amount <= at_most
        else:
            assert amount > at_least
        if granted:
            self.counters[key].charges.append([self.clock.monotonic(), granted])
        if granted or self.backend.repeats_refusals:
            self.answered.append((self.clock.monotonic(), key, args, granted))

    @precondition(lambda self: self.backend.releases)
    @rule(key=st.sampled_from(KEYS), amount=st.integers(1, LIMIT + 2))
    def give_back(self, key: str, amount: int) -> None:
        """Units come back once, and none that were not out."""
        at_least, at_most = self.available(key)
        args = self.new_args(-amount)
        released = self.call(key, args).amount
        assert min(amount, LIMIT - at_most) <= released <= min(amount, LIMIT - at_least)
        self.counters[key].give_back(released, self.clock.monotonic(), oldest_first=self.backend.oldest_first)
        self.answered.append((self.clock.monotonic(), key, args, released))

    @precondition(lambda self: self.answered)
    @rule(pick=st.integers(0, 5))
    def repeat(self, pick: int) -> None:
        """A repeat gets the first answer and moves nothing."""
        at, key, args, amount = self.answered[-1 - pick % len(self.answered)]
        assume(self.clock.monotonic() - at < self.backend.dedup_s)
        assert self.call(key, args).amount == amount

    @rule(key=st.sampled_from(KEYS))
    def ask_nothing(self, key: str) -> None:
        assert self.call(key, self.new_args(0)).amount == 0

    @invariant()
    def grants_in_a_window_stay_within_the_limit(self) -> None:
        for counter in self.counters.values():
            assert counter.out(self.clock.monotonic(), WINDOW_S - self.backend.early_s) <= LIMIT


@pytest.fixture(scope="module")
def redis_process() -> Iterator[RedisServer]:
    with RedisServer.start() as server:
        yield server


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.e2e] * entry.needs_redis) for name, entry in sorted(BACKENDS.items())]
)
def backend(request: pytest.FixtureRequest) -> Backend:
    backend = BACKENDS[request.param]
    if not backend.needs_redis:
        return backend
    server = request.getfixturevalue("redis_process")
    return replace(backend, build=lambda env: backend.build(env, server.address))


@pytest.mark.slow
def test_quota_backend_agrees_with_the_model(backend: Backend) -> None:
    run_state_machine_as_test(
        lambda: QuotaMachine(backend),
        settings=settings(
            max_examples=120 if backend.needs_redis else 300,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def run(backend: Backend, story: Callable[[Handler, FakeClock], Awaitable[None]]) -> None:
    async def play() -> None:
        env = RecordingEnv()
        handler = await backend.build(env)
        try:
            await story(handler, env.clock)
        finally:
            await handler.aclose()
            await env.aclose()

    asyncio.run(play())


async def amount(handler: Handler, units: int, dedup_id: str, *, best_effort: bool = False) -> int:
    answer = handler.handle_quota(QuotaInstance("q", {}), QuotaArgs(units, best_effort, dedup_id))
    return (await answer if inspect.isawaitable(answer) else answer).amount


def test_quota_backend_grants_again_when_the_window_has_passed(backend: Backend) -> None:
    async def story(handler: Handler, clock: FakeClock) -> None:
        assert await amount(handler, LIMIT, "1") == LIMIT
        assert await amount(handler, 1, "2") == 0
        await clock.advance(WINDOW_S - backend.early_s - 0.001)
        assert await amount(handler, 1, "3") == 0
        await clock.advance(backend.early_s + 0.002)
        assert await amount(handler, LIMIT, "4") == LIMIT

    run(backend, story)


def test_quota_backend_gives_back_charge_by_charge(backend: Backend) -> None:
    apart_s = backend.early_s + 0.1

    async def story(handler: Handler, clock: FakeClock) -> None:
        assert await amount(handler, 4, "1") == 4
        await clock.advance(apart_s)
        assert await amount(handler, 6, "2") == 6
        await clock.advance(WINDOW_S - apart_s + 0.001)
        assert await amount(handler, LIMIT, "3", best_effort=True) == 4

    run(backend, story)


def test_quota_backend_charges_a_retry_once(backend: Backend) -> None:
    async def story(handler: Handler, clock: FakeClock) -> None:
        assert await amount(handler, 4, "same") == 4
        assert await amount(handler, 4, "same") == 4
        assert await amount(handler, LIMIT, "other", best_effort=True) == LIMIT - 4

    run(backend, story)
