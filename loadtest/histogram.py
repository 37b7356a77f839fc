"""Latencies: exact quantiles of all samples, and a histogram of log-spaced buckets to keep and to draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

_STEPS: Final = 32
"""Buckets for each doubling: a bucket's borders differ by 2.2 %."""

_SMALLEST_S: Final = 1e-6


def exact_quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest sample that at least the share ``q`` of all samples does not exceed; NaN without samples.

    ``ordered`` is ascending. Nothing is interpolated: the answer is a sample.
    """
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(q * len(ordered)), 1) - 1]


class Histogram:
    """Counts of seconds in log-spaced buckets; merging loses nothing, a quantile is off by one bucket at most."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(counts or {})

    @classmethod
    def of(cls, samples: Iterable[float]) -> Histogram:
        """A histogram of these samples."""
        return cls(Counter(map(bucket_of, samples)))

    @classmethod
    def from_json(cls, data: Mapping[str, int]) -> Histogram:
        """Read what `to_json` wrote."""
        return cls({int(bucket): count for bucket, count in data.items()})

    def to_json(self) -> dict[str, int]:
        """Bucket -> count, for the buckets that have any."""
        return {str(bucket): self._counts[bucket] for bucket in sorted(self._counts)}

    def merge(self, other: Histogram) -> None:
        """Add the samples of another one."""
        self._counts.update(other._counts)

    def __len__(self) -> int:
        return self._counts.total()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]

    def quantile(self, q: float) -> float:
        """The upper border of the bucket that holds the exact quantile; NaN when empty."""
        left = max(math.ceil(q * len(self)), 1)
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return upper_border(bucket)
        return math.nan

    def curve(self) -> list[tuple[float, float]]:
        """(seconds, share of samples up to there), ascending: what a plot of quantiles needs."""
        points, seen, total = [], 0, len(self)
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            points.append((upper_border(bucket), seen / total))
        return points


def bucket_of(seconds: float) -> int:
    """The bucket of a latency; what is below a microsecond falls into bucket 0."""
    if seconds <= _SMALLEST_S:
        return 0
    bucket = max(math.ceil(math.log2(seconds / _SMALLEST_S) * _STEPS), 1)
    # The logarithm may be a hair off at a border; the borders decide.
    if seconds > upper_border(bucket):
        return bucket + 1
    return bucket - 1 if seconds <= upper_border(bucket - 1) else bucket


def upper_border(bucket: int) -> float:
    """The largest latency of a bucket, in seconds."""
    return float(_SMALLEST_S * 2 ** (bucket / _STEPS))
