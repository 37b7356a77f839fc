"""What every configuration store offers: its present contents, and word of each change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from mixer.store.problem import Problem
from mixer.store.resource import Resource, ResourceKey


@dataclass(frozen=True, slots=True)
class StoreContents:
    """Everything a store holds at one moment, and what it could not read.

    Resources stand in the order of their declaration: files in path order, documents as they follow.
    A document that was readable once and no longer is stays in with its last readable version.
    """

    resources: Mapping[ResourceKey, Resource]
    problems: tuple[Problem, ...] = ()


class Store(Protocol):
    """A source of resources. Whole contents are given, not single events: a snapshot is built from all of it."""

    async def load(self) -> StoreContents:
        """Read everything.

        Raises:
            StoreUnavailableError: The store cannot be reached, or its root does not exist.
        """
        ...

    def watch(self) -> AsyncIterator[StoreContents]:
        """The contents after each change, after `load`; a store that is away for a while keeps silent.

        Cancelling the iteration ends the watch.
        """
        ...
