"""The metrics of all workers as one, for a scrape.

A worker sends whole readings of its metrics, each in place of the one before, so nothing is counted twice. The last
reading of a worker that is gone is added to a remainder that stays. What it counted after that reading is lost.

Counters and histograms are sums. A gauge shows the value that was last seen to change, in whichever worker;
where that would mean nothing, `Rules` says what does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from prometheus_client import Metric
from prometheus_client.samples import Sample

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample and its labels."""

_NOT_ADDED: Final = ("gauge", "info", "stateset")


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric family at one moment; ``kind`` may be a special text of an adapter's, which must not be compared."""

    name: str
    help: str
    kind: str
    values: Mapping[Key, float]

    @property
    def added(self) -> bool:
        """Whether values of several workers add up."""
        return str(self.kind) not in _NOT_ADDED


def read(families: Iterable[Metric]) -> list[Reading]:
    """What families say now."""
    return [
        Reading(f.name, f.documentation, f.type, {(s.name, tuple(s.labels.items())): s.value for s in f.samples})
        for f in families
    ]


@dataclass(frozen=True, slots=True)
class Rules:
    """Exceptions to them.

    Each is a list of names, or of beginnings of names that end in ``*``.

    Attributes:
        left_out: Families of workers that the owner has itself.
        told_apart: Families that get a label ``worker``.
        most: Gauges of which the largest value counts.
        summed: Gauges that add up.
    """

    left_out: Collection[str] = ()
    told_apart: Collection[str] = ()
    most: Collection[str] = ()
    summed: Collection[str] = ()


def _named(name: str, patterns: Collection[str]) -> bool:
    return any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns)


class Totals:
    """The sum over workers, present and past; `collect` may run in another thread."""

    def __init__(self, rules: Rules = Rules()) -> None:
        self._rules = rules
        self._present: dict[str, dict[str, Reading]] = {}
        self._past: dict[str, Reading] = {}
        self._changed: dict[str, dict[Key, float]] = {}
        self._lock = threading.Lock()

    def update(self, worker: str, readings: Iterable[Reading]) -> None:
        """A worker's newest reading."""
        kept = {r.name: self._told(worker, r) for r in readings if not _named(r.name, self._rules.left_out)}
        before = self._present.get(worker, {})
        for name, reading in kept.items():
            if not reading.added:
                old = before[name].values if name in before else {}
                fresh = {key: value for key, value in reading.values.items() if old.get(key) != value}
                self._changed.setdefault(name, {}).update(fresh)
        self._present[worker] = kept

    def depart(self, worker: str) -> None:
        """A worker is gone; what it counted is not."""
        with self._lock:
            for name, reading in self._present.pop(worker, {}).items():
                if _named(name, self._rules.told_apart):
                    continue
                if not reading.added and (_named(name, self._rules.most) or _named(name, self._rules.summed)):
                    continue
                past = self._past.get(name)
                before = past.values if past is not None and str(past.kind) == str(reading.kind) else {}
                values = self._combiner(reading)(before, reading.values)
                self._past[name] = Reading(name, reading.help, reading.kind, values)

    def collect(self) -> Iterator[Metric]:
        """Families in the order of their names."""
        with self._lock:  # a worker that departs in between would count twice, or not at all
            present, past = list(self._present.values()), dict(self._past)
        names = {name for readings in present for name in readings} | set(past)
        for name in sorted(names):
            readings = [readings[name] for readings in present if name in readings]
            yield self._family(name, readings, past.get(name))

    def _family(self, name: str, readings: list[Reading], past: Reading | None) -> Metric:
        newest = readings[-1] if readings else past
        assert newest is not None
        if past is not None and str(past.kind) == str(newest.kind):
            readings = [past, *readings]
        values: dict[Key, float] = {}
        combine = self._combiner(newest)
        for reading in readings:
            values = combine(values, reading.values)
        return _metric(newest, values)

    def _combiner(self, reading: Reading) -> Callable[[Mapping[Key, float], Mapping[Key, float]], dict[Key, float]]:
        name = reading.name
        if reading.added:
            return _sum
        if _named(name, self._rules.most):
            return _most
        if _named(name, self._rules.summed):
            return _sum
        changed = self._changed.get(name, {})
        return lambda total, more: {**total, **{key: changed.get(key, value) for key, value in more.items()}}

    def _told(self, worker: str, reading: Reading) -> Reading:
        if not _named(reading.name, self._rules.told_apart):
            return reading
        label = ("worker", worker)
        values = {(name, (*labels, label)): value for (name, labels), value in reading.values.items()}
        return Reading(reading.name, reading.help, reading.kind, values)


def _sum(total: Mapping[Key, float], more: Mapping[Key, float]) -> dict[Key, float]:
    result = dict(total)
    for key, value in more.items():
        if key not in result:
            result[key] = value
        elif key[0].endswith("_created"):  # a time, of the series' begin
            result[key] = min(result[key], value)
        else:
            result[key] += value
    return result


def _most(total: Mapping[Key, float], more: Mapping[Key, float]) -> dict[Key, float]:
    return {**total, **{key: max(value, total.get(key, value)) for key, value in more.items()}}


def _metric(reading: Reading, values: Mapping[Key, float]) -> Metric:
    family = Metric(reading.name, reading.help, "unknown")
    family.type = type(reading.kind)(str(reading.kind))  # an encoder may leave marks on a special one
    family.samples = [Sample(name, dict(labels), value) for (name, labels), value in values.items()]
    return family
