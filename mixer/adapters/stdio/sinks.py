"""Where lines go: a standard stream, a file, a file that is renamed when it is full.

A sink takes lines in batches, answers which it could not write and why, and never raises; closing it never fails.
Source: spec adapters 4.3, "Files".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from mixer.adapters.stdio.backups import Backups
from mixer.attributes import Timestamp


class Sink(Protocol):
    """Takes complete lines."""

    def write(self, lines: Sequence[str], /) -> list[str]:
        """Write lines in one go; the answer tells what went wrong, empty if nothing did."""
        ...

    def close(self) -> None:
        """Free what is held; safe twice."""
        ...


class StreamSink:
    """Standard output or standard error, as they are when something is written; never closed."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    def write(self, lines: Sequence[str], /) -> list[str]:
        """Write and flush; a closed pipe is an answer, like any other failure."""
        try:
            stream = getattr(sys, self._name)
            stream.write("".join(lines))
            stream.flush()
        except (OSError, ValueError, AttributeError) as exc:  # ValueError: closed, AttributeError: there is none
            return [_all_lost(lines, self._name, exc)]
        return []

    def close(self) -> None:
        """Nothing to do: the stream belongs to the process."""


class FileSink:
    """A file that is appended to, each batch with one system call.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = _open(path)

    def write(self, lines: Sequence[str], /) -> list[str]:
        """Append the batch."""
        try:
            _append(self._fd, "".join(lines).encode())
        except OSError as exc:
            return [_all_lost(lines, str(self._path), exc)]
        return []

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, None
        _close(fd)


class RotatedFileSink:
    """A file that is renamed before it would exceed ``max_bytes`` (0 for any size), and the renamed ones' keeper.

    The file may be shared with another sink (a handler and its replacement): who finds the path pointing to
    another file than the one that is open opens it anew.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: Backups, now: Callable[[], Timestamp]) -> None:
        self._path, self._max_bytes, self._backups, self._now = path, max_bytes, backups, now
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd: int | None = _open(path)
        self._closed = False
        backups.prune(now())

    def write(self, lines: Sequence[str], /) -> list[str]:
        """Append the batch, in as many pieces as rotation makes necessary; a line above the limit is refused."""
        faults: list[str] = []
        piece: list[bytes] = []
        try:
            room = self._reopen()
        except OSError as exc:
            return [_all_lost(lines, str(self._path), exc)]
        for line in lines:
            data = line.encode()
            if self._max_bytes and len(data) > self._max_bytes:
                faults.append(f"a line of {len(data)} bytes exceeds the {self._max_bytes} that a file may have")
                continue
            if self._max_bytes and len(data) > room:
                faults += self._flush(piece)
                piece = []
                try:
                    self._rotate()
                except OSError as exc:
                    faults.append(f"{self._path} cannot be rotated: {exc}")
                    continue
                room = self._max_bytes
            piece.append(data)
            room -= len(data)
        return faults + self._flush(piece)

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        fd, self._fd = self._fd, None
        _close(fd)

    def _flush(self, piece: Sequence[bytes]) -> list[str]:
        if not piece:
            return []
        try:
            _append(self._fd, b"".join(piece))
        except OSError as exc:
            return [_all_lost(piece, str(self._path), exc)]
        return []

    def _reopen(self) -> int:
        """Make sure that the open file is the one at the path; answers how many bytes it has room for."""
        if self._closed:
            raise OSError("it is closed")
        mine = os.fstat(self._fd) if self._fd is not None else None
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if mine is None or there is None or (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            _close(self._fd)
            self._fd = None
            self._fd = _open(self._path)
            mine = os.fstat(self._fd)
        return max(self._max_bytes - mine.st_size, 0)

    def _rotate(self) -> None:
        now = self._now()
        os.rename(self._path, self._backups.path_for(now))
        _close(self._fd)
        self._fd = None
        self._fd = _open(self._path)
        self._backups.prune(now)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _append(fd: int | None, data: bytes) -> None:
    if fd is None:
        raise OSError("it is closed")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _close(fd: int | None) -> None:
    if fd is not None:
        try:
            os.close(fd)
        except OSError:
            return  # the descriptor is gone either way, and there is nobody who could act on it


def _all_lost(lines: Sequence[str | bytes], where: str, exc: Exception) -> str:
    return f"{len(lines)} line(s) not written to {where}: {exc}"
