"""The memo is bounded, keeps what is in use, and stops when it does not pay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mixer.runtime.memo import Memo


@given(keys=st.lists(st.integers(0, 30)), limit=st.integers(1, 10))
def test_what_is_found_is_what_was_put_and_the_size_is_bounded(keys: list[int], limit: int) -> None:
    memo: Memo[str] = Memo(limit)
    for key in keys:
        found = memo.get(key)
        assert found in (None, str(key))
        if found is None:
            memo.put(key, str(key))
        assert len(memo) <= 2 * limit


def test_what_is_in_use_survives_a_generation() -> None:
    memo: Memo[str] = Memo(10)
    memo.put("used", "yes")
    for number in range(100):
        assert memo.get("used") == "yes"
        memo.put(number, "no")


def test_a_first_pass_over_keys_that_repeat_does_not_switch_it_off() -> None:
    memo: Memo[int] = Memo(20_000)
    for _ in range(2):
        for number in range(15_000):
            if memo.get(number) is None:
                memo.put(number, number)

    assert memo.get(14_999) == 14_999
    assert len(memo) == 15_000


def test_unique_keys_switch_it_off_for_a_while() -> None:
    memo: Memo[int] = Memo(100)
    for number in range(150):
        assert memo.get(number) is None
        memo.put(number, number)
    assert len(memo) == 0

    for number in range(100_000):
        if memo.get(number % 10) is None:
            memo.put(number % 10, 1)

    assert memo.get(3) == 1
