"""From trees back to text: the canonical form of error messages, and source that parses to an equal tree.

Source: spec language 1.5 and 1.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mixer.expr.tree import Attribute, Call, Constant, Node, alternatives_of, chain

_OPERATORS: Final = {
    **dict.fromkeys(["MUL", "QUO", "REM", "AND", ""], 5),
    **dict.fromkeys(["ADD", "OR", "SUB", "XOR"], 4),
    **dict.fromkeys(["EQ", "NEQ", "LT", "LEQ", "GT", "GEQ"], 3),
    "LAND": 2,
    "LOR": 1,
}
_SIGNS: Final = {
    "MUL": "*", "QUO": "/", "REM": "%", "AND": "&", "": "<<", "ADD": "+", "OR": "|", "SUB": "-", "XOR": "^",
    "EQ": "==", "NEQ": "!=", "LT": "<", "LEQ": "<=", "GT": ">", "GEQ": ">=", "LAND": "&&", "LOR": "||",
}  # fmt: skip
_UNARY_LEVEL, _POSTFIX_LEVEL = 6, 7


def canonical(node: Node) -> str:
    """The text of a tree inside error messages: ``OR(INDEX($m, "k"), "d"):startsWith("x")``."""
    if isinstance(node, Constant):
        return node.text
    if isinstance(node, Attribute):
        return f"${node.name}"
    if node.name == "conditional" and node.receiver is None:
        return _nested_last(node, canonical)
    links = chain(node)
    head = f"{canonical(links[0].receiver)}:" if links[0].receiver is not None else ""
    text = "".join((f"{node.name}(" * (len(links) - 1), head, node.name, "("))
    text += ", ".join(canonical(arg) for arg in links[0].args) + ")"
    return text + "".join(f", {canonical(link.args[1])})" for link in links[1:])


def unparse(node: Node) -> str:
    """Source text that parses to a tree equal to ``node``, with operator signs where the language has them."""
    return _unparse(node)[0]


def _unparse(node: Node) -> tuple[str, int]:
    if isinstance(node, Constant):
        return node.text, _POSTFIX_LEVEL
    if isinstance(node, Attribute):
        return node.name, _POSTFIX_LEVEL
    if node.name == "conditional" and node.receiver is None:
        return _nested_last(node, unparse), _POSTFIX_LEVEL
    if node.receiver is not None:
        return f"{_receiver(node.receiver)}.{node.name}({_arguments(node)})", _POSTFIX_LEVEL
    if node.name == "INDEX" and len(node.args) == 2:
        return f"{_within(node.args[0], _POSTFIX_LEVEL)}[{unparse(node.args[1])}]", _POSTFIX_LEVEL
    level = _OPERATORS.get(node.name)
    if level is not None and len(node.args) == 2:
        links = chain(node)
        pieces = [_within(links[0].args[0], level)]
        pieces += [_within(link.args[1], level + 1) for link in links]
        return f" {_SIGNS[node.name]} ".join(pieces), level
    if node.name == "":
        return f"<-{_within(node.args[0], _UNARY_LEVEL)}", _UNARY_LEVEL
    return f"{node.name}({_arguments(node)})", _POSTFIX_LEVEL


def _nested_last(node: Call, text_of: Callable[[Node], str]) -> str:
    links = alternatives_of(node)
    last = links.pop()
    text = "".join(f"conditional({text_of(link.args[0])}, {text_of(link.args[1])}, " for link in links)
    return f"{text}conditional({', '.join(map(text_of, last.args))}){')' * len(links)}"


def _within(node: Node, level: int) -> str:
    text, own = _unparse(node)
    return text if own >= level else f"({text})"


def _arguments(node: Call) -> str:
    return ", ".join(unparse(arg) for arg in node.args)


def _receiver(node: Node) -> str:
    if isinstance(node, Attribute):
        return node.name
    if isinstance(node, Constant) and isinstance(node.value, str):
        return node.text
    return f"({unparse(node)})"
