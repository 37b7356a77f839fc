"""HTTP requests through the middleware: attributes, answers, header operations and the one record."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mixer.api.answer import QuotaAnswer, QuotaLevel, RouteDirective
from mixer.api.codes import Code
from mixer.attributes import Duration
from proxy.client.forwarded import write_forwarded
from proxy.middleware import MiddlewareMetrics, MixerMiddleware
from proxy.policy import NOT_CHECKED, Verdict
from tests.certificates import Authority
from tests.proxy.middleware.kit import (
    WALL,
    Clock,
    Echo,
    FakePolicy,
    Wire,
    append,
    body,
    directed,
    http_scope,
    remove,
    replace,
)

LOOPBACK = b"\x7f\x00\x00\x01"


def middleware(policy: FakePolicy, app: Any = None, **more: Any) -> MixerMiddleware:
    return MixerMiddleware(app or Echo(), policy, now=Clock(WALL), monotonic_ns=Clock(0, 1_000_000), **more)


async def served(
    policy: FakePolicy,
    app: Any = None,
    scope: dict[str, Any] | None = None,
    chunks: tuple[bytes, ...] = (b"",),
    **more: Any,
) -> Wire:
    """Serve one request to its end."""
    wire = Wire(body(*chunks))
    await middleware(policy, app, **more)(scope or http_scope(), wire.receive, wire.send)
    return wire


async def test_check_and_report_have_exactly_the_attributes_of_a_sidecar() -> None:
    """Scenario 1."""
    policy = FakePolicy(statics={"destination.service.host": "a.b"}, verdict=Verdict())
    scope = http_scope(headers={"content-type": "text/plain"}, method="POST")

    wire = await served(policy, Echo(headers=[("X-Kind", "echo")]), scope, (b"hello ", b"world!"))

    assert (wire.status, wire.body) == (200, "hello world!")
    (check,) = policy.checks
    assert check == {
        "destination.service.host": "a.b",
        "context.protocol": "http",
        "connection.mtls": False,
        "origin.ip": bytes((10, 1, 2, 3)),
        "request.headers": {
            ":method": "POST",
            ":path": "/echo",
            ":authority": "istio.io:8080",
            "user-agent": "curl",
            "content-type": "text/plain",
        },
        "request.host": "istio.io:8080",
        "request.path": "/echo",
        "request.url_path": "/echo",
        "request.method": "POST",
        "request.scheme": "http",
        "request.time": WALL + 1_000,
        "request.useragent": "curl",
    }
    assert policy.record == check | {
        "check.cache_hit": False,
        "quota.cache_hit": False,
        "context.proxy_error_code": "-",
        "destination.ip": LOOPBACK,
        "destination.port": 8080,
        "request.size": 12,
        "request.total_size": 12
        + sum(map(len, ("host", "istio.io:8080", "user-agent", "curl", "content-type", "text/plain"))),
        "response.size": 12,
        "response.total_size": 12 + len("X-Kind") + len("echo"),
        "response.code": 200,
        "response.headers": {":status": "200", "x-kind": "echo"},
        "response.time": WALL + 2_000,
        "response.duration": 1_000_000,
    }


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        pytest.param(
            http_scope(query="a=b&c=d"),
            {"request.path": "/echo?a=b&c=d", "request.url_path": "/echo", "request.query_params": {"a": "b", "c": "d"}},
            id="scenario 2: query",
        ),
        pytest.param(
            http_scope(query="a=%20&a=2&flag&=x"),
            {"request.query_params": {"a": "%20", "flag": "", "": "x"}},
            id="parameters are not decoded, the first counts",
        ),
        pytest.param(
            http_scope("/a b/ü", raw_path=b"/a%20b/%C3%BC"), {"request.path": "/a%20b/%C3%BC"}, id="encoded path"
        ),
        pytest.param(http_scope("/admin", raw_path=b"/%61dmin"), {"request.path": "/admin"}, id="needlessly encoded path"),
        pytest.param(http_scope("/admin/x", raw_path=b"/admin%2Fx"), {"request.path": "/admin/x"}, id="encoded slash"),
        pytest.param(http_scope("/admin", raw_path=b"/other"), {"request.path": "/admin"}, id="raw path of before a rewrite"),
        pytest.param(http_scope("/a", raw_path=None), {"request.path": "/a"}, id="no raw path"),
        pytest.param(http_scope(headers={"referer": "r"}), {"request.referer": "r"}, id="referer"),
        pytest.param(
            http_scope(headers={"content-type": "application/grpc+proto"}), {"context.protocol": "grpc"}, id="grpc"
        ),
        pytest.param(http_scope(scheme="https"), {"request.scheme": "https"}, id="https"),
        pytest.param(http_scope(client=None), {"origin.ip": None}, id="no client"),
        pytest.param(http_scope(client=("fe80::1%eth0", 1)), {"origin.ip": bytes.fromhex("fe80" + 27 * "0" + "1")}, id="IPv6"),
        pytest.param(http_scope(client=("unix", 0)), {"origin.ip": None}, id="client without address"),
        pytest.param(
            http_scope() | {"headers": [(b"x-a", b"1"), (b"cookie", b"a=1"), (b"x-a", b"2"), (b"cookie", b"b=\xc3\xbc")]},
            {
                "request.headers": {
                    ":method": "GET", ":path": "/echo", ":authority": "", "x-a": "1,2", "cookie": "a=1; b=ü",
                },
                "request.host": "",
                "request.useragent": None,
            },
            id="repeated headers, no host",
        ),
        pytest.param(
            http_scope(http_version="2", headers={"host": "h"}) ,
            {
                "request.headers": {
                    ":method": "GET", ":path": "/echo", ":authority": "h", ":scheme": "http", "user-agent": "curl",
                }
            },
            id="HTTP/2 has a scheme",
        ),
    ],
)  # fmt: skip
async def test_attribute_comes_from_the_scope(scope: dict[str, Any], expected: dict[str, Any]) -> None:
    policy = FakePolicy()

    await served(policy, scope=scope)

    assert {name: policy.checks[0].get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        pytest.param(
            None, {"connection.mtls": False, "source.principal": None, "destination.principal": None}, id="no TLS"
        ),
        pytest.param({"client_cert_chain": []}, {"connection.mtls": False}, id="TLS without client certificate"),
        pytest.param(
            {"client_cert_chain": ["client"], "server_cert": "server"},
            {
                "connection.mtls": True,
                "source.principal": "cluster.local/ns/shop/sa/cart",
                "source.user": "cluster.local/ns/shop/sa/cart",
                "source.namespace": "shop",
                "destination.principal": "cluster.local/ns/shop/sa/db",
            },
            id="mutual TLS",
        ),
        pytest.param(
            {"client_cert_chain": ["client"], "client_cert_error": "expired"},
            {"connection.mtls": False, "source.principal": None},
            id="certificate that was not verified",
        ),
        pytest.param(
            {"client_cert_chain": ["dns"]}, {"connection.mtls": True, "source.principal": None}, id="no URI in it"
        ),
        pytest.param(
            {"client_cert_chain": ["garbage"]}, {"connection.mtls": True, "source.principal": None}, id="no certificate"
        ),
    ],
)
async def test_identity_comes_from_the_tls_extension(
    tls: dict[str, Any] | None, expected: dict[str, Any], tmp_path: Any
) -> None:
    authority = Authority(tmp_path)
    named = {
        "client": ["cart.shop", "spiffe://cluster.local/ns/shop/sa/cart", "spiffe://second"],
        "server": ["spiffe://cluster.local/ns/shop/sa/db"],
        "dns": ["cart.shop"],
    }
    pems = {name: authority.issue(name, names).certificate.read_text() for name, names in named.items()}
    pems["garbage"] = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
    if tls is not None:
        tls = {**tls, "client_cert_chain": [pems[name] for name in tls["client_cert_chain"]]}
        if "server_cert" in tls:
            tls["server_cert"] = pems[tls["server_cert"]]
    policy = FakePolicy()

    await served(policy, scope=http_scope(extensions={} if tls is None else {"tls": tls}))

    assert {name: policy.checks[0].get(name) for name in expected} == expected


async def test_forwarded_attributes_are_believed_and_taken_away() -> None:
    header = write_forwarded({"source.uid": "POD11", "source.namespace": "XYZ11"})
    policy, app = FakePolicy(), Echo()

    await served(policy, app, http_scope(headers={"x-istio-attributes": header}))

    assert policy.checks[0]["source.uid"] == "POD11"
    assert policy.checks[0]["source.namespace"] == "XYZ11"
    assert "x-istio-attributes" not in policy.checks[0]["request.headers"]  # type: ignore[operator]
    assert [name for name, _ in app.scope["headers"]] == [b"host", b"user-agent"]


@pytest.mark.parametrize("excluded", [False, True])
async def test_forwarded_header_goes_where_nothing_is_checked(excluded: bool) -> None:
    """Scenario 22."""
    policy, app = FakePolicy(NOT_CHECKED), Echo()
    scope = http_scope(headers={"x-istio-attributes": "Cg=="})

    await served(policy, app, scope, exclude=["/echo"] if excluded else [])

    assert [name for name, _ in app.scope["headers"]] == [b"host", b"user-agent"]
    assert scope["headers"][2][0] == b"x-istio-attributes"  # the server's scope stays as it was
    assert len(policy.reports) == (0 if excluded else 1)
    if not excluded:
        assert "check.cache_hit" not in policy.record


async def test_next_hop_is_told_what_the_configuration_says() -> None:
    policy, app = FakePolicy(forwards="abc="), Echo()

    await served(policy, app, http_scope(headers={"x-istio-attributes": "Cg=="}))

    assert [value for name, value in app.scope["headers"] if name == b"x-istio-attributes"] == [b"abc="]


async def test_scope_is_the_servers_own_when_nothing_is_changed() -> None:
    """Instrumentation around the middleware reads what frameworks write into the scope."""
    app, scope = Echo(), http_scope()

    await served(FakePolicy(), app, scope)

    assert app.scope is scope


async def test_headers_that_can_be_read_only_once_reach_everybody() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": iter([(b"x", b"1")])})
        await send({"type": "http.response.body"})

    seen: list[Any] = []
    policy = FakePolicy()
    wire = await served(policy, app, http_scope() | {"headers": iter([(b"host", b"h"), (b"y", b"2")])})

    assert seen == [(b"host", b"h"), (b"y", b"2")]
    assert wire.headers == [("x", "1")]
    assert policy.record["request.headers"]["y"] == "2"  # type: ignore[index]
    assert policy.record["response.headers"]["x"] == "1"  # type: ignore[index]


async def test_attributes_stay_when_the_application_changes_the_scope() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = scope["raw_path"] = scope["method"] = scope["query_string"] = "changed"
        scope["headers"].clear()
        await Echo()(scope, receive, send)

    policy = FakePolicy()
    await served(policy, app)

    assert policy.record["request.path"] == "/echo"
    assert policy.record["request.headers"][":authority"] == "istio.io:8080"  # type: ignore[index]


@pytest.mark.parametrize(
    ("verdict", "status", "text", "error", "code"),
    [
        pytest.param(
            Verdict(Code.UNAUTHENTICATED, "Unauthenticated by mixer."), 401, "UNAUTHENTICATED:Unauthenticated by mixer.",
            "UAEX", 401, id="scenario 5",
        ),
        pytest.param(Verdict(Code.UNAVAILABLE, "no decision", failed=True), 503, "UNAVAILABLE:no decision", "UAEX", 503, id="scenario 7"),
        pytest.param(Verdict(Code.INTERNAL), 500, "INTERNAL", "UAEX", 500, id="scenario 8"),
        pytest.param(
            Verdict(Code.RESOURCE_EXHAUSTED, "Quota is exhausted for: RequestCount"), 429,
            "RESOURCE_EXHAUSTED:Quota is exhausted for: RequestCount", "UAEX", 429, id="scenario 9",
        ),
        pytest.param(Verdict(Code.PERMISSION_DENIED, "shish"), 403, "PERMISSION_DENIED:shish", "UAEX", 403, id="scenario 35"),
        pytest.param(Verdict(99, "odd"), 500, "UNKNOWN:odd", "UAEX", 500, id="code that does not exist"),
        pytest.param(
            Verdict(directive=directed(direct=200, body="hello!")), 200, "hello!", "-", 200, id="scenario 34: direct 200"
        ),
        pytest.param(
            Verdict(Code.PERMISSION_DENIED, "m", directed(direct=503)), 503, "", "UAEX", 503, id="scenario 34: direct 503"
        ),
        pytest.param(
            Verdict(directive=directed(direct=204, body="gone")), 204, "", "-", 204, id="no body where none may be"
        ),
        pytest.param(
            Verdict(Code.PERMISSION_DENIED, "m", directed(request=[replace("x", "1")], response=[replace("y", "1")])),
            403, "PERMISSION_DENIED:m", "UAEX", 403, id="no operation on a denial",
        ),
    ],
)  # fmt: skip
async def test_verdict_answers_in_place_of_the_application(
    verdict: Verdict, status: int, text: str, error: str, code: int
) -> None:
    policy, app = FakePolicy(verdict), Echo()

    wire = await served(policy, app, chunks=(b"never read",))

    assert app.scopes == []
    assert (wire.status, wire.body) == (status, text)
    expected = [("content-length", str(len(text)))] if status != 204 else []
    assert wire.headers == ([("content-type", "text/plain")] if text else []) + expected
    assert len(wire.incoming) == 1
    record = policy.record
    assert record["response.code"] == code
    assert record["context.proxy_error_code"] == error
    assert record["response.size"] == len(text)
    assert record.get("check.error_code") == (int(verdict.code) if verdict.code else None)
    if verdict.code and not verdict.directive:
        assert record["check.error_message"] == text
    assert "destination.ip" not in record


async def test_direct_response_has_its_headers_on_separate_lines() -> None:
    """Scenario 34."""
    cookies = directed(direct=401, response=[append("Set-Cookie", "a=1"), append("set-cookie", "b=2")])
    moved = directed(
        direct=301, response=[replace("location", "https://x/"), replace("content-type", "text/html")], body="<a>"
    )

    wire = await served(FakePolicy(Verdict(directive=cookies)))
    assert wire.headers == [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-length", "0")]

    wire = await served(FakePolicy(Verdict(directive=moved)))
    assert wire.status == 301
    assert wire.headers == [("location", "https://x/"), ("content-type", "text/html"), ("content-length", "3")]


async def test_answer_to_head_has_no_body() -> None:
    wire = await served(FakePolicy(Verdict(Code.PERMISSION_DENIED)), scope=http_scope(method="HEAD"))

    assert ("content-length", "17") in wire.headers
    assert wire.body == ""


@pytest.mark.parametrize(
    ("verdict", "status", "headers", "code"),
    [
        pytest.param(
            Verdict(Code.PERMISSION_DENIED, "100% né"), 200,
            {"content-type": "application/grpc", "grpc-status": "7", "grpc-message": "100%25 n%C3%A9"}, 403, id="denial",
        ),
        pytest.param(Verdict(directive=directed(direct=503)), 503, {}, 503, id="direct"),
        pytest.param(Verdict(directive=directed(direct=200)), 200, {"grpc-status": "0"}, 200, id="direct 200"),
        pytest.param(
            Verdict(Code.NOT_FOUND, "", directed(direct=404)), 404, {"grpc-status": "5"}, 404, id="direct denial"
        ),
    ],
)  # fmt: skip
async def test_grpc_request_gets_a_grpc_status(
    verdict: Verdict, status: int, headers: dict[str, str], code: int
) -> None:
    policy = FakePolicy(verdict)

    wire = await served(policy, scope=http_scope(headers={"content-type": "application/grpc"}))

    assert wire.status == status
    assert wire.headers == [*headers.items(), ("content-length", "0")]
    assert policy.record["response.code"] == code
    assert policy.record.get("response.grpc_status") == headers.get("grpc-status")


async def test_pseudo_headers_change_the_scope_and_not_the_record() -> None:
    """Scenario 31."""
    operations = [replace(":path", "/b%20c?q=1"), replace(":authority", "other:1"), replace(":method", "PUT")]
    policy, app = FakePolicy(Verdict(directive=directed(request=operations))), Echo()

    await served(policy, app)

    scope = app.scope
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "PUT",
        "/b c",
        b"/b%20c",
        b"q=1",
    )
    assert scope["headers"] == [(b"user-agent", b"curl"), (b"host", b"other:1")]
    assert policy.record["request.path"] == "/echo"
    assert policy.record["request.method"] == "GET"
    assert policy.record["request.host"] == "istio.io:8080"


async def test_request_headers_change_and_the_response_does_not() -> None:
    """Scenario 32."""
    operations = [replace("X", "value"), append("x", "value2"), remove("User-Agent")]
    app = Echo(headers=[("x", "of the response")])

    wire = await served(FakePolicy(Verdict(directive=directed(request=operations))), app, http_scope(method="POST"))

    assert app.scope["headers"] == [(b"host", b"istio.io:8080"), (b"x", b"value"), (b"x", b"value2")]
    assert wire.headers == [("x", "of the response")]


async def test_response_headers_change() -> None:
    """Scenario 33."""
    operations = [replace("X", "value"), append("x", "value2"), remove("Content-Length")]
    app = Echo(headers=[("Content-Length", "0"), ("X", "old"), ("y", "1")])
    policy = FakePolicy(Verdict(directive=directed(response=operations)))

    wire = await served(policy, app)

    assert wire.headers == [("y", "1"), ("x", "value"), ("x", "value2")]
    assert policy.record["response.headers"] == {":status": "200", "y": "1", "x": "value,value2"}


@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        pytest.param(directed(request=[replace("bad name", "x")]), "bad_name", id="name"),
        pytest.param(directed(request=[replace(":scheme", "x")]), "pseudo_header", id="pseudo header"),
        pytest.param(directed(request=[replace(":path", "no-slash")]), "pseudo_header", id="path"),
        pytest.param(directed(request=[replace(":method", "G(T")]), "pseudo_header", id="method"),
        pytest.param(directed(request=[remove("host")]), "fixed_header", id="host"),
        pytest.param(directed(response=[replace("content-length", "7")]), "fixed_header", id="length"),
        pytest.param(directed(response=[replace("bad\nname", "7")]), "bad_name", id="response"),
        pytest.param(directed(direct=403, response=[replace(":status", "7")]), "pseudo_header", id="direct"),
        pytest.param(directed(direct=42), "bad_status", id="direct code"),
    ],
)
async def test_operation_that_cannot_be_carried_out_is_counted(directive: RouteDirective, reason: str) -> None:
    metrics = MiddlewareMetrics()

    wire = await served(FakePolicy(Verdict(directive=directive)), metrics=metrics)

    assert wire.sent[-1]["type"] == "http.response.body"
    labels = {"protocol": "http", "reason": reason}
    assert metrics.registry.get_sample_value("mixer_middleware_left_out_total", labels) == 1


async def test_value_cannot_break_out_of_its_header() -> None:
    app = Echo()
    await served(FakePolicy(Verdict(directive=directed(request=[replace("x", "a\r\nhost: evil")]))), app)

    assert (b"x", b"a  host: evil") in app.scope["headers"]


QUOTA = {"r": QuotaAnswer(1, level=QuotaLevel(10, 3, Duration(1_500_000_000), Duration(60_000_000_000)))}
LEVELS = [("x-ratelimit-limit", '10, 10;w=60;name="r"'), ("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "2")]


async def test_response_tells_where_quotas_stand() -> None:
    app = Echo(headers=[("X-RateLimit-Limit", "own")])
    wire = await served(FakePolicy(Verdict(quotas=QUOTA)), app)
    assert wire.headers == LEVELS

    operations = directed(response=[replace("x-ratelimit-limit", "mine")])
    wire = await served(FakePolicy(Verdict(directive=operations, quotas=QUOTA)), app)
    assert wire.headers == [("x-ratelimit-limit", "mine"), *LEVELS[1:]]

    wire = await served(FakePolicy(Verdict(Code.RESOURCE_EXHAUSTED, "x", quotas=QUOTA)), app)
    assert wire.headers[:4] == [*LEVELS, ("retry-after", "2")]


async def test_trailers_are_reported_over_headers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/grpc"), (b"x", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"de"})
        assert policy.reports == []
        trailers = [(b"x", b"2"), (b"grpc-status", b"5"), (b"grpc-message", b"gone")]
        await send({"type": "http.response.trailers", "headers": trailers[:1], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": trailers[1:]})
        assert len(policy.reports) == 1  # at once, whatever the application does then

    policy = FakePolicy()
    await served(policy, app)

    record = policy.record
    assert (record["response.grpc_status"], record["response.grpc_message"]) == ("5", "gone")
    assert record["response.headers"]["x"] == "2"  # type: ignore[index]
    assert record["response.size"] == 5


async def test_files_that_the_server_sends_are_counted(tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"x" * 77)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.zerocopysend", "file": 1, "count": 3, "more_body": True})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

    policy = FakePolicy()
    await served(policy, app)

    assert policy.record["response.size"] == 80
    assert policy.record["response.duration"] != 0


async def test_answer_of_the_application_is_reported_as_it_is() -> None:
    """Scenario 6."""
    policy = FakePolicy(Verdict(check_cache_hit=True))

    assert (await served(policy, Echo(400))).status == 400

    record = policy.record
    assert (record["response.code"], record["context.proxy_error_code"]) == (400, "-")
    assert "check.error_code" not in record
    assert record["check.cache_hit"] is True


async def _crashes(scope: Any, receive: Any, send: Any) -> None:
    raise ZeroDivisionError


async def _crashes_midway(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 206, "headers": []})
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    raise ZeroDivisionError


async def _crashes_after(scope: Any, receive: Any, send: Any) -> None:
    await Echo()(scope, receive, send)
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("app", "code", "error", "completed"),
    [
        pytest.param(_crashes, 500, "-", False, id="before the response"),
        pytest.param(_crashes_midway, 206, "UC", False, id="within it"),
        pytest.param(_crashes_after, 200, "-", True, id="after it"),
    ],
)
async def test_crash_is_reported_once_and_raised(app: Any, code: int, error: str, completed: bool) -> None:
    policy = FakePolicy()

    with pytest.raises(ZeroDivisionError):
        await served(policy, app)

    record = policy.record
    assert (record["response.code"], record["context.proxy_error_code"]) == (code, error)
    assert (record["response.duration"] != 0) is completed


async def test_application_that_never_answers_is_reported_as_500() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    policy = FakePolicy()
    await served(policy, silent)

    assert (policy.record["response.code"], policy.record["response.duration"]) == (500, 0)


async def test_client_that_leaves_is_reported_as_gone() -> None:
    policy, wire = FakePolicy(), Wire([{"type": "http.request", "body": b"abc", "more_body": True}])

    await middleware(policy)(http_scope(), wire.receive, wire.send)

    record = policy.record
    assert (record["response.code"], record["context.proxy_error_code"]) == (500, "DC")
    assert (record["request.size"], record["response.duration"]) == (3, 0)


@pytest.mark.parametrize(("fails_at", "code"), [(0, 500), (1, 200)])
async def test_client_that_is_gone_when_it_is_answered_is_reported_as_gone(fails_at: int, code: int) -> None:
    policy, wire = FakePolicy(), Wire(body(b"abc"), fails_at=fails_at)

    with pytest.raises(ConnectionResetError):
        await middleware(policy)(http_scope(), wire.receive, wire.send)

    assert (policy.record["response.code"], policy.record["context.proxy_error_code"]) == (code, "DC")


async def test_disconnect_after_the_response_is_nothing_to_report() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Echo()(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    policy = FakePolicy()
    await served(policy, app)

    assert policy.record["context.proxy_error_code"] == "-"


async def test_cancelled_request_has_its_record() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    started, policy = asyncio.Event(), FakePolicy()
    task = asyncio.create_task(served(policy, slow))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert policy.record["response.code"] == 500


async def test_request_that_is_cancelled_while_it_is_checked_has_its_record() -> None:
    policy = FakePolicy(failure=asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await served(policy)

    assert policy.record["response.code"] == 500
    assert "check.cache_hit" not in policy.record


@pytest.mark.parametrize("later", [False, True], ids=["cached", "asked for"])
async def test_check_is_told_service_and_time_limit(later: bool) -> None:
    policy = FakePolicy(later=later)

    wire = await served(policy, service="cart", check_timeout_s=0.5)

    assert wire.status == 200
    assert (policy.services, policy.timeouts) == (["cart", "cart"], [0.5])


async def test_nothing_is_read_or_sent_while_the_decision_is_pending() -> None:
    """Flow control of the server holds back the body. Source: spec proxy 11."""
    gate = asyncio.Event()

    class Slow(FakePolicy):
        async def _answer(self) -> Verdict:
            await gate.wait()
            return self.verdict

    wire, app = Wire(body(b"a", b"b")), Echo()
    task = asyncio.create_task(middleware(Slow(later=True), app)(http_scope(), wire.receive, wire.send))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(wire.incoming), wire.sent, app.scopes) == (2, [], [])
    gate.set()
    await task
    assert wire.body == "ab"


async def test_end_of_the_request_waits_until_the_record_is_taken() -> None:
    gate = asyncio.Event()

    async def press() -> None:
        await gate.wait()

    policy = FakePolicy(back_pressure=press)
    wire = Wire(body(b""))
    task = asyncio.create_task(middleware(policy)(http_scope(), wire.receive, wire.send))
    for _ in range(5):
        await asyncio.sleep(0)
    assert wire.sent[-1]["type"] == "http.response.body"
    assert not task.done()
    gate.set()
    await task


async def test_crash_does_not_wait_until_the_record_is_taken() -> None:
    gate, taken = asyncio.Event(), asyncio.Event()

    async def press() -> None:
        await gate.wait()
        taken.set()

    with pytest.raises(ZeroDivisionError):
        await served(FakePolicy(back_pressure=press), _crashes)

    gate.set()
    await taken.wait()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("path", "left_alone"),
    [("/healthz", True), ("/healthz/", False), ("/static/a.css", True), ("/staticky", False), ("/", False)],
)
async def test_excluded_paths_are_left_alone(path: str, left_alone: bool) -> None:
    policy = FakePolicy(Verdict(Code.PERMISSION_DENIED))

    wire = await served(policy, scope=http_scope(path), exclude=["/healthz", "/static/*"])

    assert wire.status == (200 if left_alone else 403)
    assert len(policy.reports) == (0 if left_alone else 1)


@pytest.mark.parametrize("pattern", ["healthz", "/a/*/b", ""])
def test_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="exclude"):
        MixerMiddleware(Echo(), FakePolicy(), exclude=[pattern])


async def test_verdicts_are_counted() -> None:
    metrics = MiddlewareMetrics()
    for verdict in (
        Verdict(),
        Verdict(Code.PERMISSION_DENIED),
        Verdict(Code.UNAVAILABLE, failed=True),
        Verdict(directive=directed(direct=302)),
        NOT_CHECKED,
    ):
        await served(FakePolicy(verdict), metrics=metrics)

    counted = {
        tuple(sorted(sample.labels.items())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "mixer_middleware_answers_total" and sample.value
    }
    assert {tuple(value for _, value in labels): n for labels, n in counted.items()} == {
        ("true", "allowed", "http"): 1,
        ("true", "denied", "http"): 1,
        ("false", "denied", "http"): 1,
        ("true", "direct", "http"): 1,
        ("true", "unchecked", "http"): 1,
    }
