"""Header blocks: what those of requests say, and those of answers, written out beforehand.

A client sends nearly the same headers with each call, so after the first its block is a few references into
the table that both sides keep. Such a block means the same for as long as the table does, and is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from mixer.server.http2.frames import ErrorCode, PeerError
from mixer.server.http2.header_table import new_table

MAX_HEADER_BYTES: Final = 64 << 10
"""Of one header block, compressed or not."""

_REMEMBERED: Final = 256
_SAFE_IN_MESSAGE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@dataclass(frozen=True, slots=True)
class Head:
    """What a call is told by its headers.

    Attributes:
        path: ``/service/method``.
        encoding: How messages are compressed that say they are.
        fault: The HTTP status of the answer when this is no gRPC call, else 0.
        fields: All of them, names in lower case, the last of several of one name.
    """

    path: str
    encoding: str = "identity"
    fault: int = 0
    fields: Mapping[bytes, bytes] = field(default_factory=dict, compare=False)

    def header(self, name: str, /) -> str:
        """A field by its name; empty when there is none."""
        return self.fields.get(name.encode("latin-1", "replace"), b"").decode("latin-1")


class HeadDecoder:
    """The decoder of one connection."""

    def __init__(self) -> None:
        self._table = new_table(MAX_HEADER_BYTES)
        self._known: dict[bytes, Head] = {}

    def decode(self, block: bytes) -> Head:
        """Read a block; every block of a connection must pass here, for each may change the table.

        Raises:
            PeerError: The block cannot be read, or is no request's.
        """
        head = self._known.get(block)
        if head is not None:
            return head
        table = self._table
        before = table.changes
        try:
            fields = table.decode(block)
        except ValueError as exc:
            raise PeerError(ErrorCode.COMPRESSION_ERROR, f"headers cannot be read: {exc}") from exc
        head = _head(fields)
        if table.changes != before or len(self._known) >= _REMEMBERED:
            self._known.clear()
        else:
            self._known[block] = head
        return head


def _head(fields: dict[bytes, bytes]) -> Head:
    path = fields.get(b":path", b"").decode("latin-1")
    if fields.get(b":method") != b"POST":
        return Head(path, fault=405)
    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        return Head(path, fault=415)
    return Head(path, fields.get(b"grpc-encoding", b"identity").decode("latin-1"), fields=fields)


def _integer(value: int, prefix_bits: int) -> bytes:
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((value,))
    rest = value - limit
    out = bytearray((limit,))
    while rest >= 128:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def literal(name: str, value: str) -> bytes:
    """A field that no table remembers, so that blocks can be put together from ready pieces."""
    n, v = name.encode(), value.encode()
    return b"\0" + _integer(len(n), 7) + n + _integer(len(v), 7) + v


RESPONSE: Final = (
    b"\x88"  # :status 200, from the static table
    + literal("content-type", "application/grpc")
    + literal("grpc-accept-encoding", "identity,deflate,gzip")
)
OK_TRAILERS: Final = literal("grpc-status", "0")


def http_fault(status: int) -> bytes:
    """The whole answer to what is no gRPC call."""
    return literal(":status", str(status))


def trailers(code: int, message: str) -> bytes:
    """How a call ended."""
    text = quote(message.encode("utf-8", "replace"), safe=_SAFE_IN_MESSAGE)
    return literal("grpc-status", str(code)) + (literal("grpc-message", text) if text else b"")
