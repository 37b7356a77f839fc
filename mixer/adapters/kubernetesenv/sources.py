"""Where pods come from: what a source of them offers, and the one that reads files.

A file that cannot be read, or no longer makes sense, keeps what it held; an object of it that cannot be read is left
out. Both are logged and counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from mixer.adapters.kubernetesenv.index import PodIndex
from mixer.adapters.kubernetesenv.objects import Known, ObjectFault, items_of, read_object
from mixer.store.watching import changes
from mixer.store.yamldoc import read_documents

SUFFIXES: Final = (".json", ".yaml", ".yml")
MAX_FILE_BYTES: Final = 256 << 20
RESCAN_S: Final = 5.0
_FAULTS_TOLD: Final = 3


class PodSource(Protocol):
    """The pods of one cluster, kept up to date; shared by the handlers that ask for the same one.

    A source that watches Kubernetes would keep an index of its own and replace it as events arrive.
    """

    @property
    def name(self) -> str:
        """What an operator knows it by."""
        ...

    @property
    def pods(self) -> PodIndex:
        """What is known now; empty until the first `refresh` that succeeds. Never fails, never waits."""
        ...

    async def refresh(self) -> list[str]:
        """Look again.

        Returns:
            What is wrong with the source now, in words; what it knew of that stays.
        """
        ...

    def watch(self) -> AsyncGenerator[None, None]:
        """A tick whenever it is time to `refresh`; cancelling the iteration ends it."""
        ...


class _Signature(NamedTuple):
    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class _File:
    signature: _Signature | None
    objects: tuple[Known, ...] = ()
    faults: tuple[str, ...] = ()


class FilePods:
    """Pods in a file, or in all files of a folder and below that end in ``.json``, ``.yaml`` or ``.yml``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: dict[str, _File] = {}
        self._read_once = False
        self._pods = PodIndex()
        self._lock = asyncio.Lock()

    @property
    def name(self) -> str:
        """The path."""
        return self._path

    @property
    def pods(self) -> PodIndex:
        """What was read last."""
        return self._pods

    async def refresh(self) -> list[str]:
        """Read the files that have changed; see `PodSource.refresh`."""
        async with self._lock:
            return await asyncio.to_thread(self._scan)

    async def watch(self) -> AsyncGenerator[None, None]:
        """Ticks by the system's notifications, and every few seconds; see `PodSource.watch`."""
        async with aclosing(changes(self._path, poll=False, rescan_s=RESCAN_S)) as ticks:
            async for _ in ticks:
                yield

    def _scan(self) -> list[str]:
        try:
            found = dict(_files(self._path))
        except OSError as exc:
            stays = "; the pods that were read from it stay" if self._read_once else ""
            return [f"{self._path}: {_reason(exc)}{stays}"]
        files = {path: self._file(path, signature) for path, signature in found.items()}
        if not self._read_once or [f.objects for f in files.values()] != [f.objects for f in self._files.values()]:
            self._pods = PodIndex(known for file in files.values() for known in file.objects)
        self._files, self._read_once = files, True
        return [f"{path}: {fault}" for path, file in files.items() for fault in file.faults]

    def _file(self, path: str, signature: _Signature | OSError) -> _File:
        former = self._files.get(path, _File(None))
        if signature == former.signature:
            return former
        if isinstance(signature, OSError):
            return _unreadable(former, signature)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise ObjectFault(f"larger than {MAX_FILE_BYTES} bytes")
            objects, faults = _read(data)
        except OSError as exc:
            return _unreadable(former, exc)
        except (ObjectFault, RecursionError) as exc:
            # The signature stays with the fault: the file is read again when it changes.
            return _File(signature, former.objects, (f"{exc}{_kept(former)}",))
        return _File(signature, tuple(objects), tuple(faults))


def _unreadable(former: _File, exc: OSError) -> _File:
    """No signature: it is tried again each time."""
    return _File(None, former.objects, (f"cannot be read: {_reason(exc)}{_kept(former)}",))


def _kept(former: _File) -> str:
    return "; what it held before stays" if former.objects else ""


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()


def _files(root: str) -> Iterator[tuple[str, _Signature | OSError]]:
    """The files to read, sorted by path; private copies of a mounted ConfigMap and editors' locks are passed over.

    Raises:
        OSError: The root cannot be read.
    """
    if not stat.S_ISDIR(os.stat(root).st_mode):
        yield root, _signature(root)
        return
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = os.path.join(root, name)
        if name.startswith(("..", ".#")):
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            try:
                yield from _files(path)
            except OSError as exc:
                yield path, exc
        elif name.endswith(SUFFIXES):
            try:
                yield path, _signature(path)
            except OSError as exc:
                if os.path.lexists(path):  # else it was deleted since the listing
                    yield path, exc


def _signature(path: str) -> _Signature:
    status = os.stat(path)
    return _Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _read(data: bytes) -> tuple[list[Known], list[str]]:
    """The objects in a file's text, and what is wrong with those that are left out.

    Raises:
        ObjectFault: The text as a whole is neither JSON nor YAML, or no list of objects.
    """
    objects: list[Known] = []
    left_out: list[str] = []
    for document in _documents(data):
        for item in items_of(document):
            if isinstance(item, ObjectFault):
                left_out.append(f"an entry of a list is left out: {item}")
                continue
            try:
                known = read_object(item)
            except ObjectFault as exc:
                metadata = item.get("metadata")
                name = metadata.get("name") if isinstance(metadata, dict) else None
                left_out.append(f"{item['kind']} {name or '(unnamed)'} is left out: {exc}")
                continue
            if known is not None:
                objects.append(known)
    if len(left_out) > _FAULTS_TOLD:
        left_out[_FAULTS_TOLD:] = [f"and {len(left_out) - _FAULTS_TOLD} more objects are left out"]
    return objects, left_out


def _documents(data: bytes) -> Iterator[object]:
    if data.lstrip()[:1] == b"{":
        try:
            yield json.loads(data)  # an order of magnitude faster than YAML, of which it is a part
            return
        except (ValueError, RecursionError):
            pass
    for document in read_documents(data):
        if document.faults:
            fault = document.faults[0]
            raise ObjectFault(f"line {fault.line}: {fault.message}")
        yield document.value
