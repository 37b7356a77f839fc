"""Every row of the corpus, through the real pipeline."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mixer.attributes import Condition, MappingBag, TrackedMap, TrackingBag
from mixer.errors import EvalError, ExprSyntaxError, ExprTypeError
from mixer.expr import canonical, compile_expr, parse, unparse
from tests.expr_cases import ATTRIBUTES, CANONICAL, CASES, VOCABULARY, Case, Stage

_SIGNS = {Condition.EXACT: "+", Condition.ABSENCE: "-"}


def references(bag: TrackingBag) -> list[str]:
    return sorted(
        f"{_SIGNS[condition]}{name}[{key}]" if key else f"{_SIGNS[condition]}{name}"
        for (name, key), condition in bag.referenced.items()
    )


def _of_stage(*stages: Stage | None) -> list[object]:
    return [pytest.param(case, id=case.expr[:60] or "empty") for case in CASES if case.stage in stages]


@pytest.mark.parametrize("case", _of_stage(None, Stage.EVAL))
def test_expression_gives_value_type_and_references(case: Case) -> None:
    program = compile_expr(case.expr, VOCABULARY)
    bag = TrackingBag(MappingBag(ATTRIBUTES))

    assert program.type is case.type
    if case.stage is Stage.EVAL:
        with pytest.raises(EvalError) as caught:
            program.evaluate(bag)
        assert str(caught.value) == case.error
    else:
        value = program.evaluate(bag)
        content = dict(value.untracked()) if isinstance(value, TrackedMap) else value
        assert content == case.value
        if not isinstance(content, Mapping):
            assert type(content) is type(case.value)
    assert references(bag) == sorted(case.references.split())


@pytest.mark.parametrize("case", _of_stage(Stage.TYPE))
def test_expression_without_sense_is_refused(case: Case) -> None:
    parse(case.expr)
    with pytest.raises(ExprTypeError) as caught:
        compile_expr(case.expr, VOCABULARY)
    assert str(caught.value) == case.error
    assert caught.value.source == case.expr
    assert 0 <= caught.value.offset < len(case.expr)


@pytest.mark.parametrize("case", _of_stage(Stage.PARSE))
def test_text_that_is_no_expression_is_refused(case: Case) -> None:
    with pytest.raises(ExprSyntaxError) as caught:
        parse(case.expr)
    assert str(caught.value).startswith(case.error)
    assert 0 <= caught.value.offset <= len(case.expr)


@pytest.mark.parametrize(("source", "text"), CANONICAL, ids=[source for source, _ in CANONICAL])
def test_tree_has_canonical_text_and_unparses_to_itself(source: str, text: str) -> None:
    tree = parse(source)
    assert canonical(tree) == text
    assert parse(unparse(tree)) == tree


def test_corpus_has_no_case_twice() -> None:
    sources = [case.expr for case in CASES]
    assert sorted({s for s in sources if sources.count(s) > 1}) == []
