"""The expressions of an instance: typed when the instance is compiled, named when building one fails.

Source: spec runtime 1.10, spec language 5.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mixer.attributes import AttributeBag, TrackedMap, ValueType, Vocabulary
from mixer.errors import EvalError, ExprError
from mixer.expr import CodeBuilder, Node, compile_expr, parse, typecheck
from mixer.store.problem import FieldError
from mixer.store.resource import Path
from mixer.templates.hints import expected_at

Convert: TypeAlias = Callable[[Any], Any]
"""What is done to a value that leaves the language; raises EvalError, ValueError, TypeError or OverflowError."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One expression of an instance.

    Attributes:
        title: As error messages name it: ``Dimensions[zone]``, ``Subject.User``.
        kind: Of the value before it is converted.
        convert: None leaves the value as it is.
    """

    title: str
    source: str
    node: Node
    kind: ValueType
    convert: Convert | None = None

    def text(self, code: CodeBuilder) -> str:
        """Python text for the converted value."""
        text = code.expression(self.node)
        return text if self.convert is None else f"{code.bind(self.convert)}({text})"


def read(
    source: str, vocabulary: Vocabulary, path: Path, title: str, *, dynamic: bool = False
) -> tuple[Node, ValueType] | FieldError:
    """An expression with its type, or what is wrong with it; ``dynamic`` when the field takes more than one type."""
    try:
        node = parse(source)
        return node, typecheck(node, vocabulary, source=source)
    except ExprError as exc:
        mark = ";" if dynamic else ":"  # as the original has it
        message = f"failed to evaluate expression for field '{title}'{mark} {exc}"
        return FieldError(path, message, expected_at(exc, vocabulary))


def mistyped(kind: ValueType, wanted: Iterable[ValueType], path: Path, title: str) -> FieldError:
    """The fault of an expression whose type a field does not take."""
    want = " or ".join(each.name for each in wanted)
    message = f"error type checking for field '{title}': Evaluated expression type {kind.name} want {want}"
    return FieldError(path, message, f"an expression of type {want}")


def whole(value: Any) -> Any:
    """A string map that leaves the expression: from here on the answer depends on all of it."""
    if isinstance(value, TrackedMap):
        return value.whole()
    if not isinstance(value, Mapping):
        raise EvalError(f"error converting value to string map: '{value}'")
    return value


def blame(name: str, leaves: Iterable[Leaf], bag: AttributeBag, vocabulary: Vocabulary, cause: Exception) -> EvalError:
    """The error of building an instance, with the field that caused it."""
    for leaf in leaves:
        try:
            value = compile_expr(leaf.source, vocabulary).evaluate(bag)
            if leaf.convert is not None:
                leaf.convert(value)
        except (EvalError, ValueError, TypeError, OverflowError) as exc:
            return EvalError(f"evaluation failed at [{name}]'{leaf.title}': '{exc}'")
    return EvalError(f"evaluation failed at [{name}]: '{cause}'")
