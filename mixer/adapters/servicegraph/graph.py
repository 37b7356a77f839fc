"""The graph: edges with the counts of their calls in slots of time, forgotten when they grow old."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from mixer.templates.edge import EdgeInstance

REQUESTS: Final = "reqs/sec"
REPORTS: Final = "reports/sec"
"""For protocols without requests: connections are reported when they open, while they last, and when they close."""

UNKNOWN: Final = "unknown"
MOST_STATIC_NODES: Final = 1000
LONGEST_NAME: Final = 256
_WITH_REQUESTS: Final = frozenset(("http", "https", "http2", "grpc", ""))
_EDGES_AT_ONCE: Final = 64


class End(NamedTuple):
    """A workload."""

    namespace: str
    workload: str

    def __str__(self) -> str:
        return f"{self.workload} ({self.namespace})" if self.namespace else self.workload


class Edge(NamedTuple):
    """Calls of one kind from one workload to another; ``unit`` is what their rate is called."""

    source: End
    destination: End
    unit: str


class Rate(NamedTuple):
    """How many calls a second an edge has seen."""

    edge: Edge
    per_second: float


class Drop(enum.StrEnum):
    """Why a call is not in the graph."""

    TOO_OLD = "too_old"
    NO_ROOM = "no_room"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the graph keeps; times in seconds."""

    retention_s: float
    resolution_s: float
    max_edges: int


def edge_of(instance: EdgeInstance) -> Edge:
    """The edge of a call. A destination without a workload is its service; what is not known is called so."""
    protocol = (instance.context_protocol or instance.api_protocol).lower()
    destination = instance.destination_workload_name
    namespace = instance.destination_workload_namespace
    if destination in ("", UNKNOWN) and instance.destination_service_name:
        destination = instance.destination_service_name
        namespace = instance.destination_service_namespace or namespace
    return Edge(
        _end(instance.source_workload_namespace, instance.source_workload_name),
        _end(namespace, destination),
        REQUESTS if protocol in _WITH_REQUESTS else REPORTS,
    )


def _end(namespace: str, workload: str) -> End:
    workload = workload or UNKNOWN
    return End(
        "" if workload == UNKNOWN and namespace == UNKNOWN else namespace[:LONGEST_NAME], workload[:LONGEST_NAME]
    )


class Graph:
    """Edges that were seen within the retention, and nodes that somebody added. Times are of the wall clock, in s."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._edges: dict[Edge, dict[int, int]] = {}
        self._swept_slot = 0
        self.static_nodes: dict[str, None] = {}

    @property
    def retention_s(self) -> float:
        """How far back it knows."""
        return self._limits.retention_s

    def configure(self, limits: Limits) -> None:
        """Take other limits. Slots of another length begin anew: what is in them cannot be divided."""
        if limits.resolution_s != self._limits.resolution_s:
            self._edges.clear()
        self._limits = limits

    def __len__(self) -> int:
        return len(self._edges)

    def record(self, edge: Edge, at_s: float, now_s: float) -> Drop | None:
        """Count one call; one of the future is taken for one of now."""
        limits = self._limits
        at_s = min(at_s, now_s)
        if at_s <= now_s - limits.retention_s:
            return Drop.TOO_OLD
        slot = int(at_s // limits.resolution_s)
        self._sweep(int(now_s // limits.resolution_s))
        slots = self._edges.get(edge)
        if slots is None:
            if len(self._edges) >= limits.max_edges:
                return Drop.NO_ROOM
            slots = self._edges[edge] = {}
        slots[slot] = slots.get(slot, 0) + 1
        return None

    def _sweep(self, now_slot: int) -> None:
        """Once a slot, forget what is older than the retention."""
        if now_slot == self._swept_slot:
            return
        self._swept_slot = now_slot
        oldest = now_slot - int(self._limits.retention_s // self._limits.resolution_s) - 1
        for edge, slots in list(self._edges.items()):
            for slot in [slot for slot in slots if slot < oldest]:
                del slots[slot]
            if not slots:
                del self._edges[edge]

    async def rates(self, horizon_s: float, now_s: float, wanted: Callable[[Edge], bool]) -> list[Rate]:
        """The rates of edges over the horizon, requests first; those without a call in it have a rate of 0.

        A horizon that is shorter than a slot is taken for one slot.
        Other tasks run meanwhile: a large graph takes its time.
        """
        resolution_s = self._limits.resolution_s
        horizon_s = max(horizon_s, resolution_s)
        self._sweep(int(now_s // resolution_s))
        first = int((now_s - horizon_s) // resolution_s) + 1
        found = []
        for number, (edge, slots) in enumerate(list(self._edges.items())):
            if number % _EDGES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if wanted(edge):
                calls = sum([count for slot, count in slots.items() if slot >= first])
                found.append(Rate(edge, calls / horizon_s))
        found.sort(key=lambda rate: (rate.edge.unit != REQUESTS, rate.edge))
        return found

    def add_static(self, name: str) -> bool:
        """Show a node though nothing calls it; False: there are too many."""
        if name not in self.static_nodes and len(self.static_nodes) >= MOST_STATIC_NODES:
            return False
        self.static_nodes[name] = None
        return True
