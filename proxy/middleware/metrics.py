"""What middleware and interceptors count: verdicts, and parts of directives that could not be carried out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from proxy.policy import Verdict

ALLOWED, DENIED, DIRECT, UNCHECKED = "allowed", "denied", "direct", "unchecked"


class MiddlewareMetrics:
    """Counters of one process; give several middlewares the same.

    Args:
        registry: Where they are scraped; a registry of their own when there is none.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry: Final = registry or CollectorRegistry()
        self.answers: Final = Counter(
            "mixer_middleware_answers",
            "Verdicts on requests; by_policy: true when Mixer decided, false when the fail policy did.",
            ("protocol", "outcome", "by_policy"),
            registry=self.registry,
        )
        self.left_out: Final = Counter(
            "mixer_middleware_left_out",
            "Header operations of directives that could not be carried out.",
            ("protocol", "reason"),
            registry=self.registry,
        )


class ProtocolCounter:
    """Counts for one protocol; the labels are looked up once."""

    __slots__ = ("_answers", "_left_out", "_protocol")

    def __init__(self, metrics: MiddlewareMetrics, protocol: str) -> None:
        self._protocol = protocol
        self._left_out = metrics.left_out
        self._answers = {
            (outcome, failed): metrics.answers.labels(protocol, outcome, "false" if failed else "true")
            for outcome in (ALLOWED, DENIED, DIRECT, UNCHECKED)
            for failed in (False, True)
        }

    def count(self, verdict: Verdict) -> None:
        """Count a verdict."""
        directive = verdict.directive
        if directive is not None and directive.direct_response_code:
            outcome = DIRECT
        elif not verdict.ok:
            outcome = DENIED
        else:
            outcome = ALLOWED if verdict.checked else UNCHECKED
        self._answers[outcome, verdict.failed].inc()

    def refused(self, reasons: Iterable[str]) -> None:
        """Count operations that could not be carried out."""
        for reason in reasons:
            self._left_out.labels(self._protocol, reason).inc()
