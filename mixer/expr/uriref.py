"""URI references: what counts as one, and when two of them are the same.

The dialect is that of the original's URL library: very permissive, and with percent-escapes kept as
written wherever the text was already well escaped. All work is on bytes, as escapes stand for bytes.

Source: spec language 3.10.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Final

from mixer.errors import EvalError
from mixer.expr.dnsname import dns_names_equal
from mixer.expr.goquote import bytes_text, quoted, text_bytes

_MAX_CACHED: Final = 2048
"""Longest reference, in bytes and without its fragment, that is remembered."""

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*+:")
_PORT: Final = re.compile(rb"(?::[0-9]*)?")
_USERINFO: Final = re.compile(rb"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*+")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_UNRESERVED: Final = rb"A-Za-z0-9\-_.~"
# Per part of a URL: the bytes that need no escape in it.
_IN_PATH: Final = rb"$&+,/:;=@"
_IN_USER: Final = rb"$&+,;="
_IN_HOST: Final = rb"!$&'()*+,;=:\[\]<>\""
_IN_FRAGMENT: Final = rb"!()*$&+,/:;=?@"
# What may stand unescaped without making a text that is otherwise escaped well count as badly escaped.
_TOLERATED: Final = rb"!$&'()*+,;=:@\[\]%"


def _outside(allowed: bytes) -> re.Pattern[bytes]:
    return re.compile(b"[^" + _UNRESERVED + allowed + b"]")


_ESCAPED_IN_PATH: Final = _outside(_IN_PATH)
_ESCAPED_IN_USER: Final = _outside(_IN_USER)
_ESCAPED_IN_HOST: Final = _outside(_IN_HOST)
_ESCAPED_IN_FRAGMENT: Final = _outside(_IN_FRAGMENT)
_NOT_RAW_PATH: Final = _outside(_IN_PATH + _TOLERATED)
_NOT_RAW_FRAGMENT: Final = _outside(_IN_FRAGMENT + _TOLERATED)
_FOREIGN_IN_HOST: Final = re.compile(rb"[\x00-\x7f]")


def uri(text: str) -> str:
    """Take ``text`` as a URI reference; it comes back unchanged.

    Raises:
        EvalError: ``error converting string to uri 'TEXT': 'CAUSE'``, or ``...: empty string``.

    Source: spec language 3.10.
    """
    if not text:
        raise EvalError("error converting string to uri: empty string")
    _parse(text)
    return text


def uris_equal(a: str, b: str) -> bool:
    """Whether two references are the same, comparing hosts of http and https as DNS names.

    Raises:
        EvalError: A text that is no reference, or an http host that is no comparable DNS name.

    Source: spec language 3.10.
    """
    left, right = _parse(a), _parse(b)
    if left.scheme != right.scheme:
        return False
    if left.scheme in (b"http", b"https"):
        left_host, left_port = left.host_and_port()
        right_host, right_port = right.host_and_port()
        if not dns_names_equal(bytes_text(left_host), bytes_text(right_host)) or left_port != right_port:
            return False
        left = replace(left, host=right.host)
    return left.serialised() == right.serialised()


@dataclass(frozen=True, slots=True)
class _Uri:
    """A parsed reference; the parts are unescaped, except the raw ones, the query and the opaque part."""

    scheme: bytes = b""  # lower case
    opaque: bytes = b""
    userinfo: tuple[bytes, ...] | None = None  # the user, and the password if there was a colon
    host: bytes = b""  # with the port
    omits_host: bool = False  # "scheme:/path": no "//" is to be written
    raw_path: bytes = b""
    query: bytes | None = None
    raw_fragment: bytes = b""

    def host_and_port(self) -> tuple[bytes, bytes]:
        """The host without brackets, and the digits of the port."""
        host, colon, port = self.host.rpartition(b":")
        if not colon or not _PORT.fullmatch(colon + port):
            host, port = self.host, b""
        if host.startswith(b"[") and host.endswith(b"]"):
            host = host[1:-1]
        return host, port

    def serialised(self) -> bytes:
        """The text of the reference, in which two ways to write the same one agree."""
        out = self.scheme + b":" if self.scheme else b""
        if self.opaque:
            out += self.opaque
        else:
            path = _re_escaped(self.raw_path, _NOT_RAW_PATH, _ESCAPED_IN_PATH)
            has_authority = bool(self.host) or self.userinfo is not None
            if has_authority or (self.scheme and path and not self.omits_host):
                out += b"//"
            if self.userinfo is not None:
                out += b":".join(_escape(part, _ESCAPED_IN_USER) for part in self.userinfo) + b"@"
            out += _escape(self.host, _ESCAPED_IN_HOST)
            if not out and b":" in path.partition(b"/")[0]:
                out += b"./"  # the colon came from an escape and must not end a scheme now
            out += path
        if self.query is not None:
            out += b"?" + self.query
        if self.raw_fragment:
            out += b"#" + _re_escaped(self.raw_fragment, _NOT_RAW_FRAGMENT, _ESCAPED_IN_FRAGMENT)
        return out


class _InvalidUriError(Exception):
    """Inside this module: the bare text of what is wrong with a part of a reference."""


def _parse(text: str) -> _Uri:
    main, _, fragment = text_bytes(text).partition(b"#")
    shown = text.partition("#")[0]
    try:
        parsed = _parse_main(main) if len(main) <= _MAX_CACHED else _parse_main.__wrapped__(main)
        if not fragment:
            return parsed
        shown = text
        _check_escapes(fragment)
    except _InvalidUriError as exc:
        raise EvalError(f"error converting string to uri '{text}': 'parse {shown}: {exc}'") from None
    return replace(parsed, raw_fragment=fragment)


@functools.lru_cache(maxsize=1024)
def _parse_main(data: bytes) -> _Uri:
    if _CONTROL.search(data):
        raise _InvalidUriError("net/url: invalid control character in URL")
    if data.startswith(b":"):
        raise _InvalidUriError("missing protocol scheme")
    match = _SCHEME.match(data)
    scheme = match[0][:-1].lower() if match else b""
    rest = data[match.end() :] if match else data
    rest, question, after = rest.partition(b"?")
    query = after if question else None
    if not rest.startswith(b"/"):
        if scheme:
            return _Uri(scheme=scheme, opaque=rest, query=query)
        if b":" in rest.partition(b"/")[0]:
            raise _InvalidUriError("first path segment in URL cannot contain colon")
    userinfo: tuple[bytes, ...] | None = None
    host, omits_host = b"", False
    if rest.startswith(b"//") and (scheme or not rest.startswith(b"///")):
        authority, slash, path = rest[2:].partition(b"/")
        userinfo, host = _parse_authority(authority)
        rest = slash + path
    elif scheme and rest.startswith(b"/"):
        omits_host = True
    _check_escapes(rest)
    return _Uri(scheme=scheme, userinfo=userinfo, host=host, omits_host=omits_host, raw_path=rest, query=query)


def _parse_authority(authority: bytes) -> tuple[tuple[bytes, ...] | None, bytes]:
    before, at, host_text = authority.rpartition(b"@")
    host = _parse_host(host_text)
    if not at:
        return None, host
    if not _USERINFO.fullmatch(before):
        raise _InvalidUriError("net/url: invalid userinfo")
    user, colon, password = before.partition(b":")
    parts = (user, password) if colon else (user,)
    for part in parts:
        _check_escapes(part)
    return tuple(map(_unescape, parts)), host


def _parse_host(host: bytes) -> bytes:
    zone = -1
    if host.startswith(b"["):
        end = host.rfind(b"]")
        if end < 0:
            raise _InvalidUriError("missing ']' in host")
        port = host[end + 1 :]
        zone = host.find(b"%25", 0, end)
    else:
        colon = host.rfind(b":")
        port = host[colon:] if colon >= 0 else b""
        end = len(host)
    if not _PORT.fullmatch(port):
        raise _InvalidUriError(f"invalid port {quoted(bytes_text(port))} after host")
    if zone >= 0:
        return _unescape_host(host[:zone]) + _unescape_host(host[zone:end], in_zone=True) + _unescape_host(host[end:])
    return _unescape_host(host)


def _unescape_host(host: bytes, *, in_zone: bool = False) -> bytes:
    """Hosts may escape bytes beyond ASCII only, zones also blanks and what needs no escape."""
    for match in re.finditer(rb"%(?:[0-9A-Fa-f]{2})?|[^%]", host, re.DOTALL):
        token = match[0]
        if token == b"%":
            _check_escapes(host[match.start() :])
        elif len(token) == 3:
            byte = int(token[1:], 16)
            if in_zone:
                allowed = token == b"%25" or byte == 0x20 or not _ESCAPED_IN_HOST.match(bytes([byte]))
            else:
                allowed = byte >= 0x80 or token == b"%25"
            if not allowed:
                raise _InvalidUriError(f"invalid URL escape {quoted(bytes_text(token))}")
        elif token < b"\x80" and _ESCAPED_IN_HOST.match(token):
            raise _InvalidUriError(f"invalid character {quoted(bytes_text(token))} in host name")
    return _unescape(host)


def _check_escapes(data: bytes) -> None:
    bad = _BAD_ESCAPE.search(data)
    if bad:
        raise _InvalidUriError(f"invalid URL escape {quoted(bytes_text(data[bad.start() : bad.start() + 3]))}")


def _unescape(data: bytes) -> bytes:
    return _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), data)


def _escape(data: bytes, needs_escape: re.Pattern[bytes]) -> bytes:
    return needs_escape.sub(lambda m: b"%%%02X" % m[0][0], data)


def _re_escaped(raw: bytes, not_raw: re.Pattern[bytes], needs_escape: re.Pattern[bytes]) -> bytes:
    """``raw`` as it stands if it is well escaped, else escaped anew."""
    if raw == b"*" or not not_raw.search(raw):
        return raw
    return _escape(_unescape(raw), needs_escape)
