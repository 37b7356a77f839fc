"""Which type an expression has, or why it has none.

Source: spec language 4.2 and 4.3, without the quirks Q-7 (excess arguments) and Q-10 (durations).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

from mixer.attributes import ValueType
from mixer.errors import ExprTypeError
from mixer.expr.functions import FUNCTIONS, ORDERING, Function, Generic, Parameter
from mixer.expr.text import canonical
from mixer.expr.tree import Attribute, Call, Constant, Node, alternatives_of, chain

_ORDER_NAMES: Final = {
    "LT": "less than",
    "LEQ": "less or equal",
    "GT": "greater than",
    "GEQ": "greater or equal",
}
_STRINGS: Final = frozenset({ValueType.STRING, ValueType.DNS_NAME, ValueType.EMAIL_ADDRESS, ValueType.URI})
_ADDABLE: Final = _STRINGS | {ValueType.INT64, ValueType.DOUBLE, ValueType.DURATION}


def typecheck(node: Node, vocabulary: Mapping[str, ValueType], *, source: str = "") -> ValueType:
    """The type of an expression.

    Args:
        node: What `mixer.expr.parse` gave.
        vocabulary: The attributes that may be named.
        source: The text that ``node`` was parsed from, for the error's caret.

    Raises:
        ExprTypeError: The first fault, left to right and inner before outer; only when the types are right, what
            has a type but no meaning (adding booleans).
    """
    checker = _Checker(vocabulary, source or canonical(node), located=bool(source))
    result = checker.type_of(node)
    checker.check_meaning(node)
    return result


def static_type(node: Node, vocabulary: Mapping[str, ValueType]) -> ValueType:
    """The type of a node of a checked tree."""
    while True:
        if isinstance(node, Constant):
            return node.type
        if isinstance(node, Attribute):
            return vocabulary[node.name]
        function = FUNCTIONS[node.name]
        if isinstance(function.returns, ValueType):
            return function.returns
        node = node.args[function.params.index(Generic.T)]


class _Checker:
    """One check; each kind of fault has one method, so that the wording is in one place."""

    def __init__(self, vocabulary: Mapping[str, ValueType], source: str, *, located: bool) -> None:
        self._vocabulary = vocabulary
        self._source = source
        self._located = located

    def type_of(self, node: Node) -> ValueType:
        if isinstance(node, Constant):
            return node.type
        if isinstance(node, Attribute):
            found = self._vocabulary.get(node.name)
            return self._unknown_attribute(node) if found is None else found
        if node.name == "conditional" and node.receiver is None:
            return self._conditional(node)
        links = chain(node)
        innermost = links[0]
        result = self._call(innermost, self._signature(innermost))
        for link in links[1:]:
            result = self._call(link, FUNCTIONS[link.name], first=result)
        return result

    def _signature(self, node: Call) -> Function:
        function = FUNCTIONS.get(node.name)
        if function is None:
            self._fail(node, f"unknown function: {node.name}")
        if node.receiver is not None:
            if function.receiver is None:
                self._fail(node, f"invoking regular function on instance method: {node.name}")
            actual = self.type_of(node.receiver)
            if actual is not function.receiver:
                text = f"{canonical(node)} target typeError got {actual.name}, expected {function.receiver.name}"
                self._fail(node.receiver, text)
        elif function.receiver is not None:
            self._fail(node, f"invoking instance method without an instance: {node.name}")
        if len(node.args) != len(function.params):
            counts = f"Got {len(node.args)} arg(s), expected {len(function.params)} arg(s)"
            self._fail(node, f"{canonical(node)} arity mismatch. {counts}")
        return function

    def _call(self, node: Call, function: Function, first: ValueType | None = None) -> ValueType:
        """The type of one call; ``first`` is the type of its first argument when that is known already."""
        generic: ValueType | None = None
        for i, (param, arg) in enumerate(zip(function.params, node.args, strict=True)):
            actual = first if i == 0 and first is not None else self.type_of(arg)
            generic = self._argument(node, i, param, actual, generic)
        return self._result(function.returns, generic)

    def _conditional(self, node: Call) -> ValueType:
        links = alternatives_of(node)
        wanted: list[ValueType | None] = []
        for link in links:
            function = self._signature(link)
            generic: ValueType | None = None
            for i, param in enumerate(function.params[:-1]):
                generic = self._argument(link, i, param, self.type_of(link.args[i]), generic)
            wanted.append(generic)
        result = self.type_of(links[-1].args[-1])
        for link, generic in zip(reversed(links), reversed(wanted), strict=True):
            last = len(link.args) - 1
            result = self._result(Generic.T, self._argument(link, last, Generic.T, result, generic))
        return result

    def _argument(
        self, node: Call, index: int, param: Parameter, actual: ValueType, generic: ValueType | None
    ) -> ValueType | None:
        """Check one argument; gives the generic type as far as it is known then."""
        expected = param if param is not Generic.T else actual if generic is None else generic
        if actual is not expected:
            arg = node.args[index]
            place = f"{canonical(node)} arg {index + 1} ({canonical(arg)})"
            self._fail(arg, f"{place} typeError got {actual.name}, expected {expected.name}")
        return actual if param is Generic.T else generic

    @staticmethod
    def _result(returns: Parameter, generic: ValueType | None) -> ValueType:
        result = generic if isinstance(returns, Generic) else returns
        assert result is not None  # a generic result comes with a generic parameter
        return result

    def check_meaning(self, root: Node) -> None:
        """Refuse what is well typed and means nothing, bottom-up and left to right."""
        for node in _bottom_up(root):
            if isinstance(node, Attribute):
                if self._vocabulary[node.name] is ValueType.VALUE_TYPE_UNSPECIFIED:
                    self._senseless(node, "unhandled expression type: 'VALUE_TYPE_UNSPECIFIED'")
            elif isinstance(node, Call) and (node.name == "ADD" or node.name in ORDERING):
                first = node.args[0]
                if isinstance(first, Call) and first.name == node.name == "ADD":
                    continue  # of that type too, and already seen
                kind = static_type(first, self._vocabulary)
                if node.name == "ADD" and kind not in _ADDABLE:
                    short = "bool" if kind is ValueType.BOOL else "interface"
                    self._senseless(node, f"Add for type not yet implemented: {short}")
                if node.name in ORDERING and kind is ValueType.STRING_MAP:
                    self._senseless(node, f"{_ORDER_NAMES[node.name]} for type not yet implemented: interface")

    def _unknown_attribute(self, node: Attribute) -> NoReturn:
        self._fail(node, f"unknown attribute {node.name}")

    def _senseless(self, node: Node, message: str) -> NoReturn:
        self._fail(node, f"internal compiler error -- {message}")

    def _fail(self, node: Node, message: str) -> NoReturn:
        raise ExprTypeError(message, source=self._source, offset=node.offset if self._located else 0)


def _bottom_up(root: Node) -> Iterable[Node]:
    """Every node, children before parents, left to right."""
    reversed_order: list[Node] = []
    pending = [root]
    while pending:
        node = pending.pop()
        reversed_order.append(node)
        if isinstance(node, Call):
            if node.receiver is not None:
                pending.append(node.receiver)
            pending.extend(node.args)
    return reversed(reversed_order)
