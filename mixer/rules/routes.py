"""Routes: what to do for a request of a namespace, laid out flat for the dispatcher.

Rules of the default namespace stand first, then those of the request's own namespace, each in the order of
declaration; every request's result is put together in that order. Conditions are numbered, so that a
dispatcher evaluates each text at most once for a request, however many rules share it.

Source: spec runtime 2.2, 3.9 and 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mixer.attributes import AttributeBag
from mixer.templates import Variety
from mixer.templates.builder import CompiledInstance

if TYPE_CHECKING:
    from mixer.expr import Program
    from mixer.rules.snapshot import HeaderOperation, Rule

ALWAYS: Final = -1
"""The condition of a rule without a match."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One instance for one handler, if a condition holds.

    Attributes:
        condition: Position in ``Routes.conditions``, or `ALWAYS`.
        handler: Full name of the handler.
        rule: The rule that says so.
    """

    condition: int
    handler: str
    instance: CompiledInstance
    rule: Rule


@dataclass(frozen=True, slots=True, eq=False)
class Directive:
    """The header operations of one rule, if a condition holds."""

    condition: int
    operations: tuple[HeaderOperation, ...]
    rule: Rule


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """All that concerns the requests of one namespace.

    ``quotas`` is keyed by the lower-case short name under which proxies ask for a quota.
    """

    conditions: tuple[Program, ...] = ()
    generators: tuple[Route, ...] = ()
    checks: tuple[Route, ...] = ()
    reports: tuple[Route, ...] = ()
    quotas: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    directives: tuple[Directive, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class RoutingTable:
    """The routes of every namespace that has rules, and of all the others (``fallback``)."""

    by_namespace: Mapping[str, Routes]
    default_namespace: str
    fallback: Routes

    def of(self, namespace: str) -> Routes:
        """The routes for requests of a namespace."""
        return self.by_namespace.get(namespace, self.fallback)


def request_namespace(bag: AttributeBag) -> str:
    """The namespace whose rules a request sees; the attributes read here are recorded as referenced.

    Source: spec runtime 2.2.
    """
    reporter = bag.get("context.reporter.kind")
    if not isinstance(reporter, str) or reporter == "inbound":
        namespace = bag.get("destination.namespace")
    elif reporter == "outbound":
        namespace = bag.get("source.namespace")
    else:
        return ""
    return namespace if isinstance(namespace, str) else ""


def build_routes(rules: Sequence[Rule], default_namespace: str) -> RoutingTable:
    """Lay the rules out by namespace; rules come in the order of declaration."""
    by_namespace: dict[str, list[Rule]] = {}
    for rule in rules:
        by_namespace.setdefault(rule.key.namespace, []).append(rule)
    common = by_namespace.pop(default_namespace, [])
    return RoutingTable(
        {namespace: _lay_out([*common, *own]) for namespace, own in by_namespace.items()},
        default_namespace,
        _lay_out(common),
    )


def _lay_out(rules: Iterable[Rule]) -> Routes:
    numbers: dict[Program, int] = {}
    routes: dict[Variety, list[Route]] = {variety: [] for variety in Variety}
    directives: list[Directive] = []
    for rule in rules:
        condition = ALWAYS if rule.match is None else numbers.setdefault(rule.match, len(numbers))
        for action in rule.actions:
            for instance in action.instances:
                routes[instance.template.variety].append(Route(condition, action.handler, instance, rule))
        if rule.header_operations:
            directives.append(Directive(condition, rule.header_operations, rule))
    quotas: dict[str, list[Route]] = {}
    for route in routes[Variety.QUOTA]:
        quotas.setdefault(route.instance.short_name.lower(), []).append(route)
    return Routes(
        conditions=tuple(numbers),
        generators=tuple(routes[Variety.ATTRIBUTE_GENERATOR]),
        checks=tuple(routes[Variety.CHECK]),
        reports=tuple(routes[Variety.REPORT]),
        quotas={name: tuple(candidates) for name, candidates in quotas.items()},
        directives=tuple(directives),
    )
