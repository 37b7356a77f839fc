"""Many requests at once, some of them given up, with a Mixer that is slow, away or wrong: the books still balance."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.api.answer import CheckAnswer
from mixer.api.codes import Code
from mixer.attributes import MappingBag
from mixer.errors import MixerCallError
from proxy.client import SidecarClient, Transport
from proxy.client.background import Background
from proxy.client.config import NetworkFailPolicy
from proxy.client.engine import CheckEngine
from proxy.client.quotaspec import QuotaRules, QuotaSpec
from proxy.client.stats import Counters
from proxy.mixer import CheckCall
from proxy.policy import Verdict
from tests.proxy.client.fakes import Clock, FakeMixer, answer, charging, config, exact, granted, settle, verdict_of


class Unsteady(FakeMixer):
    """Takes a random number of turns; fails, refuses and answers what cannot be shared now and then."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    async def check(self, call: CheckCall) -> CheckAnswer:
        self.calls.append(call)
        for _ in range(self.rng.randrange(6)):
            await asyncio.sleep(0)
        luck = self.rng.random()
        if luck < 0.1:
            raise MixerCallError(self.rng.choice([14, 4, 2, 13]), "no answer")
        if luck < 0.12:
            raise ZeroDivisionError
        quotas = {name: granted(self.rng.choice([0, d.amount]), exact("user")) for name, d in call.quotas.items()}
        referenced = exact(*self.rng.choice([("path",), ("path", "user"), ("user",)])) if luck < 0.9 else None
        return answer(
            referenced, self.rng.choice([0, 0, 0, 7]), valid_s=1, uses=self.rng.choice([-1, 1, 3]), quotas=quotas
        )


def balance(counted: Counters) -> None:
    """The identities of the counters. Source: spec proxy 12."""
    assert counted.check_calls == counted.check_cache_hits + counted.check_cache_misses
    assert counted.check_cache_hits == counted.check_cache_hit_accepts + counted.check_cache_hit_denies
    assert counted.remote_check_calls == counted.check_cache_misses
    assert counted.remote_check_calls >= counted.remote_check_accepts + counted.remote_check_denies
    assert counted.quota_calls == counted.quota_cache_hits + counted.quota_cache_misses
    assert counted.quota_cache_hits == counted.quota_cache_hit_accepts + counted.quota_cache_hit_denies
    assert counted.remote_quota_calls >= counted.quota_cache_misses + counted.remote_quota_prefetch_calls
    assert counted.remote_calls == (
        counted.remote_call_successes
        + counted.remote_call_timeouts
        + counted.remote_call_send_errors
        + counted.remote_call_other_errors
        + counted.remote_call_cancellations
    )


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 1 << 32), st.booleans())
def test_books_balance_and_nothing_leaks_when_requests_come_and_go(seed: int, quota: bool) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        mixer, clock = Unsteady(rng), Clock()
        client = SidecarClient(mixer, config(charging(1, "a", "b") if quota else {}), monotonic=clock)

        async def one() -> Verdict:
            bag = MappingBag({"path": rng.choice("xy"), "user": rng.choice("uv")})
            return await verdict_of(client.check(client.compose(bag)))

        running: set[asyncio.Task[Verdict]] = set()
        for _ in range(120):
            running.add(asyncio.create_task(one()))
            if rng.random() < 0.2:
                rng.choice(sorted(running, key=lambda task: task.get_name())).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            clock.now += rng.choice([0, 0, 0.3])
        done = await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 5)
        assert all(isinstance(one, Verdict | asyncio.CancelledError) for one in done)
        await client.aclose(1.0)
        balance(client.counters())
        assert not client._http.engine._flights
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def test_wish_that_cannot_be_sent_is_counted_and_granted() -> None:
    """More calls in the background than are let: quotas fail open, as they do when Mixer is away."""
    counters, background = Counters(), Background(bound=0)
    mixer = FakeMixer(reply=answer(exact("a"), quotas={"q": granted(1)}))
    engine = CheckEngine(mixer, Transport(), counters, monotonic=Clock(), background=background)
    rules = [QuotaRules([QuotaSpec.model_validate({"rules": [{"quotas": [{"quota": "q", "charge": 1}]}]})])]
    bag = MappingBag({"a": "x"})
    for _ in range(11):
        assert (await verdict_of(engine.check(bag, rules, False, None))).ok
    assert len(mixer.calls) == 1
    assert counters.quota_prefetches_not_sent == 2


async def test_background_tells_what_it_takes_and_logs_what_crashes() -> None:
    background = Background(bound=1)
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()
        raise ZeroDivisionError

    assert background.spawn(wait, "one")
    assert not background.spawn(wait, "two")
    gate.set()
    await settle()
    assert len(background) == 0
    await background.aclose()
    assert not background.spawn(wait, "three")


@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
async def test_silence_is_never_remembered(code: Code) -> None:
    mixer = FakeMixer(reply=MixerCallError(code, "no"))
    client = SidecarClient(mixer, config(transport={"networkFailPolicy": NetworkFailPolicy().model_dump()}))
    for number in range(3):
        assert (await verdict_of(client.check(MappingBag({"a": 1})))).failed
        assert len(mixer.calls) == number + 1
    balance(client.counters())
    await client.aclose()
