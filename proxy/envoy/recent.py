"""The latest checks of connections, for the entries of a log that cannot bring the check's record themselves.

The beginning of a connection is logged before its TLS handshake is over, and before its check. Checks and entries have
Envoy's name for the connection in common.

Source: spec envoy 4.3 and 5.3.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from proxy.envoy.correlation import CheckRecord

KEPT: Final = 4096


class RecentChecks:
    """Records of the last `KEPT` checks that nobody has taken."""

    __slots__ = ("_kept", "_records")

    def __init__(self, kept: int = KEPT) -> None:
        self._records: OrderedDict[str, CheckRecord] = OrderedDict()
        self._kept = kept

    def __len__(self) -> int:
        return len(self._records)

    def put(self, stream: str, record: CheckRecord) -> None:
        """Keep the record of a connection's check; the oldest makes room."""
        self._records[stream] = record
        self._records.move_to_end(stream)
        if len(self._records) > self._kept:
            self._records.popitem(last=False)

    def take(self, stream: str) -> CheckRecord | None:
        """The record of a connection's check, once; None when there was none, or it was long ago."""
        return self._records.pop(stream, None)
