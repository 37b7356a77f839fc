"""Requests through a stock Envoy that asks ``mixs server`` itself: verdicts, headers, and the records that come of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from loadtest.envoy import free_ports
from proxy.client.forwarded import write_forwarded
from proxy.envoy.bootstrap import Endpoint, Listener, MixerAddress, Route, Sidecar, Upstream
from tests.e2e.envoy.apps import grpc_app, http_app
from tests.e2e.envoy.mesh import Mesh, logs, objects

SERVICE = "reviews.ns2.svc.cluster.local"

VARIABLES = {
    "method": 'request.method | ""',
    "path": 'request.path | ""',
    "host": 'request.host | ""',
    "code": "response.code | 0",
    "protocol": 'context.protocol | ""',
    "flags": 'context.proxy_error_code | ""',
    "error": "check.error_code | 0",
    "message": 'check.error_message | ""',
    "service": 'destination.service.host | ""',
    "kind": 'context.reporter.kind | ""',
    "uid": 'destination.uid | ""',
    "user": 'request.headers["x-user"] | ""',
    "size": "request.size | 0",
    "grpc": 'response.grpc_status | ""',
    "origin": 'origin.ip | ip("0.0.0.0")',
    "port": "destination.port | 0",
}


def denier(name: str, match: str, code: int, message: str, **spec: Any) -> str:
    return objects(
        {
            "kind": "handler",
            "name": name,
            "spec": {"compiledAdapter": "denier", "params": {"status": {"code": code, "message": message, **spec}}},
        },
        {"kind": "instance", "name": name, "spec": {"compiledTemplate": "checknothing"}},
        {"kind": "rule", "name": name, "spec": {"match": match, "actions": [{"handler": name, "instances": [name]}]}},
    )


def headers_rule(match: str, request: list[dict[str, Any]], response: list[dict[str, Any]]) -> str:
    spec = {"match": match, "requestHeaderOperations": request, "responseHeaderOperations": response}
    return objects({"kind": "rule", "name": "headers", "spec": spec})


class Through:
    """One Envoy before one service."""

    def __init__(
        self, mesh: Mesh, *configs: str, app_http2: bool = False, http_form: bool = False, **sidecar: Any
    ) -> None:
        self.app, self.port = free_ports(2)
        flags = ("--ext-authz-http-port", "0") if http_form else ()
        self.mixs = mesh.mixer(logs(mesh.folder, VARIABLES), *configs, flags=flags)
        http = Endpoint("127.0.0.1", self.mixs.ports["ext-authz-http-port"]) if http_form else None
        self.envoy = mesh.envoy(
            Sidecar(
                "sidecar~127.0.0.1~reviews-v1.ns2~cluster.local",
                "reviews",
                MixerAddress(Endpoint("127.0.0.1", self.mixs.ports["port"]), http),
                (Listener("http", Endpoint("127.0.0.1", self.port), (Route("app", service=SERVICE),)),),
                (Upstream("app", Endpoint("127.0.0.1", self.app), app_http2, uid="kubernetes://reviews-v1.ns2"),),
                flush_s=0.1,
                **sidecar,
            )
        )
        self.url = f"http://127.0.0.1:{self.port}"


DENY = denier("deny", 'request.path.startsWith("/admin")', 7, "shish")


@pytest.mark.parametrize("form", ["grpc", "http"])
async def test_denied_requests_stop_at_envoy_and_are_reported(mesh: Mesh, form: str) -> None:
    """Scenarios 1 and 5 of spec envoy 10."""
    through = Through(mesh, DENY, http_form=form == "http")
    async with http_app(through.app) as seen, aiohttp.ClientSession() as session:
        async with session.get(f"{through.url}/a/b?x=1", headers={"x-user": "ann"}) as answer:
            assert answer.status == 200
            got = await answer.json()
        async with session.get(f"{through.url}/admin?y=2", headers={"x-user": "bob"}) as answer:
            assert (answer.status, await answer.text()) == (403, "PERMISSION_DENIED:deny.istio-system:shish")
            assert answer.headers["content-type"].startswith("text/plain")
        records = await mesh.wait_records(2)

    assert [each["path"] for each in seen] == ["/a/b?x=1"]
    assert (got["method"], got["path"], got["headers"]["x-user"]) == ("GET", "/a/b?x=1", "ann")
    passed, denied = sorted(records, key=lambda record: record["code"])
    common = {
        "method": "GET", "host": f"127.0.0.1:{through.port}", "protocol": "http", "service": SERVICE,
        "kind": "inbound", "origin": "127.0.0.1",
    }  # fmt: skip
    assert passed.items() >= {
        **common, "path": "/a/b?x=1", "code": 200, "flags": "-", "error": 0, "uid": "kubernetes://reviews-v1.ns2",
    }.items()  # fmt: skip
    assert denied.items() >= {
        **common, "path": "/admin?y=2", "code": 403, "flags": "UAEX", "error": 7,
        "message": "PERMISSION_DENIED:deny.istio-system:shish",
    }.items()  # fmt: skip
    if form == "grpc":
        assert (passed["user"], denied["user"]) == ("ann", "bob"), "the check saw headers that the log does not list"


async def test_header_operations_reach_both_sides(mesh: Mesh) -> None:
    rule = headers_rule(
        'request.path.startsWith("/")',
        [
            {"name": "x-added", "values": ['"one"', '"two"']},
            {"name": "x-old", "operation": "REMOVE"},
            {"name": ":path", "values": ['"/rewritten"']},
        ],
        [{"name": "x-out", "values": ["request.method"]}, {"name": "x-app", "operation": "REMOVE"}],
    )
    through = Through(mesh, rule)
    async with http_app(through.app) as seen, aiohttp.ClientSession() as session:
        async with session.get(
            f"{through.url}/original", headers={"x-old": "1", "x-istio-attributes": "Zm9v"}
        ) as answer:
            assert answer.status == 200
            assert answer.headers["x-out"] == "GET"
            assert "x-app" not in answer.headers
        (record,) = await mesh.wait_records(1)

    assert seen[0]["path"] == "/rewritten"
    assert seen[0]["headers"]["x-added"] == "two"
    assert not {"x-old", "x-istio-attributes"} & seen[0]["headers"].keys()
    assert record["path"] == "/original", "what the client asked for is reported"


@pytest.mark.parametrize(
    ("edge", "http_form", "status"),
    [(False, False, 403), (True, False, 200), (True, True, 200)],
    ids=["sidecar", "edge", "edge, http form"],
)
async def test_what_a_peer_tells_of_itself_is_believed_by_a_sidecar_and_not_at_an_edge(
    mesh: Mesh, edge: bool, http_form: bool, status: int
) -> None:
    told = write_forwarded({"source.uid": "kubernetes://admin.ns1"})
    config = denier("deny", 'source.uid == "kubernetes://admin.ns1"', 7, "known")
    through = Through(mesh, config, edge=edge, http_form=http_form)

    async with (
        http_app(through.app) as seen,
        aiohttp.ClientSession() as session,
        session.get(through.url, headers={"x-istio-attributes": told}) as answer,
    ):
        assert answer.status == status

    assert not any("x-istio-attributes" in request["headers"] for request in seen)


async def test_grpc_callers_get_mixers_own_code(mesh: Mesh) -> None:
    """Scenario 6."""
    through = Through(mesh, denier("deny", 'request.path == "/echo.Echo/Say"', 8, "enough"), app_http2=True)
    async with grpc_app(through.app) as seen, grpc.aio.insecure_channel(f"127.0.0.1:{through.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await channel.unary_unary("/echo.Echo/Say")(b"hello")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/echo.Echo/Fail")(b"hello")
        records = await mesh.wait_records(2)

    assert denied.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert denied.value.details() == "RESOURCE_EXHAUSTED:deny.istio-system:enough"
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert seen == [b"hello"]
    by_path = {record["path"]: record for record in records}
    assert by_path["/echo.Echo/Say"].items() >= {"protocol": "grpc", "error": 8, "flags": "UAEX"}.items()
    assert by_path["/echo.Echo/Fail"].items() >= {"protocol": "grpc", "error": 0, "code": 200, "grpc": "5"}.items()


async def test_records_count_what_envoy_served(mesh: Mesh, tmp_path: Path) -> None:
    """Scenario 13: nothing is lost or counted twice over many requests."""
    through = Through(mesh)
    async with http_app(through.app), aiohttp.ClientSession() as session:
        for number in range(100):
            async with session.post(f"{through.url}/n/{number}", data=b"x" * number) as answer:
                assert answer.status == 200
                await answer.read()
        records = await mesh.wait_records(100)

    assert sorted(record["path"] for record in records) == sorted(f"/n/{number}" for number in range(100))
    assert all(record["size"] == int(record["path"].rpartition("/")[2]) for record in records)
    assert through.envoy.stat("http.inbound_http.downstream_rq_completed") == 100


async def test_client_of_the_http_form_cannot_choose_its_identity(mesh: Mesh) -> None:
    match = 'source.principal == "cluster.local/ns/ns1/sa/admin" || destination.labels["forged"] == "yes"'
    through = Through(mesh, denier("deny", match, 7, "seen as admin"), http_form=True)
    forged = {
        "x-mixer-peer": "spiffe://cluster.local/ns/ns1/sa/admin",
        "x-mixer-source": "10.0.0.1:5",
        "x-mixer-context": "destination.labels=forged=yes;source.principal=cluster.local/ns/ns1/sa/admin",
        "x-mixer-sni": "forged",
    }
    async with http_app(through.app) as seen, aiohttp.ClientSession() as session:
        async with session.get(through.url, headers=forged) as answer:
            assert answer.status == 200, await answer.text()
        (record,) = await mesh.wait_records(1)

    assert len(seen) == 1
    assert record["origin"] == "127.0.0.1"
