"""YAML text to plain data, document by document, with the line of every key and list item.

The documents of one text are cut apart before any of them is parsed (three dashes in the first column are
a separator wherever they stand), so a broken one never hides its neighbours. Each is then read from the
parser's events, which gives positions, leaves keys as they are written, and lets depth and size be
refused while they grow. No tag ever makes an object.

Source: spec runtime 1.2 (the YAML dialect) and 1.13.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from mixer.store.resource import Path
from mixer.store.yamlscalar import TAG_PREFIX, UnknownTagError, resolve

MAX_DEPTH: Final = 64
"""Mappings and lists inside each other; real objects need about ten."""
MAX_WEIGHT: Final = 200_000
"""Values of one document with its aliases expanded; a long text counts once more per 256 characters."""


class Fault(NamedTuple):
    """What is wrong with a document; line and column count from 1 in the whole text."""

    message: str
    line: int
    column: int = 0
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One document that is not empty.

    Attributes:
        index: Its place among the documents that are not empty, from 0.
        line: Where its content starts, from 1.
        text: The document as written.
        value: Plain data; None when there are faults.
        lines: Path of each mapping key and list item -> line.
        faults: Why it cannot be read; none when it can.
    """

    index: int
    line: int
    text: str
    value: Any = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def read_documents(data: bytes) -> list[Document]:
    """Read all documents of a text; never raises on content."""
    documents: list[Document] = []
    for line, chunk in _split(_as_utf8(data)):
        document = _read(len(documents), line, chunk)
        if document is not None:
            documents.append(document)
    return documents


def _as_utf8(data: bytes) -> bytes:
    """UTF-8 without byte order mark and with plain line feeds; what cannot be decoded stays as it is."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            body = data[len(mark) :]
            data = body if encoding == "utf-8" else body.decode(encoding, "replace").encode("utf-8", "replace")
            break
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


_BOUNDARY: Final = re.compile(rb"^(?:---(?=[ \t\n]|\Z)|\.\.\.[ \t]*(?:#[^\n]*)?(?:\n|\Z))", re.MULTILINE)
_DIRECTIVES: Final = re.compile(rb"(?:[ \t]*(?:#[^\n]*)?\n)*%[^\n]*\n(?:(?:%[^\n]*|[ \t]*(?:#[^\n]*)?)\n)*")


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The chunks between separators, each with the line it starts on; a chunk keeps its own ``---``."""
    start, line = 0, 1
    for match in _BOUNDARY.finditer(data):
        ends_document = match[0].startswith(b".")
        if not ends_document and _DIRECTIVES.fullmatch(data, start, match.start()):
            continue  # %YAML and %TAG lines belong to the document that they precede
        yield line, data[start : match.start()]
        end = match.end() if ends_document else match.start()
        line += data.count(b"\n", start, end)
        start = end
    yield line, data[start:]


def _read(index: int, first_line: int, chunk: bytes) -> Document | None:
    try:
        text = chunk.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = first_line + chunk.count(b"\n", 0, exc.start)
        fault = Fault(f"byte 0x{chunk[exc.start]:02x} is not UTF-8", line, expected="a file saved as UTF-8")
        return Document(index, line, chunk.decode("utf-8", "replace"), faults=(fault,))
    composer = _Composer(text, first_line)
    try:
        root = composer.compose()
    except _RefusedError as refused:
        composer.faults.append(refused.fault)
    except yaml.YAMLError as exc:
        composer.faults.append(_syntax_fault(exc, text, first_line))
    else:
        if not composer.faults:
            if root is None or (isinstance(root, _Scalar) and root.value is None):
                return None
            lines: dict[Path, int] = {}
            return Document(index, root.line, text, _expand(root, (), lines), lines)
    faults = tuple(sorted(composer.faults, key=lambda fault: (fault.line, fault.column)))
    return Document(index, faults[0].line, text, faults=faults)


