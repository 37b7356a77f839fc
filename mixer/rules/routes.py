"""Routes: what to do for a request of a namespace, laid out flat for the dispatcher.

Rules of the default namespace stand first, then those of the request's own namespace, each in the order of
declaration; every request's result is put together in that order.

Source: spec runtime 2.2, 3.9 and 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from mixer.attributes import AttributeBag, Vocabulary
from mixer.rules.conditions import MatchIndex
from mixer.templates import Variety
from mixer.templates.builder import CompiledInstance

if TYPE_CHECKING:
    from mixer.rules.snapshot import HeaderOperation, Rule

T = TypeVar("T")

NO_ATTRIBUTES: Final = Vocabulary({})


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One instance for one handler (by its full name), because a rule says so."""

    handler: str
    instance: CompiledInstance
    rule: Rule


@dataclass(frozen=True, slots=True, eq=False)
class Directive:
    """The header operations of one rule."""

    operations: tuple[HeaderOperation, ...]
    rule: Rule


class Conditional(Generic[T]):
    """Things in the order of declaration, each under its rule's match; `index` finds those that a request is for."""

    __slots__ = ("index", "things")

    def __init__(self, things: Sequence[tuple[Rule, T]] = (), vocabulary: Vocabulary = NO_ATTRIBUTES) -> None:
        self.things: Final = tuple(thing for _, thing in things)
        self.index: Final = MatchIndex([rule.match for rule, _ in things], vocabulary)


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """All that concerns the requests of one namespace.

    ``quotas`` is keyed by the lower-case short name under which proxies ask for a quota. Reports are grouped before
    their matches are indexed, once their handlers are known.
    """

    generators: Conditional[Route] = field(default_factory=Conditional)
    checks: Conditional[Route] = field(default_factory=Conditional)
    reports: tuple[Route, ...] = ()
    quotas: Mapping[str, Conditional[Route]] = field(default_factory=dict)
    directives: Conditional[Directive] = field(default_factory=Conditional)


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


def build_routes(rules: Sequence[Rule], default_namespace: str, vocabulary: Vocabulary) -> RoutingTable:
    """Lay the rules out by namespace; rules come in the order of declaration."""
    by_namespace: dict[str, list[Rule]] = {}
    for rule in rules:
        by_namespace.setdefault(rule.key.namespace, []).append(rule)
    common = by_namespace.pop(default_namespace, [])
    return RoutingTable(
        {namespace: _lay_out([*common, *own], vocabulary) for namespace, own in by_namespace.items()},
        default_namespace,
        _lay_out(common, vocabulary),
    )


def _lay_out(rules: Iterable[Rule], vocabulary: Vocabulary) -> Routes:
    routes: dict[Variety, list[tuple[Rule, Route]]] = {variety: [] for variety in Variety}
    directives: list[tuple[Rule, Directive]] = []
    for rule in rules:
        for action in rule.actions:
            for instance in action.instances:
                routes[instance.template.variety].append((rule, Route(action.handler, instance, rule)))
        if rule.header_operations:
            directives.append((rule, Directive(rule.header_operations, rule)))
    quotas: dict[str, list[tuple[Rule, Route]]] = {}
    for rule, route in routes[Variety.QUOTA]:
        quotas.setdefault(route.instance.short_name.lower(), []).append((rule, route))
    return Routes(
        generators=Conditional(routes[Variety.ATTRIBUTE_GENERATOR], vocabulary),
        checks=Conditional(routes[Variety.CHECK], vocabulary),
        reports=tuple(route for _, route in routes[Variety.REPORT]),
        quotas={name: Conditional(candidates, vocabulary) for name, candidates in quotas.items()},
        directives=Conditional(directives, vocabulary),
    )
