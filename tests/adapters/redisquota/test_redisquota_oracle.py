"""The scripts against slow, obvious Python that counts in whole numbers and fractions: same history, same answers."""

import asyncio
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer.adapters.base import QuotaArgs
from mixer.adapters.redisquota.scripts import MAX_UNITS
from mixer.adapters.testing import FakeClock, RecordingEnv
from mixer.templates.quota import QuotaInstance
from tests.adapters.redisquota.clocked import clocked_handler

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIMIT, WINDOW_US, APART_US = 7, 3_000_000, 500_000


def granted(amount, free, best_effort):
    return amount if amount <= free else max(0, free) if best_effort else 0


class Fixed:
    algorithm = "FIXED_WINDOW"

    def __init__(self):
        self.used, self.ends = 0, 0

    def ask(self, now, amount, best_effort):
        if now >= self.ends:
            self.used = 0
        if amount < 0:
            moved = min(-amount, self.used)
            self.used -= moved
            if not self.used:
                self.ends = 0
            return moved, 0, LIMIT - self.used, self.ends - now if self.used else 0
        moved = granted(amount, LIMIT - self.used, best_effort)
        if moved and now >= self.ends:
            self.ends = now + WINDOW_US
        self.used += moved
        return moved, self.ends - now if moved else 0, LIMIT - self.used, self.ends - now if self.used else 0


class Charges:
    """Every unit by itself: when it was taken, as far as the bucket tells."""

    def __init__(self):
        self.units = []

    apart, oldest_first, algorithm = APART_US, False, "ROLLING_WINDOW"

    def ask(self, now, amount, best_effort):
        self.units = [at for at in self.units if at > now - WINDOW_US]
        holds = 0
        if amount < 0:
            moved = min(-amount, len(self.units))
            self.units = self.units[moved:] if self.oldest_first else self.units[: len(self.units) - moved]
        else:
            moved = granted(amount, LIMIT - len(self.units), best_effort)
            at = self.units[-1] if self.units and now - self.units[-1] < self.apart else now
            self.units += [at] * moved
            holds = WINDOW_US if moved else 0
        return moved, holds, LIMIT - len(self.units), self.units[0] + WINDOW_US - now if self.units else 0


class Leases(Charges):
    apart, oldest_first, algorithm = 0, True, "CONCURRENCY"


class Tokens:
    algorithm = "TOKEN_BUCKET"

    def __init__(self):
        self.missing, self.at = Fraction(0), 0

    def ask(self, now, amount, best_effort):
        rate = Fraction(LIMIT, WINDOW_US)
        missing = max(Fraction(0), self.missing - (now - self.at) * rate)
        if amount < 0:
            moved = min(-amount, ceil(missing))
            missing = max(Fraction(0), missing - moved)
        else:
            moved = granted(amount, floor(LIMIT - missing), best_effort)
            missing += moved
        self.missing, self.at = missing, now
        reset = ceil((missing - (ceil(missing) - 1)) / rate) if missing else 0
        return moved, WINDOW_US if moved and amount > 0 else 0, floor(LIMIT - missing), reset


steps = st.tuples(
    st.one_of(
        st.sampled_from((0, 1, APART_US - 1, APART_US, APART_US + 1, WINDOW_US - 1, WINDOW_US, WINDOW_US + 1)),
        st.sampled_from((WINDOW_US - APART_US, WINDOW_US // LIMIT, WINDOW_US // LIMIT + 1)),
        st.integers(0, 2 * WINDOW_US),
    ),
    st.one_of(st.integers(-3, LIMIT + 2), st.sampled_from((MAX_UNITS * 2, -MAX_UNITS * 2))).filter(bool),
    st.booleans(),
)


@pytest.mark.parametrize("oracle", [Fixed, Charges, Leases, Tokens], ids=lambda kind: kind.algorithm)
def test_script_agrees_with_the_oracle(redis_process, oracle):
    examples = 0

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
    @given(history=st.lists(steps, min_size=5, max_size=40))
    def check(history):
        nonlocal examples
        examples += 1
        asyncio.run(play(history, f"{examples}:"))

    async def play(history, prefix):
        model, clock = oracle(), FakeClock()
        env = RecordingEnv(clock)
        quota = {"name": "q", "maxAmount": LIMIT, "validDuration": "3s", "bucketDuration": "500ms"}
        params = {"redisServerUrl": redis_process.address, "keyPrefix": prefix}
        handler = clocked_handler({**params, "quotas": [{**quota, "rateLimitAlgorithm": oracle.algorithm}]}, env)
        now = 0
        try:
            for wait, amount, best_effort in history:
                now += wait
                clock._elapsed = now / 1e6
                result = await handler.handle_quota(QuotaInstance("q", {}), QuotaArgs(amount, best_effort))
                level = result.level
                got = result.amount, int(result.valid_duration) // 1000, level.remaining, int(level.reset) // 1000
                assert got == model.ask(now, amount, best_effort)
        finally:
            await handler.aclose()
            await env.aclose()

    check()
    redis_process.command("FLUSHALL")
