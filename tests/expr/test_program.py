"""Programs, their cache, errors with a place, and the code builder as others use it."""

from __future__ import annotations

import contextlib

import pytest

from mixer.attributes import ABSENT, Condition, MappingBag, Timestamp, TrackedMap, TrackingBag, ValueType, Vocabulary
from mixer.errors import AttributeAbsentError, EvalError, ExprTypeError
from mixer.expr import Attribute, Call, CodeBuilder, compile_expr, parse, typecheck
from mixer.expr.runtime import generic_text
from tests.expr_cases import ATTRIBUTES, VOCABULARY


def test_program_names_every_attribute_that_it_can_read() -> None:
    program = compile_expr('shop.tier | "x" | conditional(shop.open, shop.tags["a"], shop.note)', VOCABULARY)
    assert program.attributes == {"shop.tier", "shop.open", "shop.tags", "shop.note"}
    assert program.type is ValueType.STRING


def test_program_is_shared_between_equal_vocabularies() -> None:
    again = Vocabulary(dict(VOCABULARY))
    assert compile_expr("shop.items + 1", VOCABULARY) is compile_expr("shop.items + 1", again)


def test_program_is_not_shared_between_different_vocabularies() -> None:
    other = VOCABULARY.extended({"shop.items": ValueType.DURATION})
    assert compile_expr("shop.items", VOCABULARY).type is ValueType.INT64
    assert compile_expr("shop.items", other).type is ValueType.DURATION


def test_absent_attribute_is_named_by_the_error() -> None:
    with pytest.raises(AttributeAbsentError) as caught:
        compile_expr("shop.tier | shop.note", VOCABULARY).evaluate(MappingBag(ATTRIBUTES))
    assert caught.value.name == "shop.note"


def test_map_is_given_as_the_bag_gives_it() -> None:
    bag = TrackingBag(MappingBag(ATTRIBUTES))
    value = compile_expr("shop.meta | shop.tags", VOCABULARY).evaluate(bag)
    assert isinstance(value, TrackedMap)
    assert value is bag.get("shop.tags")


@pytest.mark.parametrize(
    ("source", "caret"),
    [
        pytest.param('a.b == "x"', 0, id="first operand"),
        pytest.param("shop.items == nope", 14, id="unknown"),
        pytest.param('shop.items == "x"', 14, id="argument"),
        pytest.param("shop.open && !shop.open", 13, id="operator"),
        pytest.param("size(shop.tenant, 1)", 0, id="arity"),
        pytest.param("shop.open &&\n  shop.tenant == 5", 30, id="second line"),
        pytest.param("true && (true + false)", 14, id="senseless"),
    ],
)
def test_type_error_points_at_its_place(source: str, caret: int) -> None:
    with pytest.raises(ExprTypeError) as caught:
        compile_expr(source, VOCABULARY)
    assert caught.value.offset == caret
    assert caught.value.pretty().splitlines()[-1].endswith("^")


def test_equal_trees_are_equal_wherever_they_stand() -> None:
    left, right = parse("f(a, 1) | g(`x`)"), parse('  f( a,1 )|g( "x" )')
    assert left == right
    assert hash(left) == hash(right)
    assert left != parse("f(a, 1) | g(`y`)")
    assert parse("1") != parse("true")
    assert Call("f", None, ()) != Attribute("f")


def test_builder_reads_attributes_from_local_variables() -> None:
    """As a plan does that holds many expressions: attributes read once, then shared."""
    names = {"shop.tenant": "a0", "shop.tier": "a1", "shop.tags": "a2", "shop.limit": "a3"}
    builder = CodeBuilder(VOCABULARY, read=names.__getitem__)
    sources = [
        "shop.tier | shop.tenant",
        'shop.tags["app"] | "none"',
        'shop.tags["app"]',
        "shop.limit | 5",
        "shop.tenant",
    ]
    for source in sources:
        typecheck(parse(source), VOCABULARY)
    texts = [builder.expression(parse(source)) for source in sources]
    assert texts[-1] == "(a0 if a0.__class__ is str else as_string(a0, 'shop.tenant'))"

    row = builder.function(
        "row",
        ["get"],
        [
            *(f"{local} = get({name!r})" for name, local in names.items()),
            f"return ({', '.join(texts)}, {builder.bind(ABSENT)})",
        ],
    )

    assert row(MappingBag(ATTRIBUTES).get) == ("acme", "cart", "cart", 5, "acme", ABSENT)


