"""The handler of memquota: picks limit and counter, and takes or gives back units. Source: spec adapters 4.6."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final

from mixer.adapters.base import Clock, Handler, QuotaArgs, QuotaResult
from mixer.adapters.memquota.dedup import DedupMemory, Outcome
from mixer.adapters.memquota.params import Limit, MemQuotaParams, Quota
from mixer.adapters.windows import TICK_NS, WindowTable
from mixer.api.answer import QuotaLevel
from mixer.attributes import AttributeValue, Duration
from mixer.errors import UnknownQuotaError
from mixer.templates.quota import QuotaInstance

_NOTHING: Final = QuotaResult()
_SWEEP_AT_ONCE: Final = 1_000
_NEVER: Final = Duration(0)


class MemQuotaHandler(Handler):
    """Counters in memory.

    The status of an answer is always OK; a refusal is an amount of 0. Time is the monotonic clock's, so
    steps of the wall clock neither free units nor hold them. Everything happens between two awaits of the
    event loop, hence there is no lock.

    What it holds: `WindowTable` says what a rate limit costs for each counter that has units out, an
    allocation about 200 bytes for each counter with units out, a remembered answer as much for at
    most two deduplication periods.
    """

    def __init__(self, params: MemQuotaParams, clock: Clock) -> None:
        self._clock = clock
        self._quotas: Mapping[str, Quota] = {quota.name: quota for quota in params.quotas}
        self._dedup = DedupMemory(params.min_deduplication_duration, now_ns=self._now_ns())
        self._cells: dict[Hashable, int] = {}
        # Limits are told apart by identity: overrides of different quotas may be equal.
        self._windows = {
            id(limit): WindowTable(limit.max_amount, limit.valid_duration)
            for quota in self._quotas.values()
            for limit in quota.limits
            if limit.valid_duration
        }

    def handle_quota(self, instance: QuotaInstance, args: QuotaArgs, /) -> QuotaResult:
        """Take units, or give them back when the amount is negative.

        Raises:
            UnknownQuotaError: The params have no limit for the instance; validation does not let that happen.
        """
        quota = self._quotas.get(instance.name)
        if quota is None:
            raise UnknownQuotaError(f"did not find limit defined for quota {instance.name}")
        if args.amount == 0:
            return _NOTHING
        now_ns = self._now_ns()
        if self._dedup.turn(now_ns):
            for table in self._windows.values():
                table.sweep(now_ns // TICK_NS, at_most=_SWEEP_AT_ONCE)
        # The original takes all requests without an id for retries of each other.
        outcome = self._dedup.find(args.dedup_id) if args.dedup_id else None
        limit = quota.limit_for(instance.dimensions)
        key = counter_key(instance)
        if outcome is None:
            outcome = self._alloc(limit, key, args, now_ns) if args.amount > 0 else self._free(limit, key, args, now_ns)
            if args.dedup_id:
                self._dedup.remember(args.dedup_id, outcome)
        return QuotaResult(
            outcome.amount, Duration(outcome.remaining_ns(now_ns)), level=self._level(limit, key, now_ns)
        )

    def _alloc(self, limit: Limit, key: Hashable, args: QuotaArgs, now_ns: int) -> Outcome:
        if limit.valid_duration:
            table = self._windows[id(limit)]
            granted = table.alloc(key, args.amount, best_effort=args.best_effort, tick=now_ns // TICK_NS)
            refused = not granted and not args.best_effort
            return Outcome(0) if refused else Outcome(granted, now_ns + limit.valid_duration)
        used = self._cells.get(key, 0)
        available = max(0, limit.max_amount - used)
        granted = args.amount if args.amount <= available else available if args.best_effort else 0
        if granted:
            self._cells[key] = used + granted
        return Outcome(granted)

    def _free(self, limit: Limit, key: Hashable, args: QuotaArgs, now_ns: int) -> Outcome:
        amount = -args.amount
        if limit.valid_duration:
            return Outcome(self._windows[id(limit)].release(key, amount, tick=now_ns // TICK_NS))
        used = self._cells.pop(key, 0)
        if used > amount:
            self._cells[key] = used - amount
        return Outcome(min(used, amount))

    def _level(self, limit: Limit, key: Hashable, now_ns: int) -> QuotaLevel:
        if not limit.valid_duration:
            return QuotaLevel(limit.max_amount, max(0, limit.max_amount - self._cells.get(key, 0)), _NEVER, _NEVER)
        table = self._windows[id(limit)]
        available, reset_ticks = table.level(key, now_ns // TICK_NS)
        return QuotaLevel(limit.max_amount, available, Duration(reset_ticks * TICK_NS), table.length)

    def _now_ns(self) -> int:
        return round(self._clock.monotonic() * 1e9)

    @property
    def counters(self) -> int:
        """How many counters are held, for rates and allocations together."""
        return len(self._cells) + sum(len(table) for table in self._windows.values())


def counter_key(instance: QuotaInstance) -> Hashable:
    """The identity of the instance's counter: its name and its dimensions, in the order of their names.

    Texts stand for themselves and other values beside their type, so that 1, True and "1" are different.
    The override that applies is not part of it: it follows from the dimensions.
    """
    key: list[Hashable] = [instance.name]
    for name, value in sorted(instance.dimensions.items()):
        key += (name, value if type(value) is str else _typed(value))
    return tuple(key)


def _typed(value: AttributeValue) -> Hashable:
    if isinstance(value, Mapping):
        return "map", tuple(sorted(value.items()))
    if isinstance(value, float):
        return "float", repr(value)  # as text, a NaN equals itself
    return type(value).__name__, value
