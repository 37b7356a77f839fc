"""From an instance to its series: the value as a number, the dimensions as label values.

This is the adapter's share of every report, so what depends on the configuration alone is worked out before.
Source: spec adapters 4.1, "Recording"; spec adapters 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from mixer.adapters.prometheus.definitions import sanitise
from mixer.adapters.prometheus.series import AnySeries, LabelValues, RecordError
from mixer.adapters.prometheus.validation import dimension_fault
from mixer.attributes import Duration
from mixer.attributes.values import stringify
from mixer.templates.metric import MetricInstance

_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE)


class Recorder:
    """Records the instances of one name in the series of one metric.

    The dimensions that the configuration gives the instance are fetched in the order of the labels by one C call;
    dimensions of other names take a slower way to the same end.
    """

    __slots__ = ("_cap", "_count", "_fetch", "_series")

    def __init__(self, series: AnySeries, dimensions: Iterable[str], cap: int) -> None:
        """Prepare for instances of one name.

        Args:
            series: Where they go.
            dimensions: The names that their dimensions will have, as far as they are known.
            cap: See `Series.update`.
        """
        self._series, self._cap = series, cap
        labels = series.definition.labels
        spelling = {sanitise(name): name for name in dimensions}
        self._fetch = _fetcher([spelling.get(label, label) for label in labels])
        self._count = len(labels)

    def record(self, instance: MetricInstance, now: float) -> None:
        """Take one measurement at that time (monotonic seconds).

        Raises:
            RecordError: The value is no number that the metric takes, or the dimensions are not its labels.
        """
        value = instance.value
        kind = type(value)
        number = value if kind is float else float(value) if kind is int else to_number(value)  # type: ignore[arg-type]
        self._series.update(self._key(instance.dimensions), number, now, self._cap)  # type: ignore[arg-type]

    def open(self, dimensions: Mapping[str, Any]) -> OpenSeries:
        """Where values with these dimensions go, to be remembered; nothing is exposed before the first value.

        Raises:
            RecordError: The dimensions are not the metric's labels.
        """
        return OpenSeries(self._series, self._key(dimensions), self._cap)

    def _key(self, dimensions: Mapping[str, Any]) -> LabelValues:
        try:
            if len(dimensions) != self._count:
                raise KeyError
            raw = self._fetch(dimensions)
        except KeyError:
            raw = self._rearranged(dimensions)
        # Not a memo keyed by raw values: 1, 1.0 and True are the same key, and texts mostly are ready as they are.
        return tuple([v if type(v) is str else stringify(v) for v in raw])

    def _rearranged(self, dimensions: Mapping[str, Any]) -> tuple[Any, ...]:
        definition = self._series.definition
        if fault := dimension_fault(definition, dimensions):
            raise RecordError(fault)
        by_label = {sanitise(name): value for name, value in dimensions.items()}
        return tuple(by_label[label] for label in definition.labels)


class OpenSeries:
    """One series of a metric, looked up once; the cell is found anew when it has expired or had no room."""

    __slots__ = ("_cap", "_cell", "_key", "_series", "_write")

    def __init__(self, series: AnySeries, key: LabelValues, cap: int) -> None:
        self._series, self._key, self._cap = series, key, cap
        self._write: Any = series.write
        self._cell: Any = None

    def take(self, value: Any, now: float) -> None:
        """Take one value; errors as those of `Recorder.record`."""
        kind = value.__class__
        number = value if kind is float or kind is int else value / 1e9 if kind is Duration else to_number(value)
        cell = self._cell
        if cell is not None and not cell.gone:
            self._write(cell, number, now)
        else:
            self._series.update(self._key, float(number), now, self._cap)
            self._cell = self._series.cell(self._key)

    @property
    def name(self) -> str:
        """The metric's exposed name, for errors."""
        return self._series.definition.name


def _fetcher(keys: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if not keys:
        return lambda dimensions: ()
    fetch = itemgetter(*keys)
    return fetch if len(keys) > 1 else lambda dimensions: (fetch(dimensions),)


def to_number(value: object) -> float:
    """A measurement as a number: durations in seconds, texts read as decimal numbers.

    Raises:
        RecordError: Truth values, times, addresses, maps, other texts and nothing at all are no numbers.
    """
    if isinstance(value, Duration):
        return value.seconds
    kind = type(value)
    if kind is int or kind is float:
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return float(value)
        raise RecordError(f"the value {value[:40]!r} is not a number")
    raise RecordError("there is no value" if value is None else f"a {kind.__name__} is not a number")
