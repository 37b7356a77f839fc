"""The file store: resources from a folder of YAML files, or from one file.

What a file held is remembered document by document. A document that can no longer be read keeps its last
readable resources until it is repaired or deleted; a file that cannot be opened keeps all of them.

Source: spec runtime 1.13.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import structlog

from mixer.errors import StoreUnavailableError
from mixer.store.base import StoreContents
from mixer.store.envelope import unwrap
from mixer.store.problem import Problem, Severity
from mixer.store.resource import Origin, Resource, ResourceKey
from mixer.store.scan import Found, find_files, read_file
from mixer.store.watching import changes
from mixer.store.yamldoc import Document, read_documents

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One document: what it gives, what is wrong with it, and what it gave when it was readable."""

    text: str
    resources: tuple[Resource, ...]
    problems: tuple[Problem, ...] = ()
    kept: tuple[Resource, ...] = ()

    @property
    def broken(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self.problems)


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    documents: tuple[_Parsed, ...]
    problem: Problem | None = None
    """Why the file as a whole could not be read this time."""

    def all_resources(self) -> list[Resource]:
        return [r for document in self.documents for r in (*document.resources, *document.kept)]


_NOTHING: Final = _File(b"", ())


class FileStore:
    """A `Store` over a folder (with all below it) or a single file.

    Args:
        path: The folder or file; it must exist when `load` is called, later it may be away for a while.
        default_namespace: For objects that name none.
        poll: Look at the folder several times a second instead of waiting for the system's notifications,
            for file systems that give none.
        rescan_s: Seconds between two looks at all modification times, in case notifications get lost.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        default_namespace: str = "default",
        poll: bool = False,
        rescan_s: float = 5.0,
    ) -> None:
        self.path = os.fspath(path)
        self._default_namespace = default_namespace
        self._poll = poll
        self._rescan_s = rescan_s
        self._lock = threading.Lock()  # scans run in threads, one at a time
        self._files: dict[str, _File] = {}
        self._found: list[Found] | None = None
        self._contents: StoreContents | None = None

    def __repr__(self) -> str:
        return f"FileStore({self.path!r})"

    async def load(self) -> StoreContents:
        """Read everything; see `Store.load`."""
        return await asyncio.to_thread(self._scan)

    async def watch(self) -> AsyncIterator[StoreContents]:
        """The contents after each change of a resource or a problem; see `Store.watch`.

        A burst of changes is given once it has been quiet for 0.1 s, or after 1 s. Without a `load` before,
        the present contents come first.
        """
        given = self._contents
        async with aclosing(changes(self.path, poll=self._poll, rescan_s=self._rescan_s)) as ticks:
            async for notified in ticks:
                try:
                    if not notified and not await asyncio.to_thread(self._looks_changed):
                        contents = self._contents
                    else:
                        contents = await asyncio.to_thread(self._scan)
                except StoreUnavailableError:
                    continue  # what was given last stays in force until the root is back
                if contents is not None and not _same(given, contents):
                    given = contents
                    yield contents

    def _looks_changed(self) -> bool:
        found = find_files(self.path)
        return found != self._found or any(f.problem is not None for f in self._files.values())

    def _scan(self) -> StoreContents:
        with self._lock:
            found = find_files(self.path)
            files: dict[str, _File] = {}
            for entry in found:
                if entry.is_folder:
                    below = {p: f for p, f in self._files.items() if p.startswith(entry.path + os.sep)}
                    files |= below
                    files[entry.path] = replace(_NOTHING, problem=_unreadable(entry.path, entry.error, bool(below)))
                else:
                    files[entry.path] = self._read(entry, self._files.get(entry.path, _NOTHING))
            self._files, self._found = files, found
            before, self._contents = self._contents, _merge(files.values())
            _log_differences(self.path, before, self._contents)
            return self._contents

    def _read(self, entry: Found, former: _File) -> _File:
        try:
            if entry.error:
                raise OSError(entry.error)
            data = read_file(entry.path)
        except OSError as exc:
            if not os.path.lexists(entry.path):
                return _NOTHING  # deleted since the listing
            reason = (exc.strerror or "").lower() if exc.errno else str(exc)
            return replace(former, problem=_unreadable(entry.path, reason, bool(former.documents)))
        if data == former.data:
            return replace(former, problem=None)
        parsed = [self._parse(entry.path, document) for document in read_documents(data)]
        return _File(data, tuple(_keep_last_good(parsed, former)))

    def _parse(self, path: str, document: Document) -> _Parsed:
        if document.faults:
            problems = tuple(
                Problem(f.message, expected=f.expected, origin=Origin(path, document.index, f.line, f.column))
                for f in document.faults
            )
            return _Parsed(document.text, (), problems)
        origin = Origin(path, document.index, document.line)
        resources, found = unwrap(document.value, origin, document.lines, default_namespace=self._default_namespace)
        return _Parsed(document.text, tuple(resources), tuple(found))


def _unreadable(path: str, reason: str, had_resources: bool) -> Problem:
    stays = "; what was last read from it stays in force" if had_resources else ""
    return Problem(f"cannot be read: {reason}{stays}", origin=Origin(path))


_KIND_LINE: Final = re.compile(r"^kind:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_NAME_LINE: Final = re.compile(r"^[ \t]+name:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)


def _keep_last_good(parsed: list[_Parsed], former: _File) -> list[_Parsed]:
    """Give each broken document the resources that it held when it could be read.

    Which those are is told by the kind and name that can still be made out, else by its position when no
    document came or went, else it is every former resource of the file that no document accounts for:
    keeping one too many until the file is repaired is better than to lose one that is still wanted.
    """
    present = {resource.key for document in parsed for resource in document.resources}
    orphans = {r.key: r for r in former.all_resources() if r.key not in present}
    if not orphans or not any(document.broken for document in parsed):
        return parsed
    same_length = len(parsed) == len(former.documents)
    taken: dict[int, list[ResourceKey]] = {}
    for i, document in enumerate(parsed):
        if document.broken:
            kinds, names = set(_KIND_LINE.findall(document.text)), set(_NAME_LINE.findall(document.text))
            taken[i] = [key for key in orphans if key.kind in kinds and key.name in names]
            if not taken[i] and same_length:
                then = former.documents[i]
                taken[i] = [r.key for r in (*then.resources, *then.kept) if r.key in orphans]
    unmatched = [i for i, keys in taken.items() if not keys]
    if unmatched:
        claimed = {key for keys in taken.values() for key in keys}
        taken[unmatched[0]] = [key for key in orphans if key not in claimed]
    return [_with_kept(document, [orphans[key] for key in taken.get(i, ())]) for i, document in enumerate(parsed)]


def _with_kept(document: _Parsed, kept: list[Resource]) -> _Parsed:
    if not kept:
        return document
    note = f"; the last readable version of {', '.join(str(r.key) for r in kept)} stays in force"
    key = kept[0].key if len(kept) == 1 else None
    first = next(p for p in document.problems if p.severity is Severity.ERROR)
    noted = replace(first, message=first.message + note, resource=first.resource or key)
    problems = tuple(noted if p is first else p for p in document.problems)
    return replace(document, kept=tuple(kept), problems=problems)


def _merge(files: Iterable[_File]) -> StoreContents:
    """All files as one: later documents win over earlier ones, readable ones over kept ones."""
    files = list(files)
    readable = {r.key for file in files for document in file.documents for r in document.resources}
    resources: dict[ResourceKey, Resource] = {}
    problems: list[Problem] = []
    for file in files:
        if file.problem is not None:
            problems.append(file.problem)
        for document in file.documents:
            problems += document.problems
            for resource in document.resources:
                earlier = resources.pop(resource.key, None)
                if earlier is not None:
                    problems.append(_defined_twice(resource, earlier))
                resources[resource.key] = resource
            for resource in document.kept:
                if resource.key not in readable:
                    resources.pop(resource.key, None)
                    resources[resource.key] = resource
    return StoreContents(resources, tuple(problems))


def _defined_twice(later: Resource, earlier: Resource) -> Problem:
    return Problem(
        f"defined twice; this one wins over the one at {earlier.origin}",
        later.key,
        expected="each name once within its kind and namespace",
        origin=later.origin,
        severity=Severity.WARNING,
    )


def _same(left: StoreContents | None, right: StoreContents) -> bool:
    if left is None or left.problems != right.problems:
        return False
    return list(left.resources) == list(right.resources) and left.resources == right.resources


def _log_differences(path: str, before: StoreContents | None, after: StoreContents) -> None:
    """What is new is logged once, not with every scan."""
    old = set(before.problems) if before is not None else set()
    for problem in after.problems:
        if problem not in old:
            level = _log.error if problem.severity is Severity.ERROR else _log.warning
            level("config_problem", problem=str(problem))
    if before is None or not _same(before, after):
        _log.info("config_read", path=path, resources=len(after.resources), problems=len(after.problems))
