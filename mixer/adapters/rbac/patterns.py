"""Patterns of texts (``abc``, ``abc*``, ``*abc``, ``*``), one by one and indexed by the thousand.

Source: spec adapters 4.9.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import Final, TypeAlias

from mixer.attributes.values import parse_ip

Matches: TypeAlias = Callable[[str], bool]

ANY: Final = "*"
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"


def compile_patterns(patterns: Iterable[str]) -> Matches:
    """Whether a text matches one of the patterns; none matches nothing."""
    exact, heads, tails = _sorted_out(patterns)
    if "" in heads:
        return lambda value: True
    if not heads and not tails:
        return frozenset(exact).__contains__
    texts, starts, ends = frozenset(exact), tuple(heads), tuple(tails)
    return lambda value: value in texts or value.startswith(starts) or value.endswith(ends)


def _sorted_out(patterns: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Whole texts, beginnings and ends; ``*`` is the empty beginning."""
    exact, heads, tails = [], [], []
    for pattern in patterns:
        if pattern.endswith(ANY):
            heads.append(pattern[:-1])
        elif pattern.startswith(ANY):
            tails.append(pattern[1:])
        else:
            exact.append(pattern)
    return exact, heads, tails


def compile_networks(networks: Iterable[str]) -> Callable[[object], bool]:
    """Whether an address, as bytes or as text, is in one of the networks; what is no network contains nothing."""
    shifts: list[tuple[int, int, int]] = []
    for text in networks:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            continue
        shift = network.max_prefixlen - network.prefixlen
        shifts.append((network.max_prefixlen // 8, int(network.network_address) >> shift, shift))

    def contains(value: object) -> bool:
        try:
            address = parse_ip(value) if isinstance(value, str) else value
        except ValueError:
            return False
        if not isinstance(address, bytes):
            return False
        if address.startswith(_V4_MAPPED):
            address = address[12:]
        number = int.from_bytes(address)
        return any(len(address) == size and number >> shift == network for size, network, shift in shifts)

    return contains


class PatternIndex:
    """Which of many entries, each with patterns, a text may concern; entries are known by their number.

    Args:
        entries: The patterns of each entry; None for one that every text concerns.
    """

    __slots__ = ("_always", "_exact", "_heads", "_tails")

    def __init__(self, entries: Sequence[Iterable[str] | None]) -> None:
        exact: dict[str, list[int]] = {}
        heads: dict[int, dict[str, list[int]]] = {}
        tails: dict[int, dict[str, list[int]]] = {}
        always: list[int] = []
        for number, patterns in enumerate(entries):
            texts, starts, ends = _sorted_out(() if patterns is None else dict.fromkeys(patterns))
            if patterns is None or "" in starts:
                always.append(number)
                continue
            for text in texts:
                exact.setdefault(text, []).append(number)
            for by_length, found in ((heads, starts), (tails, ends)):
                for text in found:
                    by_length.setdefault(len(text), {}).setdefault(text, []).append(number)
        self._exact, self._always = exact, always
        self._heads, self._tails = tuple(heads.items()), tuple(tails.items())

    def concerned(self, value: str) -> list[list[int]]:
        """Lists of the entries that a text may concern; together they have every one that it does."""
        found = [self._always] if self._always else []
        if (numbers := self._exact.get(value)) is not None:
            found.append(numbers)
        for length, entries in self._heads:
            if (numbers := entries.get(value[:length])) is not None:
                found.append(numbers)
        for length, entries in self._tails:
            if (numbers := entries.get(value[-length:] if length else "")) is not None:
                found.append(numbers)
        return found
