"""How entries and the state of a journal look on disk; every record says itself whether it is whole.

A record is 4 bytes of length, 4 of CRC-32 (over the length and what follows), then ``[number, tag, data]`` in
MessagePack. The cursor is two slots that are written in turn, so that a torn write leaves the other one.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import msgpack  # type: ignore[import-untyped]

from mixer.adapters.fluentd.entries import Entry

_HEADER: Final = struct.Struct(">I4s")
_SLOT: Final = struct.Struct(">QQQ4s")


def _checksum(*parts: bytes) -> bytes:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value.to_bytes(4, "big")


def pack_record(number: int, entry: Entry) -> bytes:
    """The bytes of one entry."""
    body: bytes = msgpack.packb((number, entry.tag, entry.data), unicode_errors="replace")
    return _HEADER.pack(len(body), _checksum(len(body).to_bytes(4, "big"), body)) + body


def read_records(file: BinaryIO, size: int) -> Iterator[tuple[int, int, Entry]]:
    """The whole records from where a file stands: offset of the end, number, entry.

    A record that is damaged within is left out; one whose length makes no sense ends the file, as there is no telling
    where the next one starts. Whoever reads notices both by the numbers.

    Args:
        file: Stands at the start of a record.
        size: Of the file; what is written later is not read.
    """
    offset = file.tell()
    while offset + _HEADER.size <= size:
        length, checksum = _HEADER.unpack(file.read(_HEADER.size))
        offset += _HEADER.size + length
        if offset > size:
            return
        body = file.read(length)
        if _checksum(length.to_bytes(4, "big"), body) == checksum:
            number, tag, data = msgpack.unpackb(body)
            yield offset, number, Entry(tag, data)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a journal is done with.

    Attributes:
        done: Number of the first entry that is not.
        cut: The entries from ``done`` up to here, exclusive, were sent as one batch; ``done`` when none were.
    """

    done: int = 0
    cut: int = 0


class CursorFile:
    """Keeps a cursor; a write is one call to the system and needs no space."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._version = 0

    def load(self) -> Cursor:
        """The newest whole cursor; the start when there is none."""
        newest = Cursor()
        for slot in range(2):
            data = os.pread(self._descriptor, _SLOT.size, slot * _SLOT.size)
            if len(data) < _SLOT.size:
                continue
            version, done, cut, checksum = _SLOT.unpack(data)
            if checksum == _checksum(data[:-4]) and version > self._version:
                self._version, newest = version, Cursor(done, cut)
        return newest

    def save(self, cursor: Cursor) -> None:
        """Replace the older slot."""
        version = self._version + 1
        data = struct.pack(">QQQ", version, cursor.done, cursor.cut)
        os.pwrite(self._descriptor, data + _checksum(data), version % 2 * _SLOT.size)
        self._version = version

    def close(self) -> None:
        """Free the file."""
        os.close(self._descriptor)
