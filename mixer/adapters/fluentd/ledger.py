"""The books of a handler: what became of every entry, exactly, as metrics of Mixer itself.

For each handler, at any time::

    accepted + recovered = delivered + dropped + left in the spool + buffered

Source: spec adapters 4.2 (which loses entries silently where this counts them).
"""

from __future__ import annotations

import enum
from typing import Final, cast

from prometheus_client import CollectorRegistry, Counter, Gauge

from mixer.adapters.base import Env


class Reason(enum.StrEnum):
    """Why an entry was dropped."""

    BAD_TAG = "bad_tag"
    UNENCODABLE = "unencodable"
    TOO_LARGE = "too_large"
    BUFFER_FULL = "buffer_full"
    SPOOL_FULL = "spool_full"
    SPOOL_FAILED = "spool_failed"
    SPOOL_CORRUPT = "spool_corrupt"
    CLOSED = "closed"


class FluentdMetrics:
    """The metrics of all handlers of the adapter; one object for each process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mixer_fluentd_{name}", text, ("handler", *labels), registry=registry)

        self.accepted = counter("entries_accepted", "Entries that the handler was given.")
        self.recovered = counter("entries_recovered", "Entries taken over from the spool of an earlier handler.")
        self.delivered = counter(
            "entries_delivered", "Entries acknowledged, or sent where no acknowledgement is asked."
        )
        self.dropped = counter("entries_dropped", "Entries lost.", "reason")
        self.left = counter("entries_left_in_spool", "Entries that a closing handler left in its spool.")
        self.retries = counter("retries", "Batches that had to be sent again.")
        self.buffered = Gauge(
            "mixer_fluentd_entries_buffered",
            "Entries that wait in memory or in the spool.",
            ("handler",),
            registry=registry,
        )

    @classmethod
    def of(cls, env: Env) -> FluentdMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(env.metrics)
        return cast(FluentdMetrics, env.shared[_KEY])


_KEY: Final = "metrics"


class Ledger:
    """One handler's books.

    Attributes:
        buffered: Entries that are accepted or recovered and neither delivered, dropped nor left.
        settled: Entries that were buffered and no longer are.
    """

    def __init__(self, metrics: FluentdMetrics, handler: str) -> None:
        self._metrics, self._handler = metrics, handler
        self._accepted = metrics.accepted.labels(handler)
        self._recovered = metrics.recovered.labels(handler)
        self._delivered = metrics.delivered.labels(handler)
        self._left = metrics.left.labels(handler)
        self._retries = metrics.retries.labels(handler)
        self._gauge = metrics.buffered.labels(handler)
        self.buffered = self.settled = 0

    def accept(self, count: int) -> None:
        """Entries arrive; they count as buffered until one of the others says what became of them."""
        self._accepted.inc(count)
        self._hold(count)

    def recover(self, count: int) -> None:
        """Entries are found in a spool."""
        self._recovered.inc(count)
        self._hold(count)

    def deliver(self, count: int) -> None:
        """Entries have arrived at their receiver, as far as anyone can know."""
        self._delivered.inc(count)
        self._release(count)

    def drop(self, reason: Reason, count: int = 1) -> None:
        """Entries are lost."""
        if count:
            self._metrics.dropped.labels(self._handler, reason.value).inc(count)
            self._release(count)

    def leave(self) -> None:
        """Whatever is still buffered stays in the spool, for another handler to find."""
        self._left.inc(self.buffered)
        self._release(self.buffered)

    def retry(self) -> None:
        """A batch has to be sent again."""
        self._retries.inc()

    def _hold(self, count: int) -> None:
        self.buffered += count
        self._gauge.inc(count)

    def _release(self, count: int) -> None:
        self.buffered -= count
        self.settled += count
        self._gauge.dec(count)
