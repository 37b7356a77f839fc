r"""How error texts quote untrusted text, and the bytes behind a text.

Expression literals can hold single bytes that are no UTF-8 (by ``\x`` escapes); they live in a ``str`` as the
lone surrogates of Python's ``surrogateescape``.
"""

from __future__ import annotations

from typing import Final

_SHORT: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def text_bytes(text: str) -> bytes:
    """The UTF-8 bytes of ``text``; escaped bytes come back as they were, other surrogates as some bad UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def bytes_text(data: bytes) -> str:
    """The text of ``data``; bytes that are no UTF-8 become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def quoted(text: str) -> str:
    """``text`` in double quotes, with everything that does not print escaped in Go's notation."""
    return f'"{"".join(map(_quoted_char, text))}"'


def _quoted_char(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
