"""What literals mean: numbers, and quoted text that may turn out to be a duration.

Source: spec language 1.3 and 1.4.
"""

from __future__ import annotations

import math
import re
from typing import Final, NoReturn

from mixer.attributes import Duration, ValueType
from mixer.expr.tree import Constant

_BASES: Final = frozenset("xXbBoO")
_INT64_MAX: Final = (1 << 63) - 1
_SIMPLE: Final = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
_ESCAPE = re.compile(r"\\(?:([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_BAD_UNDERSCORE = re.compile(r"(?<=_)_|(?<![0-9_])_|_(?![0-9_])")
_BAD_PREFIXED_UNDERSCORE = re.compile(r"(?<=_)_|(?<![0-9a-fA-FxXoO_])_|_(?![0-9a-fA-F_])")


class LiteralError(ValueError):
    """A literal that the grammar accepts and that has no value; the text is the original's."""


class MalformedNumberError(ValueError):
    """Digits that are no number even to the grammar; ``index`` is the place within the literal."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


def integer(text: str, offset: int) -> Constant:
    """An INT64; leading zeros do not mean octal."""
    _check_underscores(text)
    if text[0] == "0" and text[1:2] not in _BASES and (wrong := re.search("[89]", text)):
        raise MalformedNumberError(f"invalid digit '{wrong[0]}' in octal literal", wrong.start())
    if not text.isdecimal():
        raise LiteralError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    digits = text.lstrip("0") or "0"
    if len(digits) > 19 or int(digits) > _INT64_MAX:
        raise LiteralError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return Constant(int(digits), ValueType.INT64, text, offset)


def double(text: str, offset: int) -> Constant:
    """A DOUBLE, decimal or hexadecimal; too large is an error, too small is zero."""
    hexadecimal = text[:2] in ("0x", "0X")
    _check_underscores(text)
    plain = text.replace("_", "")
    try:
        value = float.fromhex(plain) if hexadecimal else float(plain)
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise LiteralError(f'strconv.ParseFloat: parsing "{text}": value out of range')
    return Constant(value, ValueType.DOUBLE, text, offset)


def imaginary(text: str, offset: int) -> NoReturn:
    """No type has imaginary numbers."""
    _check_underscores(text[:-1])
    raise LiteralError("invalid syntax")


def _check_underscores(text: str) -> None:
    if "_" in text:
        pattern = _BAD_PREFIXED_UNDERSCORE if text[1] in _BASES else _BAD_UNDERSCORE
        wrong = pattern.search(text)
        if wrong:
            raise MalformedNumberError("'_' must separate successive digits", wrong.start())


def string(text: str, offset: int) -> Constant:
    """Text in any of the three quotes: DURATION when it reads as one, else STRING."""
    if text[0] == "`":
        text = text.replace("\r", "")
        value = text[1:-1]
    else:
        value = unescape(text[1:-1])
    try:
        return Constant(Duration.parse(value), ValueType.DURATION, text, offset)
    except ValueError:
        return Constant(value, ValueType.STRING, text, offset)


def unescape(body: str) -> str:
    r"""The text that escapes stand for; bytes of ``\xhh`` that are not UTF-8 become surrogate escapes."""
    if "\\" not in body:
        return body
    pieces: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(body):
        pieces.append(body[end : match.start()].encode())
        end = match.end()
        octal, byte, short, long, simple = match.groups()
        if short or long:
            pieces.append(chr(int(short or long, 16)).encode())
        else:
            pieces.append(bytes((int(octal, 8) if octal else int(byte, 16) if byte else _SIMPLE[simple],)))
    pieces.append(body[end:].encode())
    return b"".join(pieces).decode("utf-8", "surrogateescape")
