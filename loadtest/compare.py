"""Two runs side by side: ratios with the spread that the repetitions justify.

A single pair of runs says little on a busy machine. The ratio is that of the medians; its least and most are the
ratios of the extremes, the least of one run against the most of the other. Only where even these agree is there a
difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.results import DISTURBING_CPUS, Results, Spread

LESS_IS_BETTER = frozenset({"us_cpu", "p50", "p99", "p99.9", "peak_rss_mib"})
MORE_IS_BETTER = frozenset({"throughput"})
COMPARED = ("us_cpu", "throughput", "p50", "p99", "p99.9", "peak_rss_mib")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one measurement, before and after; ``disturbed`` when others used the machine meanwhile."""

    title: str
    scenario: str
    metric: str
    before: float
    after: float
    ratio: Spread
    disturbed: bool = False

    @property
    def ratio_text(self) -> str:
        """After over before."""
        return f"{self.ratio.median:.2f} [{self.ratio.low:.2f}..{self.ratio.high:.2f}]"

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or nothing where the spread allows both; a question mark if disturbed."""
        if self.ratio.low <= 1 <= self.ratio.high:
            return ""
        doubt = "?" if self.disturbed else ""
        return ("better" if (self.ratio.high < 1) == (self.metric in LESS_IS_BETTER) else "worse") + doubt


def ratio_of(before: Spread, after: Spread) -> Spread:
    """``after`` over ``before``; infinite where nothing is divided into."""
    return Spread(
        _divide(after.low, before.high), _divide(after.median, before.median), _divide(after.high, before.low)
    )


def _divide(above: float, below: float) -> float:
    if below:
        return above / below
    return math.inf if above else 1.0


def compare(before: Results, after: Results) -> Iterator[Comparison]:
    """Every figure of the measurements that both runs made, in the order of the later run."""
    former = {measurement.key: measurement for measurement in before}
    for measurement in after:
        earlier = former.get(measurement.key)
        if earlier is None:
            continue
        for metric in COMPARED:
            old, new = earlier.spread(metric), measurement.spread(metric)
            if old is not None and new is not None:
                ratio = ratio_of(old, new)
                disturbed = max(earlier.others_cpus, measurement.others_cpus) > DISTURBING_CPUS
                yield Comparison(
                    measurement.title, measurement.scenario_text, metric, old.median, new.median, ratio, disturbed
                )


def unmatched(before: Results, after: Results) -> list[str]:
    """Measurements that only one of the runs made."""
    old, new = ({m.key: f"{m.title}, {m.scenario_text}" for m in results} for results in (before, after))
    return [old.get(key) or new[key] for key in sorted(old.keys() ^ new.keys())]
