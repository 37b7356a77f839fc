"""Layered bags: a request's attributes in the order of their precedence, read where they lie.

Source: spec proxy 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mixer.attributes import ABSENT, Absent, AttributeBag, AttributeValue
from proxy.client.apispec import HttpApi
from proxy.client.values import AttributeValues

_NEVER_REPLACED: Final = ("destination.ip", "destination.port")


class LayeredBag:
    """``top`` over ``middle`` over ``bottom``; nothing is copied, so none of them may change."""

    __slots__ = ("_bottom", "_look", "_middle", "_top")

    def __init__(self, top: AttributeValues, middle: AttributeBag, bottom: AttributeValues) -> None:
        self._top = top
        self._middle = middle
        self._bottom = bottom
        self._look = middle.lookup

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        return self.lookup(name, ABSENT)

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """The value of the highest layer that has the attribute, or the default."""
        if name in self._top:
            return self._top[name]
        value = self._look(name, default)
        return self._bottom.get(name, default) if value is default else value

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """Like ``get``, unrecorded."""
        if name in self._top:
            return self._top[name]
        value = self._middle.peek(name)
        return self._bottom.get(name, ABSENT) if value is ABSENT else value

    def names(self) -> Iterable[str]:
        """Names of all layers, each once."""
        return {*self._bottom, *self._middle.names(), *self._top}


class ApiBag:
    """A request's own attributes with those of its API on top, which are found out when one is asked for."""

    __slots__ = ("_api", "_below", "_found", "_look", "_names")

    def __init__(self, api: HttpApi, below: AttributeBag) -> None:
        self._api = api
        self._names = api.names
        self._below = below
        self._look = below.lookup
        self._found: AttributeValues | None = None

    def get(self, name: str, /) -> AttributeValue | Absent:
        """The value of an attribute, or `ABSENT`."""
        return self.lookup(name, ABSENT) if name in self._names else self._below.get(name)

    def lookup(self, name: str, default: Absent, /) -> AttributeValue | Absent:
        """What the API says, or else the value below."""
        if name in self._names and name in self._values():
            return self._values()[name]
        return self._look(name, default)

    def peek(self, name: str, /) -> AttributeValue | Absent:
        """Like ``get``, unrecorded."""
        if name in self._names and name in self._values():
            return self._values()[name]
        return self._below.peek(name)

    def names(self) -> Iterable[str]:
        """Names of both layers, each once."""
        return {*self._below.names(), *self._values()}

    def _values(self) -> AttributeValues:
        if self._found is None:
            self._found = self._api.attributes(self._below)
        return self._found


def with_report(bag: AttributeBag, values: AttributeValues) -> AttributeBag:
    """A composed bag with what is known at the end of the request on top; an upstream address replaces none.

    Source: spec proxy 2.2.
    """
    kept = [name for name in _NEVER_REPLACED if name in values and bag.peek(name) is not ABSENT]
    if kept:
        values = {name: value for name, value in values.items() if name not in kept}
    return LayeredBag(values, bag, {})
