"""The queue on disk: a journal of its own, and those that handlers of the same name left before.

Below ``spoolDirectory`` each handler has a directory, and each life of it a journal there. A new life never waits
for an old one that still flushes: it writes its own journal, and takes over another as soon as its lock is free.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mixer.adapters.base import Env
from mixer.adapters.fluentd.chunks import Batch, Refusal
from mixer.adapters.fluentd.entries import Entry
from mixer.adapters.fluentd.journal import Journal, JournalLimits
from mixer.adapters.fluentd.ledger import Ledger, Reason
from mixer.adapters.fluentd.params import Limits
from mixer.errors import AdapterError

SYNC_INTERVAL_S: Final = 1.0
_MAX_SEGMENT_BYTES: Final = 8 << 20
_SEGMENTS: Final = 8
_RECORD_BYTES: Final = 32
"""More than what a record adds to its entry."""


class SpoolQueue:
    """Bounded by bytes on disk, the files of earlier lives included."""

    def __init__(self, directory: str, limits: Limits, ledger: Ledger, env: Env) -> None:
        """Make the directory and a journal in it.

        Raises:
            AdapterError: That is not possible.
        """
        self._limits, self._ledger, self._clock, self._log = limits, ledger, env.clock, env.log
        self._home = Path(directory) / quote(env.handler, safe="")
        segment_bytes = min(_MAX_SEGMENT_BYTES, limits.spool_bytes // _SEGMENTS)
        self._journal_limits = JournalLimits(limits.piece_bytes, segment_bytes)
        try:
            name = f"{int(env.clock.now()):020d}-{uuid.uuid4().hex}"
            self._own = Journal.create(self._home, name, self._journal_limits, self._lost)
        except OSError as exc:
            raise AdapterError(f"cannot make a spool: {exc}") from exc
        self._adopted: list[Journal] = []
        self._current = self._own
        self._searched = self._closing = False
        self._task: asyncio.Task[None] | None = None

    def _lost(self, count: int) -> None:
        self._ledger.drop(Reason.SPOOL_CORRUPT, count)
        self._log.error("fluentd_spool_damaged", entries=count, outcome="these are lost, the others are sent")

    @property
    def ripe(self) -> bool:
        """Whether a batch is full, or earlier lives may have left something."""
        return not self._searched or bool(self._adopted) or self._own.waiting_bytes >= self._limits.batch_bytes

    def prepare(self) -> None:
        """Take over what earlier lives left."""
        self._searched = True
        if self._adopted:
            return
        try:
            orphans = sorted(path for path in self._home.iterdir() if not path.name.startswith("."))
        except OSError as exc:
            self._log.warning("fluentd_spool_unreadable", error=str(exc))
            return
        for orphan in orphans:
            try:
                journal = Journal.adopt(orphan, self._journal_limits, self._lost)
            except OSError as exc:
                if not isinstance(exc, FileNotFoundError):  # gone meanwhile: its owner had emptied it
                    self._log.warning("fluentd_spool_unreadable", directory=orphan.name, error=str(exc))
                continue
            if journal is None:
                continue
            if journal.waiting:
                self._log.info("fluentd_spool_taken_over", directory=orphan.name, entries=journal.waiting)
                self._ledger.recover(journal.waiting)
                self._adopted.append(journal)
            else:
                journal.close()

    def extend(self, entries: list[Entry], /) -> Refusal | None:
        """Write what fits, before anything else happens; at the disk's mercy only when the cache is full."""
        room = self._limits.spool_bytes - self._own.size - sum(journal.size for journal in self._adopted)
        taken: list[Entry] = []
        for entry in entries:
            size = entry.size + _RECORD_BYTES
            if size <= room:
                room -= size
                taken.append(entry)
        if taken:
            try:
                self._own.append(taken)
            except OSError as exc:
                message = f"fluentd spool cannot be written: {exc}; dropping log entry"
                return Refusal(Reason.SPOOL_FAILED, len(entries), message)
        if refused := len(entries) - len(taken):
            return Refusal(Reason.SPOOL_FULL, refused, "fluentd spool full; dropping log entry")
        return None

    def next_batch(self) -> Batch | None:
        """The batch at the front, the oldest journal first."""
        while self._adopted:
            self._current = self._adopted[0]
            batch = self._current.next_batch()
            if batch is not None:
                return batch
            self._adopted.pop(0).close()
        self._current = self._own
        return self._own.next_batch()

    def finish(self, batch: Batch, /) -> None:
        """Remember it; a journal of an earlier life goes when it is empty."""
        self._current.finish(batch)
        if self._current is not self._own and not self._current.waiting:
            self._adopted.remove(self._current)
            self._current.close()

    async def sync(self) -> None:
        """The background task that brings to disk what was written; a fault costs durability, not entries."""
        self._task = asyncio.current_task()
        while not self._closing:
            await self._clock.sleep(SYNC_INTERVAL_S)
            await self._sync()

    async def _sync(self) -> None:
        descriptors = self._own.take_unsynced()
        if descriptors:
            try:
                await asyncio.to_thread(_sync_and_close, descriptors)
            except OSError as exc:
                self._log.warning("fluentd_spool_not_synced", error=str(exc))

    async def aclose(self) -> None:
        """Sync, and leave everything to the next life."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
        if self._own.waiting:
            await self._sync()
        for journal in (*self._adopted, self._own):
            journal.close()
        self._adopted = []


def _sync_and_close(descriptors: Iterable[int]) -> None:
    faults = []
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as exc:
            faults.append(exc)
        finally:
            os.close(descriptor)
    if faults:
        raise faults[0]
