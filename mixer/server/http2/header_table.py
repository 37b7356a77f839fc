"""What the header blocks of a connection refer to, and the reading of them: compiled, or by the library ``hpack``.

The compiled one is used where it was built; setting MIXER_NO_NATIVE when the process starts turns it off.

Source: RFC 7541.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from hpack import Decoder, HPACKError

try:
    if os.environ.get("MIXER_NO_NATIVE"):
        raise ImportError
    from mixer.server.http2._hpack import NativeTable
except ImportError:  # or built without a C compiler
    NativeTable = None  # type: ignore[assignment, misc]


class HeaderTable(Protocol):
    """The table of one connection, in one direction."""

    @property
    def changes(self) -> int:
        """Differs after a block that changed the table."""
        ...

    def decode(self, block: bytes) -> dict[bytes, bytes]:
        """The fields of a block, the last of several of one name; every block of the connection must pass here.

        Raises:
            ValueError: The block cannot be read, or is too long; the table is of no use any more.
        """
        ...


class LibraryTable:
    """A `HeaderTable` of the library's."""

    def __init__(self, longest: int) -> None:
        """A table; the fields of a block may have so many bytes, with 32 more for each."""
        self._decoder = Decoder(max_header_list_size=longest)
        self.changes = 0

    def decode(self, block: bytes) -> dict[bytes, bytes]:
        """See `HeaderTable.decode`."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        before = len(entries), entries[0] if entries else None, table.maxsize
        try:
            fields = self._decoder.decode(block, raw=True)
        except HPACKError as exc:
            raise ValueError(str(exc)) from exc
        if len(entries) != before[0] or (entries and entries[0] is not before[1]) or table.maxsize != before[2]:
            self.changes += 1
        return {bytes(name): bytes(value) for name, value in fields}


COMPILED: Final = NativeTable is not None


def new_table(longest: int) -> HeaderTable:
    """An empty table, the compiled one where there is one."""
    return LibraryTable(longest) if NativeTable is None else NativeTable(longest)
