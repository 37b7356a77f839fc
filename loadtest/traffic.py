"""Records as the sidecars of a mesh report them: about 45 attributes, header and label maps, seeded.

A batch comes from one proxy, as in a real mesh: that decides how much of a dictionary its records share.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from loadtest.mesh import Edge, Mesh, Proxy, hex_digits
from loadtest.scenario import Scenario
from mixer.attributes import AttributeValue, Duration, Timestamp

PROXY_VERSION: Final = "1.4.10"
_MS: Final = 1_000_000
_START: Final = Timestamp.parse("2026-01-01T00:00:00Z")
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "okhttp/4.12.0",
    "Go-http-client/1.1",
    "python-requests/2.31.0",
)
_GRPC_STATUSES: Final = ("0", "0", "0", "0", "5", "14")


class Traffic:
    """Endless records of a mesh; the same scenario always gives the same ones."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.mesh = Mesh(scenario)
        self._rng = random.Random(scenario.seed + 1)
        self._now = int(_START)
        self._fresh = max(round(scenario.batch * (1 - scenario.repeats)), 1)

    def batches_for_all(self) -> int:
        """How many batches it takes until every label set has occurred."""
        widest = max(len(proxy.edges) for proxy in self.mesh.proxies)
        return len(self.mesh.proxies) * -(-widest // self._fresh)

    def batches(self, count: int) -> Iterator[list[dict[str, AttributeValue]]]:
        """Batches of records, each of one proxy, the proxies taking turns."""
        repeated = [False] * self._fresh + [True] * (self.scenario.batch - self._fresh)
        for number in range(count):
            proxy = self.mesh.proxies[number % len(self.mesh.proxies)]
            self._rng.shuffle(repeated)
            yield [self.record(proxy.draw_busy(self._rng) if busy else proxy.draw_next(), proxy) for busy in repeated]

    def requests(self, count: int) -> Iterator[dict[str, AttributeValue]]:
        """What inbound HTTP and gRPC requests show before they are answered: the attributes of a Check."""
        inbound = [p for p in self.mesh.proxies if not p.outbound and any(e.protocol != "tcp" for e in p.edges)]
        for number in range(count):
            proxy = inbound[number % len(inbound)]
            edge = proxy.draw_busy(self._rng) if self._rng.random() < self.scenario.repeats else proxy.draw_next()
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
        values |= {
            "response.code": edge.code,
            "response.duration": Duration(elapsed),
            "response.time": Timestamp(self._now + elapsed),
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
            "x-b3-traceid": hex_digits(rng, 32),
            "x-b3-spanid": hex_digits(rng, 16),
            "x-b3-parentspanid": hex_digits(rng, 16),
            "x-b3-sampled": "0",
        }
        missing = self.scenario.header_bytes - 700  # about what these and the response's have
        if missing > 0:
            headers["cookie"] = f"session={hex_digits(rng, missing)}"
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


def _uuid(rng: random.Random) -> str:
    text = hex_digits(rng, 32)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
