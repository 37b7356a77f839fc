"""Chunks: what is sent, acknowledged and sent again as a whole. Source: Fluentd's Forward protocol v1.

A batch is a run of entries in the order of their arrival; each tag in it makes one chunk. A chunk's id follows
from its place in the queue alone, so the same chunk has the same id however often it is sent, also by a process
that finds it in a spool.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgpack  # type: ignore[import-untyped]

from mixer.adapters.fluentd.entries import Entry
from mixer.adapters.fluentd.ledger import Reason


@dataclass(slots=True)
class Chunk:
    """The entries of one tag in one batch, packed one after the other."""

    tag: str
    id: str
    body: bytes
    count: int

    def message(self, *, ask_ack: bool) -> bytes:
        """The bytes to send: a PackedForward message; an ``ack`` is asked by naming the chunk."""
        option: dict[str, object] = {"size": self.count}
        if ask_ack:
            option["chunk"] = self.id
        packed: bytes = msgpack.packb((self.tag, self.body, option), unicode_errors="replace")
        return packed


@dataclass(slots=True)
class Batch:
    """Entries that are sent together.

    Attributes:
        last: The number of its last entry.
        count: How many entries it had from the start.
        pending: The chunks that are not delivered yet.
    """

    last: int
    count: int
    pending: list[Chunk]


def cut(entries: Iterable[tuple[int, Entry]], *, origin: str) -> Batch:
    """A batch of numbered entries, at least one.

    Args:
        entries: In the order of their numbers, which need not be dense.
        origin: Names the queue among all queues there ever were.
    """
    by_tag: dict[str, list[tuple[int, bytes]]] = {}
    last, count = -1, 0
    for last, entry in entries:
        by_tag.setdefault(entry.tag, []).append((last, entry.data))
        count += 1
    return Batch(last, count, [_chunk(tag, numbered, origin) for tag, numbered in by_tag.items()])


def _chunk(tag: str, numbered: list[tuple[int, bytes]], origin: str) -> Chunk:
    place = f"{origin}:{numbered[0][0]}:{numbered[-1][0]}:{len(numbered)}:{tag}"
    digest = hashlib.blake2b(place.encode(errors="replace"), digest_size=16).digest()
    return Chunk(tag, base64.b64encode(digest).decode(), b"".join([data for _, data in numbered]), len(numbered))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Entries that a queue did not take."""

    reason: Reason
    count: int
    message: str


class EntryQueue(Protocol):
    """Where entries wait until they are delivered; in order, one batch under way at a time."""

    @property
    def ripe(self) -> bool:
        """Whether there is enough to send without waiting for the interval."""
        ...

    def prepare(self) -> None:
        """A round of sending starts: the time to see to what is not urgent."""
        ...

    def extend(self, entries: list[Entry], /) -> Refusal | None:
        """Take entries at the end; never waits. What does not fit is refused, the rest is taken."""
        ...

    def next_batch(self) -> Batch | None:
        """The batch at the front, the same one until it is finished; None when nothing waits.

        Raises:
            OSError: It cannot be read for now.
        """
        ...

    def finish(self, batch: Batch, /) -> None:
        """The batch at the front is delivered."""
        ...

    async def aclose(self) -> None:
        """Free what is held; a queue that outlives the process keeps its entries."""
        ...
