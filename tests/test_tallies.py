"""Metrics without locks are scraped as those of the library."""

from __future__ import annotations

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from mixer import tallies

AMOUNTS = st.floats(min_value=0, max_value=10, allow_nan=False) | st.sampled_from((0.1, 0.5, 1.0))


def scraped(
    counter: type[prometheus_client.Counter], histogram: type[prometheus_client.Histogram], amounts: list[float]
) -> bytes:
    registry = CollectorRegistry()
    events = counter("events", "Events.", ("kind",), registry=registry)
    sizes = histogram("sizes", "Sizes.", ("kind",), buckets=(0.1, 0.5, 1), registry=registry)
    alone = histogram("alone", "Without labels.", buckets=(0.1, 0.5, 1), registry=registry)
    for index, amount in enumerate(amounts):
        kind = "ab"[index % 2]
        events.labels(kind).inc(amount)
        events.labels(kind).inc()
        sizes.labels(kind).observe(amount)
        alone.observe(amount)
    return b"\n".join(line for line in generate_latest(registry).splitlines() if b"_created" not in line)


@given(st.lists(AMOUNTS, max_size=8))
def test_tallies_are_scraped_as_the_librarys_own(amounts: list[float]) -> None:
    expected = scraped(prometheus_client.Counter, prometheus_client.Histogram, amounts)

    assert scraped(tallies.Counter, tallies.Histogram, amounts) == expected


def test_exemplars_are_kept() -> None:
    registry = CollectorRegistry()
    counter = tallies.Counter("events", "Events.", registry=registry)
    histogram = tallies.Histogram("sizes", "Sizes.", buckets=(1,), registry=registry)

    counter.inc(2, {"trace": "t1"})
    histogram.observe(0.5, {"trace": "t2"})

    found = [sample for family in registry.collect() for sample in family.samples if sample.exemplar]
    assert [(sample.value, sample.exemplar.labels) for sample in found if sample.exemplar] == [
        (2.0, {"trace": "t1"}),
        (1.0, {"trace": "t2"}),
    ]


def test_counter_refuses_to_go_back() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        tallies.Counter("events", "Events.", registry=None).inc(-1)


def test_counter_begins_anew() -> None:
    registry = CollectorRegistry()
    counter = tallies.Counter("events", "Events.", registry=registry)
    counter.inc(3)

    counter.reset()
    counter.inc()

    assert registry.get_sample_value("events_total") == 1
