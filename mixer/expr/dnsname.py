"""DNS names: what counts as one, and when two of them name the same host.

Construction is lax and keeps what it was given; comparison is strict and maps both sides by UTS 46
(non-transitional, STD3 rules). So a name can be constructed that can never be compared.

Stricter or younger than the original, on purpose:

* Characters that Unicode 11 did not know follow the tables of ``idna`` and Python, which may allow them.
* Punycode with characters beyond ASCII, names and A-labels of absurd length, and bytes that are no UTF-8
  (in comparisons) are errors.
* The Hebrew letter symbols U+2135 to U+2138 count as the right-to-left letters that they map to.

Source: spec language 3.8.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from idna.idnadata import joining_types
from idna.intranges import intranges_contain
from idna.uts46data import uts46_replacements, uts46_starts, uts46_statuses

from mixer.errors import EvalError
from mixer.expr.goquote import quoted

_MAX_UNICODE: Final = 4096
"""Longest name, in characters, that is worth normalising: that step is quadratic for hostile text."""
_MAX_ALABEL: Final = 512
"""Longest Punycode label that is worth decoding, for the same reason; DNS itself stops at 63."""
_MAX_CACHED: Final = 512
"""Longest name, in characters, whose canonical text is remembered; DNS itself stops at 253."""

_PREFIX: Final = "xn--"
_LABEL: Final = r"(?!..--)[a-z0-9]++(?:-++[a-z0-9]++)*+"
_PLAIN: Final = re.compile(rf"(?:{_LABEL})?+(?:\.(?:{_LABEL})?+)*+")
"""Lower-case names on which UTS 46 changes nothing and finds no fault."""

_STD3_FOREIGN: Final = re.compile(r"[\x00-,/:-@\[-`{-\x7f]")
"""ASCII characters that host names lack; capitals are not among them, as the mapping lowers them."""

# Where the tables of Unicode 11 and the installed ones differ on characters that both know.
_DISALLOWED_RANGES: Final = (
    (0x04C0, 0x04C0),
    (0x10A0, 0x10C5),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x1806, 0x1806),
    (0x180E, 0x180E),
    (0x1C90, 0x1CBA),
    (0x1CBD, 0x1CBF),
    (0x2061, 0x2063),
    (0x206A, 0x206F),
    (0x2132, 0x2132),
    (0x2183, 0x2183),
    (0x2260, 0x2260),
    (0x226E, 0x226F),
    (0x3164, 0x3164),
    (0xA7B8, 0xA7B8),
    (0xFFA0, 0xFFA0),
    (0x16E40, 0x16E5F),
    (0x1D173, 0x1D17A),
    (0x2F868, 0x2F868),
    (0x2F874, 0x2F874),
    (0x2F91F, 0x2F91F),
    (0x2F95F, 0x2F95F),
    (0x2F9BF, 0x2F9BF),
)
_DISALLOWED: Final = frozenset(code for first, last in _DISALLOWED_RANGES for code in range(first, last + 1))
_REMAPPED: Final = {0x1E9E: "ss"}

_RTL_CLASSES: Final = frozenset({"R", "AL", "AN"})
_NEUTRAL: Final = frozenset({"EN", "ES", "CS", "ET", "ON", "BN", "NSM"})
_RTL_ALLOWED: Final = _RTL_CLASSES | _NEUTRAL
_LTR_ALLOWED: Final = _NEUTRAL | {"L"}
_RTL_END: Final = frozenset({"R", "AL", "EN", "AN"})
_LTR_END: Final = frozenset({"L", "EN"})
_VIRAMA: Final = 9
_ZWNJ: Final = "\u200c"
_ZWJ: Final = "\u200d"


def dns_name(text: str) -> str:
    """Take ``text`` as a DNS name; ASCII characters, case and lengths are not checked.

    Returns:
        The name in NFC, with labels that begin with ``xn--`` decoded.

    Raises:
        EvalError: ``error converting 'TEXT' to dns name: 'idna: invalid label "LABEL"'``.

    Source: spec language 3.8.
    """
    if _PLAIN.fullmatch(text) and text and not text.startswith(".") and ".." not in text:
        return text
    try:
        return _checked_name(text)
    except _InvalidNameError as exc:
        raise EvalError(f"error converting '{text}' to dns name: '{exc}'") from None


def dns_names_equal(a: str, b: str) -> bool:
    """Whether two names are the same host, whatever their case, encoding, or one final dot.

    Raises:
        EvalError: A name that cannot be compared (``idna: disallowed rune U+005F``,
            ``idna: invalid label "-a"``); the fault of ``a`` is told first.

    Source: spec language 3.8.
    """
    left, right = _canonical(a), _canonical(b)
    if left.endswith(".") != right.endswith("."):
        left, right = left.removesuffix("."), right.removesuffix(".")
    return left == right


def _canonical(text: str) -> str:
    """The text that stands for a name in comparisons."""
    if text.isascii():
        lowered = text.lower()
        if _PLAIN.fullmatch(lowered):
            return lowered
    try:
        return _mapped_name(text) if len(text) <= _MAX_CACHED else _mapped_name.__wrapped__(text)
    except _InvalidNameError as exc:
        raise EvalError(str(exc)) from None


class _InvalidNameError(Exception):
    """Inside this module: the bare text of what is wrong with a name."""


def _invalid_label(label: str) -> _InvalidNameError:
    return _InvalidNameError(f"idna: invalid label {quoted(label)}")


def _disallowed_rune(char: str) -> _InvalidNameError:
    code = 0xFFFD if "\ud800" <= char <= "\udfff" else ord(char)  # what stands for a byte that is no UTF-8
    return _InvalidNameError(f"idna: disallowed rune U+{code:04X}")


def _checked_name(text: str) -> str:
    name = _nfc(text)
    encoded = name.split(".")
    labels: list[str] = []
    for index, label in enumerate(encoded):
        if not label and not _may_be_empty(encoded, index, decoded=encoded[:index] != labels):
            raise _invalid_label(name)
        checked = _checked_label(label)
        if label and not checked:
            raise _invalid_label("")
        labels.append(checked)
    _check_bidi(name, labels)
    return ".".join(labels)


def _may_be_empty(labels: Sequence[str], index: int, *, decoded: bool) -> bool:
    """Whether the empty label at ``index`` is the one after a final dot.

    By accident two final dots pass too, unless a label before them had to be decoded.
    """
    after = len(labels) - 1 - index
    return index > 0 and (after == 0 or (after == 1 and not labels[-1] and not decoded))


@functools.lru_cache(maxsize=2048)
def _mapped_name(text: str) -> str:
    name = _mapped(text)
    labels = [_checked_label(label) for label in name.split(".")]
    _check_bidi(name, labels)
    return ".".join(labels)


def _nfc(text: str) -> str:
    if text.isascii():
        return text
    if len(text) > _MAX_UNICODE:
        raise _invalid_label(text)
    return unicodedata.normalize("NFC", text)


def _mapped(text: str) -> str:
    """The mapping step of UTS 46."""
    if text.isascii():
        foreign = _STD3_FOREIGN.search(text)
        if foreign:
            raise _disallowed_rune(foreign[0])
        return text.lower()
    if len(text) > _MAX_UNICODE:
        raise _invalid_label(text)
    return unicodedata.normalize("NFC", "".join(map(_mapped_char, text)))


def _uts46(code: int) -> tuple[str, str]:
    """The status of a character (``V`` as it is, ``M`` replace, ``I`` drop, ``X`` disallowed) and its replacement."""
    if code in _DISALLOWED:
        return "X", ""
    if code in _REMAPPED:
        return "M", _REMAPPED[code]
    index = code if code < 256 else bisect_right(uts46_starts, code) - 1
    status = chr(uts46_statuses[index])
    # The deviations (sharp s, final sigma, joiners) stay as they are: the processing is non-transitional.
    return ("V" if status == "D" else status), uts46_replacements[index] or ""


def _mapped_char(char: str) -> str:
    status, replacement = _uts46(ord(char))
    result = {"V": char, "M": replacement, "I": ""}.get(status)
    if result is None or _STD3_FOREIGN.search(result):
        raise _disallowed_rune(char)
    return result


def _checked_label(label: str) -> str:
    """One label, decoded if it is Punycode; an empty one is left to the caller."""
    if label.startswith(_PREFIX):
        label = _decoded_label(label[len(_PREFIX) :])
    if not label:
        return label
    raw = label.encode("utf-8", "surrogatepass")  # hyphens are looked for at byte positions
    if raw.startswith(b"-") or raw.endswith(b"-") or (len(raw) > 4 and raw[2:4] == b"--"):
        raise _invalid_label(label)
    if not label.isascii() and (_is_mark(label[0]) or not _joiners_fit(label)):
        raise _invalid_label(label)
    return label


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M") and _uts46(ord(char))[0] != "M"


def _decoded_label(code: str) -> str:
    if not code:
        return code
    # A hyphen that comes first delimits nothing, which Python's codec does not mind.
    if not code.isascii() or len(code) > _MAX_ALABEL or code.rfind("-") == 0:
        raise _invalid_label(code)
    try:
        label = code.encode().decode("punycode")
    except UnicodeError:
        raise _invalid_label(code) from None
    label = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in label)
    valid = all(_uts46(ord(c))[0] == "V" and not _STD3_FOREIGN.match(c) for c in label)
    if not valid or not unicodedata.is_normalized("NFC", label):
        raise _invalid_label(label)
    return label


def _joiners_fit(label: str) -> bool:
    """ContextJ: a joiner stands after a virama; ZWNJ also after a letter that would join what follows.

    Laxer than RFC 5892 in one point, as the original is: what follows ZWNJ need not be a joining letter.
    """
    if _ZWNJ not in label and _ZWJ not in label:
        return True
    for index, char in enumerate(label):
        if char not in (_ZWNJ, _ZWJ) or (index and unicodedata.combining(label[index - 1]) == _VIRAMA):
            continue
        if char == _ZWJ:
            return False
        before = next((t for t in map(_joining_type, reversed(label[:index])) if t != "T"), "")
        after = next((t for t in map(_joining_type, label[index + 1 :]) if t != "T"), "")
        if before not in ("L", "D") or after in ("L", ""):
            return False
    return True


def _joining_type(char: str) -> str:
    return next((kind for kind in "TDRLC" if intranges_contain(ord(char), joining_types[kind])), "U")


def _check_bidi(name: str, labels: Sequence[str]) -> None:
    if all(map(str.isascii, labels)):
        return
    classes = [[unicodedata.bidirectional(char) or "L" for char in label] for label in labels]
    if any(not _RTL_CLASSES.isdisjoint(of_label) for of_label in classes) and not all(map(_obeys_bidi_rule, classes)):
        raise _invalid_label(name)


def _obeys_bidi_rule(classes: Sequence[str]) -> bool:
    """RFC 5893 section 2, on the Bidi classes of one label."""
    if not classes:
        return True
    rtl = classes[0] in ("R", "AL")
    if not rtl and classes[0] != "L":
        return False
    last = next(c for c in reversed(classes) if c != "NSM")
    if rtl:
        mixed_digits = "EN" in classes and "AN" in classes
        return _RTL_ALLOWED.issuperset(classes) and last in _RTL_END and not mixed_digits
    return _LTR_ALLOWED.issuperset(classes) and last in _LTR_END
