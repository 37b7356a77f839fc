"""The books of a handler: what became of every instance, exactly, as metrics of Mixer itself.

For each handler, at any time::

    accepted = unsampled + sent + dropped + buffered

*Sent* is what the system took; nobody hears whether a datagram arrives. What the host of the server says against it
(that nothing listens there) is counted as refusals.
"""

from __future__ import annotations

import enum
from typing import Final, cast

from prometheus_client import Counter, Gauge

from mixer.adapters.base import Env


class Drop(enum.StrEnum):
    """Why an instance was lost."""

    UNKNOWN_METRIC = "unknown_metric"
    BAD_VALUE = "bad_value"
    TOO_LARGE = "too_large"
    """Its line fits no datagram."""
    BUFFER_FULL = "buffer_full"
    """The server could not be reached, or took nothing, for too long."""
    CLOSED = "closed"


class StatsdMetrics:
    """The metrics of all handlers of an adapter; one object for each process."""

    def __init__(self, adapter: str, env: Env) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mixer_{adapter}_{name}", text, ("handler", *labels), registry=env.metrics)

        self.accepted = counter("instances_accepted", "Instances that the handler was given.")
        self.unsampled = counter("instances_unsampled", "Instances that chance left out.")
        self.sent = counter("instances_sent", "Instances in datagrams that the system took.")
        self.dropped = counter("instances_dropped", "Instances lost.", "reason")
        self.datagrams = counter("datagrams_sent", "Datagrams that the system took.")
        self.refusals = counter(
            "datagrams_refused", "Datagrams of which the server's host said that nothing takes them."
        )
        self.buffered = Gauge(
            f"mixer_{adapter}_instances_buffered", "Instances that wait.", ("handler",), registry=env.metrics
        )

    @classmethod
    def of(cls, adapter: str, env: Env) -> StatsdMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(adapter, env)
        return cast(StatsdMetrics, env.shared[_KEY])


_KEY: Final = "metrics"


class Ledger:
    """One handler's books."""

    def __init__(self, metrics: StatsdMetrics, handler: str) -> None:
        self._metrics, self._handler = metrics, handler
        self._accepted = metrics.accepted.labels(handler)
        self._unsampled = metrics.unsampled.labels(handler)
        self._sent = metrics.sent.labels(handler)
        self._datagrams = metrics.datagrams.labels(handler)
        self._refusals = metrics.refusals.labels(handler)
        self._buffered = metrics.buffered.labels(handler)

    def accept(self, count: int) -> None:
        """Instances arrive; one of the others says what became of them."""
        self._accepted.inc(count)
        self._buffered.inc(count)

    def leave_out(self) -> None:
        """Chance left an instance out."""
        self._unsampled.inc()
        self._buffered.dec()

    def send(self, count: int) -> None:
        """The system took a datagram of so many instances."""
        self._datagrams.inc()
        self._sent.inc(count)
        self._buffered.dec(count)

    def refuse(self) -> None:
        """An earlier datagram found nobody."""
        self._refusals.inc()

    def drop(self, reason: Drop, count: int = 1) -> None:
        """Instances are lost."""
        if count:
            self._metrics.dropped.labels(self._handler, reason.value).inc(count)
            self._buffered.dec(count)
