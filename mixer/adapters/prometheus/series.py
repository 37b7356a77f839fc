"""The series of one metric: a cell for each set of label values, how it takes a value, when it is dropped.

Cells are touched from the event loop only; `snapshot` may be called from any thread.
Source: spec adapters 4.1, "Recording" and "Expiry".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Final, Generic, TypeAlias, TypeVar

from mixer.adapters.prometheus.definitions import Definition
from mixer.adapters.prometheus.params import MetricKind

LabelValues: TypeAlias = tuple[str, ...]
"""The identity of a series: the label values, in the order of ``Definition.labels``."""

OVERFLOW: Final = "overflow"
"""What every label says of the series that stands for all those beyond the cap."""


class RecordError(ValueError):
    """A measurement that a metric cannot take; says why, not which."""


class ScalarCell:
    """A number, and when it was last written (monotonic seconds); ``gone`` once it is exposed no more."""

    __slots__ = ("gone", "touched", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.touched = 0.0
        self.gone = False


class HistogramCell:
    """Counts by bucket (not cumulative, the last one unbounded), the sum of the values, the last write."""

    __slots__ = ("counts", "gone", "sum", "touched")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0
        self.touched = 0.0
        self.gone = False


Cell = TypeVar("Cell", ScalarCell, HistogramCell)


class Series(Generic[Cell]):
    """All series of a metric.

    Attributes:
        overflowed: How many values went to the overflow series for want of room.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.overflowed = 0
        self._cells: dict[LabelValues, Cell] = {}
        self._overflow_key: LabelValues = (OVERFLOW,) * len(definition.labels)

    def __len__(self) -> int:
        return len(self._cells)

    def update(self, key: LabelValues, value: float, now: float, cap: int) -> None:
        """Take a value.

        Args:
            key: One text for each label, in the order of the definition.
            value: The measurement; any float.
            now: Monotonic seconds.
            cap: How many series there may be besides that of the overflow; 0 for any number.

        Raises:
            RecordError: The value means nothing to this kind of metric, or the key is not Unicode.
        """
        raise NotImplementedError

    def snapshot(self) -> list[tuple[LabelValues, Cell]]:
        """The series of this moment; the cells are live."""
        return list(self._cells.items())  # atomic under the GIL, while iterating would not be

    def expire(self, before: float) -> int:
        """Drop every series that was last updated earlier than ``before``; answers how many."""
        stale = [key for key, cell in self._cells.items() if cell.touched < before]
        for key in stale:
            self._cells.pop(key).gone = True
        return len(stale)

    def cell(self, key: LabelValues) -> Cell | None:
        """The cell of a key, to be written by `write` until it is ``gone``; None while the key has none of its own."""
        return self._cells.get(key)

    def write(self, cell: Cell, value: float, now: float) -> None:
        """Take a value into an open cell; errors as `update`."""
        raise NotImplementedError

    def _add(self, key: LabelValues, cap: int) -> Cell:
        """The cell of a key that has none: a new one, or that of the overflow."""
        try:
            "".join(key).encode()
        except UnicodeEncodeError:
            raise RecordError("a label value is not valid UTF-8") from None
        if cap and len(self._cells) - (self._overflow_key in self._cells) >= cap:
            self.overflowed += 1
            if (cell := self._cells.get(self._overflow_key)) is not None:
                return cell
            key = self._overflow_key
        cell = self._cells[key] = self._new_cell()
        return cell

    def _new_cell(self) -> Cell:
        raise NotImplementedError


class GaugeSeries(Series[ScalarCell]):
    """Keeps the last value, whatever it is."""

    def update(self, key: LabelValues, value: float, now: float, cap: int) -> None:
        """Set."""
        self.write(self._cells.get(key) or self._add(key, cap), value, now)

    def write(self, cell: ScalarCell, value: float, now: float) -> None:
        """Set."""
        cell.value = value
        cell.touched = now

    def _new_cell(self) -> ScalarCell:
        return ScalarCell()


class CounterSeries(GaugeSeries):
    """Adds values up; they must not be negative, nor spoil the sum for good as NaN and infinity would."""

    def update(self, key: LabelValues, value: float, now: float, cap: int) -> None:
        """Add."""
        if not 0.0 <= value < math.inf:  # before a cell is made for it
            raise RecordError(f"a counter cannot add {value:g}")
        self.write(self._cells.get(key) or self._add(key, cap), value, now)

    def write(self, cell: ScalarCell, value: float, now: float) -> None:
        """Add."""
        if not 0.0 <= value < math.inf:
            raise RecordError(f"a counter cannot add {value:g}")
        cell.value += value
        cell.touched = now


class DistributionSeries(Series[HistogramCell]):
    """Counts finite values by size; a bound belongs to the bucket below it."""

    def update(self, key: LabelValues, value: float, now: float, cap: int) -> None:
        """Observe."""
        if not -math.inf < value < math.inf:  # before a cell is made for it
            raise RecordError(f"a distribution cannot hold {value:g}")
        self.write(self._cells.get(key) or self._add(key, cap), value, now)

    def write(self, cell: HistogramCell, value: float, now: float) -> None:
        """Observe."""
        if not -math.inf < value < math.inf:
            raise RecordError(f"a distribution cannot hold {value:g}")
        cell.counts[bisect_left(self.definition.bounds, value)] += 1
        cell.sum += value
        cell.touched = now

    def _new_cell(self) -> HistogramCell:
        return HistogramCell(len(self.definition.bounds) + 1)


AnySeries: TypeAlias = GaugeSeries | CounterSeries | DistributionSeries

_CLASSES: Final[dict[MetricKind, type[AnySeries]]] = {
    MetricKind.GAUGE: GaugeSeries,
    MetricKind.COUNTER: CounterSeries,
    MetricKind.DISTRIBUTION: DistributionSeries,
}


def new_series(definition: Definition) -> AnySeries:
    """An empty metric of the definition's kind."""
    return _CLASSES[definition.kind](definition)
