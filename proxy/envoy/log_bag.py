"""Attribute bags over log entries: a request or connection as it began, and its record.

What is asked of a bag is fetched from the entry by the tables of `proxy.envoy.log_http` and `proxy.envoy.log_tcp`.
Source: spec envoy 5.3, spec proxy 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mixer.attributes import ABSENT, Absent, AttributeBag, AttributeValue
from proxy.envoy.log_entry import LogEntry, Read


class DerivedBag:
    """What a request or connection was when it began: attributes of the check, and for others the entry.

    This is what the sidecar client composes with configured attributes.
    """

    __slots__ = ("_entry", "_reads", "_told")

    def __init__(self, entry: LogEntry, reads: Mapping[str, Read]) -> None:
        self._entry = entry
        self._reads = reads
        self._told = entry.told()

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """The value of an attribute, or the default."""
        value = self._told.get(name)
        if value is not None:
            return value
        read = self._reads.get(name)
        return default if read is None else read(self._entry)

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        return self.lookup(name, ABSENT)

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        return self.lookup(name, ABSENT)

    def names(self) -> Iterable[str]:
        """Names of the attributes present."""
        return [name for name in {**self._told, **self._reads} if self.lookup(name, ABSENT) is not ABSENT]


Merge = Callable[[Any, AttributeValue | Absent], AttributeValue | Absent]
"""What an attribute is at the end: from the entry, and what it was at the beginning."""


class ReportBag:
    """A record for Report: what is known at the end, over the composed attributes of the beginning.

    Most attributes are read once, so that only maps, which are costly to make, are kept.

    Args:
        entry: The entry.
        composed: What the sidecar client made of its `DerivedBag`.
        reads: Fetches what is known at the end.
        merges: Makes of a value of the beginning that of the end.
    """

    __slots__ = ("_below", "_look", "_maps", "_merges", "_reads", "_whole", "entry")

    def __init__(
        self, entry: LogEntry, composed: AttributeBag, reads: Mapping[str, Read], merges: Mapping[str, Merge]
    ) -> None:
        self.entry: Final = entry
        self._below = composed
        self._look = composed.lookup
        self._reads = reads
        self._merges = merges
        self._maps: dict[str, AttributeValue] = {}
        self._whole: dict[str, AttributeValue] | None = None

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """The value of an attribute, or the default."""
        read = self._reads.get(name)
        if read is not None:
            value = self._maps.get(name)
            if value is not None:
                return value
            found = read(self.entry)
            if found is not ABSENT:
                if found.__class__ is dict:
                    self._maps[name] = found
                return found
        elif name in self._merges:
            return self._merged(name)
        found = self._look(name, default)
        return self.entry.stream.local.get(name, default) if found is default else found

    def _merged(self, name: str) -> AttributeValue | Absent:
        value: AttributeValue | Absent | None = self._maps.get(name)
        if value is None:
            value = self._merges[name](self.entry, self._look(name, ABSENT))
            if value is not ABSENT:
                self._maps[name] = value
        return value

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        return self.lookup(name, ABSENT)

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        whole = self._whole
        return self.lookup(name, ABSENT) if whole is None else whole.get(name, ABSENT)

    def names(self) -> Iterable[str]:
        """Names of the attributes present; their values are kept for `peek`, because encoders ask for all of them."""
        if self._whole is None:
            known = {*self._reads, *self._merges, *self._below.names(), *self.entry.stream.local}
            values = ((name, self.lookup(name, ABSENT)) for name in known)
            self._whole = {name: value for name, value in values if value is not ABSENT}
        return self._whole
