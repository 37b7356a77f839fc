"""The value of one YAML scalar, by the rules of the original's YAML library.

That is YAML 1.1 with two differences: what looks like a time stays text, and there are no numbers in
base 60. ``y``, ``n``, ``on`` and ``off`` are booleans (of values; keys are never resolved).

Source: spec runtime 1.2.
"""

from __future__ import annotations

import math
import re
from typing import Final, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

TAG_PREFIX: Final = "tag:yaml.org,2002:"

_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_FIRST_OF_NUMBER: Final = frozenset("+-.0123456789")
_INTEGER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_INT64_MIN, _UINT64_MAX = -(1 << 63), (1 << 64) - 1
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
}


class UnknownTagError(ValueError):
    """A tag that stands for no plain data."""


def resolve(text: str, tag: str | None, *, plain: bool) -> Scalar:
    """The value of a scalar.

    Args:
        text: Its content, quotes and escapes already undone.
        tag: The tag written before it, resolved; None when there is none.
        plain: Whether it stands without quotes.

    Raises:
        UnknownTagError: The tag is none of plain data.
        ValueError: The text is not of the kind that the tag says.
    """
    if tag is None:
        return resolve_plain(text) if plain else text
    name = tag.removeprefix(TAG_PREFIX) if tag.startswith(TAG_PREFIX) else ""
    if tag == "!" or name in ("str", "timestamp"):
        return text
    if name not in _TYPES:
        raise UnknownTagError(f"the tag {tag.replace(TAG_PREFIX, '!!')[:60]} is not known here")
    value = resolve_plain(text)
    if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and name != "bool"):
        raise ValueError(f'"{text[:60]}" is no !!{name}')
    return float(value) if name == "float" and isinstance(value, int) else value


def resolve_plain(text: str) -> Scalar:
    """The value of a scalar without quotes and tag; text when it is nothing else."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _FIRST_OF_NUMBER or len(text) > 4_000:
        return text
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        number = int(_go_octal(digits), 0)
        if _INT64_MIN <= number <= _UINT64_MAX:
            return number
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        return value if math.isfinite(value) else text
    return text


def _go_octal(digits: str) -> str:
    """``0755`` as ``0o755``, the only spelling that Python reads."""
    sign, body = (digits[0], digits[1:]) if digits[0] in "+-" else ("", digits)
    return f"{sign}0o{body[1:]}" if len(body) > 1 and body[0] == "0" and body[1].isdigit() else digits
