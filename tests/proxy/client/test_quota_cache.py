from __future__ import annotations

from typing import Any

import pytest

from mixer.api.answer import QuotaAnswer
from mixer.api.codes import Code
from mixer.attributes import Duration, MappingBag
from proxy.client.quotacache import QuotaCache, Want
from tests.proxy.client.fakes import absent, exact, granted

ADA, BOB = MappingBag({"source.name": "ada"}), MappingBag({"source.name": "bob"})
BY_NAME = exact("source.name")


def ask(
    cache: QuotaCache, bag: MappingBag, now: float = 0.0, **amounts: int
) -> tuple[tuple[str, ...], tuple[Want, ...]]:
    asked = cache.ask(amounts or {"q": 1}, bag, now)
    return asked.refused, asked.wants


def fill(cache: QuotaCache, bag: MappingBag, amount: int, referenced: Any = BY_NAME, now: float = 0.0) -> None:
    """One request, whose prefetch is granted so much."""
    _, (want,) = ask(cache, bag, now)
    cache.answer(want, bag, granted(amount, referenced), now)


def test_first_answer_moves_the_pending_pool_to_its_signature() -> None:
    cache = QuotaCache()
    fill(cache, ADA, 1)
    assert ask(cache, ADA, 0.1)[0] == ("q",)
    assert ask(cache, BOB, 0.1)[0] == ()
    assert len(cache) == 2


def test_two_answers_in_flight_move_the_pending_pool_once() -> None:
    cache = QuotaCache()
    _, (first,) = ask(cache, ADA)
    _, (second,) = ask(cache, BOB, q=20)
    assert first.pool is second.pool
    cache.answer(first, ADA, granted(10, BY_NAME), 0)
    cache.answer(second, BOB, granted(20, BY_NAME), 0)
    assert len(cache) == 1


def test_reference_that_does_not_fit_leaves_the_pool_pending() -> None:
    cache = QuotaCache()
    fill(cache, ADA, 1, absent("source.name"))
    assert ask(cache, BOB, 0.1)[0] == ("q",)
    assert len(cache) == 1


def test_unavailable_and_silence_count_as_granted() -> None:
    for silence in (None, granted(0, BY_NAME, code=Code.UNAVAILABLE)):
        cache = QuotaCache()
        _, (want,) = ask(cache, ADA)
        cache.answer(want, ADA, silence, 0)
        assert want.pool.open
        assert ask(cache, ADA)[0] == ()


def test_all_refusals_are_named_and_the_others_get_their_tokens_back() -> None:
    cache = QuotaCache()
    for name in ("a", "b", "c"):
        _, (want,) = ask(cache, ADA, **{name: 1})
        cache.answer(want, ADA, granted(10 if name == "a" else 1, BY_NAME), 0)
    before = {pool: pool.available(0.1) for pool in cache.pools()}
    assert ask(cache, ADA, 0.1, a=3, b=3, c=3)[0] == ("b", "c")
    assert {pool: pool.available(0.1) for pool in cache.pools()} == before


def test_pools_unused_for_ten_minutes_are_dropped() -> None:
    cache = QuotaCache()
    fill(cache, ADA, 10, now=0)
    fill(cache, BOB, 10, now=300)
    ask(cache, BOB, 600)
    assert len(cache) == 2
    ask(cache, BOB, 601)
    assert len(cache) == 1


def test_least_recently_used_pool_makes_room() -> None:
    cache = QuotaCache(capacity=2)
    bags = [MappingBag({"source.name": name}) for name in "abc"]
    for bag in bags:
        fill(cache, bag, 1)
    assert len(cache) == 2
    assert [ask(cache, bag, 0.1)[0] for bag in bags] == [(), ("q",), ("q",)]


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(None, 60.0), (Duration(2 * 10**9), 2.0), (Duration(0), 1e9)],
    ids=["nothing said", "window", "no window"],
)
def test_grant_holds_as_long_as_its_quota_says(duration: Duration | None, seconds: float) -> None:
    cache = QuotaCache()
    _, (want,) = ask(cache, ADA)
    cache.answer(want, ADA, QuotaAnswer(10, duration), 0)
    assert want.pool.available(seconds - 0.1) == 9
    assert want.pool.available(seconds + 0.1) == (9 if seconds == 1e9 else 0)
