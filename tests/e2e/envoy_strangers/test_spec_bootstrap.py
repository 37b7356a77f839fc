"""An inbound sidecar with every option by hand (``bootstraps/spec.yaml``), asking Mixer itself and through mixproxy.

The scenarios are those of spec envoy 10.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
import pytest_asyncio

from loadtest.certificates import Authority
from proxy.client.forwarded import write_forwarded
from tests.e2e.envoy.mesh import objects, wait_until
from tests.e2e.envoy.test_http_through_envoy import headers_rule
from tests.e2e.envoy_strangers.stranger import JWKS, METRICS, Stranger, answer, curl, deny, each_way, stranger, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "reviews.ns2.svc.cluster.local"
CLIENT = "cluster.local/ns/ns1/sa/client"
SERVER = "cluster.local/ns/ns2/sa/server"
DENIED = "PERMISSION_DENIED:shish.istio-system:shish"

RULES = (
    deny("shish", 'request.url_path == "/denied" || context.protocol == "tcp" && destination.port == 1', 7, "shish"),
    deny("enough", 'request.path == "/echo.Echo/Deny"', 8, "enough"),
    deny("friends", f'request.url_path == "/friends" && (source.principal | "") != "{CLIENT}"', 16, "who are you"),
    deny("aud", 'request.url_path == "/jwt/aud" && (request.auth.audiences | "") != "aud1"', 7, "not for me"),
    deny("open", 'request.path == "/direct200"', 7, "", details=answer(200, "hello!", **{"x-direct": "1"})),
    deny("moved", 'request.path == "/direct302"', 7, "", details=answer(302, "", location="/elsewhere")),
    deny("tired", 'request.path == "/direct503"', 7, "later", details=answer(503, "later", **{"set-cookie": "a=b"})),
    headers_rule(
        'request.path == "/directive"',
        [
            {"name": ":path", "values": ['"/rewritten"']},
            {"name": "x-custom", "values": ['"more"'], "operation": "APPEND"},
            {"name": "x-new", "values": ['"N1"', '"N2"'], "operation": "APPEND"},
            {"name": "user-agent", "operation": "REMOVE"},
        ],
        [
            {"name": "x-out", "values": ["request.method"]},
            {"name": "x-app", "operation": "REMOVE"},
        ],
    ),
    deny("no-tcp", 'context.protocol == "tcp" && (source.principal | "") == "cluster.local/ns/bad/sa/bad"', 7, "shish"),
    objects(
        {
            "kind": "handler",
            "name": "mq",
            "spec": {
                "compiledAdapter": "memquota",
                "params": {"quotas": [{"name": "rq.instance.istio-system", "maxAmount": 5, "validDuration": "60s"}]},
            },
        },
        {
            "kind": "instance",
            "name": "rq",
            "spec": {"compiledTemplate": "quota", "params": {"dimensions": {"user": 'request.headers["x-user"] | ""'}}},
        },
        {"kind": "rule", "name": "rq", "spec": {"actions": [{"handler": "mq", "instances": ["rq"]}]}},
        {
            "kind": "QuotaSpec",
            "name": "some",
            "spec": {
                "rules": [
                    {
                        "match": [{"clause": {"request.url_path": {"exact": "/quota"}}}],
                        "quotas": [{"charge": 1, "quota": "rq"}],
                    }
                ]
            },
        },
        {
            "kind": "QuotaSpecBinding",
            "name": "some",
            "spec": {
                "quotaSpecs": [{"name": "some", "namespace": "istio-system"}],
                "services": [{"name": "reviews", "namespace": "ns2", "domain": "svc.cluster.local"}],
            },
        },
    ),
    *METRICS,
)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=each_way("spec"))
async def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stranger]:
    folder = tmp_path_factory.mktemp(request.param)
    async with stranger(folder) as running:
        authority = Authority()
        authority.issue(folder / "server", f"spiffe://{SERVER}", "istio.io")
        authority.issue(folder / "client", f"spiffe://{CLIENT}")
        authority.issue(folder / "bad", "spiffe://cluster.local/ns/bad/sa/bad")
        authority.issue(folder / "dns", "client.example.com")
        running.start_mixer(*RULES, agent=request.param == "mixproxy")
        running.envoy("spec.yaml", JWKS=JWKS, SERVER=str(folder / "server"))
        yield running


def tls(mesh: Stranger, who: str, path: str, *more: str) -> list[str]:
    port, folder = mesh.port("MTLS"), mesh.mesh.folder
    return [
        "--cacert", str(folder / "server/ca.pem"), "--cert", str(folder / who / "cert.pem"),
        "--key", str(folder / who / "key.pem"), "--resolve", f"istio.io:{port}:127.0.0.1",
        *more, f"https://istio.io:{port}{path}",
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_plain_request(mesh: Stranger, version: str) -> None:
    """Scenario 1."""
    path = f"/a/b{version}?x=1"
    forged = write_forwarded({"source.uid": "kubernetes://pod1.ns1"})
    status, _, _, _ = await curl(
        version, "-H", "x-custom: one", "-H", "x-custom: two", "-H", f"x-istio-attributes: {forged}",
        "-H", "x-forwarded-for: 8.8.8.8", mesh.url("PLAIN", path),
    )  # fmt: skip
    assert status == 200
    record = await mesh.record(path, request_method="GET", response_code=200)

    assert record.items() >= {
        "request.url_path": f"/a/b{version}", "query": "1", "request.scheme": "http", "context.protocol": "http",
        "context.proxy_error_code": "-", "context.reporter.kind": "inbound", "header:x-custom": "one,two",
        "header:x-istio-attributes": "", "source.uid": "kubernetes://pod1.ns1", "origin.ip": "127.0.0.1",
        "connection.mtls": False, "source.principal": "", "destination.service.host": HOST,
        "destination.service.name": "reviews", "destination.service.namespace": "ns2",
        "destination.uid": "kubernetes://pod9.ns9", "check.error_code": 0, "app": "reviews",
    }.items()  # fmt: skip
    (seen,) = [each for each in mesh.http if each["path"] == path]
    assert "x-istio-attributes" not in seen["headers"]


async def test_mutual_tls(mesh: Stranger) -> None:
    """Scenario 2."""
    for version in ("--http1.1", "--http2"):
        path = f"/friends?{version}"
        assert (await curl(*tls(mesh, "client", path, version)))[0] == 200
        record = await mesh.record(path, response_code=200)
        assert record.items() >= {
            "source.principal": CLIENT, "source.namespace": "ns1", "destination.principal": SERVER,
            "connection.mtls": True, "connection.requested_server_name": "istio.io", "request.scheme": "https",
        }.items()  # fmt: skip
    await mesh.series(
        "istio_requests_total", 2, source_principal=CLIENT, destination_principal=SERVER,
        connection_security_policy="mutual_tls", destination_service=HOST, destination_service_name="reviews",
        destination_service_namespace="ns2", destination_app="reviews", destination_version="v3",
        reporter="destination", response_code="200", request_protocol="http", response_flags="-",
    )  # fmt: skip


async def test_certificate_that_names_no_principal(mesh: Stranger) -> None:
    """Scenario 3."""
    assert (await curl(*tls(mesh, "dns", "/dns")))[0] == 200
    record = await mesh.record("/dns")
    assert (record["source.principal"], record["connection.mtls"]) == ("", True)
    status, _, body, _ = await curl(*tls(mesh, "dns", "/friends?dns"))
    assert (status, body) == (401, "UNAUTHENTICATED:friends.istio-system:who are you")


async def test_token(mesh: Stranger) -> None:
    """Scenario 4; without a token the JWT filter answers, and no check ran."""
    told = token(
        iss="testing@example.com", sub="me", aud="aud1", azp="him", exp=20000000000, iat=1500000000,
        **{"some-other-string-claims": "some-claims-kept"},
    )  # fmt: skip
    url = mesh.url("PLAIN", "/jwt/aud")
    assert (await curl("-H", f"authorization: Bearer {told}", url))[0] == 200
    assert (await curl(mesh.url("PLAIN", "/jwt/none")))[0] == 401
    record = await mesh.record("/jwt/aud")
    refused = await mesh.record("/jwt/none", response_code=401, checked="no")

    assert record.items() >= {
        "request.auth.principal": "testing@example.com/me", "request.auth.audiences": "aud1",
        "request.auth.presenter": "him", "claim": "some-claims-kept", "claim:exp": "",
    }.items()  # fmt: skip
    assert '"exp":20000000000' in record["request.auth.raw_claims"]
    assert refused["check.error_code"] == 0


async def test_denial(mesh: Stranger) -> None:
    """Scenario 5."""
    status, headers, body, _ = await curl(mesh.url("PLAIN", "/denied"))
    assert (status, body, headers["content-type"]) == (403, DENIED, "text/plain")
    record = await mesh.record("/denied", response_code=403, check_error_code=7)
    assert (record["check.error_message"], record["context.proxy_error_code"]) == (DENIED, "UAEX")
    assert not [each for each in mesh.http if each["path"] == "/denied"]
    await mesh.series(
        "istio_requests_total", 1, response_code="403", response_flags="UAEX", destination_service=HOST,
        connection_security_policy="none",
    )  # fmt: skip


async def test_grpc_calls(mesh: Stranger) -> None:
    """Scenario 6, unary and streaming."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port('PLAIN')}") as channel:
        assert await channel.unary_unary("/echo.Echo/Say")(b"hello") == b"hello"
        chat = channel.stream_stream("/echo.Echo/Chat")(iter([b"a", b"b", b"c"]))
        assert [each async for each in chat] == [b"a", b"b", b"c"]
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await channel.unary_unary("/echo.Echo/Deny")(b"hello")
    assert denied.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert denied.value.details() == "RESOURCE_EXHAUSTED:enough.istio-system:enough"
    for name in ("Say", "Chat"):
        await mesh.record(f"/echo.Echo/{name}", context_protocol="grpc", response_code=200, response_grpc_status="0")
    await mesh.record("/echo.Echo/Deny", context_protocol="grpc", response_code=429, check_error_code=8)
    await mesh.series("istio_requests_total", 2, request_protocol="grpc", response_code="200")
    await mesh.series("istio_requests_total", 1, request_protocol="grpc", response_code="429", response_flags="UAEX")


