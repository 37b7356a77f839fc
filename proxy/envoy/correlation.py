"""What a check leaves in a request's dynamic metadata, so that its access log entry alone makes the report.

Envoy hands the metadata of its ``ext_authz`` filters back in every access log entry, of allowed and denied requests
alike. So the log entry brings along which verdict there was, which service's configuration applied, and those
attributes of the check that nothing else in the entry tells; no table of checks in progress is kept anywhere.

The record is a struct under the key ``mixer`` of the filter's namespace. Fields that have their default are left
out, so most records are short::

    {"mixer": {"id": "...", "service": "...", "forwarded": "...", "attrs": "{...}", "cache_hit": true,
               "quota_cache_hit": true, "code": 7, "message": "...", "direct": 302, "failed": true, "checked": false,
               "cut": true},
     "remove_response_headers": ["server"]}

``attrs`` is a JSON object of attributes: strings, whole numbers, floating point numbers, truth values and string maps
are themselves; lists tag the rest: ``["b", base64]`` bytes, ``["t", nanoseconds]`` a time, ``["d", nanoseconds]`` a
duration, ``["f", "nan"]`` a floating point number that is none. From the HTTP form of external authorization the whole record comes as JSON text under
`HTTP_FORM_KEY`, because metadata made of headers is text. Source: spec envoy 5.3.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import cache, lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson
from google.protobuf.struct_pb2 import Struct

from mixer.attributes import AttributeValue, Duration, Timestamp

HTTP_FILTER: Final = "envoy.filters.http.ext_authz"
TCP_FILTER: Final = "envoy.filters.network.ext_authz"
KEY: Final = "mixer"
REMOVALS_KEY: Final = "remove_response_headers"
"""Beside the record: names of response headers that a Lua filter drops. Source: spec envoy 5.2."""

HTTP_FORM_KEY: Final = "x-mixer-md-mixer"
"""Where the HTTP form's record is: the header that carried it, under which Envoy files it."""

ATTRIBUTES_BYTES: Final = 4096
"""Of the attributes' JSON text: the record travels twice, and every byte of it counts against Envoy's log buffer."""

_ONE_BYTE: Final = tuple(bytes((number,)) for number in range(128))
_DOUBLE: Final = struct.Struct("<d")
_NO_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = MappingProxyType({})


class CheckRecord(NamedTuple):
    """What a report needs to know of the check.

    Attributes:
        id: Names the check; the same as Envoy's stream id where the filter was told to send that.
        service: Key of the service's configuration, for `proxy.policy.PolicyClient`.
        forwarded: The ``x-istio-attributes`` header that the request came with.
        attributes: Derived at check time and not to be had from the log entry; they win over what the entry says.
        check_cache_hit: As in `proxy.policy.Verdict`, and so ``quota_cache_hit``, ``code``, ``message``,
            ``checked`` and ``failed``.
        direct: HTTP status of an answer that was given in place of the service's, 0 for none.
        cut: Some attributes were too large for the record.
    """

    id: str = ""
    service: str = ""
    forwarded: str = ""
    attributes: Mapping[str, AttributeValue] = _NO_ATTRIBUTES
    check_cache_hit: bool = False
    quota_cache_hit: bool = False
    code: int = 0
    message: str = ""
    direct: int = 0
    checked: bool = True
    failed: bool = False
    cut: bool = False


def plain(record: CheckRecord) -> dict[str, Any]:
    """The record as plain values, its attributes as text; `CheckRecord.cut` is set when some did not fit."""
    values = _values(record)
    if "attrs" in values:
        values["attrs"] = values["attrs"].decode()
    return values


def _values(record: CheckRecord) -> dict[str, Any]:
    """What is not as by default, and the attributes in UTF-8."""
    identifier, service, forwarded, attributes, cache_hit, quota_hit, code, message, direct, checked, failed, cut = (
        record
    )
    values: dict[str, Any] = {}
    if identifier:
        values["id"] = identifier
    if service:
        values["service"] = service
    if forwarded:
        values["forwarded"] = forwarded
    if attributes:
        values["attrs"], fits = _attributes(attributes, ATTRIBUTES_BYTES)
        cut = cut or not fits
    if cache_hit:
        values["cache_hit"] = True
    if quota_hit:
        values["quota_cache_hit"] = True
    if code:
        values["code"] = code
        values["message"] = message
    if direct:
        values["direct"] = direct
    if not checked:
        values["checked"] = False
    if failed:
        values["failed"] = True
    if cut:
        values["cut"] = True
    return values


