"""Lists that answer "is this in?" quickly, and how they are read from a provider's text.

Source: spec adapters 4.5, "Provider payload" and "Matching".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import re2
import yaml

from mixer.attributes.values import parse_ip
from mixer.errors import AdapterError
from mixer.store.protojson import ProtoEnum, describe

_PATTERNS_AT_ONCE: Final = 256
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
# All scalars are texts to this loader, so that no value can upset it.
_YAML_LOADER: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class EntryType(ProtoEnum):
    """What the entries of a list are."""

    STRINGS = 0
    CASE_INSENSITIVE_STRINGS = 1
    IP_ADDRESSES = 2
    REGEX = 3


class ListSyntaxError(AdapterError):
    """An entry or a provider's text cannot be read."""


class UnusableValueError(AdapterError):
    """A value that cannot be looked up in this kind of list; the text says why, for the client."""


class EntryList(Protocol):
    """Entries, read once and asked often."""

    def contains(self, value: str) -> bool:
        """Whether the list has the value.

        Raises:
            UnusableValueError: The value makes no sense in this list.
        """
        ...


class TextList:
    """Exact texts."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entries)

    def contains(self, value: str) -> bool:
        """Whether one entry is the value."""
        return value in self._entries


class CaselessList:
    """Texts whose case does not matter."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entry.upper() for entry in entries)

    def contains(self, value: str) -> bool:
        """Whether one entry is the value but for case."""
        return value.upper() in self._entries


class AddressList:
    """Networks, by family and prefix length; a lookup costs one set access for each length that occurs.

    An IPv6 form of an IPv4 address or network is the IPv4 one. An IPv4 address is in no IPv6 network.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        shifts: dict[int, dict[int, set[int]]] = {4: {}, 16: {}}
        for entry in entries:
            size, network, shift = _network(entry)
            shifts[size].setdefault(shift, set()).add(network)
        self._shifts = {size: tuple(sorted(by_shift.items())) for size, by_shift in shifts.items()}

    def contains(self, value: str) -> bool:
        """Whether the address is in one of the networks."""
        try:
            address = parse_ip(value)
        except ValueError:
            raise UnusableValueError(f"{value} is not a valid IP address") from None
        if address.startswith(_V4_MAPPED):
            address = address[12:]
        number = int.from_bytes(address)
        return any(number >> shift in networks for shift, networks in self._shifts[len(address)])


class PatternList:
    """RE2 patterns, tried many at a time: joined, they cost about as much as one."""

    def __init__(self, entries: Iterable[str]) -> None:
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        self._options = options
        joinable: list[str] = []
        self._programs = []
        for entry in dict.fromkeys(entries):
            try:
                program = re2.compile(entry, options)
            except re2.error as exc:
                raise ListSyntaxError(f"{entry!r} is not a regular expression: {_reason(exc)}") from None
            # A quotation that is never closed would swallow what follows it in a joined pattern.
            if r"\Q" in entry:
                self._programs.append(program)
            else:
                joinable.append(entry)
        for start in range(0, len(joinable), _PATTERNS_AT_ONCE):
            self._join(joinable[start : start + _PATTERNS_AT_ONCE])

    def contains(self, value: str) -> bool:
        """Whether a pattern matches anywhere in the value."""
        return any(program.search(value) for program in self._programs)

    def _join(self, patterns: Sequence[str]) -> None:
        """Compile the patterns into one, or into more when one would be too large."""
        try:
            self._programs.append(re2.compile("|".join(f"(?:{pattern})" for pattern in patterns), self._options))
        except re2.error:
            if len(patterns) == 1:
                self._programs.append(re2.compile(patterns[0], self._options))
                return
            half = len(patterns) // 2
            self._join(patterns[:half])
            self._join(patterns[half:])


_KINDS: Final[Mapping[EntryType, type[TextList | CaselessList | AddressList | PatternList]]] = {
    EntryType.STRINGS: TextList,
    EntryType.CASE_INSENSITIVE_STRINGS: CaselessList,
    EntryType.IP_ADDRESSES: AddressList,
    EntryType.REGEX: PatternList,
}


def make_list(entry_type: EntryType, entries: Iterable[str]) -> EntryList:
    """A list of these entries.

    Raises:
        ListSyntaxError: An entry is no address, CIDR block or pattern.
    """
    return _KINDS[entry_type](entries)


def read_entries(entry_type: EntryType, body: bytes) -> list[str]:
    """The entries in the body of a provider's answer.

    Raises:
        ListSyntaxError: The body is not UTF-8, or not in the form that the entry type asks for.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        raise ListSyntaxError(f"the list is not UTF-8 at byte {exc.start}") from None
    if entry_type is EntryType.IP_ADDRESSES:
        return _addresses_in(text)
    return [line for line in text.split("\n") if line]


def _addresses_in(text: str) -> list[str]:
    content = _parsed(text)
    if content is None:
        return []
    if not isinstance(content, Mapping):
        raise ListSyntaxError(f"expected a mapping with a whitelist, got {describe(content)}")
    entries: object = None
    for key, value in content.items():
        if isinstance(key, str) and key.lower() == "whitelist":
            entries = value
    if entries is None or entries == "":
        return []
    if not isinstance(entries, list):
        raise ListSyntaxError(f"expected a list under whitelist, got {describe(entries)}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise ListSyntaxError(f"whitelist[{index}]: expected an address or a CIDR block, got {describe(entry)}")
    return entries


def _parsed(text: str) -> object:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)  # an order of magnitude faster than YAML
        except (ValueError, RecursionError):
            pass
    try:
        return yaml.load(text, Loader=_YAML_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ListSyntaxError(f"the list is neither YAML nor JSON: {' '.join(str(exc).split())}") from None


def _network(entry: str) -> tuple[int, int, int]:
    """Bytes in an address, the network's bits as a number, and how many bits of an address lie behind them."""
    text, slash, length = entry.partition("/")
    try:
        address = parse_ip(text)
        prefix = _prefix(length) if slash else len(address) * 8
        if prefix > len(address) * 8:
            raise ValueError(entry)
    except ValueError:
        raise ListSyntaxError(f"{entry!r} is not an IP address or CIDR block") from None
    if address.startswith(_V4_MAPPED) and prefix >= 96:
        address, prefix = address[12:], prefix - 96
    shift = len(address) * 8 - prefix
    return len(address), int.from_bytes(address) >> shift, shift


def _prefix(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise ValueError(text)
    return int(text)


def _reason(exc: re2.error) -> str:
    reason = exc.args[0] if exc.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
