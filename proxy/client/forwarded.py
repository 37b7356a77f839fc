"""Attributes that one proxy forwards to the next, in the header ``x-istio-attributes``.

Source: spec proxy 3.4.
"""

from __future__ import annotations

import base64
import binascii
import functools
from typing import Final

from google.protobuf.message import DecodeError

from mixer.api.messages import Attributes
from proxy.client.values import NOTHING, AttributeValues, to_message

HEADER: Final = "x-istio-attributes"

BELIEVED: Final = frozenset(
    {
        "source.uid",
        "source.namespace",
        "destination.service.name",
        "destination.service.uid",
        "destination.service.host",
        "destination.service.namespace",
    }
)
"""What is taken from the header; anything else in it is ignored."""

_REMEMBERED_LENGTH: Final = 2_048


def read_forwarded(header: str) -> AttributeValues:
    """The believed texts of a header; nothing when it cannot be decoded. Not to be changed by the caller."""
    if not header:
        return NOTHING
    return _remembered(header) if len(header) <= _REMEMBERED_LENGTH else _read(header)


def _read(header: str) -> AttributeValues:
    try:
        message = Attributes.FromString(binascii.a2b_base64(header, strict_mode=True))
    except (ValueError, DecodeError):
        return NOTHING
    return {
        name: holder.string_value
        for name, holder in message.attributes.items()
        if name in BELIEVED and holder.string_value
    }


_remembered = functools.lru_cache(maxsize=512)(_read)  # few proxies send a service most of what it gets


def write_forwarded(values: AttributeValues) -> str:
    """The header for the next hop, empty for nothing; raises ValueError for values that a message cannot hold."""
    if not values:
        return ""
    return base64.b64encode(to_message(values).SerializeToString(deterministic=True)).decode()
