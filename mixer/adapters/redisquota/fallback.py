"""Decisions without Redis, as the failure policy says. Source: spec adapters 4.7, result mapping."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from mixer.adapters.base import Clock, QuotaArgs, QuotaResult, Status
from mixer.adapters.redisquota.limits import Limit
from mixer.adapters.redisquota.params import FailurePolicy
from mixer.adapters.windows import TICK_NS, WindowTable
from mixer.api.answer import QuotaLevel
from mixer.api.codes import Code
from mixer.attributes import Duration

EXHAUSTED: Final = Status(Code.RESOURCE_EXHAUSTED, "redisquota: Resource exhausted")
UNAVAILABLE: Final = QuotaResult(status=Status(Code.UNAVAILABLE, "redisquota: Service Unavailable"))
CLOSED: Final = QuotaResult(
    status=Status(Code.RESOURCE_EXHAUSTED, "redisquota: refused, because Redis gives no answer")
)
_OPEN_FOR: Final = Duration.parse("1s")


class Fallback:
    """Decides while Redis does not.

    LOCAL counts in memory, whatever the algorithm in a rolling window: each process grants up to the limit by itself,
    without knowledge of what Redis counted. `WindowTable` says what that costs; it empties itself as windows pass.
    """

    def __init__(self, policy: FailurePolicy, clock: Clock) -> None:
        self._policy, self._clock = policy, clock
        self._tables: dict[int, WindowTable] = {}

    def decide(self, limit: Limit, key: Hashable, args: QuotaArgs) -> QuotaResult:
        """An answer by the policy."""
        if self._policy is FailurePolicy.UNAVAILABLE:
            return UNAVAILABLE
        if self._policy is FailurePolicy.CLOSED:
            return QuotaResult() if args.amount < 0 else CLOSED
        if self._policy is FailurePolicy.OPEN:
            return QuotaResult(args.amount, min(limit.window, _OPEN_FOR)) if args.amount > 0 else QuotaResult()
        table = self._tables.get(id(limit))
        if table is None:
            table = self._tables[id(limit)] = WindowTable(limit.max_amount, limit.window)
        tick = round(self._clock.monotonic() * 1e9) // TICK_NS
        if args.amount < 0:
            return QuotaResult(table.release(key, -args.amount, tick=tick))
        granted = table.alloc(key, args.amount, best_effort=args.best_effort, tick=tick)
        if granted:
            return QuotaResult(granted, limit.window)
        return QuotaResult(status=EXHAUSTED, level=QuotaLevel(limit.max_amount, 0, limit.window, limit.level_window))
