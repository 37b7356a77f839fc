"""One configuration for all: the owner reads and judges it, workers build the same snapshot from what it sends.

What a snapshot is depends on the contents of the store and on the last good versions of what is broken in it.
Both are sent, under the owner's revision number, so a worker that starts late knows what the others know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from mixer.rules.build import SnapshotBuilder
from mixer.rules.snapshot import Snapshot
from mixer.store import Resource, ResourceKey, StoreContents


@dataclass(frozen=True, slots=True)
class SentContents(StoreContents):
    """A store's contents with what else a builder needs to come to the same snapshot."""

    revision: int = 0
    good: Mapping[ResourceKey, Resource] = field(default_factory=dict)


class SharedBuilder(SnapshotBuilder):
    """A builder whose snapshots another process can build again."""

    def build(self, contents: StoreContents) -> Snapshot:
        """Build, as the sender did when the contents were sent."""
        if isinstance(contents, SentContents):
            self._good, self._revision = contents.good, contents.revision - 1
        return super().build(contents)

    def to_send(self, contents: StoreContents) -> SentContents:
        """The contents that were built last, ready to send."""
        return SentContents(dict(contents.resources), contents.problems, self._revision, dict(self._good))


class SentStore:
    """A worker's `Store`: what the owner sends; of several waiting contents only the newest counts."""

    def __init__(self) -> None:
        self._newest: StoreContents | None = None
        self._arrived = asyncio.Event()

    def put(self, contents: StoreContents) -> None:
        """Take what the owner sent."""
        self._newest = contents
        self._arrived.set()

    async def load(self) -> StoreContents:
        """The first contents."""
        return await self._take()

    async def watch(self) -> AsyncIterator[StoreContents]:
        """The contents after those."""
        while True:
            yield await self._take()

    async def _take(self) -> StoreContents:
        await self._arrived.wait()
        self._arrived.clear()
        assert self._newest is not None
        return self._newest
