"""Header operations of a directive, carried out on headers as ASGI has them: pairs of bytes, in their order.

Source: spec proxy 11. What may be changed at all is decided by `proxy.headers`, as for Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from mixer.api.answer import AppliedHeader
from proxy.headers import REQUEST_PSEUDO, Fate, fates

Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Headers: names in lower case and values; a name may come several times."""

_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Changes:
    """What operations come to.

    Attributes:
        gone: Headers that lose the values they have.
        added: Headers that come after what is left.
        fates: The same, header by header.
        method: The new method, empty for none.
        path: The new path with its query, empty for none.
        refused: Why operations were left out, one word each.
    """

    gone: frozenset[bytes]
    added: tuple[tuple[bytes, bytes], ...]
    fates: tuple[Fate, ...]
    method: str = ""
    path: str = ""
    refused: tuple[str, ...] = ()

    def applied(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The headers after the operations."""
        gone = self.gone
        kept = [pair for pair in headers if pair[0].lower() not in gone] if gone else list(headers)
        kept += self.added
        return kept


@lru_cache(maxsize=1024)  # an answer that is used again brings the same directive
def request_changes(operations: tuple[AppliedHeader, ...], *, http: bool = True) -> Changes:
    """What operations do to a request.

    Args:
        operations: In their order.
        http: The method may be changed; a WebSocket has none.
    """
    wanted, refused = fates(operations, REQUEST_PSEUDO)
    method = path = ""
    kept: dict[str, Fate] = {}
    for fate in wanted:
        value = fate.values[-1] if fate.values else ""
        if fate.name == ":path" and value.startswith("/"):
            path = value
        elif fate.name == ":method" and http and _METHOD.fullmatch(value):
            method = value
        elif fate.name in (":authority", "host"):
            kept["host"] = Fate("host", False, [value])
        elif fate.name[0] == ":":
            refused.append("pseudo_header")
        else:
            kept[fate.name] = fate
    return _changes(kept.values(), method, path, refused)


@lru_cache(maxsize=1024)
def response_changes(operations: tuple[AppliedHeader, ...]) -> Changes:
    """What operations do to a response."""
    wanted, refused = fates(operations)
    return _changes(wanted, "", "", refused)


def _changes(wanted: Iterable[Fate], method: str, path: str, refused: Iterable[str]) -> Changes:
    wanted = tuple(wanted)
    return Changes(
        frozenset(fate.name.encode() for fate in wanted if not fate.onto),
        tuple((fate.name.encode(), header_value(value)) for fate in wanted for value in fate.values),
        wanted,
        method,
        path,
        tuple(refused),
    )


def header_value(value: str) -> bytes:
    """A value as bytes."""
    return value.encode("utf-8", "replace")
