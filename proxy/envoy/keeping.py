"""Which attributes of a check are kept for its report: those that somebody reads and the log entry does not tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from mixer.api.wanted import Wanted
from mixer.attributes import ABSENT, AttributeBag, AttributeValue
from proxy.envoy.check_bag import HTTP_SOURCES, TCP_SOURCES

_ALL: Final = Wanted({name: None for name in {**HTTP_SOURCES, **TCP_SOURCES} if name != "request.headers"})
"""Kept when nobody says what is read; of headers, the log's own have to do then."""


_MAPS: Final = (dict, Mapping)
"""A dict is known by its type, before the slower question whether it is a mapping."""


class Keeper:
    """Picks the attributes; what there is to pick is worked out once for each configuration."""

    __slots__ = ("_default", "_everything", "_known", "_names", "_wanted")

    def __init__(self, wanted: Callable[[], Wanted | None] = lambda: None, headers: Collection[str] = ()) -> None:
        """Ask ``wanted`` what reports read, before each pick; None means that it is not known.

        Then all attributes are kept, and of request headers those named here.
        """
        self._wanted = wanted
        self._default = _ALL | Wanted({"request.headers": frozenset(headers)}) if headers else _ALL
        self._known: Wanted | None = None
        self._everything = True
        self._names: dict[tuple[bool, bool], tuple[tuple[str, frozenset[str] | None], ...]] = {}
        self._look(None)

    def _look(self, wanted: Wanted | None) -> None:
        self._known = wanted
        self._everything = wanted is None
        attributes = (self._default if wanted is None else wanted).attributes
        for tcp, sources in ((False, HTTP_SOURCES), (True, TCP_SOURCES)):
            for changed in (False, True):
                self._names[tcp, changed] = tuple(
                    (name, attributes[name])
                    for name, source in sources.items()
                    if name in attributes and (not source.in_log or (changed and source.as_left))
                )

    def pick(
        self, bag: AttributeBag, static: Mapping[str, AttributeValue], *, tcp: bool, changed: bool = False
    ) -> dict[str, AttributeValue]:
        """The attributes to keep of a bag; of maps only the entries that are read.

        Args:
            bag: What was seen.
            static: What was configured for the route.
            tcp: It is a connection.
            changed: The answer changes headers of the request.
        """
        wanted = self._wanted()
        if wanted is not self._known:
            self._look(wanted)
        kept: dict[str, AttributeValue] = {}
        for name, keys in self._names[tcp, changed]:
            value = bag.peek(name)
            if value is ABSENT:
                continue
            if keys is not None and isinstance(value, _MAPS):
                if entries := {key: value[key] for key in keys if key in value}:
                    kept[name] = entries
            else:
                kept[name] = value
        for name, value in static.items():
            if name not in kept and (self._everything or name in wanted.attributes):  # type: ignore[union-attr]
                kept[name] = value
        return kept