def write_record(record: CheckRecord, into: Struct) -> bool:
    """Put a record into the dynamic metadata of a filter; tells whether all its attributes did fit."""
    data, fits = record_bytes(record)
    into.MergeFromString(data)
    return fits


def record_bytes(record: CheckRecord) -> tuple[bytes, bool]:
    """A serialized `Struct` with the record alone, and whether all its attributes did fit.

    Written by hand, because a struct's maps of messages are what protobuf in Python is slowest at, and every answer
    has one. What stands before a text depends on its length alone, and lengths repeat.
    """
    values = _values(record)
    pieces: list[bytes] = []
    for name, value in values.items():
        kind = value.__class__
        if kind is str:
            value = value.encode("utf-8", "replace")
        elif kind is not bytes:
            pieces.append(_entry(_key(name), value))
            continue
        pieces.append(_before_text(name, len(value)))
        pieces.append(value)
    fields = b"".join(pieces)
    return _before_record(len(fields)) + fields, "cut" not in values


@cache
def _key(name: str) -> bytes:
    """The beginning of a map entry, up to its value."""
    return b"\x0a" + sized(name.encode()) + b"\x12"


@lru_cache(maxsize=2048)
def _before_text(name: str, size: int) -> bytes:
    """What a map entry that holds a text has before the text."""
    return _before(size, b"\x1a", _key(name), b"\x0a")


@lru_cache(maxsize=2048)
def _before_record(size: int) -> bytes:
    """What the struct of a record has before the record's entries."""
    return _before(size, b"\x2a", _key(KEY), b"\x0a")


def _before(size: int, *heads: bytes) -> bytes:
    """Beginnings of messages in messages around data of a size; the innermost is given first."""
    opening = b""
    for head in heads:
        opening = head + _varint(size + len(opening)) + opening
    return opening


def _entry(key: bytes, value: float | bool) -> bytes:
    inner = (b"\x20\x01" if value else b"\x20\x00") if isinstance(value, bool) else b"\x11" + _DOUBLE.pack(value)
    return b"\x0a" + sized(key + sized(inner))


def sized(data: bytes) -> bytes:
    """Data with its length in front, as a varint; below 256 MiB."""
    return _varint(len(data)) + data


def _varint(size: int) -> bytes:
    if size < 128:
        return _ONE_BYTE[size]
    if size < 16_384:
        return bytes((size & 127 | 128, size >> 7))
    return bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21))


def write_removals(names: tuple[str, ...], into: Struct) -> None:
    """Put names of response headers beside the record, for the Lua filter."""
    listed = into.fields[REMOVALS_KEY].list_value.values
    for name in names:
        listed.add().string_value = name


def http_form_text(record: CheckRecord) -> str:
    """A record as text that a header can carry."""
    values = plain(record)
    text = _written(values).decode()
    return text if text.isascii() and text.isprintable() else _header_text(values)


def read_record(filter_metadata: Mapping[str, Struct]) -> CheckRecord | None:
    """The record in the metadata of a log entry; None when no check of ours left one, or it makes no sense."""
    for namespace in (HTTP_FILTER, TCP_FILTER):
        if namespace not in filter_metadata:
            continue
        fields = filter_metadata[namespace].fields
        if KEY in fields:
            return _read({name: _plain_value(value) for name, value in fields[KEY].struct_value.fields.items()})
        if HTTP_FORM_KEY in fields:
            try:
                values = orjson.loads(fields[HTTP_FORM_KEY].string_value)
            except ValueError:
                return None
            return _read(values) if isinstance(values, dict) else None
    return None


def _plain_value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind in ("string_value", "number_value", "bool_value") else None