async def test_directive(mesh: Stranger) -> None:
    """Scenarios 7 and 9."""
    status, headers, _, _ = await curl("-H", "x-custom: old", mesh.url("PLAIN", "/directive"))
    assert status == 200
    assert headers["x-out"] == "GET"
    assert "x-app" not in headers
    (seen,) = [each for each in mesh.http if each["path"] == "/rewritten"]
    assert seen["headers"]["x-custom"] == "old,more"
    assert seen["headers"]["x-new"].replace(", ", ",") == "N1,N2"
    assert "user-agent" not in seen["headers"]
    record = await mesh.record("/directive", response_code=200)
    assert record["header:x-custom"] == "old", "as the client sent it"
    assert record["request.useragent"].startswith("curl/"), "though it was taken away"


@pytest.mark.parametrize(
    ("path", "status", "body", "header", "recorded"),
    [
        ("/direct200", 200, "hello!", ("x-direct", "1"), (7, "UAEX")),
        ("/direct302", 302, "", ("location", "/elsewhere"), (7, "UAEX")),
        ("/direct503", 503, "later", ("set-cookie", "a=b"), (7, "UAEX")),
    ],
)
async def test_direct_answer(
    mesh: Stranger, path: str, status: int, body: str, header: tuple[str, str], recorded: tuple[int, str]
) -> None:
    """Scenario 8."""
    got, headers, text, _ = await curl(mesh.url("PLAIN", path))
    assert (got, text, headers[header[0]]) == (status, body, header[1])
    record = await mesh.record(path, response_code=status)
    assert (record["check.error_code"], record["context.proxy_error_code"]) == recorded