class _RefusedError(Exception):
    """Reading stops here."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(slots=True)
class _Scalar:
    line: int
    text: str
    value: Any
    weight: int
    height: int = 0


@dataclass(slots=True)
class _List:
    line: int
    items: list[_Node] = field(default_factory=list)
    weight: int = 0
    height: int = 1


@dataclass(slots=True)
class _Map:
    line: int
    entries: dict[str, tuple[int, _Node]] = field(default_factory=dict)
    weight: int = 0
    height: int = 1


_Node: TypeAlias = _Scalar | _List | _Map


class _Composer:
    """Builds the tree of one document from parser events, within the limits."""

    def __init__(self, text: str, first_line: int) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._first_line = first_line
        self._anchors: dict[str, _Node | None] = {}  # None: still being read
        self._spent = 0
        self.faults: list[Fault] = []
        """Faults that do not stop the reading."""

    def compose(self) -> _Node | None:
        """The root, or None when there is no document."""
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._refused(event, "a second document starts here", "a line of three dashes before it")
                root = self._node(next(self._events), 1)
        return root

    def _node(self, event: Any, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if depth > MAX_DEPTH:
            raise self._refused(event, f"nested deeper than {MAX_DEPTH} levels")
        before = self._spent
        self._spend(event, 1)
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._map(event, depth)
        node.weight = self._spent - before
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, depth: int) -> _Node:
        if event.anchor not in self._anchors:
            raise self._refused(event, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._refused(event, f"the alias *{event.anchor} stands inside of what it names")
        if depth + node.height > MAX_DEPTH + 1:
            raise self._refused(event, f"nested deeper than {MAX_DEPTH} levels")
        self._spend(event, node.weight)
        return node

    def _scalar(self, event: Any) -> _Scalar:
        self._spend(event, len(event.value) // 256)
        value: Any = None
        try:
            value = resolve(event.value, event.tag, plain=not event.style)
        except UnknownTagError as exc:
            self.faults.append(self._fault(event, str(exc), "plain data without tags"))
        except ValueError as exc:
            self.faults.append(self._fault(event, str(exc)))
        return _Scalar(self._line(event), event.value, value, 0)

    def _list(self, event: Any, depth: int) -> _List:
        self._open(event, "seq")
        node = _List(self._line(event))
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, depth + 1)
            node.items.append(item)
            node.height = max(node.height, item.height + 1)
        return node

    def _map(self, event: Any, depth: int) -> _Map:
        self._open(event, "map")
        node = _Map(self._line(event))
        merged: list[_Map] = []
        while not isinstance(key_event := next(self._events), yaml.MappingEndEvent):
            key = self._node(key_event, depth + 1)
            if not isinstance(key, _Scalar):
                raise self._refused(key_event, "a mapping or list cannot be a key", "a text as key")
            is_merge = isinstance(key_event, yaml.ScalarEvent) and key.text == "<<" and not key_event.style
            value_event = next(self._events)
            value = self._node(value_event, depth + 1)
            if is_merge:
                merged += self._merge_sources(value_event, value)
            elif key.text in node.entries:
                first = node.entries[key.text][0]
                self.faults.append(
                    self._fault(
                        key_event, f'duplicate key "{_short(key.text)}", first on line {first}', "each key once"
                    )
                )
            else:
                line = key.line if isinstance(key_event, yaml.ScalarEvent) else self._line(key_event)
                node.entries[key.text] = (line, value)
        for source in merged:  # what stands in the mapping itself wins, then the earlier source
            for name, entry in source.entries.items():
                node.entries.setdefault(name, entry)
        node.height = 1 + max((value.height for _, value in node.entries.values()), default=0)
        return node

    def _merge_sources(self, event: Any, value: _Node) -> list[_Map]:
        sources = value.items if isinstance(value, _List) else [value]
        maps = [source for source in sources if isinstance(source, _Map)]
        if len(maps) != len(sources):
            raise self._refused(event, "<< takes a mapping or a list of mappings", "an alias to a mapping")
        return maps

    def _open(self, event: Any, kind: str) -> None:
        if event.anchor:
            self._anchors[event.anchor] = None
        if event.tag not in (None, "!", TAG_PREFIX + kind):
            tag = event.tag.replace(TAG_PREFIX, "!!")
            self.faults.append(
                self._fault(event, f"the tag {_short(tag)} is not known here", "plain data without tags")
            )

    def _spend(self, event: Any, weight: int) -> None:
        self._spent += weight
        if self._spent > MAX_WEIGHT:
            raise self._refused(
                event,
                f"the document is too large (over {MAX_WEIGHT} values with its aliases)",
                "several smaller documents",
            )

    def _line(self, event: Any) -> int:
        return self._first_line + int(event.start_mark.line)

    def _fault(self, event: Any, message: str, expected: str = "") -> Fault:
        return Fault(message, self._line(event), event.start_mark.column + 1, expected)

    def _refused(self, event: Any, message: str, expected: str = "") -> _RefusedError:
        return _RefusedError(self._fault(event, message, expected))


def _expand(node: _Node, path: Path, lines: dict[Path, int]) -> Any:
    """The plain data of a tree, nothing shared between the places of an alias; ``lines`` is filled on the way."""
    if isinstance(node, _Scalar):
        return node.value
    if isinstance(node, _List):
        items = []
        for i, item in enumerate(node.items):
            lines[*path, i] = item.line
            items.append(_expand(item, (*path, i), lines))
        return items
    mapping = {}
    for key, (line, value) in node.entries.items():
        lines[*path, key] = line
        mapping[key] = _expand(value, (*path, key), lines)
    return mapping


_HINTS: Final[Mapping[str, str]] = {
    "mapping values are not allowed": 'quotes around a value that holds ": "',
    "cannot start any token": "quotes around a value that starts with this character",
    "did not find expected key": "the indentation of the keys around it",
    "did not find expected '-' indicator": "each item of a list at the same indentation",
    "did not find expected comment or line break": "single quotes around the whole value",
    "could not find expected ':'": '"key: value", or quotes around a value of several lines',
    "found unexpected end of stream": "a closing quote",
    "found undefined tag handle": "quotes around a value that starts with !",
}


def _syntax_fault(exc: yaml.YAMLError, text: str, first_line: int) -> Fault:
    if isinstance(exc, yaml.MarkedYAMLError) and (mark := exc.problem_mark or exc.context_mark) is not None:
        rows = text.split("\n")
        row = rows[mark.line] if mark.line < len(rows) else ""
        message = str(exc.problem or exc.context)
        if exc.context and exc.problem:
            since = first_line + exc.context_mark.line if exc.context_mark is not None else 0
            message += f" {exc.context}" + (f" that starts on line {since}" if since else "")
        if row.strip():
            message += f', near "{_short(row.strip())}"'
        expected = next((hint for sign, hint in _HINTS.items() if sign in message), "")
        if "did not find expected key" in message and row[: mark.column].count('"') > 1:
            expected = "single quotes around the whole value"  # the usual slip: value: "a" || b
        if row[: mark.column + 1].rstrip(" ").endswith("\t") or row[: len(row) - len(row.lstrip())].count("\t"):
            expected = "blanks instead of tabs"
        return Fault(message, first_line + mark.line, mark.column + 1, expected)
    position = getattr(exc, "position", 0)
    reason = getattr(exc, "reason", None) or str(exc)
    before = text.encode("utf-8")[: position if isinstance(position, int) else 0]
    return Fault(str(reason), first_line + before.count(b"\n"), len(before) - before.rfind(b"\n"))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
