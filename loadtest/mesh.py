"""A made-up mesh: workloads, their sidecars, and what each sidecar gets to see.

A `Mesh` has services with several workloads each. A `Proxy` is the sidecar of one workload in one direction, and an
`Edge` is one way in which it sees traffic: with whom, over which protocol, with what outcome. Each edge is one set of
metric labels, so the number of edges is the cardinality that Mixer gets to see.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Final

from loadtest.scenario import Scenario
from mixer.attributes import AttributeValue

NAMESPACES: Final = ("default", "shop", "payments", "search", "media")
_HTTP_OUTCOMES: Final = (
    (200, "-"), (404, "-"), (503, "UF"), (201, "-"), (304, "-"), (500, "-"), (429, "RL"), (400, "-"), (401, "-"),
    (403, "-"), (504, "UT"), (503, "UO"), (502, "-"), (204, "-"), (302, "-"), (409, "-"),
)  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """One version of one service, with one pod."""

    number: int
    app: str
    version: str
    namespace: str

    def attributes(self, side: str) -> Mapping[str, AttributeValue]:
        """What is known of it as ``source`` or ``destination``; one mapping for all records, not to be changed."""
        return self._as_source if side == "source" else self._as_destination

    @cached_property
    def uid(self) -> str:
        """The uid of its pod."""
        return f"kubernetes://{self.pod}.{self.namespace}"

    @cached_property
    def pod(self) -> str:
        """The name of its pod."""
        digits = random.Random(self.number)
        return f"{self.app}-{self.version}-{hex_digits(digits, 10)}-{hex_digits(digits, 5)}"

    @cached_property
    def ip(self) -> bytes:
        """The address of its pod."""
        return bytes((10, 44, self.number >> 8 & 255, self.number & 255))

    @cached_property
    def host(self) -> str:
        """The host name of its service."""
        return f"{self.app}.{self.namespace}.svc.cluster.local"

    @cached_property
    def _as_source(self) -> dict[str, AttributeValue]:
        return self._ends("source")

    @cached_property
    def _as_destination(self) -> dict[str, AttributeValue]:
        return {
            **self._ends("destination"),
            "destination.port": 8080,
            "destination.service.host": self.host,
            "destination.service.name": self.app,
            "destination.service.namespace": self.namespace,
            "destination.service.uid": f"istio://{self.namespace}/services/{self.app}",
        }

    def _ends(self, side: str) -> dict[str, AttributeValue]:
        name = f"{self.app}-{self.version}"
        labels = {
            "app": self.app,
            "version": self.version,
            "pod-template-hash": self.pod.split("-")[-2],
            "security.istio.io/tlsMode": "istio",
        }
        return {
            f"{side}.uid": self.uid,
            f"{side}.ip": self.ip,
            f"{side}.name": self.pod,
            f"{side}.namespace": self.namespace,
            f"{side}.principal": f"cluster.local/ns/{self.namespace}/sa/{self.app}",
            f"{side}.owner": f"kubernetes://apis/apps/v1/namespaces/{self.namespace}/deployments/{name}",
            f"{side}.labels": labels,
            f"{side}.workload.name": name,
            f"{side}.workload.namespace": self.namespace,
        }


@dataclass(frozen=True, slots=True)
class Edge:
    """One set of metric labels: who talks to whom, over what, with what outcome, told by which side."""

    source: Workload
    destination: Workload
    outbound: bool
    protocol: str
    code: int
    flags: str


@dataclass(slots=True)
class Proxy:
    """The sidecar of a workload in one direction: its edges, busy ones first, and where it is among them."""

    workload: Workload
    outbound: bool
    edges: list[Edge] = field(default_factory=list)
    _next: int = 0

    def draw_busy(self, rng: random.Random) -> Edge:
        """One of the busiest tenth of the edges."""
        return self.edges[rng.randrange(max(len(self.edges) // 10, 1))]

    def draw_next(self) -> Edge:
        """The edges in turn."""
        edge = self.edges[self._next]
        self._next = (self._next + 1) % len(self.edges)
        return edge


class Mesh:
    """The workloads of a scenario, and proxies that together see ``label_sets`` edges.

    Raises:
        ValueError: The mesh is too small for that many label sets.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        names = [
            (f"svc-{service:04d}", f"v{version + 1}", NAMESPACES[service % len(NAMESPACES)])
            for service, version in product(range(scenario.services), range(scenario.versions))
        ]
        self.workloads = [Workload(number, *name) for number, name in enumerate(names)]
        proxies = [Proxy(workload, outbound) for workload, outbound in product(self.workloads, (False, True))]
        rng = random.Random(scenario.seed)
        rng.shuffle(proxies)
        share, more = divmod(scenario.label_sets, len(proxies))
        for place, proxy in enumerate(proxies):
            proxy.edges = self._edges(proxy, share + (place < more), rng)
        self.proxies = [proxy for proxy in proxies if proxy.edges]

    def _edges(self, proxy: Proxy, count: int, rng: random.Random) -> list[Edge]:
        scenario = self._scenario
        others = [workload for workload in self.workloads if workload.app != proxy.workload.app]
        most = len(others) * len(_HTTP_OUTCOMES)
        if count > most:
            raise ValueError(f"{scenario.label_sets} label sets need a larger mesh: one proxy sees {most} at most")
        rng.shuffle(others)
        edges = []
        for number in range(count):
            # Every peer answers well before any answers badly; so peers vary most, as they do in a mesh.
            outcome, peer = divmod(number, len(others))
            code, flags = _HTTP_OUTCOMES[outcome]
            draw = rng.random()
            protocol = "http"
            if draw < scenario.grpc_share:
                protocol, code = "grpc", (200 if flags == "-" and outcome == 0 else code)
            elif draw < scenario.grpc_share + scenario.tcp_share and outcome == 0:
                protocol, code = "tcp", 0
            ends = (proxy.workload, others[peer]) if proxy.outbound else (others[peer], proxy.workload)
            edges.append(Edge(*ends, proxy.outbound, protocol, code, flags))
        return edges


def hex_digits(rng: random.Random, digits: int) -> str:
    """Random digits."""
    return f"{rng.getrandbits(4 * digits):0{digits}x}"
