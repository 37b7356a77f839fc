"""The expression tree: constants, attributes and calls; operators are calls by their internal names.

Trees are immutable, hashable and cheap to compare, so that equal sub-expressions can be found and shared.
Chains such as ``a || b || c`` lean to the left and may be very long; every walk over a tree takes them level
by level (`chain`, `alternatives_of`) and recurses only into real nesting, which the parser bounds.

Source: spec language 1.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mixer.attributes import Duration, ValueType

ConstantValue: TypeAlias = str | int | float | bool | Duration
"""What a literal can be; text that is not UTF-8 (``"\\xff"``) holds its bytes as surrogate escapes."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; ``text`` is how the source spells it (booleans in lower case)."""

    value: ConstantValue
    type: ValueType
    text: str = field(compare=False)
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute, by its whole dotted name."""

    name: str
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function, method (with a receiver) or operator, applied; ``offset`` is that of its name or sign."""

    name: str
    receiver: Node | None
    args: tuple[Node, ...]
    offset: int = 0
    _hash: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.name, self.receiver, self.args)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Call):
            return NotImplemented
        pairs: list[tuple[Node | None, Node | None]] = [(self, other)]
        while pairs:  # not recursive: a chain of a thousand terms is as deep as it is long
            left, right = pairs.pop()
            if left is right:
                continue
            if not isinstance(left, Call) or not isinstance(right, Call):
                if left != right:
                    return False
                continue
            if left._hash != right._hash or left.name != right.name or len(left.args) != len(right.args):
                return False
            pairs.append((left.receiver, right.receiver))
            pairs.extend(zip(left.args, right.args, strict=True))
        return True


Node: TypeAlias = Constant | Attribute | Call

CHAINING: Final = frozenset({"LOR", "LAND", "OR", "ADD"})
"""Operators of which long chains are ordinary."""


def chain(node: Call) -> list[Call]:
    """The links of a left-leaning chain of one operator, innermost first; ``[node]`` when it is none."""
    links = [node]
    while _chains(node):
        first = node.args[0]
        if not isinstance(first, Call) or first.name != node.name or not _chains(first):
            break
        links.append(first)
        node = first
    links.reverse()
    return links


def _chains(node: Call) -> bool:
    return node.name in CHAINING and len(node.args) == 2 and node.receiver is None


def operands(node: Call) -> list[Node]:
    """The operands of a chain from left to right: of ``a | b | c`` the three."""
    links = chain(node)
    return [*links[0].args, *(link.args[1] for link in links[1:])]


def alternatives_of(node: Call) -> list[Call]:
    """The links of ``conditional(c, a, conditional(...))`` nested in the last position, outermost first."""
    links = [node]
    while True:
        last = links[-1].args[-1] if len(links[-1].args) == 3 and links[-1].receiver is None else None
        if not isinstance(last, Call) or last.name != "conditional" or last.receiver is not None:
            return links
        links.append(last)


def children(node: Node) -> Iterator[Node]:
    """What a node is made of, receiver first."""
    if isinstance(node, Call):
        if node.receiver is not None:
            yield node.receiver
        yield from node.args


def walk(node: Node) -> Iterator[Node]:
    """Every node of the tree, parents before children, left before right."""
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed([*children(node)]))


def attribute_names(node: Node) -> frozenset[str]:
    """The names of all attributes that the tree can read."""
    return frozenset(n.name for n in walk(node) if isinstance(n, Attribute))
