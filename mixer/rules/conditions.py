"""Which conditions hold for a request, found without asking every rule.

Most matches begin like ``context.protocol == "http" && destination.service.host == "ratings" && ...``. Conditions
are therefore laid out as a tree over these leading comparisons: the left side is evaluated once for all rules that
begin with it, and a dictionary leads to those whose literal it equals, begins or ends with (``match(path, "/v1/*")``;
one dictionary for each length of literal). A thousand rules for other services cost one lookup. What follows the
comparisons is compiled into one function for each rule and runs only when they hold.

Nothing else changes: a term is evaluated exactly when short-circuit evaluation of some rule would have come to it,
so the attributes that a request is seen to depend on are the same as if each rule had been evaluated by itself.

Source: spec language 5.3, spec runtime 4.2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from mixer.attributes import AttributeValue, ValueType, Vocabulary
from mixer.attributes.values import Absent
from mixer.expr import Call, CodeBuilder, Constant, Node, Program
from mixer.expr.tree import operands
from mixer.expr.typecheck import static_type

Get: TypeAlias = Callable[[str, Absent], AttributeValue | Absent]
"""How an attribute is read: the ``lookup`` of a bag."""

_INDEXED: Final = frozenset({ValueType.STRING, ValueType.INT64})
"""Types of which equality is that of a dictionary's keys."""

_DEEPEST: Final = 8
"""Comparisons of one rule that get a level each; the others wait in its remainder."""


class _Test(NamedTuple):
    """A comparison of an expression with a literal: of the whole value, or of its first or last ``size`` characters."""

    part: Literal["whole", "head", "tail"]
    size: int
    literal: object


@dataclass(slots=True)
class _Branch:
    """All rules whose next term compares one expression with literals."""

    evaluate: Callable[[Get], Any]
    whole: dict[object, _Node] = field(default_factory=dict)
    heads: list[tuple[int, dict[object, _Node]]] = field(default_factory=list)
    tails: list[tuple[int, dict[object, _Node]]] = field(default_factory=list)

    def add(self, test: _Test, node: _Node) -> None:
        """Lead to a node those values that pass a test."""
        if test.part == "whole":
            self.whole[test.literal] = node
            return
        by_size = self.heads if test.part == "head" else self.tails
        nodes = next((nodes for size, nodes in by_size if size == test.size), None)
        if nodes is None:
            nodes = {}
            by_size.append((test.size, nodes))
        nodes[test.literal] = node

    def following(self, value: Any, pending: list[_Node]) -> None:
        """Add the nodes that a value leads to."""
        node = self.whole.get(value)
        if node is not None:
            pending.append(node)
        for size, nodes in self.heads:
            node = nodes.get(value[:size])
            if node is not None:
                pending.append(node)
        for size, nodes in self.tails:
            node = nodes.get(value[-size:])
            if node is not None:
                pending.append(node)


@dataclass(slots=True)
class _Node:
    """What can still hold after the comparisons that lead here: rules by number, the rest of their terms, branches."""

    holding: list[int] = field(default_factory=list)
    remainders: list[tuple[int, Callable[[Get], Any]]] = field(default_factory=list)
    branches: list[_Branch] = field(default_factory=list)


class ConditionTree:
    """The conditions of many rules, by number; immutable once built."""

    __slots__ = ("_root",)

    def __init__(self, conditions: Iterable[tuple[int, Program]], vocabulary: Vocabulary) -> None:
        self._root = _build([(number, _terms(program.node)) for number, program in conditions], vocabulary, 0)

    def holding(self, get: Get, on_error: Callable[[Exception], None]) -> list[int]:
        """The numbers of the conditions that hold, in no order.

        One that cannot be evaluated does not hold; ``on_error`` is told, once for all rules that share the fault.
        """
        found: list[int] = []
        pending = [self._root]
        while pending:
            node = pending.pop()
            found += node.holding
            for number, remainder in node.remainders:
                try:
                    if remainder(get) is True:
                        found.append(number)
                except Exception as exc:  # noqa: BLE001  one rule must not cost the others
                    on_error(exc)
            for branch in node.branches:
                try:
                    branch.following(branch.evaluate(get), pending)
                except Exception as exc:  # noqa: BLE001  one rule must not cost the others
                    on_error(exc)
        return found


