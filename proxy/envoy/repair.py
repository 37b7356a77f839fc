"""Messages of Envoy's that hold bytes of a client where protobuf wants text: such a message is read all the same.

Envoy makes text of most headers, but not of those in custom tags and rate limit descriptors. Refusing the message would
let whoever sends a header that is no UTF-8 pass uncounted.
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

M = TypeVar("M", bound=Message)

_MAX_DEPTH: Final = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse(kind: type[M], data: bytes) -> M:
    """The message in these bytes; what is no text where text should be has U+FFFD for each bad byte.

    Raises:
        DecodeError: They are no message of this kind.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        return kind.FromString(_repaired(data, kind.DESCRIPTOR, 0))


def _repaired(data: bytes, descriptor: Any, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise DecodeError("nested too deep")
    out = bytearray()
    fields: Any = UnknownFieldSet(Empty.FromString(data))  # iterable, though its stubs do not say so
    for field in fields:
        number, wire, value = field.field_number, field.wire_type, field.data
        out += _varint(number << 3 | wire)
        if wire == _VARINT:
            out += _varint(value)
        elif wire == _FIXED64:
            out += struct.pack("<Q", value)
        elif wire == _FIXED32:
            out += struct.pack("<I", value)
        elif wire == _BYTES:
            known = descriptor.fields_by_number.get(number)
            if known is not None and known.type == FieldDescriptor.TYPE_STRING:
                value = value.decode("utf-8", "replace").encode()
            elif known is not None and known.message_type is not None:
                value = _repaired(value, known.message_type, depth + 1)
            out += _varint(len(value)) + value
        else:
            raise DecodeError(f"field {number} is a group")
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
