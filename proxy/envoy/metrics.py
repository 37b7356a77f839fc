"""Metrics of Envoy's policy calls: what was answered, and what was left out on the way."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from mixer import tallies
from proxy.policy import Verdict

ALLOWED, DENIED, DIRECT = "allowed", "denied", "direct"
OUTCOMES: Final = (ALLOWED, DENIED, DIRECT)


class PolicyMetrics:
    """What the authorization and rate limit services count."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.answers = tallies.Counter(
            "mixer_envoy_answers",
            "Verdicts given to Envoy; by_policy: true when Mixer decided, false when the fail policy did.",
            ("service", "outcome", "by_policy"),
            registry=self.registry,
        )
        self.left_out = Counter(
            "mixer_envoy_left_out",
            "Parts of questions and answers that could not be used or sent: context extensions and descriptor "
            "entries that are no attributes, header operations that no header allows, attributes too large to keep.",
            ("service", "reason"),
            registry=self.registry,
        )
        self.bad_requests = Counter(
            "mixer_envoy_bad_requests",
            "Requests of the HTTP form that could not be understood.",
            ("reason",),
            registry=self.registry,
        )


class AnswerCounter:
    """Counts one service's verdicts; the labels are looked up once."""

    __slots__ = ("_counters",)

    def __init__(self, metrics: PolicyMetrics, service: str) -> None:
        self._counters = {
            (outcome, failed): metrics.answers.labels(service, outcome, "false" if failed else "true")
            for outcome in OUTCOMES
            for failed in (False, True)
        }

    def count(self, verdict: Verdict) -> None:
        """Count a verdict."""
        directive = verdict.directive
        direct = directive is not None and directive.direct_response_code
        outcome = DIRECT if direct else DENIED if verdict.code else ALLOWED
        self._counters[outcome, verdict.failed].inc()
