"""Random well-typed expressions, and bags to evaluate them on."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from mixer.attributes import AttributeValue, Duration, Timestamp, ValueType, Vocabulary

V = ValueType
VOCABULARY = Vocabulary(
    {
        f"{kind.name.lower()}.{letter}": kind
        for kind in ValueType
        if kind is not V.VALUE_TYPE_UNSPECIFIED
        for letter in "abc"
    }
)
_BY_TYPE = {kind: [name for name, k in VOCABULARY.items() if k is kind] for kind in ValueType}
_TEXTS = (V.STRING, V.DNS_NAME, V.EMAIL_ADDRESS, V.URI)
_COMPARED = [kind for kind in ValueType if kind is not V.VALUE_TYPE_UNSPECIFIED]
_ORDERED = [kind for kind in _COMPARED if kind is not V.STRING_MAP]
_ADDED = [*_TEXTS, V.INT64, V.DOUBLE, V.DURATION]

_WORDS = ["", "a", "b", "ab", "A", "é", "ΑΣ", "a*", "*a", "x.y", "a@b.c", "10.0.0.1"]

_LITERALS: dict[ValueType, list[str]] = {
    V.STRING: [*(f'"{word}"' for word in _WORDS), '"\\xc3"', '"\\xa9"', '"\\uffff"', "`a`", "'b'"],
    V.INT64: ["0", "1", "7", "007", "9223372036854775807"],
    V.DOUBLE: ["0.0", "1.5", ".5", "1e300", "1e308"],
    V.BOOL: ["true", "false", "TRUE"],
    V.DURATION: ['"0"', '"1s"', '"-1h"', "`20ms`", '"2562047h"'],
    V.IP_ADDRESS: ['ip("10.0.0.1")', 'ip("::1")', 'ip("x")'],
    V.TIMESTAMP: ['timestamp("2020-01-01T00:00:00Z")', 'timestamp("x")'],
    V.DNS_NAME: ['dnsName("a.b")', 'dnsName("A.B.")', 'dnsName("")'],
    V.EMAIL_ADDRESS: ['email("a@b.c")', 'email("a")'],
    V.URI: ['uri("http://a")', 'uri("/x")', 'uri("")'],
    V.STRING_MAP: ["emptyStringMap()"],
}
_PATTERNS = ["a", "^a", "b+$", "[a-z]", "(", "é"]
_CONVERTED = {
    V.IP_ADDRESS: "ip",
    V.TIMESTAMP: "timestamp",
    V.DNS_NAME: "dnsName",
    V.EMAIL_ADDRESS: "email",
    V.URI: "uri",
}


@st.composite
def expressions(draw: st.DrawFn, kind: ValueType | None = None, depth: int = 4) -> str:
    """Source text of a well-typed expression."""
    if kind is None:
        kind = draw(st.sampled_from(_COMPARED))
    if depth == 0:
        return draw(st.one_of(st.sampled_from(_LITERALS[kind]), st.sampled_from(_BY_TYPE[kind])))
    sub = partial(_sub, draw, depth - 1)
    shapes = ["leaf", "or", "or", "or", "conditional", "attribute"]
    if kind is V.STRING:
        shapes += ["index", "index", "add", "toLower", "conditionalString"]
    elif kind in _ADDED:
        shapes.append("add")
    if kind is V.INT64:
        shapes.append("size")
    if kind in _CONVERTED:
        shapes.append("convert")
    if kind is V.BOOL:
        shapes += ["equal", "equal", "order", "and", "either", "match", "matches", "affix"]
    shape = draw(st.sampled_from(shapes))
    if shape == "leaf":
        return draw(st.sampled_from(_LITERALS[kind]))
    if shape == "attribute":
        return draw(st.sampled_from(_BY_TYPE[kind]))
    if shape == "or":
        return f"{sub(kind)} | {sub(kind)}"
    if shape == "conditional":
        return f"conditional({sub(V.BOOL)}, {sub(kind)}, {sub(kind)})"
    if shape == "index":
        return f"({sub(V.STRING_MAP)})[{sub(V.STRING)}]"
    if shape == "add":
        return f"({sub(kind)}) + ({sub(kind)})"
    if shape == "toLower":
        return f"toLower({sub(V.STRING)})"
    if shape == "conditionalString":
        return f"conditionalString({sub(V.BOOL)}, {sub(V.STRING)}, {sub(V.STRING)})"
    if shape == "size":
        return f"size({sub(V.STRING)})"
    if shape == "convert":
        return f"{_CONVERTED[kind]}({sub(V.STRING)})"
    if shape == "equal":
        compared = draw(st.sampled_from(_COMPARED))
        return f"({sub(compared)}) {draw(st.sampled_from(['==', '!=']))} ({sub(compared)})"
    if shape == "order":
        compared = draw(st.sampled_from(_ORDERED))
        return f"({sub(compared)}) {draw(st.sampled_from(['<', '<=', '>', '>=']))} ({sub(compared)})"
    if shape == "and":
        return f"({sub(V.BOOL)}) && ({sub(V.BOOL)})"
    if shape == "either":
        return f"({sub(V.BOOL)}) || ({sub(V.BOOL)})"
    if shape == "match":
        return f"match({sub(V.STRING)}, {sub(V.STRING)})"
    if shape == "matches":
        return f'"{draw(st.sampled_from(_PATTERNS))}".matches({sub(V.STRING)})'
    method = draw(st.sampled_from(["startsWith", "endsWith"]))
    return f"({sub(V.STRING)}).{method}({sub(V.STRING)})"


def _sub(draw: st.DrawFn, depth: int, kind: ValueType) -> str:
    return f"({draw(expressions(kind, depth))})"


_VALUES: dict[ValueType, st.SearchStrategy[AttributeValue]] = {
    V.STRING: st.sampled_from(_WORDS),
    V.INT64: st.sampled_from([0, 1, 7, (1 << 63) - 1, -(1 << 63)]) | st.just(Duration(5)),
    V.DOUBLE: st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")]),
    V.BOOL: st.booleans(),
    V.DURATION: st.sampled_from([Duration(0), Duration(10**9)]) | st.just(12),
    V.IP_ADDRESS: st.sampled_from([b"\x0a\0\0\1", bytes(10) + b"\xff\xff\x0a\0\0\1", bytes(15) + b"\1", b"", b"abc"]),
    V.TIMESTAMP: st.sampled_from([Timestamp(0), Timestamp.parse("2020-01-01T00:00:00Z")]),
    V.DNS_NAME: st.sampled_from(["a.b", "A.B.", "a_b", "", "é.x"]),
    V.EMAIL_ADDRESS: st.sampled_from(["a@b.c", "a@B.C", "x", ""]),
    V.URI: st.sampled_from(["http://a", "HTTP://A", "/x", "%", ""]),
    V.STRING_MAP: st.dictionaries(st.sampled_from(_WORDS), st.sampled_from(_WORDS), max_size=4),
}
_ANY_VALUE = st.one_of(*_VALUES.values())


@st.composite
def bags(draw: st.DrawFn) -> dict[str, AttributeValue]:
    """Attributes of the vocabulary: most present, some of another kind than declared."""
    values: dict[str, AttributeValue] = {}
    for name, kind in VOCABULARY.items():
        dice = draw(st.integers(0, 19))
        if dice == 0:
            values[name] = draw(_ANY_VALUE)
        elif dice > 7:
            values[name] = draw(_VALUES[kind])
    return values
