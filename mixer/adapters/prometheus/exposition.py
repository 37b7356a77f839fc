"""Series as prometheus-client knows metrics, so that what is scraped is what the original exposed.

Names are exposed exactly as they are defined. In OpenMetrics a counter must end in ``_total``: one that does
not is given there as ``unknown`` (as the Go library does), for a series whose name depended on what the scraper
asks for would break every query. Source: spec adapters 4.1, "Exposition".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import Metric
from prometheus_client.samples import Sample

from mixer.adapters.base import Encode
from mixer.adapters.prometheus.definitions import Definition
from mixer.adapters.prometheus.params import MetricKind
from mixer.adapters.prometheus.rendering import render
from mixer.adapters.prometheus.series import AnySeries, DistributionSeries

SERIES_COUNT: Final = "mixer_prometheus_series"
SERIES_OVERFLOW: Final = "mixer_prometheus_series_overflow_total"
OWN_METRICS: Final = (SERIES_COUNT, SERIES_OVERFLOW)
"""Metrics about the metrics, which no configuration may define."""


def families(metrics: Iterable[AnySeries]) -> Iterator[Metric]:
    """The metrics that have series, sorted by name, then how many series each has and how many it refused."""
    ordered = sorted(metrics, key=lambda series: series.definition.name)
    for series in ordered:
        if len(series):
            yield SeriesMetric(series)
    if not ordered:
        return
    count = Metric(SERIES_COUNT, "Series that a metric of the prometheus adapter has.", "gauge")
    overflow = _shell(
        Definition(
            SERIES_OVERFLOW,
            "Values that a metric recorded as overflow, having reached maxSeriesPerMetric.",
            MetricKind.COUNTER,
        )
    )
    for series in ordered:
        labels = {"metric": series.definition.name}
        count.add_sample(SERIES_COUNT, labels, len(series))
        overflow.add_sample(SERIES_OVERFLOW, labels, series.overflowed)
    yield count
    yield overflow


class SeriesMetric(Metric):
    """All series of a metric, of which nothing is made before it is asked for: its samples, or its text."""

    def __init__(self, series: AnySeries) -> None:
        self._series = series
        shell = _shell(series.definition)
        super().__init__(shell.name, shell.documentation, "unknown")
        self.type = shell.type

    @property
    def samples(self) -> list[Sample]:
        """The samples of this moment."""
        series = self._series
        if isinstance(series, DistributionSeries):
            return list(_histogram_samples(series))
        name, labels = series.definition.name, series.definition.labels
        return [Sample(name, dict(zip(labels, key, strict=True)), cell.value) for key, cell in series.snapshot()]

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        """Nothing to set: the base class begins with an empty list."""

    def render(self, encode: Encode) -> Iterator[bytes]:
        """As `StreamedMetric.render`."""
        definition = self._series.definition
        return render(self._series, _shell(definition), _bounds(definition), encode)


def _shell(definition: Definition) -> Metric:
    """A family without samples."""
    name, description = definition.name, definition.help
    if definition.kind is MetricKind.DISTRIBUTION:
        return Metric(name, description, "histogram")
    if definition.kind is MetricKind.GAUGE:
        return Metric(name, description, "gauge")
    if name.endswith("_total") and name != "_total":
        return Metric(name.removesuffix("_total"), description, "counter")  # encoders put the suffix back
    family = Metric(name, description, "unknown")
    family.type = _UnsuffixedCounter("unknown")
    return family


def _bounds(definition: Definition) -> list[str]:
    return [*map(format_bound, definition.bounds), "+Inf"]


def _histogram_samples(series: DistributionSeries) -> Iterator[Sample]:
    definition = series.definition
    bounds = _bounds(definition)
    for key, cell in series.snapshot():
        labels = dict(zip(definition.labels, key, strict=True))
        total, cumulative = cell.sum, list(accumulate(cell.counts[:]))
        for bound, count in zip(bounds, cumulative, strict=True):
            yield Sample(f"{definition.name}_bucket", {**labels, "le": bound}, count)
        yield Sample(f"{definition.name}_sum", labels, total)
        yield Sample(f"{definition.name}_count", labels, cumulative[-1])


class _UnsuffixedCounter(str):
    """The type of a counter whose name does not end in ``_total``, for either of the two encoders.

    A collector is not told which format is being written, and the text encoder appends the suffix to whatever
    equals "counter". But it alone compares a type before it prints it: so this one equals nothing that needs
    rewriting and, once compared, prints as "counter"; never compared, it prints as "unknown".
    """

    _compared = False

    def __eq__(self, other: object) -> bool:
        self._compared = True
        return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __format__(self, spec: str) -> str:
        return "counter" if self._compared else "unknown"


def format_bound(bound: float) -> str:
    """A finite number as Go prints it: shortest digits, an exponent from a million up and below 0.0001."""
    text = repr(float(bound)).removesuffix(".0")
    if "e" in text or abs(bound) < 1e6:
        return text
    sign, digits = ("-", text[1:]) if bound < 0 else ("", text)
    whole, _, fraction = digits.partition(".")
    rest = (whole[1:] + fraction).rstrip("0")
    return f"{sign}{whole[0]}{'.' + rest if rest else ''}e+{len(whole) - 1:02d}"
