"""The queue in memory: bounded in entries and in bytes, gone with the process."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator

from mixer.adapters.fluentd.chunks import Batch, Refusal, cut
from mixer.adapters.fluentd.entries import Entry
from mixer.adapters.fluentd.ledger import Reason
from mixer.adapters.fluentd.params import Limits


class MemoryQueue:
    """Entries under way keep their place until they are finished, so a full buffer is full at any time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._first = 0
        self._origin = uuid.uuid4().hex
        self._batch: Batch | None = None

    @property
    def ripe(self) -> bool:
        """Whether a batch is full, or half of the buffer."""
        limits = self._limits
        return self._bytes >= limits.batch_bytes or 2 * len(self._entries) >= limits.buffer_entries

    def prepare(self) -> None:
        """Nothing needs to be."""

    def extend(self, entries: list[Entry], /) -> Refusal | None:
        """Take what fits; a smaller entry may still fit after a larger one was refused."""
        refused = 0
        for entry in entries:
            full = len(self._entries) >= self._limits.buffer_entries
            if full or self._bytes + entry.size > self._limits.buffer_bytes:
                refused += 1
                continue
            self._entries.append(entry)
            self._bytes += entry.size
        if refused:
            return Refusal(Reason.BUFFER_FULL, refused, "fluentd instance buffer full; dropping log entry")
        return None

    def next_batch(self) -> Batch | None:
        """The batch at the front; at most ``piece_bytes`` long, unless one entry is."""
        if self._batch is None and self._entries:
            self._batch = cut(self._front(), origin=self._origin)
        return self._batch

    def _front(self) -> Iterator[tuple[int, Entry]]:
        size = 0
        for number, entry in enumerate(self._entries, self._first):
            size += entry.size
            if size > self._limits.piece_bytes and number > self._first:
                return
            yield number, entry

    def finish(self, batch: Batch, /) -> None:
        """Make room."""
        while self._first <= batch.last:
            self._bytes -= self._entries.popleft().size
            self._first += 1
        self._batch = None

    async def aclose(self) -> None:
        """Nothing is held but memory."""
