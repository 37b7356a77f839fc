"""YAML text to plain data, document by document, with the line of every key and list item.

The documents of one text are cut apart before any of them is parsed (three dashes in the first column are
a separator wherever they stand), so a broken one never hides its neighbours.

Source: spec runtime 1.2 (the YAML dialect) and 1.13.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mixer.store.resource import Path
from mixer.store.yamltree import Composer, Fault, RefusedError, ScalarNode, expand, shortened


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
    composer = Composer(text, first_line)
    try:
        root = composer.compose()
    except RefusedError as refused:
        composer.faults.append(refused.fault)
    except yaml.YAMLError as exc:
        composer.faults.append(_syntax_fault(exc, text, first_line))
    else:
        if not composer.faults:
            if root is None or (isinstance(root, ScalarNode) and root.value is None):
                return None
            lines: dict[Path, int] = {}
            return Document(index, root.line, text, expand(root, (), lines), lines)
    faults = tuple(sorted(composer.faults, key=lambda fault: (fault.line, fault.column)))
    return Document(index, faults[0].line, text, faults=faults)


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
            message += f', near "{shortened(row.strip())}"'
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
