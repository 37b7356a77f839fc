"""The same bag gets the same verdict through every door: Mixer's own Check, both forms of ext_authz, rate limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.adapters.loading import load_adapters
from mixer.api.codes import Code
from mixer.api.encode import encode_check
from mixer.api.messages import CheckResponse as MixerAnswer
from mixer.api.messages import QuotaParams
from mixer.api.rpc import NO_HEAD
from mixer.attributes import AttributeValue, Timestamp
from mixer.cli.envoy import EnvoyGuest
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.clock import SystemClock
from mixer.server.guests import Guests, House
from mixer.server.service import MixerService
from mixer.store import Resource, ResourceKey, StoreContents
from proxy.envoy import paths
from proxy.envoy.gen.auth_pb2 import CheckRequest, CheckResponse
from proxy.envoy.gen.ratelimit_pb2 import RateLimitRequest, RateLimitResponse
from proxy.envoy.http1 import Answer, Request
from proxy.status import http_code, status_text

TYPES = {
    "request.headers": "STRING_MAP", "request.path": "STRING", "request.url_path": "STRING",
    "request.query_params": "STRING_MAP", "request.method": "STRING", "request.host": "STRING",
    "source.principal": "STRING", "source.namespace": "STRING", "origin.ip": "IP_ADDRESS",
    "destination.service.host": "STRING", "destination.port": "INT64", "connection.mtls": "BOOL",
    "context.protocol": "STRING",
}  # fmt: skip

MATCHES = [
    "",
    'request.headers["x-user"] == "bad"',
    '(request.headers["x-user"] | "") != ""',
    'request.path.startsWith("/admin")',
    'request.url_path == "/a"',
    '(request.query_params["x"] | "none") == "1"',
    'request.method == "POST" && connection.mtls',
    'request.host == "reviews"',
    'source.namespace == "ns1" || origin.ip == ip("10.0.0.1")',
    '(source.principal | "nobody") == "nobody"',
    'destination.service.host.endsWith(".svc") && destination.port == 80',
    'context.protocol == "grpc"',
]
LIMIT = 3
ADAPTERS = load_adapters()

RULES = st.lists(
    st.tuples(st.sampled_from(MATCHES), st.integers(1, 16), st.sampled_from(["", "no", "we say: Ü no"])), max_size=3
)
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST"]),
        "path": st.sampled_from(["/", "/a", "/a?x=1", "/admin/x?x=2&x=1"]),
        "host": st.sampled_from(["reviews", "other:80"]),
        "user": st.sampled_from(["", "good", "bad"]),
        "grpc": st.booleans(),
        "principal": st.sampled_from(["", "spiffe://c/ns/ns1/sa/a", "https://x/y"]),
        "peer": st.sampled_from(["10.0.0.1", "::1"]),
        "service": st.sampled_from(["", "reviews.ns.svc"]),
        "port": st.sampled_from([80, 9080]),
    }
)


NAMESPACE = "istio-system"
COMMON: dict[tuple[str, str], Any] = {
    ("attributemanifest", "all"): {"attributes": {name: {"valueType": kind} for name, kind in TYPES.items()}},
    ("instance", "nothing"): {"compiledTemplate": "checknothing"},
    ("handler", "mq"): {
        "compiledAdapter": "memquota",
        "params": {"quotas": [{"name": f"requests.instance.{NAMESPACE}", "maxAmount": LIMIT}]},
    },
    ("instance", "requests"): {
        "compiledTemplate": "quota",
        "params": {"dimensions": {"user": 'request.headers["x-user"] | ""'}},
    },
    ("rule", "count"): {"actions": [{"handler": "mq", "instances": ["requests"]}]},
}


def contents(specs: Mapping[tuple[str, str], Any]) -> StoreContents:
    keys = {name: ResourceKey(name[0], NAMESPACE, name[1]) for name in specs}
    return StoreContents({key: Resource(key, specs[name]) for name, key in keys.items()})


def policy(rules: Sequence[tuple[str, int, str]]) -> StoreContents:
    found = dict(COMMON)
    for number, (match, code, message) in enumerate(rules):
        params = {"status": {"code": code, "message": message}}
        found["handler", f"h{number}"] = {"compiledAdapter": "denier", "params": params}
        actions = [{"handler": f"h{number}", "instances": ["nothing"]}]
        found["rule", f"r{number}"] = {"match": match, "actions": actions}
    return contents(found)


def bag_of(request: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """A request's attributes as a sidecar tells them."""
    headers = {":method": request["method"], ":path": request["path"], ":authority": request["host"]}
    headers |= {"x-user": request["user"]} if request["user"] else {}
    headers |= {"content-type": "application/grpc"} if request["grpc"] else {}
    values: dict[str, AttributeValue] = {
        "request.headers": headers,
        "request.path": request["path"],
        "request.url_path": request["path"].partition("?")[0],
        "request.method": request["method"],
        "request.host": request["host"],
        "request.scheme": "http",
        "request.time": Timestamp(0),
        "origin.ip": bytes((10, 0, 0, 1)) if request["peer"] == "10.0.0.1" else bytes(15) + b"\1",
        "connection.mtls": bool(request["principal"]),
        "context.protocol": "grpc" if request["grpc"] else "http",
        "destination.port": request["port"],
    }
    if "?" in request["path"]:
        values["request.query_params"] = {"x": request["path"].partition("x=")[2][:1]}
    if request["principal"]:
        values["source.principal"] = request["principal"].removeprefix("spiffe://")
        if "/ns/" in request["principal"]:
            values["source.namespace"] = "ns1"
    if request["service"]:
        values["destination.service.host"] = request["service"]
    return values


