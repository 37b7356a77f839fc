"""The report side of a namespace, laid out for many records.

Report routes become *units*. A unit of series holds the metrics of one handler that share match and atoms (see
`mixer.rules.atoms`): for a record that was seen alike before, one key finds all their series, and only the values are
evaluated. Every other route is a unit of its own that builds its instance. Either way a handler gets what a whole
Report has for it in one call.

Source: spec runtime 4.8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mixer.adapters.base import Handler, Series
from mixer.attributes import AttributeBag, Vocabulary
from mixer.errors import AdapterError, EvalError
from mixer.expr import Constant, Node
from mixer.rules.atoms import Atom, atoms_of, compile_key, compile_values
from mixer.rules.conditions import MatchIndex
from mixer.runtime.bound import BoundRoute, Drawn, is_drawn
from mixer.runtime.handlers import LiveHandler
from mixer.runtime.memo import Memo
from mixer.templates import METRIC


class Batch:
    """What the records of one Report have for each handler, and what went wrong on the way there.

    Attributes:
        instances: For each handler and template, a route to them and the instances in the order of arrival.
        samples: For each handler, a route to it and values for its open series.
        errors: One text for each instance that could not be built.
    """

    __slots__ = ("errors", "instances", "not_built", "samples")

    def __init__(self, not_built: Callable[[BoundRoute, Exception], str]) -> None:
        self.instances: dict[tuple[int, str], tuple[BoundRoute, list[Any]]] = {}
        self.samples: dict[LiveHandler, tuple[BoundRoute, list[tuple[Series, Any]]]] = {}
        self.errors: list[str] = []
        self.not_built: Final = not_built

    def samples_of(self, route: BoundRoute) -> list[tuple[Series, Any]]:
        """The values for the handler of a route, to be added to."""
        found = self.samples.get(route.live)
        if found is None:
            found = self.samples[route.live] = (route, [])
        return found[1]

    def add(self, route: BoundRoute, instance: Any) -> None:
        """Add an instance for the handler of a route."""
        key = (id(route.live), route.instance.template.name)
        found = self.instances.get(key)
        if found is None:
            self.instances[key] = (route, [instance])
        else:
            found[1].append(instance)

    def __len__(self) -> int:
        return sum(len(x) for _, x in self.instances.values()) + sum(len(x) for _, x in self.samples.values())


class InstanceUnit:
    """One route, whose instance is built for each record."""

    __slots__ = ("_route",)

    def __init__(self, route: BoundRoute) -> None:
        self._route: Final = route

    def add(self, bag: AttributeBag, batch: Batch, drawn: Drawn) -> None:
        """Build the instance of a record."""
        route = self._route
        if route.sampler is not None and not is_drawn(route, bag, drawn):
            return
        try:
            batch.add(route, route.build(bag))
        except Exception as exc:  # noqa: BLE001  one record must not cost its batch
            batch.errors.append(batch.not_built(route, exc))


class SeriesUnit:
    """Metrics of one handler with the same atoms: all their series are found under one key."""

    __slots__ = ("_handler", "_key", "_memo", "_routes", "_values")

    def __init__(self, routes: Sequence[BoundRoute], atoms: frozenset[Atom], vocabulary: Vocabulary) -> None:
        self._routes: Final = tuple(routes)
        self._handler: Final = routes[0].handler
        self._key: Final = compile_key(atoms, vocabulary)
        self._values: Final = compile_values([_value(route) for route in routes], vocabulary)
        self._memo: Final[Memo[tuple[Series, ...]]] = Memo()

    def add(self, bag: AttributeBag, batch: Batch, drawn: Drawn) -> None:
        """Add the values of a record to the series of its atoms."""
        get = bag.lookup
        try:
            key = self._key(get)
            row = self._memo.get(key)
            if row is not None:
                values = self._values(get)
                batch.samples_of(self._routes[0]).extend(zip(row, values, strict=True))
                return
        except (TypeError, EvalError):
            key = None  # a value of the wrong type, or one that is needed and absent: building says which
        self._add_slowly(key, bag, batch)

    def _add_slowly(self, key: tuple[Any, ...] | None, bag: AttributeBag, batch: Batch) -> None:
        row: list[Series] = []
        for route in self._routes:
            try:
                instance = route.build(bag)
                series = self._handler.open_series(instance.name, instance.dimensions)
            except AdapterError:
                series = None  # the handler has a say when it gets the instance
            except Exception as exc:  # noqa: BLE001  one record must not cost its batch
                batch.errors.append(batch.not_built(route, exc))
                continue
            if series is None:
                batch.add(route, instance)
            else:
                row.append(series)
                batch.samples_of(route).append((series, instance.value))
        if key is not None and len(row) == len(self._routes):
            self._memo.put(key, tuple(row))


Unit = InstanceUnit | SeriesUnit


class ReportPlan:
    """All units of a namespace, and the matches that they wait for."""

    __slots__ = ("_index", "_units")

    def __init__(self, routes: Sequence[BoundRoute], vocabulary: Vocabulary) -> None:
        grouped: dict[object, list[BoundRoute]] = {}
        atoms: dict[object, frozenset[Atom]] = {}
        for position, route in enumerate(routes):
            found = _series_atoms(route, vocabulary)
            key: object = position if found is None else (route.rule.match, route.live, found)
            grouped.setdefault(key, []).append(route)
            if found is not None:
                atoms[key] = found
        self._units: Final[tuple[Unit, ...]] = tuple(
            SeriesUnit(members, atoms[key], vocabulary) if key in atoms else InstanceUnit(members[0])
            for key, members in grouped.items()
        )
        self._index: Final = MatchIndex([members[0].rule.match for members in grouped.values()], vocabulary)

    def add(self, bag: AttributeBag, batch: Batch, drawn: Drawn, on_error: Callable[[Exception], None]) -> None:
        """Add what one record has for the handlers."""
        units = self._units
        for position in self._index.matching(bag.lookup, on_error):
            units[position].add(bag, batch, drawn)


def _series_atoms(route: BoundRoute, vocabulary: Vocabulary) -> frozenset[Atom] | None:
    """The atoms of a metric that can go by series; None when each record needs an instance."""
    instance = route.instance
    if (
        instance.template is not METRIC
        or route.sampler is not None
        or type(route.handler).open_series is Handler.open_series
    ):
        return None
    if any(not _is_constant(node) for name, node in instance.nodes.items() if name not in ("value", "dimensions")):
        return None  # these fields are not sent with samples, yet their evaluation may fail
    dimensions = instance.nodes.get("dimensions", {})
    return atoms_of(dimensions.values(), vocabulary) if isinstance(dimensions, Mapping) else None


def _is_constant(node: Node | Mapping[str, Node]) -> bool:
    nodes = node.values() if isinstance(node, Mapping) else (node,)
    return all(isinstance(n, Constant) for n in nodes)


def _value(route: BoundRoute) -> Node | None:
    node = route.instance.nodes.get("value")
    return None if isinstance(node, Mapping) else node
