"""BookInfo's traffic, as the sidecars of its services would tell Mixer of it.

A visitor asks the product page, which asks details and one version of reviews; versions 2 and 3 of reviews ask
ratings, whose version 2 keeps a TCP connection to MongoDB. Each hop is one Check by the callee's sidecar and two
reports, one of either side. Seeded: the same seed gives the same traffic.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mixer.attributes import AttributeValue, Duration, Timestamp

NAMESPACE = "default"
PAGE_QUOTA = "productpagecount"
_MS = 1_000_000
_START = Timestamp.parse("2026-01-01T00:00:00Z")


@dataclass(frozen=True, slots=True)
class Workload:
    """One version of one service, with one pod."""

    app: str
    version: str
    address: bytes

    @property
    def name(self) -> str:
        """The workload's name, such as ``reviews-v3``."""
        return f"{self.app}-{self.version}"

    def attributes(self, side: str) -> dict[str, AttributeValue]:
        """What is known of the workload as ``source`` or ``destination`` of a request."""
        return {
            f"{side}.uid": f"kubernetes://{self.name}-5d8f6c9b4-x2k9p.{NAMESPACE}",
            f"{side}.ip": self.address,
            f"{side}.name": f"{self.name}-5d8f6c9b4-x2k9p",
            f"{side}.namespace": NAMESPACE,
            f"{side}.principal": f"cluster.local/ns/{NAMESPACE}/sa/bookinfo-{self.app}",
            f"{side}.labels": {"app": self.app, "version": self.version},
            f"{side}.workload.name": self.name,
            f"{side}.workload.namespace": NAMESPACE,
            f"{side}.owner": f"kubernetes://apis/apps/v1/namespaces/{NAMESPACE}/deployments/{self.name}",
        }


INGRESS = Workload("istio-ingressgateway", "v1", bytes((10, 44, 0, 2)))
PRODUCTPAGE = Workload("productpage", "v1", bytes((10, 44, 0, 10)))
DETAILS = Workload("details", "v1", bytes((10, 44, 0, 11)))
REVIEWS = tuple(Workload("reviews", f"v{n}", bytes((10, 44, 0, 11 + n))) for n in (1, 2, 3))
RATINGS = Workload("ratings", "v2", bytes((10, 44, 0, 20)))
MONGODB = Workload("mongodb", "v1", bytes((10, 44, 0, 30)))
USERS = (*(f"reader{n}" for n in range(1, 21)), "anonymous", "jason", "jason", "tester", "tester", "mallory")
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"


@dataclass(slots=True)
class Hop:
    """One request from one workload to another; ``code`` and ``flags`` are set once it is known how it went."""

    source: Workload
    destination: Workload
    path: str
    user: str
    request_id: str
    start: Timestamp
    duration: Duration
    quota: str = ""
    code: int = 200
    flags: str = "-"
    error: str = ""
    then: list[Hop] = field(default_factory=list)

    def check_attributes(self) -> dict[str, AttributeValue]:
        """What the callee's sidecar asks Mixer about."""
        host = f"{self.destination.app}.{NAMESPACE}.svc.cluster.local"
        headers = {
            ":authority": f"{self.destination.app}:9080",
            ":method": "GET",
            ":path": self.path,
            "user-agent": _AGENT,
            "x-request-id": self.request_id,
            "x-forwarded-proto": "http",
            "x-b3-traceid": self.request_id.replace("-", "")[:16],
        }
        if self.user != "anonymous":
            headers["end-user"] = self.user
        return {
            **self.source.attributes("source"),
            **self.destination.attributes("destination"),
            "destination.port": 9080,
            "destination.service.host": host,
            "destination.service.name": self.destination.app,
            "destination.service.namespace": NAMESPACE,
            "destination.service.uid": f"istio://{NAMESPACE}/services/{self.destination.app}",
            "connection.mtls": True,
            "context.protocol": "http",
            "context.reporter.kind": "inbound",
            "context.reporter.uid": f"kubernetes://{self.destination.name}.{NAMESPACE}",
            "request.headers": headers,
            "request.host": headers[":authority"],
            "request.id": self.request_id,
            "request.method": "GET",
            "request.path": self.path,
            "request.url_path": self.path,
            "request.scheme": "http",
            "request.size": 0,
            "request.time": self.start,
            "request.useragent": _AGENT,
        }

    def report_attributes(self, reporter: str) -> dict[str, AttributeValue]:
        """What the sidecar of one side (``inbound`` or ``outbound``) reports afterwards."""
        told: dict[str, AttributeValue] = {
            "context.reporter.kind": reporter,
            "context.proxy_error_code": self.flags,
            "response.code": self.code,
            "response.duration": self.duration,
            "response.headers": {":status": str(self.code), "server": "envoy", "content-type": "application/json"},
            "response.size": 0 if self.code != 200 else 178 + len(self.path) * 11,
            "response.total_size": 310,
            "request.total_size": 512,
            "response.time": Timestamp(self.start + self.duration),
        }
        if self.error:
            told["check.error_message"] = self.error
        return {**self.check_attributes(), **told}


def visits(count: int, seed: int = 1) -> Iterator[Hop]:
    """That many visits to the product page, each with the hops that follow from it."""
    chance = random.Random(seed)
    now = int(_START)
    for number in range(count):
        now += chance.randrange(5, 60) * _MS
        user = chance.choice(USERS)
        request_id = f"{chance.getrandbits(32):08x}-{number:04x}-4{chance.getrandbits(12):03x}-9000-{chance.getrandbits(48):012x}"

        def hop(
            source: Workload,
            to: Workload,
            path: str,
            ms: int,
            *,
            user: str = user,
            request_id: str = request_id,
            start: int = now,
        ) -> Hop:
            duration = Duration(max(1, round(chance.gauss(ms, ms / 4))) * _MS)
            return Hop(source, to, path, user, request_id, Timestamp(start), duration)

        page = hop(INGRESS, PRODUCTPAGE, "/productpage", 40)
        page.quota = PAGE_QUOTA
        reviews = chance.choice(REVIEWS)
        page.then = [hop(PRODUCTPAGE, DETAILS, "/details/0", 4), hop(PRODUCTPAGE, reviews, "/reviews/0", 18)]
        if reviews.version != "v1":
            page.then[1].then = [hop(reviews, RATINGS, "/ratings/0", 6)]
        yield page


def mongodb_connection(number: int) -> list[dict[str, AttributeValue]]:
    """The reports of both sides on one TCP connection from ratings to MongoDB: open, continue, close."""
    records: list[dict[str, AttributeValue]] = []
    sent = received = 0
    for event, out, back in (("open", 0, 0), ("continue", 410, 1_220), ("close", 205, 640)):
        sent, received = sent + out, received + back
        for reporter in ("outbound", "inbound"):
            tcp: Mapping[str, AttributeValue] = {
                "connection.id": f"mongo-{number}",
                "connection.event": event,
                "connection.mtls": True,
                "connection.sent.bytes": out,
                "connection.received.bytes": back,
                "connection.sent.bytes_total": sent,
                "connection.received.bytes_total": received,
                "connection.duration": Duration(number * 7 * _MS),
                "context.protocol": "tcp",
                "context.reporter.kind": reporter,
                "context.time": _START,
                "destination.port": 27017,
                "destination.service.host": f"mongodb.{NAMESPACE}.svc.cluster.local",
                "destination.service.name": "mongodb",
                "destination.service.namespace": NAMESPACE,
            }
            records.append({**RATINGS.attributes("source"), **MONGODB.attributes("destination"), **tcp})
    return records
