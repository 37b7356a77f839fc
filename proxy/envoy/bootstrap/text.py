"""YAML with comments: plain data, in which a `Note` puts a reason above a value.

Every string is quoted, so that no reader takes a cluster called ``y`` for a truth (spec envoy 9, 16).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_WIDTH: Final = 118
_PLAIN_KEY: Final = re.compile(r"[a-z_][a-z0-9_.]*")
_TRUTHS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Note:
    """A value and why it is so; the text stands as a comment above the line on which the value begins."""

    text: str
    value: Any


def plain(value: Any) -> Any:
    """The data without its notes."""
    if isinstance(value, Note):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def to_yaml(value: Mapping[str, Any]) -> str:
    """A document. Values are mappings with text keys, lists, texts, numbers, truths, None and notes of those."""
    return "".join(f"{line}\n" for line in _mapping(value, 0))


def _mapping(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    for key, each in value.items():
        yield from _entry(f"{' ' * indent}{_key(key)}:", each, indent)


def _list(value: Sequence[Any], indent: int) -> Iterator[str]:
    for each in value:
        yield from _item(each, indent)


def _item(each: Any, indent: int) -> Iterator[str]:
    while isinstance(each, Note):
        yield from _comment(each.text, indent)
        each = each.value
    if isinstance(each, Mapping) and each:
        lines = list(_mapping(each, indent + 2))
        first = next(i for i, line in enumerate(lines) if not line.lstrip().startswith("#"))
        yield from (line[2:] for line in lines[:first])  # what explains the first key explains the item
        yield f"{' ' * indent}- {lines[first].lstrip()}"
        yield from lines[first + 1 :]
    elif isinstance(each, list | tuple) and each:
        inner = list(_list(each, indent + 2))
        yield f"{' ' * indent}-"
        yield from inner
    else:
        yield f"{' ' * indent}- {_scalar(each)}"


def _entry(head: str, value: Any, indent: int) -> Iterator[str]:
    while isinstance(value, Note):
        yield from _comment(value.text, indent)
        value = value.value
    if isinstance(value, Mapping) and value:
        yield head
        yield from _mapping(value, indent + 2)
    elif isinstance(value, list | tuple) and value:
        flow = (
            f"{head} {_flow(value)}"
            if not any(isinstance(each, Mapping | Note | list | tuple) for each in value)
            else ""
        )
        if flow and len(flow) <= _WIDTH:
            yield flow
        else:
            yield head
            yield from _list(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _comment(text: str, indent: int) -> Iterator[str]:
    for line in textwrap.wrap(text, max(40, _WIDTH - indent - 2)):
        yield f"{' ' * indent}# {line}"


def _flow(value: Sequence[Any]) -> str:
    return f"[{', '.join(_scalar(each) for each in value)}]"


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and key not in _TRUTHS else _quoted(key)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    text = json.dumps(value)
    # YAML 1.1 takes 1e-05 for a text.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def _quoted(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))
