"""The attribute flags of ``mixc``: ``name=value,name=value`` for each type. Source: spec runtime 7.7."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from mixer.attributes import AttributeValue, Duration, Timestamp
from mixer.attributes.values import parse_bool


def parse_int(text: str) -> int:
    """A decimal number of 64 signed bits."""
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII) or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"{text!r} is not a 64-bit number")
    return int(text)


def parse_double(text: str) -> float:
    """A floating-point number; blanks and underscores are not part of one."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|Inf|NaN|nan)", text, re.ASCII):
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def parse_hex_bytes(text: str) -> bytes:
    """Bytes in hexadecimal, parted by colons: ``c0:a8:0:1``."""
    parts = text.split(":")
    if not all(re.fullmatch(r"[0-9a-fA-F]{1,2}", part, re.ASCII) for part in parts):
        raise ValueError(f"{text!r} is not bytes; write them as c0:a8:0:1")
    return bytes(int(part, 16) for part in parts)


def parse_string_map(text: str) -> dict[str, str]:
    """``key:value;key:value``; the first colon of each parts key and value."""
    pairs = {}
    for piece in text.split(";"):
        key, colon, value = piece.partition(":")
        if not colon:
            raise ValueError(f"{piece!r} does not include a colon; write a map as key:value;key:value")
        pairs[key] = value
    return pairs


def sense(text: str) -> AttributeValue:
    """The value that a text looks most like, tried in the order of the flags. Source: spec runtime 7.7."""
    for parse in (
        parse_int,
        parse_double,
        parse_bool,
        Timestamp.parse,
        Duration.parse,
        parse_hex_bytes,
        parse_string_map,
    ):
        try:
            return parse(text)
        except ValueError:
            continue
    return text


_FLAGS: Final[tuple[tuple[tuple[str, ...], Callable[[str], AttributeValue], str], ...]] = (
    (("-s", "--string_attributes"), str, "Text."),
    (("-i", "--int64_attributes"), parse_int, "Whole numbers."),
    (("-d", "--double_attributes"), parse_double, "Floating-point numbers."),
    (("-b", "--bool_attributes"), parse_bool, "true, false, 1, 0, t, f."),
    (("-t", "--timestamp_attributes"), Timestamp.parse, "RFC 3339, as in 2026-01-31T12:00:00Z."),
    (("--duration_attributes",), Duration.parse, "As in 1m30s or 250ms."),
    (("--bytes_attributes",), parse_hex_bytes, "Hexadecimal, as in c0:a8:0:1; IP addresses are bytes."),
    (("--stringmap_attributes",), parse_string_map, "Maps, as in name=k1:v1;k2:v2."),
    (("-a", "--attributes"), sense, "Types are sensed: number, bool, time, duration, bytes, map, else text."),
)


def attribute_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the attribute flags to a command; `read_attributes` takes them out of its keyword arguments again."""
    for names, _, text in reversed(_FLAGS):
        option = click.option(*names, _keyword(names), multiple=True, metavar="NAME=VALUE,...", help=text)
        command = option(command)
    return command


def _keyword(names: tuple[str, ...]) -> str:
    return names[-1].lstrip("-")


def read_attributes(flags: dict[str, Any]) -> dict[str, AttributeValue]:
    """Take the attribute flags out of a command's arguments; a later flag wins over the same name.

    Raises:
        click.BadParameter: A pair or a value is malformed; the message says which.
    """
    values: dict[str, AttributeValue] = {}
    for names, parse, _ in _FLAGS:
        for text in flags.pop(_keyword(names)):
            for name, value in pairs(text, names[-1]).items():
                try:
                    values[name] = parse(value)
                except ValueError as exc:
                    raise click.BadParameter(f"attribute {name}: {exc}", param_hint=names[-1]) from exc
    return values


def pairs(text: str, flag: str) -> Mapping[str, str]:
    """``name=value,name=value`` as a mapping; there is no way to write a comma inside a value."""
    found = {}
    for piece in filter(None, text.split(",")):
        name, equals, value = piece.partition("=")
        if not equals:
            raise click.BadParameter(f"attribute value {piece} does not include an = sign", param_hint=flag)
        if not name:
            raise click.BadParameter(f"attribute value {piece} does not contain a valid name", param_hint=flag)
        found[name] = value
    return found
