"""A slow, obvious interpreter of expressions, written from section 5 of the specification alone.

Tests hold the generated code against it. It walks the tree, knows two modes (N: absence is an error, T: absence
is an outcome) and shares nothing with the product but the tree, the values and the typed texts.

Source: spec language 3 and 5, with the sane alternatives of 9.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

from mixer.attributes import ABSENT, AttributeBag, Duration, Timestamp, TrackedMap, ValueType
from mixer.errors import AttributeAbsentError, EvalError
from mixer.expr import netnames
from mixer.expr.runtime import generic_text
from mixer.expr.tree import Attribute, Call, Constant, Node

_ORDER = {"LT": operator.lt, "LEQ": operator.le, "GT": operator.gt, "GEQ": operator.ge}
_STRINGS = (ValueType.STRING, ValueType.DNS_NAME, ValueType.EMAIL_ADDRESS, ValueType.URI)


class Interpreter:
    """Evaluates trees against one bag."""

    def __init__(self, vocabulary: Mapping[str, ValueType], bag: AttributeBag) -> None:
        self.vocabulary, self.bag = vocabulary, bag

    def type_of(self, node: Node) -> ValueType:
        if isinstance(node, Constant):
            return node.type
        if isinstance(node, Attribute):
            return self.vocabulary[node.name]
        if node.name in ("OR", "ADD"):
            return self.type_of(node.args[0])
        if node.name == "conditional":
            return self.type_of(node.args[1])
        if node.name in ("INDEX", "toLower", "conditionalString"):
            return ValueType.STRING
        return {
            "size": ValueType.INT64,
            "ip": ValueType.IP_ADDRESS,
            "timestamp": ValueType.TIMESTAMP,
            "dnsName": ValueType.DNS_NAME,
            "email": ValueType.EMAIL_ADDRESS,
            "uri": ValueType.URI,
            "emptyStringMap": ValueType.STRING_MAP,
        }.get(node.name, ValueType.BOOL)

    def read(self, node: Attribute) -> Any:
        value = self.bag.get(node.name)
        kind = self.vocabulary[node.name]
        if value is ABSENT:
            return ABSENT
        if kind in _STRINGS and not isinstance(value, str):
            raise _unfit(value, "string")
        if kind is ValueType.DOUBLE and not isinstance(value, float):
            raise _unfit(value, "double")
        if kind is ValueType.BOOL and not isinstance(value, bool):
            raise _unfit(value, "bool")
        if kind in (ValueType.INT64, ValueType.DURATION):
            if isinstance(value, bool | Timestamp) or not isinstance(value, int):
                raise _unfit(value, "integer or duration")
            return Duration(value) if kind is ValueType.DURATION else int(value)
        return value

    def need(self, node: Node) -> Any:
        """N."""
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Attribute):
            value = self.read(node)
            if value is ABSENT:
                raise AttributeAbsentError(node.name)
            return value
        if node.name == "INDEX":
            container, key = (self.need(arg) for arg in node.args)
            return _map(container).get(key, "")
        if node.name == "OR":
            left, right = node.args
            value = self.attempt(left)
            return self.need(right) if value is ABSENT else value
        if node.name == "LAND":
            return self.need(node.args[0]) and self.need(node.args[1])
        if node.name == "LOR":
            return self.need(node.args[0]) or self.need(node.args[1])
        if node.name == "conditional":
            return self.need(node.args[1] if self.need(node.args[0]) else node.args[2])
        parts = ([] if node.receiver is None else [node.receiver]) + list(node.args)
        return self.apply(node, [self.need(part) for part in parts])

    def attempt(self, node: Node) -> Any:
        """T."""
        if isinstance(node, Attribute):
            return self.read(node)
        if isinstance(node, Call) and node.name == "INDEX":
            container = self.attempt(node.args[0])
            if container is ABSENT:
                return ABSENT
            key = self.attempt(node.args[1])
            if key is ABSENT:
                return ABSENT
            return _map(container).get(key, ABSENT)
        if isinstance(node, Call) and node.name == "OR":
            value = self.attempt(node.args[0])
            return self.attempt(node.args[1]) if value is ABSENT else value
        return self.need(node)

    def apply(self, node: Call, values: list[Any]) -> Any:
        name = node.name
        if name == "NEQ":
            return not self.equal(self.type_of(node.args[0]), *values)
        if name == "EQ":
            return self.equal(self.type_of(node.args[0]), *values)
        if name in _ORDER:
            return self.ordered(name, self.type_of(node.args[0]), *values)
        if name == "ADD":
            return self.add(self.type_of(node), *values)
        return _NATIVE[name](*values)

    def equal(self, kind: ValueType, a: Any, b: Any) -> bool:
        if kind is ValueType.IP_ADDRESS:
            return _ip16(a) == _ip16(b)
        if kind is ValueType.DNS_NAME:
            return netnames.dns_names_equal(a, b)
        if kind is ValueType.EMAIL_ADDRESS:
            return netnames.emails_equal(a, b)
        if kind is ValueType.URI:
            return netnames.uris_equal(a, b)
        if kind is ValueType.STRING_MAP:
            maps = [dict(m.whole() if isinstance(m, TrackedMap) else m) for m in (_map(a), _map(b))]
            return maps[0] == maps[1]
        if kind is ValueType.TIMESTAMP:
            a, b = _instant(a), _instant(b)
        return bool(a == b)

    def ordered(self, name: str, kind: ValueType, a: Any, b: Any) -> bool:
        if kind is ValueType.IP_ADDRESS:
            a, b = _ip16(a), _ip16(b)
        elif kind in _STRINGS:
            a, b = _bytes(a), _bytes(b)
        elif kind is ValueType.TIMESTAMP:
            a, b = _instant(a), _instant(b)
        return bool(_ORDER[name](a, b))

    def add(self, kind: ValueType, a: Any, b: Any) -> Any:
        if kind in _STRINGS:
            return _text(_bytes(a) + _bytes(b))
        if kind is ValueType.DOUBLE:
            return a + b
        total = (a + b) % (1 << 64)
        total -= (1 << 64) if total >= 1 << 63 else 0
        return Duration(total) if kind is ValueType.DURATION else total


def _unfit(value: Any, wanted: str) -> EvalError:
    if isinstance(value, TrackedMap):
        value = value.whole()
    return EvalError(f"error converting value to {wanted}: '{generic_text(value)}'")


def _map(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise _unfit(value, "string map")
    return value


def _instant(value: Any) -> Timestamp:
    if not isinstance(value, Timestamp):
        raise _unfit(value, "timestamp")
    return value


def _ip16(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _unfit(value, "IP address")
    return bytes(10) + b"\xff\xff" + value if len(value) == 4 else value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _match(text: str, pattern: str) -> bool:
    t, p = _bytes(text), _bytes(pattern)
    if p.endswith(b"*"):
        return t.startswith(p[:-1])
    return t.endswith(p[1:]) if p.startswith(b"*") else t == p


def _matches(pattern: str, text: str) -> bool:
    """Python's engine, which is another one; the generator draws only patterns on which both agree."""
    if pattern == "(":
        raise EvalError("error parsing regexp: missing closing ): `(`")
    return re.search(_clean(pattern), _clean(text)) is not None


def _clean(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _lower(text: str) -> str:
    return "".join("i" if c == "\u0130" else c.lower() for c in _clean(text))


_NATIVE = {
    "size": lambda text: len(_bytes(text)),
    "conditionalString": lambda c, a, b: a if c else b,
    "match": _match,
    "matches": _matches,
    "startsWith": lambda text, prefix: _bytes(text).startswith(_bytes(prefix)),
    "endsWith": lambda text, suffix: _bytes(text).endswith(_bytes(suffix)),
    "toLower": _lower,
    "ip": netnames.ip,
    "timestamp": netnames.timestamp,
    "dnsName": netnames.dns_name,
    "email": netnames.email,
    "uri": netnames.uri,
    "emptyStringMap": dict,
}
