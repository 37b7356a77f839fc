"""Records as the sidecars of a mesh report them: about 45 attributes, header and label maps, seeded.

A `Mesh` has services with several workloads each. A `Proxy` is the sidecar of one workload in one direction, and an
`Edge` is one way in which it sees traffic: with whom, over which protocol, with what outcome. Each edge is one set of
metric labels, so the number of edges is the cardinality that Mixer gets to see. A batch comes from one proxy, as in
a real mesh: that decides how much of its dictionary the records share.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Final

from loadtest.scenario import Scenario
from mixer.attributes import AttributeValue, Duration, Timestamp

NAMESPACES: Final = ("default", "shop", "payments", "search", "media")
PROXY_VERSION: Final = "1.4.10"
_MS: Final = 1_000_000
_START: Final = Timestamp.parse("2026-01-01T00:00:00Z")
_HEX: Final = "0123456789abcdef"
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "okhttp/4.12.0",
    "Go-http-client/1.1",
    "python-requests/2.31.0",
)
_HTTP_OUTCOMES: Final = (
    (200, "-"), (404, "-"), (503, "UF"), (201, "-"), (304, "-"), (500, "-"), (429, "RL"), (400, "-"), (401, "-"),
    (403, "-"), (504, "UT"), (503, "UO"), (502, "-"), (204, "-"), (302, "-"), (409, "-"),
)  # fmt: skip
_GRPC_STATUSES: Final = ("0", "0", "0", "0", "5", "14")


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
        return f"{self.app}-{self.version}-{_hex(digits, 10)}-{_hex(digits, 5)}"

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

    def draw(self, rng: random.Random, repeats: float) -> Edge:
        """An edge: with probability ``repeats`` one of the busiest tenth, else the next one in turn."""
        if rng.random() < repeats:
            return self.edges[rng.randrange(max(len(self.edges) // 10, 1))]
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


class Traffic:
    """Endless records of a mesh; the same scenario always gives the same ones."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.mesh = Mesh(scenario)
        self._rng = random.Random(scenario.seed + 1)
        self._now = int(_START)

    def batches_for_all(self) -> int:
        """How many batches it takes until every label set has occurred."""
        fresh = max(self.scenario.batch * (1 - self.scenario.repeats) * 0.75, 1)  # a margin for chance
        widest = max(len(proxy.edges) for proxy in self.mesh.proxies)
        return len(self.mesh.proxies) * max(-int(-widest // fresh), 1)

    def batches(self, count: int) -> Iterator[list[dict[str, AttributeValue]]]:
        """Batches of records, each of one proxy, the proxies taking turns."""
        for number in range(count):
            proxy = self.mesh.proxies[number % len(self.mesh.proxies)]
            yield [self.record(proxy.draw(self._rng, self.scenario.repeats), proxy) for _ in range(self.scenario.batch)]

    def requests(self, count: int) -> Iterator[dict[str, AttributeValue]]:
        """What inbound HTTP and gRPC requests show before they are answered: the attributes of a Check."""
        inbound = [p for p in self.mesh.proxies if not p.outbound and any(e.protocol != "tcp" for e in p.edges)]
        for number in range(count):
            proxy = inbound[number % len(inbound)]
            edge = proxy.draw(self._rng, self.scenario.repeats)
            while edge.protocol == "tcp":
                edge = self._rng.choice(proxy.edges)
            yield self._request(edge, proxy)

    def record(self, edge: Edge, proxy: Proxy) -> dict[str, AttributeValue]:
        """One finished request, or one moment of a TCP connection."""
        if edge.protocol == "tcp":
            return self._connection(edge, proxy)
        rng, values = self._rng, self._request(edge, proxy)
        elapsed = int(rng.lognormvariate(2.5, 1.0) * _MS)
        size = int(rng.lognormvariate(7.0, 1.5))
        headers = {
            ":status": str(edge.code),
            "content-type": "application/grpc" if edge.protocol == "grpc" else "application/json",
            "content-length": str(size),
            "date": "Thu, 01 Jan 2026 00:00:00 GMT",
            "server": "istio-envoy",
            "x-envoy-upstream-service-time": str(elapsed // _MS),
        }
        begin = values["request.time"]
        assert isinstance(begin, Timestamp)
        values |= {
            "response.code": edge.code,
            "response.duration": Duration(elapsed),
            "response.time": Timestamp(begin + elapsed),
            "response.size": size,
            "response.total_size": size + 210,
            "response.headers": headers,
        }
        if edge.flags != "-":
            values["context.proxy_error_code"] = edge.flags
        if edge.protocol == "grpc":
            values["response.grpc_status"] = rng.choice(_GRPC_STATUSES)
        return values

    def _request(self, edge: Edge, proxy: Proxy) -> dict[str, AttributeValue]:
        rng, host = self._rng, edge.destination.host
        if edge.protocol == "grpc":
            method, path = "POST", f"/{edge.destination.app}.v1.Api/{rng.choice(('Get', 'List', 'Update', 'Watch'))}"
        else:
            method = rng.choice(("GET", "GET", "GET", "POST", "PUT"))
            path = (
                f"/api/v1/{rng.choice(('items', 'users', 'orders'))}/{rng.randrange(100_000)}?page={rng.randrange(9)}"
            )
        request_id, agent, size = _uuid(rng), rng.choice(_AGENTS), int(rng.lognormvariate(5.0, 1.5))
        headers = {
            ":authority": host,
            ":method": method,
            ":path": path,
            "user-agent": agent,
            "accept": "*/*",
            "accept-encoding": "gzip, deflate",
            "content-length": str(size),
            "x-request-id": request_id,
            "x-forwarded-proto": "http",
            "x-forwarded-for": f"10.44.{rng.randrange(256)}.{rng.randrange(256)}",
            "x-b3-traceid": _hex(rng, 32),
            "x-b3-spanid": _hex(rng, 16),
            "x-b3-parentspanid": _hex(rng, 16),
            "x-b3-sampled": "0",
        }
        missing = self.scenario.header_bytes - 700  # about what these and the response's have
        if missing > 0:
            headers["cookie"] = f"session={_hex(rng, missing)}"
        values = self._common(edge, proxy)
        values |= {
            "request.id": request_id,
            "request.path": path,
            "request.url_path": path.partition("?")[0],
            "request.host": host,
            "request.method": method,
            "request.scheme": "http",
            "request.useragent": agent,
            "request.size": size,
            "request.total_size": size + 480,
            "request.time": Timestamp(self._tick()),
            "request.headers": headers,
            "api.protocol": edge.protocol,
        }
        return values

    def _connection(self, edge: Edge, proxy: Proxy) -> dict[str, AttributeValue]:
        rng, values = self._rng, self._common(edge, proxy)
        sent, received = int(rng.lognormvariate(9, 2)), int(rng.lognormvariate(9, 2))
        values |= {
            "connection.id": _uuid(rng),
            "connection.event": rng.choice(("open", "continue", "close")),
            "connection.sent.bytes": sent,
            "connection.sent.bytes_total": 3 * sent,
            "connection.received.bytes": received,
            "connection.received.bytes_total": 3 * received,
            "connection.duration": Duration(int(rng.expovariate(0.1) * 1000 * _MS)),
            "context.time": Timestamp(self._tick()),
        }
        return values

    def _common(self, edge: Edge, proxy: Proxy) -> dict[str, AttributeValue]:
        return {
            **edge.source.attributes("source"),
            **edge.destination.attributes("destination"),
            "context.protocol": edge.protocol,
            "context.reporter.kind": "outbound" if edge.outbound else "inbound",
            "context.reporter.uid": proxy.workload.uid,
            "context.proxy_version": PROXY_VERSION,
            "connection.mtls": True,
            "connection.requested_server_name": f"outbound_.8080_._.{edge.destination.host}",
        }

    def _tick(self) -> int:
        self._now += self._rng.randrange(2 * _MS)
        return self._now


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _uuid(rng: random.Random) -> str:
    text = _hex(rng, 32)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
