"""What the labels of a metric are made of, as a key: equal keys, equal labels.

The expressions of a metric's dimensions read a few attributes and map entries, its *atoms*. Their values repeat from
record to record (who calls whom, with what outcome), so what follows from them can be remembered under the tuple of
those values. Atoms of which values that look equal may print differently (``1`` and ``true``, ``0.0`` and ``-0.0``)
carry their class along.

Source: spec language 5.2 (classes of values), spec runtime 8 (cost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from mixer.attributes import ABSENT, ValueType, Vocabulary
from mixer.expr import Attribute, Call, CodeBuilder, Constant, Node
from mixer.rules.conditions import Get

_TEXTS: Final = frozenset({ValueType.STRING, ValueType.DNS_NAME, ValueType.EMAIL_ADDRESS, ValueType.URI})
_PLAIN: Final = {ValueType.INT64: "int", ValueType.BOOL: "bool", ValueType.IP_ADDRESS: "bytes"}


class Atom(NamedTuple):
    """An attribute, or the entry of a string map under a literal key (None for a whole attribute)."""

    name: str
    key: str | None = None


def atoms_of(nodes: Iterable[Node], vocabulary: Vocabulary) -> frozenset[Atom] | None:
    """All atoms of some expressions; None when one uses a string map other than under a literal key."""
    reads = reads_of(nodes)
    whole = any(atom.key is None and vocabulary[atom.name] is ValueType.STRING_MAP for atom in reads)
    return None if whole else reads


def reads_of(nodes: Iterable[Node]) -> frozenset[Atom]:
    """Everything that expressions can read; a string map used other than under literal keys is read whole."""
    reads: set[Atom] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, Attribute):
            reads.add(Atom(node.name))
        elif isinstance(node, Call):
            entry = _entry(node)
            if entry is not None:
                reads.add(entry)
            else:
                pending.extend(node.args if node.receiver is None else (node.receiver, *node.args))
    return frozenset(reads)


def _entry(node: Call) -> Atom | None:
    if node.name == "INDEX" and len(node.args) == 2:
        container, key = node.args
        if isinstance(container, Attribute) and isinstance(key, Constant) and isinstance(key.value, str):
            return Atom(container.name, key.value)
    return None


def compile_key(atoms: Iterable[Atom], vocabulary: Vocabulary) -> Callable[[Get], tuple[Any, ...]]:
    """One function from a bag's ``lookup`` to the tuple of the atoms' values.

    The tuple may turn out not to be hashable when a value is not of its declared type; then there is no key.
    """
    code = CodeBuilder(vocabulary)
    entry = code.bind(_slow_entry)
    lines: list[str] = []
    parts: list[str] = []
    maps: dict[str, str] = {}
    for atom in sorted(atoms, key=lambda atom: (atom.name, atom.key or "")):
        if atom.key is not None:
            held = maps.get(atom.name)
            if held is None:
                held = maps[atom.name] = code.temporary()
                lines.append(f"{held} = get({atom.name!a}, ABSENT)")
            parts.append(f"{held}.get({atom.key!a}) if {held}.__class__ is dict else {entry}({held}, {atom.key!a})")
            continue
        read = f"get({atom.name!a}, ABSENT)"
        kind = vocabulary[atom.name]
        if kind in _TEXTS:
            parts.append(read)
        else:
            value = code.temporary()
            plain = _PLAIN.get(kind)
            guarded = f"({value}.__class__, str({value}))"
            parts.append(
                f"{value} if ({value} := {read}).__class__ is {plain} else {guarded}"
                if plain
                else f"(({value} := {read}).__class__, str({value}))"
            )
    tail = "," if len(parts) == 1 else ""
    return code.function("key", ["get"], [*lines, f"return ({', '.join(parts)}{tail})"])


def _slow_entry(held: object, key: str) -> object:
    """The entry of what is no plain dict: another kind of map, an absent one, or no map at all."""
    if held is ABSENT:
        return ABSENT
    return held.get(key) if isinstance(held, Mapping) else (held.__class__, str(held))


def compile_values(nodes: Iterable[Node | None], vocabulary: Vocabulary) -> Callable[[Get], tuple[Any, ...]]:
    """One function from a bag's ``lookup`` to the values of several expressions, None for one that is not set.

    It raises EvalError when any of them cannot be evaluated.
    """
    code = CodeBuilder(vocabulary)
    texts = ["None" if node is None else code.expression(node) for node in nodes]
    return code.function("values", ["get"], [f"return ({', '.join(texts)},)"])