async def test_quota(mesh: Stranger) -> None:
    """Scenario 17, in the check; the quota is bound to the service that the route names."""
    url = mesh.url("PLAIN", "/quota")
    answers = [await curl("-H", "x-user: ann", url) for _ in range(20)]
    statuses = [status for status, *_ in answers]
    assert statuses[0] == 200
    assert 5 <= statuses.count(200) <= 15, "what the agent has lent before the first answer"
    assert statuses[-1] == 429
    if mesh.mixs is mesh.door:
        assert statuses.count(200) == 5
    assert answers[-1][2] == "RESOURCE_EXHAUSTED:Quota is exhausted for: rq"
    assert (await curl("-H", "x-user: bob", url))[0] == 200, "another counter"


async def test_filters_that_answer_first_and_routes_without_check(mesh: Stranger) -> None:
    """Scenario 12, and a route on which the filter is disabled."""
    status, *_ = await curl("-H", "x-envoy-fault-abort-request: 503", mesh.url("PLAIN", "/fault"))
    assert status == 503
    await mesh.record("/fault", context_proxy_error_code="FI", response_code=503, checked="no", check_error_code=0)
    assert (await curl(mesh.url("PLAIN", "/unchecked")))[0] == 200
    await mesh.record("/unchecked", response_code=200, checked="no")


@pytest.mark.parametrize(
    ("path", "flags", "code", "header"),
    [
        ("/hangup", "UC", 503, "x-none: 1"),
        ("/timeout", "UT", 504, "x-none: 1"),
        ("/refused", "UF", 503, "x-none: 1"),
        ("/unknown", "NC", 503, "x-cluster: nobody-knows"),
    ],
)
async def test_upstream_failures(mesh: Stranger, path: str, flags: str, code: int, header: str) -> None:
    """Scenario 20."""
    status, *_ = await curl("-H", header, mesh.url("PLAIN", path))
    assert status == code
    record = await mesh.record(path, response_code=code, check_error_code=0)
    assert flags in record["context.proxy_error_code"].split(",")


