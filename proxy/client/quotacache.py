"""The quota cache: prefetch pools by quota and by what the server's answers depended on.

Until an answer has said on what it depends, all requests of a quota share one *pending* pool; the first answer that can
be used as a key moves that pool to the requests with its signature.

No I/O and no clock of its own; times are seconds of any monotonic clock.

Source: spec proxy 8.2 and 8.4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from mixer.api.answer import QuotaAnswer
from mixer.api.codes import Code
from mixer.attributes import AttributeBag, Duration
from proxy.client.pool import FAILED, PROVISIONAL_S, Grant, Prefetch, PrefetchPool
from proxy.client.shapes import ShapeList, Signature

CAPACITY: Final = 10_000
SHAPES: Final = 64
IDLE_S: Final = 600.0

_Key: TypeAlias = tuple[str, Signature]


class Want(NamedTuple):
    """A pool's wish, to be sent with best effort and brought back by `QuotaCache.answer`."""

    quota: str
    pool: PrefetchPool
    prefetch: Prefetch


class Asked(NamedTuple):
    """What the pools said: the quotas that refuse, in order, and what to fetch."""

    refused: tuple[str, ...]
    wants: tuple[Want, ...]


class _Quota:
    __slots__ = ("pending", "pending_used", "shapes")

    def __init__(self, shapes: int) -> None:
        self.shapes = ShapeList(shapes)
        self.pending: PrefetchPool | None = None
        self.pending_used = 0.0


class _Held:
    __slots__ = ("pool", "used")

    def __init__(self, pool: PrefetchPool, used: float) -> None:
        self.pool = pool
        self.used = used


class QuotaCache:
    """Pools for the quotas of one client; those unused for ``idle_s``, or least recently used, are dropped."""

    __slots__ = ("_capacity", "_idle_s", "_pools", "_quotas", "_shape_bound")

    def __init__(self, capacity: int = CAPACITY, *, idle_s: float = IDLE_S, shapes: int = SHAPES) -> None:
        self._capacity = capacity
        self._idle_s = idle_s
        self._shape_bound = shapes
        self._quotas: dict[str, _Quota] = {}
        self._pools: OrderedDict[Hashable, _Held] = OrderedDict()

    def __len__(self) -> int:
        return sum(1 for _ in self.pools())

    @property
    def shapes(self) -> int:
        """Shapes kept, of all quotas."""
        return sum(len(quota.shapes) for quota in self._quotas.values())

    def pools(self) -> Iterator[PrefetchPool]:
        """All pools, pending ones included."""
        for held in self._pools.values():
            yield held.pool
        for quota in self._quotas.values():
            if quota.pending is not None:
                yield quota.pending

    def ask(self, amounts: Mapping[str, int], bag: AttributeBag, now: float) -> Asked:
        """Take from the pool of each quota. When any refuses, what the others gave is returned to them."""
        self._drop_idle(now)
        refused: list[str] = []
        wants: list[Want] = []
        taken: list[tuple[PrefetchPool, list[tuple[Grant, int]]]] = []
        for name, amount in amounts.items():
            pool = self._pool(name, bag, now)
            tokens, prefetch = pool.check(amount, now)
            if tokens is None:
                refused.append(name)
            else:
                taken.append((pool, tokens))
            if prefetch is not None:
                wants.append(Want(name, pool, prefetch))
        if refused:
            for pool, tokens in reversed(taken):
                pool.give_back(tokens)
        return Asked(tuple(refused), tuple(wants))

    def answer(self, want: Want, bag: AttributeBag, answer: QuotaAnswer | None, now: float) -> None:
        """Bring the answer to a want; None when there was none, or it could not be fetched."""
        name, pool, prefetch = want
        if answer is None or answer.code == Code.UNAVAILABLE:
            pool.answer(prefetch, FAILED, PROVISIONAL_S, now)
            return
        pool.answer(prefetch, max(0, answer.granted), _valid_s(answer.valid_duration), now)
        quota = self._quotas.get(name)
        if quota is None or quota.pending is not pool or answer.referenced is None:
            return
        signature = quota.shapes.learn(answer.referenced, bag)
        if signature is None or (name, signature) in self._pools:
            return
        quota.pending = None
        self._pools[name, signature] = _Held(pool, now)
        if len(self._pools) > self._capacity:
            self._pools.popitem(last=False)

    def _pool(self, name: str, bag: AttributeBag, now: float) -> PrefetchPool:
        quota = self._quotas.get(name)
        if quota is None:
            quota = self._quotas[name] = _Quota(self._shape_bound)
        for place, shape in enumerate(quota.shapes.shapes):
            signature = shape.signature(bag)
            held = None if signature is None else self._pools.get((name, signature))
            if held is not None:
                self._pools.move_to_end((name, signature))
                held.used = now
                quota.shapes.useful(place)
                return held.pool
        if quota.pending is None:
            quota.pending = PrefetchPool()
        quota.pending_used = now
        return quota.pending

    def _drop_idle(self, now: float) -> None:
        while self._pools:
            key, held = next(iter(self._pools.items()))
            if now - held.used <= self._idle_s:
                break
            del self._pools[key]
        if len(self._quotas) > self._capacity:  # names that configurations of the past used
            old = [name for name, quota in self._quotas.items() if now - quota.pending_used > self._idle_s]
            for name in old:
                del self._quotas[name]


def _valid_s(duration: Duration | None) -> float:
    """How long a grant holds: a minute when nothing is said, and for ever when the quota has no window (0)."""
    if duration is None:
        return PROVISIONAL_S
    return duration.seconds if duration > 0 else float("inf")
