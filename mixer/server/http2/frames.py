"""The layout of HTTP/2 frames. Source: RFC 9113 sections 4, 6 and 7."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384
MAX_WINDOW: Final = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

SET_MAX_CONCURRENT_STREAMS: Final = 3
SET_INITIAL_WINDOW_SIZE: Final = 4
SET_MAX_FRAME_SIZE: Final = 5
SET_MAX_HEADER_LIST_SIZE: Final = 6

Frame: TypeAlias = tuple[int, int, int, bytes]
"""Kind, flags, stream and payload."""

_HEAD: Final = struct.Struct(">HBBBL")
_SETTING: Final = struct.Struct(">HL")
_UINT32: Final = struct.Struct(">L")


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class PeerError(Exception):
    """The peer broke the protocol, or asks too much: the connection ends with the code."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The settings of a SETTINGS frame, in their order."""
    if len(payload) % _SETTING.size:
        raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    yield from _SETTING.iter_unpack(payload)


def window_update(stream: int, by: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _UINT32.pack(by))


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _UINT32.pack(code))


def goaway(last_stream: int, code: ErrorCode, message: str = "") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _UINT32.pack(last_stream) + _UINT32.pack(code) + message.encode())


def read_uint31(payload: bytes) -> int:
    """The one number of a WINDOW_UPDATE or RST_STREAM frame."""
    if len(payload) != _UINT32.size:
        raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "a frame of a broken length")
    return int(_UINT32.unpack(payload)[0]) & MAX_WINDOW


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


class FrameReader:
    """Cuts what arrives into frames; what is incomplete waits, uncopied, for the rest."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        self._waiting: list[bytes] = []
        self._have = 0
        self._need = HEAD_BYTES

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now.

        Raises:
            PeerError: A frame is larger than allowed.
        """
        self._have += len(data)
        if self._have < self._need:
            self._waiting.append(data)
            return
        if self._waiting:
            self._waiting.append(data)
            data = b"".join(self._waiting)
            self._waiting.clear()
        at, end = 0, len(data)
        need = HEAD_BYTES
        while end - at >= HEAD_BYTES:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            size = high << 8 | low
            if size > self._max:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            need = HEAD_BYTES + size
            if end - at < need:
                break
            yield kind, flags, stream & MAX_WINDOW, data[at + HEAD_BYTES : at + need]
            at += need
            need = HEAD_BYTES
        self._need = need
        self._have = end - at
        if at < end:
            self._waiting.append(data[at:] if at else data)