async def test_clients_that_leave_or_talk_nonsense(mesh: Stranger) -> None:
    """Scenario 20."""
    assert (await curl("--max-time", "0.3", mesh.url("PLAIN", "/hang")))[0] == 0
    await mesh.record("/hang", context_proxy_error_code="DC", response_code=500)
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.port("PLAIN"))
    writer.write(b"garbage\r\n\r\n")
    assert b" 400 " in await reader.read(100)
    writer.close()
    await mesh.mesh.wait_records(1, lambda record: record["context.proxy_error_code"] == "DPE")


async def test_traceparent(mesh: Stranger) -> None:
    """Scenario 19, by an OpenTelemetry tracer; its spans go to Mixer as well and are counted once."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    url = mesh.url("PLAIN", "/traced")
    assert (await curl("-H", f"traceparent: 00-{trace}-b7ad6b7169203331-01", url))[0] == 200
    record = await mesh.record("/traced")
    assert record["header:x-b3-traceid"] == trace
    assert record["header:x-b3-spanid"] not in ("", "b7ad6b7169203331")


async def talk(mesh: Stranger, name: str, *chunks: bytes, who: str = "", pause_s: float = 0.0) -> bytes:
    context = None
    if who:
        folder = mesh.mesh.folder
        context = ssl.create_default_context(cafile=str(folder / "server/ca.pem"))
        context.check_hostname = False
        context.load_cert_chain(str(folder / who / "cert.pem"), str(folder / who / "key.pem"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", mesh.port(name), ssl=context, server_hostname="tcp.istio.io" if who else None
    )
    back = b""
    with suppress(ConnectionError):
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            back += await asyncio.wait_for(reader.read(65536), 10)
            await asyncio.sleep(pause_s)
    writer.close()
    with suppress(ConnectionError, OSError):
        await writer.wait_closed()
    return back


def events(records: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(each["connection.event"], each["connection.received.bytes"]) for each in records]


async def test_short_connection(mesh: Stranger) -> None:
    """Scenario 14."""
    assert await talk(mesh, "TCP", b"x" * 191) == b"X" * 191
    records = await mesh.connection(lambda each: each["connection.received.bytes_total"] == 191)
    assert events(records) == [("open", 0), ("close", 191)]
    assert records[-1].items() >= {
        "connection.sent.bytes_total": 191, "context.protocol": "tcp", "context.reporter.kind": "inbound",
        "destination.uid": "kubernetes://pod9.ns9", "checked": "miss", "origin.ip": "127.0.0.1",
    }.items()  # fmt: skip


async def test_long_connection(mesh: Stranger) -> None:
    """Scenario 14, and the metrics of connections."""
    labels = {"connection_security_policy": "mutual_tls", "source_principal": CLIENT}
    back = await talk(mesh, "TCP_MTLS", b"a" * 100, b"b" * 50, b"c" * 7, who="client", pause_s=1.1)
    assert len(back) == 157
    records = await mesh.connection(lambda each: each["connection.received.bytes_total"] == 157)
    names = [name for name, _ in events(records)]
    assert names[0] == "open"
    assert names[-1] == "close"
    assert names.count("continue") >= 3
    assert sum(count for name, count in events(records) if name != "open") == 157
    assert {each["connection.requested_server_name"] for each in records} == {"tcp.istio.io"}
    assert {(each["source.principal"], each["connection.mtls"]) for each in records} == {(CLIENT, True)}
    for name, value in (
        ("received_bytes", 157), ("sent_bytes", 157), ("connections_opened", 1), ("connections_closed", 1),
    ):  # fmt: skip
        await mesh.series(f"istio_tcp_{name}_total", value, **labels, reporter="destination", response_flags="-")


async def test_denied_connection(mesh: Stranger) -> None:
    """Scenarios 14 and 15."""
    assert await talk(mesh, "TCP_MTLS", b"secret", who="bad") == b""
    records = await mesh.connection(lambda each: each["source.principal"] == "cluster.local/ns/bad/sa/bad")
    assert [name for name, _ in events(records)] == ["close"]
    assert records[0].items() >= {
        "check.error_code": 7, "check.error_message": "PERMISSION_DENIED:no-tcp.istio-system:shish",
        "context.proxy_error_code": "UAEX", "connection.sent.bytes_total": 0,
    }.items()  # fmt: skip
    assert b"secret" not in mesh.tcp


async def test_silent_connection(mesh: Stranger) -> None:
    """Scenario 14: nothing was sent before the client closed; whatever the check said then, there is one close."""
    before = len(mesh.mesh.records())
    _, writer = await asyncio.open_connection("127.0.0.1", mesh.port("TCP"))
    await asyncio.sleep(0.2)
    writer.close()
    await wait_until(
        lambda: any(
            each["connection.event"] == "close" and each["connection.received.bytes_total"] == 0
            for each in mesh.mesh.records()[before:]
        ),
        "the silent connection has its end",
    )