class MatchIndex:
    """The matches of a sequence of things (routes, header operations): which of them a request is for.

    Things are known by their position; those without a match (None) are for every request.
    """

    __slots__ = ("_always", "_positions", "_tree")

    def __init__(self, matches: Sequence[Program | None], vocabulary: Vocabulary) -> None:
        positions: dict[Program, list[int]] = {}
        for position, match in enumerate(matches):
            if match is not None:
                positions.setdefault(match, []).append(position)
        self._always = tuple(position for position, match in enumerate(matches) if match is None)
        self._positions = tuple(map(tuple, positions.values()))
        self._tree = ConditionTree(enumerate(positions), vocabulary) if positions else None

    def matching(self, get: Get, on_error: Callable[[Exception], None]) -> Sequence[int]:
        """The positions of what a request is for, ascending."""
        if self._tree is None:
            return self._always
        found = [p for number in self._tree.holding(get, on_error) for p in self._positions[number]]
        if self._always or len(found) > 1:
            found.extend(self._always)
            found.sort()
        return found


def _terms(node: Node) -> list[Node]:
    """The terms of a conjunction, left to right, however it is bracketed."""
    flat: list[Node] = []
    pending = [node]
    while pending:
        term = pending.pop()
        if isinstance(term, Call) and term.name == "LAND" and term.receiver is None:
            pending.extend(reversed(operands(term)))
        else:
            flat.append(term)
    return flat


def _build(rules: Sequence[tuple[int, list[Node]]], vocabulary: Vocabulary, depth: int) -> _Node:
    node = _Node()
    compared: dict[Node, dict[_Test, list[tuple[int, list[Node]]]]] = {}
    for number, terms in rules:
        comparison = _comparison(terms[0], vocabulary) if terms and depth < _DEEPEST else None
        if not terms:
            node.holding.append(number)
        elif comparison is None:
            node.remainders.append((number, _function(terms, vocabulary)))
        else:
            expression, tests = comparison
            by_test = compared.setdefault(expression, {})
            for test in tests:
                by_test.setdefault(test, []).append((number, terms[1:]))
    for expression, by_test in compared.items():
        branch = _Branch(_function([expression], vocabulary))
        for test, following in by_test.items():
            branch.add(test, _build(following, vocabulary, depth + 1))
        node.branches.append(branch)
    return node


def _comparison(term: Node, vocabulary: Mapping[str, ValueType]) -> tuple[Node, list[_Test]] | None:
    """The expression and the tests of ``e == "x"``, of ``e == "x" || e == "y"`` or of ``match(e, "x*")``.

    None for any other term. No value passes two tests of one term, so a rule is found once at most.
    """
    if isinstance(term, Call) and term.name == "LOR":
        sides = [_equality(side) for side in operands(term)]
    else:
        sides = [_equality(term) or _glob(term)]
    expression = sides[0][0] if sides[0] is not None else None
    tests: dict[_Test, None] = {}
    for side in sides:
        if side is None or side[0] != expression:
            return None
        tests[side[1]] = None
    if expression is None or static_type(expression, vocabulary) not in _INDEXED:
        return None
    return expression, list(tests)


def _equality(term: Node) -> tuple[Node, _Test] | None:
    if not (isinstance(term, Call) and term.name == "EQ" and len(term.args) == 2):
        return None
    left, right = term.args
    if isinstance(left, Constant):
        left, right = right, left
    if not isinstance(right, Constant) or isinstance(left, Constant) or right.type not in _INDEXED:
        return None
    return left, _Test("whole", 0, right.value)


def _glob(term: Node) -> tuple[Node, _Test] | None:
    """``match(e, "x*")``, ``match(e, "*x")``, ``e.startsWith("x")`` or ``e.endsWith("x")`` with a literal that is text."""
    if not isinstance(term, Call):
        return None
    if term.name == "match" and len(term.args) == 2:
        expression, pattern = term.args
    elif term.name in ("startsWith", "endsWith") and term.receiver is not None and len(term.args) == 1:
        expression, pattern = term.receiver, term.args[0]
    else:
        return None
    if not isinstance(pattern, Constant) or isinstance(expression, Constant) or not isinstance(pattern.value, str):
        return None
    text = pattern.value
    part: Literal["head", "tail"] = "tail" if term.name == "endsWith" else "head"
    if term.name == "match":
        if text.endswith("*"):
            text = text[:-1]
        elif text.startswith("*"):
            part, text = "tail", text[1:]
        else:
            return expression, _Test("whole", 0, text)
    if not text or not text.isascii():
        return None  # everything matches; or a text of bytes, which characters do not cut
    return expression, _Test(part, len(text), text)


def _function(terms: Sequence[Node], vocabulary: Vocabulary) -> Callable[[Get], Any]:
    """Terms as one function of ``get``: their conjunction, or the value of a single one."""
    return _compiled(tuple(terms), vocabulary)


@functools.lru_cache(maxsize=8192)  # a reload repeats nearly all of them
def _compiled(terms: tuple[Node, ...], vocabulary: Vocabulary) -> Callable[[Get], Any]:
    code = CodeBuilder(vocabulary)
    return code.function("condition", ["get"], [f"return {' and '.join(code.expression(term) for term in terms)}"])
