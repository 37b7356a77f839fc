"""The books of a handler: what became of every instance, exactly, as metrics of Mixer itself.

For each handler, at any time::

    accepted = skipped + delivered + dropped + buffered
"""

from __future__ import annotations

import enum
from typing import Final, cast

from prometheus_client import Counter, Gauge

from mixer.adapters.base import Env


class Skip(enum.StrEnum):
    """Why an instance was left out on purpose."""

    UNTRACED = "untraced"
    """The request carries no trace."""
    UNSAMPLED = "unsampled"


class Drop(enum.StrEnum):
    """Why a span was lost."""

    BAD_ID = "bad_id"
    """Ids that are no hexadecimal, too long, or zero."""
    BAD_TIME = "bad_time"
    """No start, an end before the start, or times outside 1970 to 2262."""
    UNENCODABLE = "unencodable"
    BUFFER_FULL = "buffer_full"
    REJECTED = "rejected"
    """The receiver refused it for good."""
    GAVE_UP = "gave_up"
    """The receiver did not take it within the time for retries."""
    FAILED = "failed"
    """A fault of Mixer's own; the log has the traceback."""
    CLOSED = "closed"


class SpanMetrics:
    """The metrics of all handlers of an adapter; one object for each process."""

    def __init__(self, adapter: str, env: Env) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mixer_{adapter}_{name}", text, ("handler", *labels), registry=env.metrics)

        self.accepted = counter("spans_accepted", "Instances that the handler was given.")
        self.skipped = counter("spans_skipped", "Instances left out on purpose.", "reason")
        self.delivered = counter("spans_delivered", "Spans that the receiver took.")
        self.dropped = counter("spans_dropped", "Spans lost.", "reason")
        self.retries = counter("retries", "Batches that had to be sent again.")
        self.buffered = Gauge(
            f"mixer_{adapter}_spans_buffered", "Spans that wait or are under way.", ("handler",), registry=env.metrics
        )

    @classmethod
    def of(cls, adapter: str, env: Env) -> SpanMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(adapter, env)
        return cast(SpanMetrics, env.shared[_KEY])


_KEY: Final = "metrics"


class Ledger:
    """One handler's books.

    Attributes:
        buffered: Spans that are accepted, and nothing else yet.
    """

    def __init__(self, metrics: SpanMetrics, handler: str) -> None:
        self._metrics, self._handler = metrics, handler
        self._accepted = metrics.accepted.labels(handler)
        self._delivered = metrics.delivered.labels(handler)
        self._retries = metrics.retries.labels(handler)
        self._gauge = metrics.buffered.labels(handler)
        self._skipped = {reason: metrics.skipped.labels(handler, reason.value) for reason in Skip}
        self.buffered = 0

    def accept(self, count: int) -> None:
        """Instances arrive; they count as buffered until one of the others says what became of them."""
        self._accepted.inc(count)
        self.buffered += count
        self._gauge.inc(count)

    def skip(self, reason: Skip) -> None:
        """An instance is left out on purpose."""
        self._skipped[reason].inc()
        self._release(1)

    def deliver(self, count: int) -> None:
        """The receiver has taken spans, as far as it tells."""
        self._delivered.inc(count)
        self._release(count)

    def drop(self, reason: Drop, count: int = 1) -> None:
        """Spans are lost."""
        if count:
            self._metrics.dropped.labels(self._handler, reason.value).inc(count)
            self._release(count)

    def retry(self) -> None:
        """A batch has to be sent again."""
        self._retries.inc()

    def _release(self, count: int) -> None:
        self.buffered -= count
        self._gauge.dec(count)
