"""The check cache: decisions by what they depended on, for as long and as often as the server allows.

No I/O and no clock of its own; times are seconds of any monotonic clock.

Source: spec proxy 6.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from mixer.api.answer import CheckAnswer
from mixer.attributes import AttributeBag
from proxy.client.shapes import ShapeList, Signature
from proxy.policy import Verdict

CAPACITY: Final = 10_000
SHAPES: Final = 256


class Entry:
    """A decision: as a verdict from the cache, until ``expiry``, so many more times (negative: any number)."""

    __slots__ = ("expiry", "uses", "verdict")

    def __init__(self, verdict: Verdict, expiry: float | None, uses: int) -> None:
        self.verdict = verdict
        self.expiry = expiry
        self.uses = uses


class CheckCache:
    """Least recently used decisions make room for new ones.

    Args:
        capacity: Decisions; 0 switches the cache off.
        shapes: Sets of referenced attributes, see `ShapeList`.
    """

    __slots__ = ("_capacity", "_entries", "_shapes", "rejected")

    def __init__(self, capacity: int = CAPACITY, shapes: int = SHAPES) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Signature, Entry] = OrderedDict()
        self._shapes = ShapeList(shapes)
        self.rejected = 0
        """Answers that could have been kept but for references that do not fit the request's own bag."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def shapes(self) -> int:
        """Shapes kept."""
        return len(self._shapes)

    def find(self, bag: AttributeBag, now: float) -> tuple[Verdict | None, tuple[Signature, ...]]:
        """The decision on a bag, which counts as a use, or None.

        Returns:
            The decision, and when there is none the signatures that the bag has: requests that share them all (and
            have any) will most likely get one answer.
        """
        entries = self._entries
        missed: list[Signature] = []
        for place, shape in enumerate(self._shapes.shapes):
            signature = shape.signature(bag)
            if signature is None:
                continue
            entry = entries.get(signature)
            if entry is None:
                missed.append(signature)
                continue
            if entry.uses == 0 or (entry.expiry is not None and now > entry.expiry):
                del entries[signature]
                missed.append(signature)
                continue
            if entry.uses > 0:
                entry.uses -= 1
            entries.move_to_end(signature)
            if place:
                self._shapes.useful(place)
            return entry.verdict, ()
        return None, tuple(missed)

    def store(self, bag: AttributeBag, answer: CheckAnswer, now: float) -> bool:
        """Keep the answer to a bag, a denial too, if the server lets it be reused; answers whether it was kept.

        The request that the answer was for is not counted as a use.
        """
        duration = answer.valid_duration
        if not self._capacity or answer.referenced is None or answer.valid_use_count == 0:
            return False
        if duration is not None and duration <= 0:
            return False
        signature = self._shapes.learn(answer.referenced, bag)
        if signature is None:
            self.rejected += 1
            return False
        verdict = Verdict(answer.code, answer.message, answer.directive, check_cache_hit=True)
        expiry = None if duration is None else now + duration.seconds
        self._entries[signature] = Entry(verdict, expiry, answer.valid_use_count)
        self._entries.move_to_end(signature)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return True
