"""gRPC's messages in the DATA of a stream: a flag, a length, and so many bytes. Source: PROTOCOL-HTTP2.md."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

from mixer.api.codes import Code
from mixer.api.rpc import ServiceError

PREFIX_BYTES: Final = 5
_WBITS: Final[Mapping[str, int]] = {"gzip": 31, "deflate": 15}


def framed(message: bytes) -> bytes:
    """A message with its prefix, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class MessageReader:
    """Cuts the DATA of one stream into messages."""

    __slots__ = ("_compressed", "_encoding", "_have", "_limit", "_need", "_parts", "_prefix")

    def __init__(self, limit: int, encoding: str) -> None:
        self._limit, self._encoding = limit, encoding
        self._prefix = b""
        self._need = -1  # not known: the prefix is being read
        self._have = 0
        self._compressed = 0
        self._parts: list[bytes] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is begun and not ended."""
        return self._need < 0 and not self._prefix

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now.

        Raises:
            ServiceError: A message is too large, or compressed in an unknown way.
        """
        messages: list[bytes] = []
        while data or self._need == 0:
            if self._need < 0:
                data = self._prefix + data if self._prefix else data
                if len(data) < PREFIX_BYTES:
                    self._prefix = data
                    break
                self._prefix = b""
                self._compressed = data[0]
                self._need = int.from_bytes(data[1:PREFIX_BYTES], "big")
                self._check(self._need)
                data = data[PREFIX_BYTES:]
            missing = self._need - self._have
            if len(data) < missing:
                self._parts.append(data)
                self._have += len(data)
                break
            self._parts.append(data if len(data) == missing else data[:missing])
            data = data[missing:]
            message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            self._need, self._have = -1, 0
            messages.append(self._inflated(message) if self._compressed else message)
        return messages

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ServiceError(Code.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {self._limit})")

    def _inflated(self, message: bytes) -> bytes:
        wbits = _WBITS.get(self._encoding)
        if self._compressed != 1 or wbits is None:
            raise ServiceError(Code.UNIMPLEMENTED, f"messages compressed as {self._encoding!r} cannot be read")
        inflate = zlib.decompressobj(wbits)
        try:
            whole = inflate.decompress(message, self._limit + 1)
        except zlib.error as exc:
            raise ServiceError(Code.INTERNAL, f"the message cannot be decompressed: {exc}") from exc
        self._check(len(whole))
        if not inflate.eof:
            raise ServiceError(Code.INTERNAL, "the message cannot be decompressed: it is cut off")
        return whole
