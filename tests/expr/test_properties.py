"""Laws of the expression language, on random expressions and bags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer.attributes import ABSENT, AttributeValue, Condition, MappingBag, TrackedMap, TrackingBag
from mixer.errors import EvalError, ExprError
from mixer.expr import compile_expr, parse, typecheck, unparse
from tests.expr.interpreter import Interpreter
from tests.expr.strategies import VOCABULARY, bags, expressions

pytestmark = pytest.mark.slow

law = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def comparable(value: Any) -> Any:
    """The value with its class, such that NaN equals NaN."""
    if isinstance(value, TrackedMap):
        value = value.untracked()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, float):
        return (float, repr(value) if not math.isnan(value) else "nan")
    return (type(value), value)


def outcome(evaluate: Any, bag: TrackingBag) -> tuple[str, Any]:
    """The value, or the error's text; anything but EvalError escapes and fails the test."""
    try:
        return "value", comparable(evaluate(bag))
    except EvalError as error:
        return "error", str(error)


@law
@given(source=expressions())
def test_parsing_the_unparsed_tree_gives_it_back(source: str) -> None:
    tree = parse(source)
    assert parse(unparse(tree)) == tree
    assert hash(parse(unparse(tree))) == hash(tree)


@settings(law, max_examples=400)
@given(source=expressions(), values=bags())
def test_generated_code_agrees_with_the_interpreter(source: str, values: dict[str, AttributeValue]) -> None:
    program = compile_expr(source, VOCABULARY)
    ours, theirs = TrackingBag(MappingBag(values)), TrackingBag(MappingBag(values))
    interpreter = Interpreter(VOCABULARY, theirs)

    got = outcome(program.evaluate, ours)

    assert got == outcome(lambda _: interpreter.need(program.node), theirs)
    assert ours.referenced == theirs.referenced


@settings(law, max_examples=200)
@given(source=expressions(), values=bags(), noise=bags())
def test_result_depends_only_on_referenced_attributes(
    source: str, values: dict[str, AttributeValue], noise: dict[str, AttributeValue]
) -> None:
    """A cached check answer is right for every bag that agrees on the referenced attributes."""
    program = compile_expr(source, VOCABULARY)
    if program.type is program.type.STRING_MAP:
        return  # reading the map that is the result is left to the caller
    tracked = TrackingBag(MappingBag(values))
    first = outcome(program.evaluate, tracked)
    if isinstance(first[1], Mapping):
        return  # so is reading a map that came where an address or a time was declared

    other = agreeing_on(tracked, values, noise)

    assert outcome(program.evaluate, TrackingBag(MappingBag(other))) == first


def agreeing_on(
    bag: TrackingBag, values: dict[str, AttributeValue], noise: dict[str, AttributeValue]
) -> dict[str, AttributeValue]:
    """Noise, except for what was referenced: present ones copied, absent ones kept absent."""
    result: dict[str, Any] = {n: dict(v) if isinstance(v, Mapping) else v for n, v in noise.items()}
    wholes = {name for (name, key) in bag.referenced if not key}
    for name, value in values.items():
        if isinstance(value, Mapping) and name not in wholes and any(n == name for n, _ in bag.referenced):
            held = result.get(name)
            result[name] = dict(held) if isinstance(held, Mapping) else {}
        elif isinstance(value, Mapping) and name not in wholes:
            result[name] = {}  # present, and still a map
        elif name not in wholes and bag.peek(name) is not ABSENT and isinstance(result.get(name), Mapping):
            del result[name]
    for (name, key), condition in bag.referenced.items():
        value = values.get(name, ABSENT)
        if isinstance(value, Mapping) and key:
            if condition is Condition.EXACT:
                result[name][key] = value[key]
            else:
                result[name].pop(key, None)
        elif value is ABSENT:
            result.pop(name, None)
        else:
            result[name] = dict(value) if isinstance(value, Mapping) else value
    return result


@settings(law, max_examples=100)
@given(source=expressions())
def test_typecheck_needs_no_source(source: str) -> None:
    assert typecheck(parse(source), VOCABULARY) is compile_expr(source, VOCABULARY).type


@settings(law, max_examples=400)
@given(
    source=st.one_of(
        st.text(max_size=60),
        st.text(alphabet="ab01.\"'`()[]|&=<>!+-*/ \n\t,:;\\xe_", max_size=60),
        st.lists(
            st.sampled_from(["a", "f(", ")", "(", "|", "||", '"s"', "[", "]", ".", "1", "==", " ", "\n", ","])
        ).map("".join),
    )
)
def test_any_text_is_parsed_or_refused(source: str) -> None:
    error: ExprError | None = None
    try:
        compile_expr(source, VOCABULARY)
    except ExprError as fault:
        error = fault
    assert error is None or 0 <= error.offset <= len(source)
    assert error is None or error.pretty().startswith(error.message)


@settings(law, max_examples=200)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with pytest.raises(ExprError):
        compile_expr(data.decode("utf-8", "surrogateescape") + " nope(", VOCABULARY)