def test_builder_keeps_temporaries_of_many_expressions_apart() -> None:
    builder = CodeBuilder(VOCABULARY)
    trees = [parse("shop.tier | shop.tenant"), parse("shop.items + 1"), parse("shop.tier | shop.region")]
    text = ", ".join(builder.expression(tree) for tree in trees)
    pair = builder.function("pair", ["bag"], ["get = bag.lookup", f"return [{text}]"])
    assert pair(MappingBag(ATTRIBUTES)) == ["acme", 8, "eu-west"]


@pytest.mark.parametrize(
    ("kind", "source", "value"),
    [
        ("STRING", "x", 1),
        ("STRING", "x", True),
        ("INT64", "x", True),
        ("INT64", "x", 1.0),
        ("INT64", "x", Timestamp(0)),
        ("DOUBLE", "x", 1),
        ("BOOL", "x", 1),
        ("BOOL", "x | true", "true"),
        ("DURATION", "x", True),
        ("DURATION", 'x | "1s"', "1s"),
        ("TIMESTAMP", "x == x", 5),
        ("IP_ADDRESS", "x == x", "10.0.0.1"),
        ("IP_ADDRESS", "x < x", "10.0.0.1"),
        ("STRING_MAP", 'x["a"]', "a"),
        ("STRING_MAP", "x == x", b""),
    ],
)
def test_value_of_another_kind_is_an_error(kind: str, source: str, value: object) -> None:
    program = compile_expr(source, Vocabulary({"x": ValueType[kind]}))
    with pytest.raises(EvalError, match="error converting value to "):
        program.evaluate(MappingBag({"x": value}))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (True, "true"),
        (2.5, "2.5"),
        (1e21, "1e+21"),
        (123456.0, "123456"),
        (-1e6, "-1e+06"),
        (1234567.25, "1.23456725e+06"),
        (0.0001, "0.0001"),
        (5e-324, "5e-324"),
        (-0.0, "-0"),
        (float("-inf"), "-Inf"),
        (1.5e-5, "1.5e-05"),
        (float("nan"), "NaN"),
        (b"\x0a\x01", "[10 1]"),
        (Timestamp.parse("2020-03-01T12:00:00.5Z"), "2020-03-01 12:00:00.5 +0000 UTC"),
        ({"b": "2", "a": "1"}, "stringmap[a:1 b:2]"),
    ],
)
def test_generic_text_is_that_of_the_original(value: object, text: str) -> None:
    assert generic_text(value) == text


def test_map_where_another_kind_is_declared_is_recorded_whole() -> None:
    """The error's text depends on all of it, so a cached answer must too."""
    bag = TrackingBag(MappingBag({"x": {"a": "1"}}))
    with pytest.raises(EvalError, match=r"error converting value to string: 'stringmap\[a:1\]'"):
        compile_expr("x", Vocabulary({"x": ValueType.STRING})).evaluate(bag)
    assert bag.referenced == {("x", ""): Condition.EXACT}


_HALF_PAIR = "a\ud800b"


@pytest.mark.parametrize(
    "source",
    [
        "size(x)",
        "toLower(x)",
        'x < "a"',
        'x < "\\xff"',
        'x + "\\xff"',
        'x.startsWith("\\xff")',
        'match(x, "\\xff*")',
        '"a.b".matches(x)',
        "x.matches(x)",
        'm[x] | "d"',
        "ip(x)",
        "timestamp(x)",
        "dnsName(x) == dnsName(x)",
        "email(x) == email(x)",
        "uri(x) == uri(x)",
        "d == d",
        "e == e",
        "u == u",
    ],
)
def test_text_that_is_not_unicode_raises_nothing_but_eval_error(source: str) -> None:
    kinds = {"x": "STRING", "m": "STRING_MAP", "d": "DNS_NAME", "e": "EMAIL_ADDRESS", "u": "URI"}
    program = compile_expr(source, Vocabulary({name: ValueType[kind] for name, kind in kinds.items()}))
    for text in (_HALF_PAIR, "\udcff", f"http://{_HALF_PAIR}/", f"{_HALF_PAIR}@{_HALF_PAIR}"):
        with contextlib.suppress(EvalError):
            program.evaluate(MappingBag({**dict.fromkeys("xdeu", text), "m": {}}))
