"""What something adds: a measurement with it against the one without it that was made by turns with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.results import Measurement, Results, Spread

WITHOUT: Final = "-without"
"""Ends the case of a measurement that has all but what is looked at."""


@dataclass(frozen=True, slots=True)
class Added:
    """One pair.

    Attributes:
        title: Of the measurement with it, ``scenario`` likewise.
        us_cpu: Of our own processes for each unit.
        p50_ms: What is added to the median latency, ``p99_ms`` to the 99th percentile: the differences of the
            repetitions, each of which measured both.
        without_p50_ms: What there is without it.
        units_per_s: With it; ``without_units_per_s`` without.
    """

    title: str
    scenario: str
    us_cpu: Spread | None
    p50_ms: Spread
    p99_ms: Spread
    without_p50_ms: Spread
    without_p99_ms: Spread
    units_per_s: Spread
    without_units_per_s: Spread


def added(results: Results) -> list[Added]:
    """Every pair that a run has, in its order."""
    without = {m.key: m for m in results if m.case.endswith(WITHOUT)}
    pairs = ((m, without.get((m.case + WITHOUT, *m.key[1:]))) for m in results)
    return [_added(measured, floor) for measured, floor in pairs if floor is not None]


def _added(measured: Measurement, floor: Measurement) -> Added:
    return Added(
        measured.title,
        measured.scenario_text,
        measured.spread("us_cpu"),
        *(_difference(measured, floor, metric) for metric in ("p50", "p99")),
        *(Spread.of(_values(floor, metric)) for metric in ("p50", "p99")),
        *(Spread.of(_values(each, "throughput")) for each in (measured, floor)),
    )


def _difference(measured: Measurement, floor: Measurement, metric: str) -> Spread:
    pairs = zip(_values(measured, metric), _values(floor, metric), strict=True)
    return Spread.of([with_it - without_it for with_it, without_it in pairs])


def _values(measurement: Measurement, metric: str) -> Sequence[float]:
    return [window.metrics().get(metric, 0.0) for window in measurement.windows]
