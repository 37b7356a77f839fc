"""The books of a handler: what became of every decision, as metrics of Mixer itself, and complaints that do not flood the log."""

from __future__ import annotations

import enum
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry, Counter, Gauge

from mixer.adapters.base import Env

_QUIET_S: Final = 10.0


class Outcome(enum.StrEnum):
    """What Redis decided."""

    GRANTED = "granted"
    PARTIAL = "partial"
    REFUSED = "refused"
    RELEASED = "released"
    REPEATED = "repeated"


class Reason(enum.StrEnum):
    """Why Redis did not decide."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    CIRCUIT_OPEN = "circuit_open"
    OUT_OF_MEMORY = "out_of_memory"
    ACCESS = "access"
    SERVER_ERROR = "server_error"
    OVERLOAD = "overload"
    MALFORMED = "malformed"
    CLOSED = "closed"


class RedisQuotaMetrics:
    """The metrics of all handlers of the adapter; one object for each process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mixer_redisquota_{name}", text, ("handler", *labels), registry=registry)

        self.decisions = counter("decisions", "Decisions that Redis made.", "outcome")
        self.failures = counter("failures", "Decisions that Redis did not make.", "reason")
        self.batches = counter("batches", "Round trips to Redis; each carries all decisions that wait.")
        self.reachable = Gauge(
            "mixer_redisquota_reachable",
            "1 while Redis is asked, 0 while the failure policy decides without asking.",
            ("handler",),
            registry=registry,
        )

    @classmethod
    def of(cls, env: Env) -> RedisQuotaMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(env.metrics)
        return cast(RedisQuotaMetrics, env.shared[_KEY])


_KEY: Final = "metrics"


class Ledger:
    """One handler's books."""

    def __init__(self, env: Env) -> None:
        metrics = RedisQuotaMetrics.of(env)
        self._log, self._clock = env.log, env.clock
        self._outcomes = {outcome: metrics.decisions.labels(env.handler, outcome.value) for outcome in Outcome}
        self._failures = {reason: metrics.failures.labels(env.handler, reason.value) for reason in Reason}
        self._batches = metrics.batches.labels(env.handler)
        self._reachable = metrics.reachable.labels(env.handler)
        self._reachable.set(1)
        self._complained: dict[Reason, float] = {}

    def decided(self, outcome: Outcome) -> None:
        """Redis decided."""
        self._outcomes[outcome].inc()

    def failed(self, reason: Reason) -> None:
        """Redis did not decide."""
        self._failures[reason].inc()

    def batch(self) -> None:
        """A round trip begins."""
        self._batches.inc()

    def reachable(self, yes: bool) -> None:
        """Redis is asked again, or no more."""
        self._reachable.set(yes)
        if yes:
            self._log.info("redis_is_back")
        else:
            self._log.warning("redis_is_away")

    def complain(self, reason: Reason, event: str, **what: Any) -> None:
        """Log, unless that was done for the same reason a moment ago; the counters have every case."""
        now = self._clock.monotonic()
        if now >= self._complained.get(reason, now):
            self._complained[reason] = now + _QUIET_S
            self._log.error(event, reason=reason.value, **what)
