"""The two calls that the proxy side makes to a Mixer, whether that is far away or in the same process."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from mixer.api.answer import CheckAnswer
from mixer.attributes import AttributeBag
from mixer.errors import MixerCallError as MixerCallError


@dataclass(frozen=True, slots=True)
class QuotaDemand:
    """How much of a quota is wanted; negative gives back. ``best_effort``: less is welcome too."""

    amount: int
    best_effort: bool = False


NO_DEMANDS: Final[Mapping[str, QuotaDemand]] = MappingProxyType({})


class CheckCall(NamedTuple):
    """What one Check asks.

    Attributes:
        bag: The attributes of the request, as they are at check time.
        quotas: What to take if the request may pass, by quota name.
        deduplication_id: The same for each attempt of one call.
        quotas_only: Only the quotas are asked for; no check rule has a say.
        timeout_s: The answer is worth nothing after so many seconds; None leaves it to the callee.
        references: Whether it is of use to know what the answer depends on; a callee may tell all the same.
    """

    bag: AttributeBag
    quotas: Mapping[str, QuotaDemand] = NO_DEMANDS
    deduplication_id: str = ""
    quotas_only: bool = False
    timeout_s: float | None = None
    references: bool = True


class Mixer(Protocol):
    """A Mixer, as the proxy side sees it."""

    def check(self, call: CheckCall) -> CheckAnswer | Awaitable[CheckAnswer]:
        """Decide on a request; an awaitable, as coroutine functions give, is awaited before the loop turns.

        Raises:
            MixerCallError: There is no decision; the caller's fail policy applies.
        """
        ...

    async def report(self, records: Sequence[AttributeBag]) -> None:
        """Take records of requests that are over, in the order of their ends.

        Raises:
            MixerCallError: Some were not taken, or it is not known whether they were.
        """
        ...
