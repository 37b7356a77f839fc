"""Laws of combining results. Source: spec runtime 4.4 and 4.7."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.base import CheckResult, Code, QuotaResult, Status
from mixer.api.answer import QuotaLevel
from mixer.attributes import Duration
from mixer.runtime.results import (
    DEFAULT_VALID_DURATION,
    DEFAULT_VALID_USE_COUNT,
    combine_checks,
    combine_quotas,
    http_status,
    multi_error,
    split_cookies,
)

durations = st.integers(0, 5).map(Duration)
statuses = st.builds(Status, st.sampled_from([0, 0, 0, 5, 7]), st.sampled_from(["", "a", "b"]))
checks = st.lists(
    st.tuples(st.sampled_from("xyz"), st.builds(CheckResult, statuses, durations, st.integers(0, 5))), max_size=6
)
quotas = st.lists(
    st.tuples(st.sampled_from("xyz"), st.builds(QuotaResult, st.integers(0, 5), durations, statuses)),
    min_size=1, max_size=6,
)  # fmt: skip


@given(checks, st.randoms(use_true_random=False))
def test_limits_and_verdict_do_not_depend_on_the_order(results: list[tuple[str, CheckResult]], random: object) -> None:
    shuffled = list(results)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    one, other = combine_checks(results)[0], combine_checks(shuffled)[0]

    assert (one.valid_duration, one.valid_use_count) == (other.valid_duration, other.valid_use_count)
    assert one.status.ok == other.status.ok
    assert sorted(one.status.message.split(", ")) == sorted(other.status.message.split(", "))


@given(checks, st.integers(0, 6))
def test_no_opinion_is_neutral_in_any_position(results: list[tuple[str, CheckResult]], at: int) -> None:
    assert combine_checks([*results[:at], ("silent", CheckResult()), *results[at:]]) == combine_checks(results)


@given(checks)
def test_code_is_that_of_the_first_denial(results: list[tuple[str, CheckResult]]) -> None:
    denials = [result.status for _, result in results if not result.status.ok]

    combined, first = combine_checks(results)

    assert combined.status.code == (denials[0].code if denials else Code.OK)
    assert first is (denials[0] if denials else None)


@given(checks)
def test_nothing_lasts_longer_than_the_strictest_says(results: list[tuple[str, CheckResult]]) -> None:
    combined, _ = combine_checks(results)
    opinions = [result for _, result in results if not result.is_default]

    assert combined.valid_duration == min((r.valid_duration for r in opinions), default=DEFAULT_VALID_DURATION)
    assert combined.valid_use_count == min((r.valid_use_count for r in opinions), default=DEFAULT_VALID_USE_COUNT)


def test_denial_without_limits_is_an_opinion_and_must_not_be_cached() -> None:
    denial = CheckResult(Status(7, "no"))
    long = CheckResult(Status(), Duration(9), 9)

    for results in ([("a", denial), ("b", long)], [("b", long), ("a", denial)]):
        assert combine_checks(results)[0] == CheckResult(Status(7, "a:no"), Duration(0), 0)


@given(quotas, st.randoms(use_true_random=False))
def test_grant_does_not_depend_on_the_order(results: list[tuple[str, QuotaResult]], random: object) -> None:
    shuffled = list(results)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    one, other = combine_quotas(results), combine_quotas(shuffled)

    assert (one.amount, one.valid_duration, one.status.ok) == (other.amount, other.valid_duration, other.status.ok)
    assert one.amount == min(result.amount for _, result in results)


def test_grant_without_end_does_not_end_one_that_has_an_end() -> None:
    forever, short = QuotaResult(3), QuotaResult(3, Duration(5))

    assert combine_quotas([("a", forever), ("b", short)]).valid_duration == 5
    assert combine_quotas([("a", forever), ("b", forever)]).valid_duration == 0


def test_errors_are_counted_and_listed() -> None:
    assert multi_error(["a"]) == "1 error occurred:\n\t* a\n\n"
    assert multi_error(["a", "b"]) == "2 errors occurred:\n\t* a\n\t* b\n\n"


def test_cookies_are_parted_at_commas_but_not_within_dates() -> None:
    value = "a=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT; Path=/,b=2"

    assert split_cookies(value) == ["a=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT; Path=/", "b=2"]
    assert split_cookies("single=1") == ["single=1"]


def test_every_code_has_an_http_status() -> None:
    assert all(http_status(code) for code in Code)
    assert http_status(1234) == 500


def test_level_of_several_quotas_is_the_tightest() -> None:
    def level(remaining: int, reset: int) -> QuotaLevel:
        return QuotaLevel(10, remaining, Duration(reset), Duration(60))

    results = [
        ("a", QuotaResult(1, level=level(4, 9))),
        ("b", QuotaResult(1)),
        ("c", QuotaResult(1, level=level(4, 12))),
    ]

    assert combine_quotas(results).level == level(4, 12)
    assert combine_quotas(results[1:2]).level is None
