"""A journal: entries in append-only files of one directory, with the state of their delivery.

What survives what:

- *Death of the process* (kill -9, a crash): every entry that ``handle_report`` took. It is written to the system
  before the call returns. What was sent and not yet acknowledged is sent again, under the same chunk id.
- *Death of the machine*: what was written a second or more before, for the files are synced to disk about once
  a second; see `mixer.adapters.fluentd.spool`. The cursor is not synced: an old one only repeats chunks.
- *A damaged file*: everything but the damaged records. Those are counted as dropped, by the gap in the numbers;
  a torn end, which a write cut short leaves, is no entry that was ever taken and not counted.

One process at a time holds a journal, by a lock on a file in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mixer.adapters.fluentd.chunks import Batch, cut
from mixer.adapters.fluentd.entries import Entry
from mixer.adapters.fluentd.records import Cursor, CursorFile, pack_record, read_records

_CURSOR, _LOCK, _SUFFIX = "cursor", "lock", ".segment"


@dataclass(slots=True)
class Segment:
    """A file of the journal; named for the number of its first entry."""

    path: Path
    first: int
    size: int


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Sizes in bytes: what is read at once, and when a new file is started."""

    batch_bytes: int
    segment_bytes: int


class Journal:
    """A queue on disk. It is written by its maker alone; who takes over an orphan empties and removes it."""

    def __init__(self, directory: Path, lock: int, limits: JournalLimits, on_lost: Callable[[int], None]) -> None:
        self._directory, self._lock, self._limits, self._on_lost = directory, lock, limits, on_lost
        self._cursor_file = CursorFile(os.open(directory / _CURSOR, os.O_RDWR | os.O_CREAT, 0o640))
        self._segments: deque[Segment] = deque()
        self._cursor = self._cursor_file.load()
        self._next = self._cursor.done
        self._offset = 0  # of the first record in the first segment that may not be done with
        self._batch: Batch | None = None
        self._after = (0, 0)
        self._file = -1
        self._unsynced: list[int] = []
        self._dirty = False

    @classmethod
    def create(cls, parent: Path, name: str, limits: JournalLimits, on_lost: Callable[[int], None]) -> Journal:
        """An empty journal; nobody sees it before it is locked. Raises OSError."""
        parent.mkdir(parents=True, exist_ok=True)
        hidden = parent / f".{name}"
        hidden.mkdir()
        lock = _lock(hidden)
        directory = hidden.rename(parent / name)
        return cls(directory, lock, limits, on_lost)

    @classmethod
    def adopt(cls, directory: Path, limits: JournalLimits, on_lost: Callable[[int], None]) -> Journal | None:
        """The journal that another process or handler left, or None while it is in use. Raises OSError."""
        try:
            lock = _lock(directory)
        except BlockingIOError:
            return None
        try:
            journal = cls(directory, lock, limits, on_lost)
        except BaseException:
            os.close(lock)
            raise
        journal._find_segments()
        return journal

    def _find_segments(self) -> None:
        paths = sorted(path for path in self._directory.iterdir() if path.suffix == _SUFFIX and path.stem.isdigit())
        self._segments.extend(Segment(path, int(path.stem), path.stat().st_size) for path in paths)
        if self._segments:
            last = self._segments[-1]
            self._next = last.first
            with last.path.open("rb") as file:
                for _, number, _ in read_records(file, last.size):
                    self._next = number + 1
            done = min(max(self._cursor.done, self._segments[0].first), self._next)
            self._cursor = Cursor(done, min(max(self._cursor.cut, done), self._next))

    @property
    def waiting(self) -> int:
        """How many entries are not done with."""
        return self._next - self._cursor.done

    @property
    def waiting_bytes(self) -> int:
        """What they take, about."""
        return self.size - self._offset

    @property
    def size(self) -> int:
        """What the files take."""
        return sum(segment.size for segment in self._segments)

    def append(self, entries: list[Entry]) -> None:
        """Add entries, all or none.

        Raises:
            OSError: None was added.
        """
        data = b"".join([pack_record(number, entry) for number, entry in enumerate(entries, self._next)])
        if self._file < 0 or self._segments[-1].size >= self._limits.segment_bytes:
            self._start_segment()
        segment, written = self._segments[-1], 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:] if written else data)
        except OSError:
            try:
                os.ftruncate(self._file, segment.size)
            except OSError:
                self._end_segment()  # its torn end is skipped; the next entries go to another file
            raise
        segment.size += written
        self._next += len(entries)
        self._dirty = True

    def _start_segment(self) -> None:
        self._end_segment()
        path = self._directory / f"{self._next:020d}{_SUFFIX}"
        # A file of that name can only hold a torn first record.
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o640)
        if self._segments and self._segments[-1].first == self._next:
            self._segments.pop()
        self._segments.append(Segment(path, self._next, 0))
        self._unsynced.append(os.open(self._directory, os.O_RDONLY))

    def _end_segment(self) -> None:
        if self._file >= 0:
            self._unsynced.append(self._file)
            self._file, self._dirty = -1, False

    def take_unsynced(self) -> list[int]:
        """Descriptors to sync to disk and close, which is then the caller's business."""
        descriptors, self._unsynced = self._unsynced, []
        if self._dirty:
            descriptors.append(os.dup(self._file))
            self._dirty = False
        return descriptors

    def next_batch(self) -> Batch | None:
        """The batch at the front; a batch that was cut in an earlier life is cut the same way.

        Raises:
            OSError: The files cannot be read for now.
        """
        while self._batch is None and self.waiting:
            entries = self._read()
            done, end = self._cursor.done, self._cursor.cut
            if entries:
                self._cursor = Cursor(done, entries[-1][0] + 1)
                self._cursor_file.save(self._cursor)
                self._batch = cut(entries, origin=self._directory.name)
            else:
                end = end if end > done else self._next
                self._cursor = Cursor(end, end)
                self._on_lost(end - done)
        return self._batch

    def _read(self) -> list[tuple[int, Entry]]:
        entries: list[tuple[int, Entry]] = []
        done, end, size = self._cursor.done, self._cursor.cut, 0
        for index, segment in enumerate(self._segments):
            try:
                file = segment.path.open("rb")
            except FileNotFoundError:
                continue
            with file:
                file.seek(0 if index else self._offset)
                for offset, number, entry in read_records(file, segment.size):
                    if number < done:
                        continue
                    size += entry.size
                    full = number >= end if end > done else entries and size > self._limits.batch_bytes
                    if full:
                        return entries
                    entries.append((number, entry))
                    self._after = (index, offset)
        return entries

    def finish(self, batch: Batch) -> None:
        """The batch is delivered; files that hold nothing else are deleted."""
        done = batch.last + 1
        lost = done - self._cursor.done - batch.count
        self._cursor, self._batch = Cursor(done, done), None
        index, self._offset = self._after
        with contextlib.suppress(OSError):  # the worst that follows is a chunk sent twice
            self._cursor_file.save(self._cursor)
        if not self.waiting:
            self._end_segment()
            index, self._offset = len(self._segments), 0
        for _ in range(index):
            with contextlib.suppress(OSError):
                self._segments.popleft().path.unlink()
        if lost:
            self._on_lost(lost)

    def close(self) -> None:
        """Let go of the journal; one that holds nothing is deleted."""
        self._end_segment()
        for descriptor in self._unsynced:
            os.close(descriptor)
        self._unsynced = []
        self._cursor_file.close()
        if not self.waiting:
            shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)


def _lock(directory: Path) -> int:
    """Raises BlockingIOError when the lock is taken."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