def grpc_form(request: Mapping[str, Any]) -> bytes:
    message = CheckRequest()
    context = message.attributes
    context.source.address.socket_address.address = request["peer"]
    context.source.principal = request["principal"]
    context.destination.address.socket_address.address = "10.0.0.9"
    context.destination.address.socket_address.port_value = request["port"]
    http = context.request.http
    http.method, http.path, http.host, http.scheme = request["method"], request["path"], request["host"], "http"
    for name, value in bag_of(request)["request.headers"].items():  # type: ignore[union-attr]
        http.headers[name] = value
    if request["service"]:
        context.context_extensions["destination.service.host"] = request["service"]
    return message.SerializeToString()


def http_form(request: Mapping[str, Any]) -> Request:
    peer = request["peer"] if "." in request["peer"] else f"[{request['peer']}]"
    headers = [
        ("host", request["host"]),
        ("x-mixer-source", f"{peer}:1234"),
        ("x-mixer-dest", f"10.0.0.9:{request['port']}"),
        ("x-mixer-peer", request["principal"]),
        ("x-mixer-context", f"destination.service.host={request['service']}" if request["service"] else ""),
        *([("x-user", request["user"])] if request["user"] else []),
        *([("content-type", "application/grpc")] if request["grpc"] else []),
    ]
    return Request(request["method"], f"/check{request['path']}".encode(), headers)


class Doors:
    """A Mixer with all its doors, in this process."""

    def __init__(self) -> None:
        metrics = RuntimeMetrics()
        self.controller = Controller(
            SnapshotBuilder(ADAPTERS, default_namespace="istio-system"),
            clock=SystemClock(),
            scrape=metrics.registry,
            metrics=metrics,
        )
        self.guests: list[EnvoyGuest] = []
        self.house = Guests([self._invite], House(self.controller, metrics))
        self.methods = self.house.methods.unary
        self.mixer = MixerService(self.controller, metrics)

    def _invite(self, house: House) -> EnvoyGuest:
        self.guests.append(EnvoyGuest(house))
        return self.guests[-1]

    async def through_mixer(self, request: Mapping[str, Any], quotas: Mapping[str, int] | None = None) -> MixerAnswer:
        params = {name: QuotaParams(amount=amount) for name, amount in (quotas or {}).items()}
        data = await self.mixer.check(encode_check(bag_of(request), quotas=params).SerializeToString())
        return MixerAnswer.FromString(data)

    async def through_grpc(self, request: Mapping[str, Any]) -> CheckResponse:
        return CheckResponse.FromString(await self.methods[paths.CHECK](grpc_form(request), NO_HEAD))

    async def through_http(self, request: Mapping[str, Any]) -> Answer:
        return await self.guests[0].http_server.app(http_form(request))

    async def through_limits(self, user: str, amount: int) -> RateLimitResponse:
        message = RateLimitRequest(domain="d", hits_addend=amount)
        descriptor = message.descriptors.add()
        descriptor.entries.add(key="quota", value="requests")
        descriptor.entries.add(key="request.headers[x-user]", value=user)
        data = await self.methods[paths.SHOULD_RATE_LIMIT](message.SerializeToString(), NO_HEAD)
        return RateLimitResponse.FromString(data)

    async def close(self) -> None:
        await self.house.stop(1)
        await self.controller.aclose()


@settings(max_examples=25, deadline=None)
@given(RULES, st.lists(REQUESTS, min_size=1, max_size=12))
async def test_every_door_gives_the_same_verdict(
    rules: list[tuple[str, int, str]], requests: list[dict[str, Any]]
) -> None:
    doors = Doors()
    try:
        await doors.controller.apply(policy(rules))
        for request in requests:
            status = (await doors.through_mixer(request)).precondition.status
            grpc, http = await doors.through_grpc(request), await doors.through_http(request)

            assert (grpc.status.code, grpc.status.message) == (status.code, status.message)
            if status.code == Code.OK:
                assert (grpc.WhichOneof("http_response"), http.status, http.body) == ("ok_response", 200, "")
            else:
                code = http_code(status.code)
                assert grpc.denied_response.status.code == code
                assert http.status == (code if code < 500 else 403)
                assert http.body == grpc.denied_response.body == status_text(status.code, status.message)
    finally:
        await doors.close()


SPEC = {
    ("QuotaSpec", "q"): {"rules": [{"quotas": [{"quota": "requests", "charge": 1}]}]},
    ("QuotaSpecBinding", "b"): {"services": [{"service": "*"}], "quotaSpecs": [{"name": "q"}]},
}
PLAIN = {
    "method": "GET", "path": "/", "host": "reviews", "grpc": False, "principal": "", "peer": "10.0.0.1",
    "service": "", "port": 80,
}  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ada", "bob"]), st.sampled_from(["mixer", "grpc", "http", "limits"])), max_size=16
    )
)
async def test_every_door_counts_in_the_same_quota(calls: list[tuple[str, str]]) -> None:
    doors = Doors()
    left = {"ada": LIMIT, "bob": LIMIT}
    try:
        await doors.controller.apply(contents({**COMMON, **SPEC}))
        for user, door in calls:
            request = {**PLAIN, "user": user}
            if door == "mixer":
                passed = (await doors.through_mixer(request, {"requests": 1})).quotas["requests"].granted_amount == 1
            elif door == "grpc":
                passed = (await doors.through_grpc(request)).status.code == Code.OK
            elif door == "http":
                passed = (await doors.through_http(request)).status == 200
            else:
                passed = (await doors.through_limits(user, 1)).overall_code == RateLimitResponse.OK

            assert passed == (left[user] > 0)
            left[user] -= passed
    finally:
        await doors.close()
