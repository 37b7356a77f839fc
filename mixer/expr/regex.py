"""RE2 patterns: searching, and errors in the words of Go's ``regexp``.

Both come from one definition and accept nearly the same patterns; the words for what is wrong differ.

Source: spec language 3.6.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final, TypeAlias

import re2

from mixer.errors import EvalError

Search: TypeAlias = Callable[[str], bool]
"""Whether the pattern matches anywhere in a text."""

_GO_WORDS: Final = {
    "missing )": "missing closing )",
    "unexpected )": "unexpected )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid character class range": "invalid character class range",
    "invalid character class": "invalid character class",
    "invalid escape sequence: \\p": "invalid character class range: `\\p`",
    "invalid escape sequence: \\P": "invalid character class range: `\\P`",
    "invalid perl operator: (?<=": "invalid or unsupported Perl syntax: `(?<`",
    "invalid perl operator: (?<!": "invalid or unsupported Perl syntax: `(?<`",
    "invalid escape sequence": "invalid escape sequence",
    "trailing \\": "trailing backslash at end of expression",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "pattern too large": "expression too large",
    "invalid UTF-8": "invalid UTF-8",
}


_ESCAPES = re.compile(r"\\Q.*?(?:\\E|$)|\\(.)", re.DOTALL)


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # it would go to stderr, past every logger
    options.never_capture = True
    return options


_OPTIONS: Final = _options()


@functools.lru_cache(maxsize=1024)
def compile_search(pattern: str) -> Search:
    """The search of one pattern; raises EvalError with Go's text when it is no pattern."""
    if not is_text(pattern):
        raise EvalError(f"error parsing regexp: invalid UTF-8: `{pattern}`")
    if any(match[1] == "C" for match in _ESCAPES.finditer(pattern)):  # a byte: RE2 has it, Go does not
        raise EvalError("error parsing regexp: invalid escape sequence: `\\C`")
    try:
        find = re2.compile(pattern.encode(), _OPTIONS).search
    except re2.error as fault:
        raise EvalError(f"error parsing regexp: {_go_text(fault.args[0])}") from None

    def search(text: str) -> bool:
        try:
            return find(text.encode()) is not None
        except UnicodeEncodeError:
            return find(with_replacements(text).encode()) is not None

    return search


def search(pattern: str, text: str) -> bool:
    """Whether a pattern, which need not be known in advance, matches anywhere in a text."""
    return compile_search(pattern)(text)


def _go_text(message: str | bytes) -> str:
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
    code, _, fragment = text.partition(": ")
    if text in _GO_WORDS and fragment:
        return _GO_WORDS[text]
    return f"{_GO_WORDS[code]}: `{fragment}`" if code in _GO_WORDS else text


def is_text(text: str) -> bool:
    """Whether a text is free of bytes that are not UTF-8 (held as surrogate escapes)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_replacements(text: str) -> str:
    """The text with U+FFFD for each byte that is not UTF-8."""
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