def _read(values: Mapping[str, Any]) -> CheckRecord:
    def text(name: str) -> str:
        value = values.get(name)
        return value if isinstance(value, str) else ""

    def number(name: str) -> int:
        value = values.get(name)
        return int(value) if isinstance(value, int | float) and abs(value) < 1 << 31 else 0

    return CheckRecord(
        text("id"),
        text("service"),
        text("forwarded"),
        read_attributes(text("attrs")),
        values.get("cache_hit") is True,
        values.get("quota_cache_hit") is True,
        number("code"),
        text("message"),
        number("direct"),
        values.get("checked") is not False,
        values.get("failed") is True,
        values.get("cut") is True,
    )


# The attributes


def attributes_text(values: Mapping[str, AttributeValue], limit: int = ATTRIBUTES_BYTES) -> tuple[str, bool]:
    """Attributes as JSON of at most ``limit`` bytes, and whether all did fit; the largest are left out first."""
    data, fits = _attributes(values, limit)
    return data.decode(), fits


def _attributes(values: Mapping[str, AttributeValue], limit: int) -> tuple[bytes, bool]:
    data = _written(values)
    if b"null" in data:  # there is no such value, but orjson writes it for numbers that are none
        data = _written({name: _tagged(value) for name, value in values.items()})
    if len(data) <= limit:
        return data, True
    tagged = {name: _tagged(value) for name, value in values.items()}
    sizes: list[tuple[int, str, str | None]] = []
    for name, value in tagged.items():
        if isinstance(value, dict):
            sizes += ((len(_written([key, item])) + 1, name, key) for key, item in value.items())
            sizes.append((len(_written(name)) + 4, name, None))
        else:
            sizes.append((len(_written([name, value])) + 1, name, None))
    kept: dict[str, Any] = {}
    room = limit - 2
    for size, name, key in sorted(sizes, key=lambda item: (item[2] is not None, item[0])):  # maps before their entries
        if size > room or (key is not None and name not in kept):
            continue
        room -= size
        if key is not None:
            kept[name][key] = tagged[name][key]
        else:
            kept[name] = {} if isinstance(tagged[name], dict) else tagged[name]
    return _written({name: value for name, value in kept.items() if value != {}}), False


def read_attributes(text: str) -> Mapping[str, AttributeValue]:
    """The attributes that a text holds; what is not as we write it is left out."""
    if not text:
        return _NO_ATTRIBUTES
    try:
        values = orjson.loads(text)
    except ValueError:
        return _NO_ATTRIBUTES
    if not isinstance(values, dict):
        return _NO_ATTRIBUTES
    found: dict[str, AttributeValue] = {}
    for name, value in values.items():
        if value.__class__ is str:  # nearly all are
            found[name] = value
        elif (other := _untagged(value)) is not None:
            found[name] = other
    return found


def _written(values: Any) -> bytes:
    """JSON in UTF-8, without blanks; values that JSON has not are tagged."""
    try:
        return orjson.dumps(values, _tagged, orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:  # half a character, which no transport hands us
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=_tagged)
        return text.encode("utf-8", "replace")


_header_text: Final = json.JSONEncoder(separators=(",", ":")).encode


def _tagged(value: AttributeValue) -> Any:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return value if value.__class__ is dict else dict(value)
    if isinstance(value, bytes):
        return ["b", b64encode(value).decode()]
    if isinstance(value, Timestamp):
        return ["t", int(value)]
    if isinstance(value, Duration):
        return ["d", int(value)]
    if isinstance(value, float):
        return value if isfinite(value) else ["f", str(value)]
    return value if value.__class__ is bool else int(value)


def _untagged(value: Any) -> AttributeValue | None:
    match value:
        case dict():
            for item in value.values():
                if item.__class__ is not str:
                    return None
            return value
        case str() | bool() | int() | float():
            return value
        case ["f", "nan" | "inf" | "-inf" as text]:
            return float(text)
        case ["b", str(encoded)]:
            try:
                return b64decode(encoded, validate=True)
            except ValueError:
                return None
        case ["t", int(nanoseconds)]:
            return Timestamp(nanoseconds)
        case ["d", int(nanoseconds)]:
            return Duration(nanoseconds)
    return None
