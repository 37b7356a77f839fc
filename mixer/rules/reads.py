"""What the rules of a snapshot can read of a request: nothing else is decoded.

Source: spec runtime 8 (cost).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from mixer.api.wanted import Wanted
from mixer.expr import Node
from mixer.rules.atoms import Atom, reads_of
from mixer.templates.builder import CompiledInstance

if TYPE_CHECKING:
    from mixer.rules.snapshot import Rule

_ALWAYS = (Atom("context.reporter.kind"), Atom("destination.namespace"), Atom("source.namespace"))
"""What decides which rules a request sees. Source: spec runtime 2.2."""


def wanted_by(rules: Iterable[Rule]) -> Wanted:
    """All attributes that rules, and the instances they name, can read; of string maps the keys where those are known."""
    wanted: dict[str, set[str] | None] = {}
    for name, key in (*_ALWAYS, *(read for rule in rules for read in _reads(rule))):
        known = wanted.setdefault(name, set())
        if key is None:
            wanted[name] = None
        elif known is not None:
            known.add(key)
    return Wanted({name: None if keys is None else frozenset(keys) for name, keys in wanted.items()})


def _reads(rule: Rule) -> Iterator[Atom]:
    if rule.match is not None:
        yield from reads_of([rule.match.node])
    yield from reads_of(op.value.node for op in rule.header_operations if op.value is not None)
    for action in rule.actions:
        for instance in action.instances:
            yield from _instance_reads(instance)
    if rule.sampling is not None and rule.sampling.random is not None:
        yield Atom(rule.sampling.random.attribute_expression.strip())
        yield Atom("request.headers", "x-request-id")


def _instance_reads(instance: CompiledInstance) -> Iterator[Atom]:
    seen: set[str] = set()
    for read in reads_of(_nodes(instance)):
        seen.add(read.name)
        yield read
    # Attribute bindings are no fields: what they read, and what they would add, is wanted whole.
    yield from (Atom(name) for name in instance.attributes - seen)
    if instance.bind is not None:
        yield from (Atom(name) for name in instance.attributes)


def _nodes(instance: CompiledInstance) -> Iterator[Node]:
    for found in instance.nodes.values():
        if isinstance(found, Mapping):
            yield from found.values()
        else:
            yield found
