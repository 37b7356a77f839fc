from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.histogram import Histogram, bucket_of, exact_quantile, upper_border

latencies = st.floats(1e-7, 1e3, allow_nan=False)
samples = st.lists(latencies, min_size=1, max_size=200)
shares = st.floats(0.001, 1.0)


def quantile_by_counting(values: list[float], q: float) -> float:
    """The definition, word by word."""
    return min(v for v in values if sum(w <= v for w in values) >= q * len(values))


@given(values=samples, q=shares)
def test_exact_quantile_agrees_with_its_definition(values: list[float], q: float) -> None:
    assert exact_quantile(sorted(values), q) == quantile_by_counting(values, q)


@given(values=samples, q=shares)
def test_a_histogram_is_off_by_one_bucket_at_most(values: list[float], q: float) -> None:
    exact, found = exact_quantile(sorted(values), q), Histogram.of(values).quantile(q)
    assert exact <= found <= max(exact * 2 ** (1 / 32) * 1.000001, 1e-6)


@given(parts=st.lists(samples, max_size=5))
def test_merging_equals_adding_everything_to_one(parts: list[list[float]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(Histogram.of(part))
    assert merged == Histogram.of([value for part in parts for value in part])
    assert len(merged) == sum(map(len, parts))


@given(values=samples)
def test_a_histogram_survives_json(values: list[float]) -> None:
    histogram = Histogram.of(values)
    assert Histogram.from_json(histogram.to_json()) == histogram


@given(seconds=latencies)
def test_a_bucket_holds_what_is_up_to_its_border(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert seconds <= upper_border(bucket)
    assert bucket == 0 or seconds > upper_border(bucket - 1)


def test_the_curve_ends_at_all_samples() -> None:
    curve = Histogram.of([0.001, 0.002, 0.002, 0.1]).curve()
    assert [share for _, share in curve] == [0.25, 0.75, 1.0]
    assert curve[-1][0] == pytest.approx(0.1, rel=0.03)


def test_without_samples_there_is_no_quantile() -> None:
    assert math.isnan(exact_quantile([], 0.5))
    assert math.isnan(Histogram().quantile(0.5))
