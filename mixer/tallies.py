"""Prometheus counters and histograms without locks, for what one event loop counts on every request.

They are declared, labelled and scraped as those of ``prometheus_client``, whose own take a lock and check their labels
each time; that is a tenth of a Check which asks nobody. Only the thread that counts may use them; any may scrape.
"""

from __future__ import annotations

from bisect import bisect_left

import prometheus_client
from prometheus_client.samples import Exemplar


class _Number:
    """What the library keeps a value in."""

    __slots__ = ("_exemplar", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._exemplar: Exemplar | None = None

    def inc(self, amount: float) -> None:
        self.value += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        self.value = value

    def get(self) -> float:
        return self.value

    def set_exemplar(self, exemplar: Exemplar) -> None:
        self._exemplar = exemplar

    def get_exemplar(self) -> Exemplar | None:
        return self._exemplar


class Counter(prometheus_client.Counter):
    """Counts, in one thread."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._value = _Number()

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Count so many, which must not be negative."""
        if exemplar or amount < 0:
            super().inc(amount, exemplar)
        else:
            self._value.value += amount


class Histogram(prometheus_client.Histogram):
    """Counts by size, in one thread."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._sum = _Number()
        self._buckets = [_Number() for _ in self._upper_bounds]

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count one of a size, which is a number."""
        if exemplar:
            super().observe(amount, exemplar)
            return
        self._sum.value += amount
        self._buckets[bisect_left(self._upper_bounds, amount)].value += 1
