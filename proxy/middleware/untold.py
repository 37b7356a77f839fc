"""What no Python server tells of a request, for the `proxy.envoy.check_bag.Seen` of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixer.attributes import AttributeValue
from proxy.envoy.identity import NO_TOKEN, Token

NOTHING: Final[Mapping[str, Any]] = {}


class Untold:
    """The parts of a `proxy.envoy.check_bag.Seen` that stay empty; the record has the server's own address."""

    __slots__ = ()

    tcp = False
    service = ""
    stream = ""
    static: Mapping[str, AttributeValue] = NOTHING

    def local_ip(self) -> str:
        """Not told."""
        return ""

    def local_port(self) -> int:
        """Not told."""
        return 0

    def local_principal(self) -> str:
        """Not told."""
        return ""

    def server_name(self) -> str:
        """Not told."""
        return ""

    def token(self) -> Token:
        """None is verified here."""
        return NO_TOKEN

    def local_labels(self) -> Mapping[str, str]:
        """None are known."""
        return NOTHING

    def filter_metadata(self, name: str) -> Mapping[str, str]:
        """There are no filters."""
        return NOTHING
