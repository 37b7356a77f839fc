"""How checks ended, as metrics of Mixer itself: each check counts once."""

from __future__ import annotations

import enum
from typing import Final, cast

from prometheus_client import Counter, Gauge, Histogram

from mixer.adapters.base import Env


class Outcome(enum.StrEnum):
    """What a policy came to, whatever became of the request."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNDEFINED = "undefined"
    """No result, several, or no boolean."""
    FAILED = "failed"
    """The evaluation failed, or the agent gave no answer."""
    MISCONFIGURED = "misconfigured"
    """``failClose``, and policies that do not compile."""


class OpaMetrics:
    """The metrics of all handlers of the adapter; one object for each process."""

    def __init__(self, env: Env) -> None:
        self.checks = Counter(
            "mixer_opa_checks", "Checks by what the policy came to.", ("handler", "outcome"), registry=env.metrics
        )
        self.seconds = Histogram(
            "mixer_opa_decision_seconds",
            "Time that a decision took; in this process the event loop waits that long.",
            ("handler",),
            buckets=(0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0),
            registry=env.metrics,
        )
        self.spared = Gauge(
            "mixer_opa_agent_spared", "1 while an agent that fails is not asked.", ("handler",), registry=env.metrics
        )

    @classmethod
    def of(cls, env: Env) -> OpaMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(env)
        return cast(OpaMetrics, env.shared[_KEY])


_KEY: Final = "metrics"
