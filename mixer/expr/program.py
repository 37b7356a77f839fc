"""Compiled expressions: parsed, checked, turned into one Python function, and remembered.

Source: spec language 4.1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from mixer.attributes import AttributeBag, AttributeValue, ValueType, Vocabulary
from mixer.errors import ExprError, ExprTypeError
from mixer.expr.codegen import CodeBuilder
from mixer.expr.parse import parse
from mixer.expr.tree import Node, attribute_names
from mixer.expr.typecheck import typecheck


@dataclass(frozen=True, slots=True)
class Program:
    """An expression ready to run: stateless, to be shared by everyone who wants its value.

    ``evaluate`` gives the value for one bag. It raises EvalError only, and records in the bag what it looked at;
    a STRING_MAP is the very object that the bag gave, and reading it as a whole is the caller's to record.
    """

    source: str
    type: ValueType
    attributes: frozenset[str]
    """Every attribute that any evaluation can read."""
    node: Node
    evaluate: Callable[[AttributeBag], AttributeValue]


def compile_expr(source: str, vocabulary: Vocabulary) -> Program:
    """Compile an expression; results are remembered by source and vocabulary, since reloads repeat them.

    Raises:
        ExprSyntaxError: It does not parse.
        ExprTypeError: It makes no sense with this vocabulary.
    """
    return _compile(source, vocabulary)


@functools.lru_cache(maxsize=4096)
def _compile(source: str, vocabulary: Vocabulary) -> Program:
    try:
        return _build(source, vocabulary)
    except RecursionError:  # only when the caller's own stack is nearly full
        raise ExprTypeError("expression nested too deeply", source=source, offset=0) from None


def _build(source: str, vocabulary: Vocabulary) -> Program:
    node = parse(source)
    kind = typecheck(node, vocabulary, source=source)
    builder = CodeBuilder(vocabulary)
    names = attribute_names(node)
    body = [f"return {builder.expression(node)}"]
    if names:
        body.insert(0, "get = bag.lookup")
    try:
        evaluate = builder.function("evaluate", ["bag"], body)
    except ExprError as fault:
        raise type(fault)(fault.message, source=source, offset=0) from fault
    return Program(source, kind, names, node, evaluate)
