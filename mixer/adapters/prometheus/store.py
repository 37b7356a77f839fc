"""The process-wide table of metrics, which handlers come and go over.

A metric belongs to its exposed name. Who uses it is known, so that a handler's replacement may redefine what only
its predecessor used, while another handler's metric cannot be changed under it.
Source: spec adapters 4.1, "Build, shared registry, reload" and "Expiry"; the reset is scoped to the metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Metric

from mixer.adapters.prometheus.definitions import Definition
from mixer.adapters.prometheus.exposition import families
from mixer.adapters.prometheus.series import AnySeries, new_series


class ConflictError(ValueError):
    """Another handler, which is running, defines a metric of that name in another way."""


@dataclass(frozen=True, slots=True, eq=False)
class User:
    """A handler, from its build to its close; compared by identity.

    Attributes:
        handler: Its name, which its replacement has too.
        expiry_s: How long it wants idle series kept; infinite without a policy.
    """

    handler: str
    expiry_s: float = math.inf


@dataclass(slots=True)
class _Entry:
    series: AnySeries
    expiry_s: float
    users: set[User] = field(default_factory=set)

    def is_used_by_others(self, user: User) -> bool:
        return any(other.handler != user.handler for other in self.users)

    def settle_expiry(self) -> None:
        """The most patient user decides; what nobody uses any more keeps the last word."""
        if self.users:
            self.expiry_s = max(user.expiry_s for user in self.users)


class MetricStore:
    """All metrics of the process's prometheus handlers; also their collector."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._registries: list[CollectorRegistry] = []

    @classmethod
    def of(cls, shared: MutableMapping[str, Any], scrape: CollectorRegistry) -> MetricStore:
        """The one store of the adapter's shared state, made on first use and registered where it is scraped."""
        store: MetricStore = shared.setdefault("metrics", cls())
        if not any(registry is scrape for registry in store._registries):
            scrape.register(store)
            store._registries.append(scrape)
        return store

    def collect(self) -> Iterator[Metric]:
        """What a scrape sees; safe in any thread."""
        return families([entry.series for entry in list(self._entries.values())])

    def bind(self, definition: Definition, user: User) -> AnySeries:
        """The series of a metric, kept if the definition is the one they were made for, else empty ones.

        Raises:
            ConflictError: Another handler uses the name, or a name of its samples, for something else.
        """
        entry = self._entries.get(definition.name)
        if entry is None or not entry.series.definition.agrees_with(definition):
            entry = self._define(definition, user)
        entry.users.add(user)
        entry.settle_expiry()
        return entry.series

    def release(self, user: User) -> None:
        """A handler is closed; its metrics stay."""
        for entry in self._entries.values():
            entry.users.discard(user)
            entry.settle_expiry()
        self._forget_unused()

    def expire(self, now: float) -> int:
        """Drop every series that is idle for longer than its metric allows; answers how many."""
        mortal = [entry for entry in self._entries.values() if entry.expiry_s < math.inf]
        dropped = sum(entry.series.expire(now - entry.expiry_s) for entry in mortal)
        self._forget_unused()
        return dropped

    def _forget_unused(self) -> None:
        for name in [name for name, entry in self._entries.items() if not entry.users and not len(entry.series)]:
            del self._entries[name]

    def _define(self, definition: Definition, user: User) -> _Entry:
        replaced = [
            entry
            for entry in self._entries.values()
            if not definition.sample_names.isdisjoint(entry.series.definition.sample_names)
        ]
        for entry in replaced:
            if entry.is_used_by_others(user):
                raise ConflictError(_conflict(definition, entry, user))
        for entry in replaced:
            del self._entries[entry.series.definition.name]
        new = self._entries[definition.name] = _Entry(new_series(definition), user.expiry_s)
        return new


def _conflict(definition: Definition, entry: _Entry, user: User) -> str:
    theirs = entry.series.definition
    handlers = ", ".join(sorted({other.handler for other in entry.users if other.handler != user.handler}))
    if theirs.name != definition.name:
        return f"{definition.name} would expose the same names as {theirs.name} of {handlers}"
    return f"{definition.name} has other {' and '.join(theirs.differences(definition))} in {handlers}"
