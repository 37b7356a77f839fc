"""The typed texts of the language: DNS names, e-mail addresses, URIs, IP addresses, timestamps.

Construction and equality of each, in one place for the function table.

Source: spec language 3.1 and 3.7 to 3.10.
"""

from __future__ import annotations

from typing import Final

from mixer.attributes.values import Timestamp, parse_ip
from mixer.errors import EvalError
from mixer.expr.dnsname import dns_name, dns_names_equal
from mixer.expr.mailaddr import email, emails_equal
from mixer.expr.uriref import uri, uris_equal

__all__ = [
    "dns_name",
    "dns_names_equal",
    "email",
    "emails_equal",
    "ip",
    "ips_equal",
    "timestamp",
    "uri",
    "uris_equal",
]

_V4_MAPPED: Final = bytes(10) + b"\xff\xff"


def ip(text: str) -> bytes:
    """The address that ``text`` writes, always 16 bytes: IPv4 comes in its v4-mapped form.

    Raises:
        EvalError: ``could not convert TEXT to IP_ADDRESS``.

    Source: spec language 3.7.
    """
    try:
        return _wide(parse_ip(text))
    except ValueError:
        raise EvalError(f"could not convert {text} to IP_ADDRESS") from None


def ips_equal(a: bytes, b: bytes) -> bool:
    """Whether two values are the same address; values of 4 bytes equal their v4-mapped form.

    Values of any other length, which the wire can bring, equal only themselves.

    Source: spec language 3.1.
    """
    return a == b or _wide(a) == _wide(b)


def _wide(address: bytes) -> bytes:
    return _V4_MAPPED + address if len(address) == 4 else address


def timestamp(text: str) -> Timestamp:
    """The instant that ``text`` writes in RFC 3339; the zone is not kept.

    Raises:
        EvalError: ``could not convert 'TEXT' to TIMESTAMP. expected format: '2006-01-02T15:04:05Z07:00'``.

    Source: spec language 3.7.
    """
    try:
        return Timestamp.parse(text)
    except ValueError:
        raise EvalError(
            f"could not convert '{text}' to TIMESTAMP. expected format: '2006-01-02T15:04:05Z07:00'"
        ) from None
