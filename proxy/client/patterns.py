"""RE2 patterns that must match a whole text, and the checks that specs share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sized
from typing import Annotated, Final, TypeAlias, TypeVar

import re2
from pydantic import AfterValidator

from mixer.store.protojson import bad_value

FullMatch: TypeAlias = Callable[[str], bool]
"""Whether a text matches from its first to its last character."""


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # it would go to stderr, past every logger
    options.never_capture = True
    return options


_OPTIONS: Final = _options()
_LONE: Final = re.compile("[\ud800-\udfff]")


@functools.lru_cache(maxsize=1024)
def compile_full_match(pattern: str) -> FullMatch:
    """The whole-text match of a pattern; raises ValueError when it is none."""
    try:
        find = re2.compile(pattern.encode(), _OPTIONS).fullmatch
    except UnicodeEncodeError:
        raise ValueError("invalid UTF-8") from None
    except re2.error as exc:
        text = exc.args[0]
        raise ValueError(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)) from None

    def matches(text: str) -> bool:
        try:
            return find(text.encode()) is not None
        except UnicodeEncodeError:  # bytes that are no text are one unknown character each
            return find(_LONE.sub("\ufffd", text).encode()) is not None

    return matches


Filled = TypeVar("Filled", bound=Sized)


def _not_empty(value: Filled) -> Filled:
    if not value:
        raise bad_value("is empty", "at least one entry" if isinstance(value, list | dict) else "a text")
    return value


def _pattern(value: str) -> str:
    _not_empty(value)
    try:
        compile_full_match(value)
    except ValueError as exc:
        raise bad_value(f"not a regular expression: {exc}", "an expression of RE2") from None
    return value


NotEmpty: TypeAlias = Annotated[str, AfterValidator(_not_empty)]
"""A text of at least one character."""
Pattern: TypeAlias = Annotated[str, AfterValidator(_pattern)]
"""A regular expression of RE2."""
AtLeastOne = AfterValidator(_not_empty)
"""For lists and maps that must have an entry."""
