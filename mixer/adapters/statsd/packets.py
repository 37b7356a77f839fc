"""Lines as datagrams: filled up to a size or a number of lines, and kept, within bounds, until they have left."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Packet(NamedTuple):
    """A datagram, and how many instances are in it."""

    data: bytes
    instances: int


class Packets:
    """Datagrams that wait, and the one that is being filled."""

    def __init__(self, *, packet_bytes: int, packet_lines: int | None, buffer_bytes: int) -> None:
        self._packet_bytes, self._packet_lines, self._buffer_bytes = packet_bytes, packet_lines, buffer_bytes
        self._full: deque[Packet] = deque()
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._waiting_bytes = 0

    def add(self, line: bytes) -> bool:
        """Take a line; False: there is no room for it. One that is larger than a datagram gets its own."""
        size = len(line) + 1  # with the newline before the next
        if self._waiting_bytes + size > self._buffer_bytes:
            return False
        if self._open and self._open_bytes + len(line) > self._packet_bytes:
            self.close_open()
        self._open.append(line)
        self._open_bytes += size
        self._waiting_bytes += size
        if len(self._open) == self._packet_lines or self._open_bytes > self._packet_bytes:
            self.close_open()
        return True

    def close_open(self) -> None:
        """What is there of the datagram that is being filled is worth sending."""
        if self._open:
            self._full.append(Packet(b"\n".join(self._open), len(self._open)))
            self._open, self._open_bytes = [], 0

    @property
    def first(self) -> Packet | None:
        """The datagram that is to leave next, None when none is full."""
        return self._full[0] if self._full else None

    def pop(self) -> Packet:
        """Take the first away."""
        packet = self._full.popleft()
        self._waiting_bytes -= len(packet.data) + 1
        return packet

    def clear(self) -> int:
        """Forget all of it; how many instances that were."""
        self.close_open()
        count = sum(packet.instances for packet in self._full)
        self._full.clear()
        self._waiting_bytes = 0
        return count
