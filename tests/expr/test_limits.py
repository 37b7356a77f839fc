"""Size: long chains work, and what is too deep or too long is refused cleanly."""

from __future__ import annotations

import inspect
import sys

import pytest

from mixer.attributes import Duration, MappingBag
from mixer.errors import ExprError, ExprSyntaxError
from mixer.expr import canonical, compile_expr, parse, unparse
from mixer.expr.parse import MAX_DEPTH, MAX_SOURCE_BYTES
from tests.expr_cases import ATTRIBUTES, VOCABULARY

BAG = MappingBag(ATTRIBUTES)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        pytest.param(" || ".join(['shop.tenant == "x"'] * 1000) + " || true", True, id="or"),
        pytest.param(" && ".join(['shop.tenant == "acme"'] * 1000), True, id="and"),
        pytest.param(" | ".join([*["shop.tier"] * 1000, '"z"']), "z", id="fallback"),
        pytest.param(" | ".join([*['shop.tags["no"]'] * 1000, '"z"']), "z", id="fallback-of-lookups"),
        pytest.param(" + ".join(["shop.tenant"] * 1000), "acme" * 1000, id="text"),
        pytest.param(" + ".join(["shop.items"] * 1000), 7000, id="integers"),
        pytest.param(" + ".join(["shop.ratio"] * 1000), 2500.0, id="doubles"),
        pytest.param(" + ".join(['"1s"'] * 1000), Duration(1000 * 10**9), id="durations"),
        pytest.param(
            "".join(f"conditional(shop.items == {i + 8}, {i}, " for i in range(1000)) + "9" + ")" * 1000, 9, id="else"
        ),
        pytest.param("(" * 20_000 + "7" + ")" * 20_000, 7, id="parentheses"),
        pytest.param("conditional(shop.open, " * 40 + "1" + ", 2)" * 40, 1, id="then"),
    ],
)
def test_long_expression_works(source: str, value: object) -> None:
    program = compile_expr(source, VOCABULARY)

    assert program.evaluate(BAG) == value
    assert parse(unparse(program.node)) == program.node
    assert canonical(program.node)


_WRAPPERS = {
    "lower": ("toLower({})", "shop.tenant"),
    "size-free index": ("shop.tags[{}]", "shop.tenant"),
    "map": ("(shop.meta | conditional(true, shop.tags, shop.meta))[{}]", "shop.tenant"),
    "fallback inside key": ("(shop.tags[{}] | shop.region)", "shop.tenant"),
    "right-nested fallback": ("(shop.tier | {})", "shop.tenant"),
    "right-nested sum": ('("a" + {})', "shop.tenant"),
    "equal": ("({} == shop.open)", "true"),
    "right-nested and": ("(shop.open && {})", "true"),
    "condition": ("conditional({}, true, false)", "shop.open"),
    "then": ("conditional(shop.vip | true, {}, shop.tier)", "shop.tenant"),
    "choice": ("conditionalString(shop.open, {}, shop.tier | shop.tenant)", "shop.tenant"),
    "integers": ("(1 + (shop.items + {}))", "(shop.limit | 1)"),
    "prefix": ('conditional(({}).startsWith(shop.tenant), "a", "b")', "shop.tenant"),
    "match": ('conditional(match({}, "a*"), "a", "b")', "shop.tenant"),
    "instants": ("conditional({} == shop.since, shop.since, shop.since)", "shop.since"),
}


@pytest.mark.parametrize("name", _WRAPPERS)
def test_nesting_works_up_to_the_limit_and_is_refused_beyond(name: str) -> None:
    """Whatever the parser accepts, Python's own parser takes too."""
    wrapper, core = _WRAPPERS[name]
    sources = [core]
    while parses(sources[-1]):
        sources.append(wrapper.format(sources[-1]))

    deepest = sources[-2]
    assert len(deepest) > 20 * len(wrapper)
    compile_expr(deepest, VOCABULARY).evaluate(BAG)
    with pytest.raises(ExprSyntaxError, match=f"expression nested too deeply: more than {MAX_DEPTH} levels"):
        parse(sources[-1])


def parses(source: str) -> bool:
    try:
        parse(source)
    except ExprSyntaxError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        pytest.param("!" * 60_000 + "a", id="unary"),
        pytest.param("f(" * 20_000, id="open-calls"),
        pytest.param("(" * 60_000, id="open-parentheses"),
        pytest.param("m[" * 20_000 + "a" + "]" * 20_000, id="lookups"),
        pytest.param("a | 1 + " * 5_000 + "a", id="mixed"),
        pytest.param("f(" * 15_000 + ")" * 15_000, id="calls"),
        pytest.param("a" + ".f()" * 10_000, id="methods"),
        pytest.param('"' * 60_001, id="quotes"),
        pytest.param("/*" * 30_000, id="comment"),
        pytest.param("1" * 60_000, id="digits"),
        pytest.param("x" * (MAX_SOURCE_BYTES + 1), id="too-long"),
        pytest.param("é" * (MAX_SOURCE_BYTES // 2 + 1), id="too-many-bytes"),
    ],
)
def test_absurd_expression_is_refused(source: str) -> None:
    with pytest.raises(ExprError):
        compile_expr(source, VOCABULARY)


def test_longest_source_is_read() -> None:
    source = " " * (MAX_SOURCE_BYTES - 4) + "true"
    assert compile_expr(source, VOCABULARY).evaluate(BAG) is True


@pytest.mark.slow
def test_long_sum_of_names_is_checked_in_linear_time() -> None:
    source = "+".join(["1"] * 20_000)
    assert compile_expr(source, VOCABULARY).evaluate(BAG) == 20_000


def test_full_stack_is_reported_as_too_deep_an_expression() -> None:
    source = "toLower(shop.tenant + " * 24 + "shop.tenant" + ")" * 24

    def compile_below(frames: int) -> None:
        if frames:
            compile_below(frames - 1)
        else:
            compile_expr(source, VOCABULARY)

    with pytest.raises(ExprError, match="nested too deeply"):
        compile_below(sys.getrecursionlimit() - len(inspect.stack(0)) - 60)
