"""E-mail addresses: what counts as one, and when two of them reach the same mailbox.

The grammar is RFC 5322 in the original's dialect: one address, bare or in angle brackets; display names
are parsed in order to be refused.

Source: spec language 3.9.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mixer.errors import EvalError
from mixer.expr.dnsname import dns_name, dns_names_equal
from mixer.expr.goquote import quoted

_BLANKS: Final = " \t"
_ATOM: Final = re.compile(r"[^\x00-\x20\x7f()<>\[\]:;@\\,\"\ud800-\udfff]*+")
_QUOTED_RUN: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\\\"\ud800-\udfff]*+")
_EMPTY_ENCODED_WORD: Final = re.compile(r"=\?[^?]+\?[bBqQ]\?\?=")


class Mailbox(NamedTuple):
    """A parsed address: the display name, and ``local@domain`` with the quoting removed."""

    name: str
    address: str


def email(text: str) -> str:
    """Take ``text`` as one e-mail address without display name; it comes back unchanged, brackets included.

    Raises:
        EvalError: ``error converting 'TEXT' to e-mail: 'CAUSE'``, or ``... display names are not allowed``.

    Source: spec language 3.9.
    """
    try:
        mailbox = _parse(text)
    except _InvalidMailError as exc:
        raise EvalError(f"error converting '{text}' to e-mail: '{exc}'") from None
    if mailbox.name:
        raise EvalError(f"error converting '{text}' to e-mail: display names are not allowed")
    try:
        dns_name(_local_and_domain(mailbox)[1])
    except EvalError as exc:
        raise EvalError(f"error converting '{text}' to e-mail: '{exc}'") from None
    return text


def emails_equal(a: str, b: str) -> bool:
    """Whether two addresses have the same local part, to the letter, and the same domain, as DNS names.

    Raises:
        EvalError: A text that is no address (the parser's bare text), or a domain that cannot be compared
            (``error comparing e-mails 'A' and 'B': idna: disallowed rune U+005F``).

    Source: spec language 3.9.
    """
    try:
        left_local, left_domain = _local_and_domain(_parse(a))
        right_local, right_domain = _local_and_domain(_parse(b))
    except _InvalidMailError as exc:
        raise EvalError(str(exc)) from None
    try:
        same_domain = dns_names_equal(left_domain, right_domain)
    except EvalError as exc:
        raise EvalError(f"error comparing e-mails '{a}' and '{b}': {exc}") from None
    return same_domain and left_local == right_local


def _local_and_domain(mailbox: Mailbox) -> tuple[str, str]:
    local, _, domain = mailbox.address.partition("@")  # the first one, even inside a quoted local part
    return local, domain


class _InvalidMailError(Exception):
    """Inside this module: the parser's text for what is wrong."""


def _parse(text: str) -> Mailbox:
    return _Parser(text).single()


class _Parser:
    """A cursor over one text; each method consumes what it names or raises."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def single(self) -> Mailbox:
        mailboxes = self._address(allow_group=True)
        self._skip_comments()
        if self._at < len(self._text):
            raise _InvalidMailError(f"mail: expected single address, got {quoted(self._text[self._at :])}")
        if not mailboxes:
            raise _InvalidMailError("mail: empty group")
        if len(mailboxes) > 1:
            raise _InvalidMailError("mail: group with multiple addresses")
        return mailboxes[0]

    def _address(self, *, allow_group: bool) -> list[Mailbox]:
        self._skip_blanks()
        if self._at == len(self._text):
            raise _InvalidMailError("mail: no address")
        start = self._at
        try:
            address = self._addr_spec()
        except _InvalidMailError:
            self._at = start
        else:
            self._skip_blanks()
            return [Mailbox(self._name_in_comment() if self._peek("(") else "", address)]
        name = "" if self._peek("<") else self._phrase()
        self._skip_blanks()
        if allow_group and self._take(":"):
            return self._group()
        if not self._take("<"):
            atoms = all(_ATOM.fullmatch(c) for c in name)
            raise _InvalidMailError("mail: missing '@' or angle-addr" if atoms else "mail: no angle-addr")
        address = self._addr_spec()
        if not self._take(">"):
            raise _InvalidMailError("mail: unclosed angle-addr")
        return [Mailbox(name, address)]

    def _group(self) -> list[Mailbox]:
        members: list[Mailbox] = []
        self._skip_blanks()
        if self._take(";"):
            return members
        while True:
            self._skip_blanks()
            members += self._address(allow_group=False)
            self._skip_comments()
            if self._take(";"):
                return members
            if not self._take(","):
                raise _InvalidMailError("mail: expected comma")

    def _addr_spec(self) -> str:
        self._skip_blanks()
        if self._at == len(self._text):
            raise _InvalidMailError("mail: no addr-spec")
        if self._peek('"'):
            try:
                local = self._quoted_string()
            except _InvalidMailError:
                local = ""  # the original reports a broken one as an empty one
            if not local:
                raise _InvalidMailError("mail: empty quoted string in addr-spec")
        else:
            local = self._dot_atom()
        if not self._take("@"):
            raise _InvalidMailError("mail: missing @ in addr-spec")
        self._skip_blanks()
        if self._at == len(self._text):
            raise _InvalidMailError("mail: no domain in addr-spec")
        return f"{local}@{self._dot_atom()}"

    def _phrase(self) -> str:
        words: list[str] = []
        while True:
            if words:
                self._skip_comments()
            self._skip_blanks()
            start = self._at
            try:
                words.append(self._quoted_string() if self._peek('"') else _decoded(self._atom()))
            except _InvalidMailError as exc:
                if not words:
                    raise _InvalidMailError(f"mail: missing word in phrase: {exc}") from None
                self._at = start
                return " ".join(words)

    def _dot_atom(self) -> str:
        atom = self._atom()
        if atom.startswith("."):
            raise _InvalidMailError("mail: leading dot in atom")
        if ".." in atom:
            raise _InvalidMailError("mail: double dot in atom")
        if atom.endswith("."):
            raise _InvalidMailError("mail: trailing dot in atom")
        return atom

    def _atom(self) -> str:
        match = _ATOM.match(self._text, self._at)
        atom = match[0] if match else ""
        end = self._at + len(atom)
        if "\ud800" <= self._text[end : end + 1] <= "\udfff":
            raise _InvalidMailError(f"mail: invalid utf-8 in address: {quoted(self._text[self._at :])}")
        if not atom:
            raise _InvalidMailError("mail: invalid string")
        self._at = end
        return atom

    def _quoted_string(self) -> str:
        """A text in double quotes, without them and without escapes; moves on only when it is closed."""
        text, at = self._text, self._at + 1
        parts = []
        while True:
            match = _QUOTED_RUN.match(text, at)
            run = match[0] if match else ""
            parts.append(run)
            at += len(run)
            char = text[at : at + 1]
            if char == '"':
                self._at = at + 1
                return "".join(parts)
            if char == "\\":
                at += 1
                char = text[at : at + 1]
                if char and (char in '\\"' or _QUOTED_RUN.fullmatch(char)):
                    parts.append(char)
                    at += 1
                    continue
            if not char:
                raise _InvalidMailError("mail: unclosed quoted-string")
            if "\ud800" <= char <= "\udfff":
                raise _InvalidMailError(f"mail: invalid utf-8 in quoted-string: {quoted(text)}")
            raise _InvalidMailError(f"mail: bad character in quoted-string: {_quoted_rune(char)}")

    def _name_in_comment(self) -> str:
        words = self._comment().replace("\t", " ").split(" ")
        return " ".join(_decoded(word) for word in words if word)

    def _comment(self) -> str:
        """A parenthesised text, nested ones included, without its outer parentheses."""
        text, at, depth = self._text, self._at + 1, 1
        parts = []
        while at < len(text) and depth:
            if text[at] == "\\" and at + 1 < len(text):
                at += 1
            elif text[at] == "(":
                depth += 1
            elif text[at] == ")":
                depth -= 1
            if depth:
                parts.append(text[at])
            at += 1
        if depth:
            raise _InvalidMailError("mail: misformatted parenthetical comment")
        self._at = at
        return "".join(parts)

    def _skip_comments(self) -> None:
        self._skip_blanks()
        while self._peek("("):
            self._comment()
            self._skip_blanks()

    def _skip_blanks(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _BLANKS:
            self._at += 1

    def _peek(self, char: str) -> bool:
        return self._text.startswith(char, self._at)

    def _take(self, char: str) -> bool:
        if not self._peek(char):
            return False
        self._at += 1
        return True


def _decoded(word: str) -> str:
    """Of RFC 2047 only this much matters: an encoded word can be empty, and names are only asked whether they are."""
    return "" if _EMPTY_ENCODED_WORD.fullmatch(word) else word


def _quoted_rune(char: str) -> str:
    return "'" + quoted(char)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
