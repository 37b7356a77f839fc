"""The authorization service between bytes: what Envoy says becomes a bag, the verdict becomes an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.answer import AppliedHeader, HeaderKind, QuotaAnswer, QuotaLevel, RouteDirective
from mixer.api.codes import Code
from mixer.api.rpc import ServiceError
from mixer.api.wanted import Wanted
from mixer.attributes import ABSENT, AttributeBag, Duration, OverlayBag, Timestamp
from proxy.envoy import paths
from proxy.envoy.correlation import read_record
from proxy.envoy.ext_authz import Authorization, Decider
from proxy.envoy.gen.auth_pb2 import CheckRequest, CheckResponse
from proxy.envoy.metrics import PolicyMetrics
from proxy.policy import Verdict

NOW = 1_700_000_000_000_000_000


class Head:
    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def header(self, name: str, /) -> str:
        return self.headers.get(name, "")


class Client:
    """A policy client that says what it is told to, and keeps what it was asked."""

    def __init__(self, verdict: Verdict | None = None, *, later: bool = False, forward: str = "") -> None:
        self.verdict = verdict or Verdict()
        self.later = later
        self.forwards = forward
        self.calls: list[dict[str, Any]] = []

    def compose(
        self, derived: AttributeBag, *, service: str = "", forwarded: str = "", tcp: bool = False
    ) -> AttributeBag:
        self.calls.append({"forwarded": forwarded})
        bag = OverlayBag(derived)
        bag.merge({"client": "static"})
        return bag

    def check(self, bag: AttributeBag, *, service: str = "", tcp: bool = False, timeout_s: float | None = None) -> Any:
        values = {name: bag.peek(name) for name in bag.names()}
        self.calls[-1] |= {"bag": values, "service": service, "tcp": tcp, "timeout_s": timeout_s}
        return self._answer() if self.later else self.verdict

    async def _answer(self) -> Verdict:
        return self.verdict

    def take(self, bag: AttributeBag, charges: Mapping[str, int], *, timeout_s: float | None = None) -> Verdict:
        raise AssertionError("not asked for")

    def report(self, records: Any, *, service: str = "", tcp: bool = False) -> None:
        raise AssertionError("not asked for")

    def forward(self, *, service: str = "") -> str:
        return self.forwards


def service(client: Client, wanted: Wanted | None = None) -> Authorization:
    return Authorization(Decider(client, lambda: wanted), PolicyMetrics(), lambda: NOW)


async def checked(request: CheckRequest, client: Client | None = None, **headers: str) -> dict[str, Any]:
    """What the client is asked about a request."""
    client = client or Client()
    await service(client).check(request.SerializeToString(), Head(**headers))
    return client.calls[-1]


def http_request(path: str = "/a/b?x=1&y=&x=2&z", **headers: str) -> CheckRequest:
    """A question about an HTTP request, as Envoy 1.39 asks it."""
    request = CheckRequest()
    context = request.attributes
    context.source.address.socket_address.address = "127.0.0.1"
    context.source.address.socket_address.port_value = 45576
    context.destination.address.socket_address.address = "10.0.0.2"
    context.destination.address.socket_address.port_value = 31180
    context.request.time.seconds, context.request.time.nanos = 1_795_379_270, 19_988_000
    http = context.request.http
    http.id, http.method, http.path, http.host = "16128269828410123215", "GET", path, "istio.io:31180"
    http.scheme, http.protocol = "https", "HTTP/2"
    for name, value in {":method": "GET", ":path": path, ":authority": "istio.io:31180", **headers}.items():
        http.headers[name.replace("_", "-")] = value
    return request


async def test_a_plain_request_becomes_the_attributes_of_a_sidecar() -> None:
    request = http_request(
        x_custom="one,two",
        user_agent="curl",
        referer="r",
        x_istio_attributes="Cg==",
        x_envoy_auth_partial_body="true",
    )

    call = await checked(request)

    assert call["bag"] == {
        "request.headers": {
            ":method": "GET",
            ":path": "/a/b?x=1&y=&x=2&z",
            ":authority": "istio.io:31180",
            "x-custom": "one,two",
            "user-agent": "curl",
            "referer": "r",
        },
        "request.host": "istio.io:31180",
        "request.path": "/a/b?x=1&y=&x=2&z",
        "request.url_path": "/a/b",
        "request.query_params": {"x": "1", "y": "", "z": ""},
        "request.method": "GET",
        "request.scheme": "https",
        "request.referer": "r",
        "request.useragent": "curl",
        "request.time": Timestamp(1_795_379_270_019_988_000),
        "context.protocol": "http",
        "origin.ip": bytes((127, 0, 0, 1)),
        "destination.ip": bytes((10, 0, 0, 2)),
        "destination.port": 31180,
        "connection.mtls": False,
        "client": "static",
    }
    assert (call["forwarded"], call["service"], call["tcp"]) == ("Cg==", "", False)


async def test_raw_headers_are_joined_by_name() -> None:
    request = http_request()
    headers = dict(request.attributes.request.http.headers)
    request.attributes.request.http.headers.clear()
    for name, value in [*headers.items(), ("X-Custom", "one"), ("x-custom", "tw\N{LATIN SMALL LETTER O WITH ACUTE}")]:
        request.attributes.request.http.header_map.headers.add(key=name, raw_value=value.encode())

    call = await checked(request)

    assert call["bag"]["request.headers"] == {**headers, "x-custom": "one,twó"}


async def test_mutual_tls_gives_identities() -> None:
    request = http_request()
    request.attributes.source.principal = "spiffe://cluster.local/ns/ns1/sa/client"
    request.attributes.destination.principal = "spiffe://cluster.local/ns/ns2/sa/server"
    request.attributes.tls_session.sni = "istio.io"

    bag = (await checked(request))["bag"]

    assert bag["source.principal"] == bag["source.user"] == "cluster.local/ns/ns1/sa/client"
    assert bag["source.namespace"] == "ns1"
    assert bag["destination.principal"] == "cluster.local/ns/ns2/sa/server"
    assert bag["connection.mtls"] is True
    assert bag["connection.requested_server_name"] == "istio.io"


@pytest.mark.parametrize(
    ("identity", "certificate", "principal", "mtls"),
    [
        ("client.example.com", "", None, True),
        ("O=acme,CN=cn-only", "", None, True),
        ("https://example.com/me", "", "https://example.com/me", True),
        ("", "-----BEGIN%20CERTIFICATE", None, True),
        ("", "", None, False),
    ],
    ids=["DNS name", "subject", "other URI", "certificate without a name", "plain text"],
)
async def test_only_uris_are_principals(identity: str, certificate: str, principal: str | None, mtls: bool) -> None:
    request = http_request()
    request.attributes.source.principal = identity
    request.attributes.source.certificate = certificate

    bag = (await checked(request))["bag"]

    assert bag.get("source.principal") == bag.get("source.user") == principal
    assert "source.namespace" not in bag
    assert bag["connection.mtls"] is mtls


@pytest.mark.parametrize("key", ["jwt_payload", "my-issuer"])
async def test_a_verified_token_gives_its_claims(key: str) -> None:
    request = http_request()
    payload = {"iss": "i", "sub": "s", "aud": ["aud1", "aud2"], "azp": "p", "exp": 20000000000.0, "x": {"deep": "no"}}
    metadata = request.attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    metadata.update({"header": {"alg": "RS256"}, key: payload})

    bag = (await checked(request))["bag"]

    assert {name: value for name, value in bag.items() if name.startswith("request.auth")} == {
        "request.auth.principal": "i/s",
        "request.auth.audiences": "aud1",
        "request.auth.presenter": "p",
        "request.auth.claims": {"iss": "i", "sub": "s", "aud": "aud1,aud2", "azp": "p"},
        "request.auth.raw_claims": bag["request.auth.raw_claims"],
    }
    assert '"exp":20000000000' in bag["request.auth.raw_claims"]
    assert ".0" not in bag["request.auth.raw_claims"]


async def test_metadata_of_other_filters_is_an_attribute_for_whoever_asks() -> None:
    request = http_request()
    request.attributes.metadata_context.filter_metadata["my.filter"].update({"a": "b", "l": ["x", "y"], "n": 1})
    seen: list[Any] = []

    class Asking(Client):
        def check(self, bag: AttributeBag, **rest: Any) -> Any:
            seen.extend((bag.get("my.filter"), bag.get("other.filter")))
            return super().check(bag, **rest)

    await checked(request, Asking())

    assert seen == [{"a": "b", "l": "x,y"}, ABSENT]


async def test_context_extensions_choose_the_service_and_are_attributes_of_their_types() -> None:
    request = http_request()
    for name, value in {
        "service_config": "reviews.ns2",
        "destination.service.host": "reviews",
        "destination.port": "9080",
        "destination.ip": "::1",
        "my.count:int64": "7",
        "my.span:duration": "1m30s",
        "my.labels[app]": "reviews",
        "request.host": "a derived attribute wins",
        "my.bad:int64": "seven",
        "my.odd:complex": "1",
        ":int64": "1",
    }.items():
        request.attributes.context_extensions[name] = value
    metrics = PolicyMetrics()
    client = Client()

    await Authorization(Decider(client), metrics).check(request.SerializeToString())
    bag = client.calls[-1]["bag"]

    assert client.calls[-1]["service"] == "reviews.ns2"
    assert bag["destination.service.host"] == "reviews"
    assert bag["destination.port"] == 9080
    assert bag["destination.ip"] == bytes(15) + b"\1"
    assert (bag["my.count"], bag["my.span"], bag["my.labels"]) == (7, Duration.parse("90s"), {"app": "reviews"})
    assert bag["request.host"] == "istio.io:31180"
    assert not {"service_config", "my.bad", "my.odd", ""} & bag.keys()
    assert _counted(metrics, "mixer_envoy_left_out_total", "bad_context_extension") == 3


@pytest.mark.parametrize("told_by", ["context.reporter.kind", "reporter.kind", "listener"])
async def test_the_listeners_address_is_no_destination_when_it_is_outbound(told_by: str) -> None:
    request = http_request()
    headers = {}
    if told_by != "listener":
        request.attributes.context_extensions[told_by] = "outbound"
    else:
        headers["x_mixer_listener"] = "outbound_http"

    bag = (await checked(request, **headers))["bag"]

    assert bag["context.reporter.kind"] == "outbound"
    assert not {"destination.ip", "destination.port"} & bag.keys()


async def test_a_connection_becomes_the_attributes_of_a_connection() -> None:
    request = CheckRequest()
    request.attributes.source.address.socket_address.address = "10.1.2.3"
    request.attributes.source.principal = "spiffe://c/ns/n/sa/a"
    request.attributes.destination.address.socket_address.address = "10.0.0.2"
    request.attributes.destination.address.socket_address.port_value = 5432
    request.attributes.tls_session.sni = "db"

    call = await checked(request, x_mixer_stream="id-1", x_mixer_listener="inbound_tcp")

    assert call["bag"] == {
        "source.ip": bytes((10, 1, 2, 3)),
        "origin.ip": bytes((10, 1, 2, 3)),
        "source.principal": "c/ns/n/sa/a",
        "source.user": "c/ns/n/sa/a",
        "source.namespace": "n",
        "destination.ip": bytes((10, 0, 0, 2)),
        "destination.port": 5432,
        "connection.mtls": True,
        "connection.requested_server_name": "db",
        "connection.id": "id-1",
        "context.protocol": "tcp",
        "context.time": Timestamp(NOW),
        "context.reporter.kind": "inbound",
        "client": "static",
    }
    assert (call["tcp"], call["service"]) == (True, "inbound_tcp")


@pytest.mark.parametrize(
    ("text", "seconds"), [("250", 0.25), ("", None), ("0", None), ("soon", None), ("-5", None), ("9" * 30, None)]
)
async def test_envoys_patience_is_the_deadline(text: str, seconds: float | None) -> None:
    call = await checked(http_request(), x_envoy_expected_rq_timeout_ms=text)

    assert call["timeout_s"] == seconds


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_the_verdict_may_come_at_once_or_later(later: bool) -> None:
    client = Client(Verdict(Code.PERMISSION_DENIED, "shish"), later=later)

    answer = CheckResponse.FromString(await service(client).check(http_request().SerializeToString()))

    assert answer.status.code == 7
    assert answer.denied_response.body == "PERMISSION_DENIED:shish"


async def test_nothing_is_read_that_nobody_asks_for() -> None:
    request = http_request()
    request.attributes.source.address.socket_address.address = "no address"

    class Lazy(Client):
        def check(self, bag: AttributeBag, **rest: Any) -> Any:
            return Verdict(code=0 if bag.get("request.method") == "GET" else 7)

    answer = await service(Lazy(), Wanted({})).check(request.SerializeToString())

    assert CheckResponse.FromString(answer).status.code == 0


async def test_an_address_that_is_none_is_left_out() -> None:
    request = http_request()
    request.attributes.source.address.pipe.path = "/run/envoy.sock"
    request.attributes.destination.address.socket_address.address = "localhost"

    bag = (await checked(request))["bag"]

    assert not {"origin.ip", "destination.ip"} & bag.keys()


# The record for the report


async def test_the_record_keeps_what_reports_read_and_the_log_does_not_tell() -> None:
    request = http_request(x_user="bob", cookie="secret", x_istio_attributes="Cg==", user_agent="curl")
    request.attributes.context_extensions["destination.service.host"] = "reviews"
    request.attributes.context_extensions["unread"] = "x"
    wanted = Wanted(
        {
            "request.headers": frozenset(("x-user", "x-none")),
            "request.path": None,
            "request.useragent": None,
            "destination.service.host": None,
            "response.code": None,
        }
    )
    verdict = Verdict(Code.NOT_FOUND, "m", check_cache_hit=True, failed=True)

    answer = await service(Client(verdict), wanted).check(request.SerializeToString(), Head(x_mixer_stream="id-7"))
    metadata = CheckResponse.FromString(answer).dynamic_metadata
    record = read_record({"envoy.filters.http.ext_authz": metadata})

    assert record is not None
    assert record.attributes == {
        "request.headers": {"x-user": "bob"},
        "request.path": "/a/b?x=1&y=&x=2&z",
        "destination.service.host": "reviews",
    }
    assert (record.id, record.forwarded, record.code, record.message) == ("id-7", "Cg==", 5, "m")
    assert (record.check_cache_hit, record.quota_cache_hit, record.failed, record.checked) == (True, False, True, True)


async def test_the_record_keeps_all_but_headers_when_nobody_says_what_is_read() -> None:
    answer = await service(Client()).check(http_request(cookie="secret").SerializeToString())
    record = read_record({"envoy.filters.http.ext_authz": CheckResponse.FromString(answer).dynamic_metadata})

    assert record is not None
    assert record.id
    assert record.attributes.keys() == {
        "request.path", "request.url_path", "request.query_params", "request.host", "request.method",
        "context.protocol", "destination.ip", "destination.port", "connection.mtls",
    }  # fmt: skip


@pytest.mark.parametrize("change", ["request_headers", "response_headers"])
async def test_the_record_keeps_what_the_log_tells_as_it_left_when_the_answer_changes_headers(change: str) -> None:
    directive = RouteDirective(**{change: (AppliedHeader("user-agent", "", HeaderKind.REMOVE),)})  # type: ignore[arg-type]
    request = http_request(user_agent="curl", referer="there")
    wanted = Wanted({"request.useragent": None, "request.referer": None, "request.scheme": None})

    answer = await service(Client(Verdict(directive=directive)), wanted).check(request.SerializeToString())
    record = read_record({"envoy.filters.http.ext_authz": CheckResponse.FromString(answer).dynamic_metadata})

    assert record is not None
    expected = {"request.useragent": "curl", "request.referer": "there"} if change == "request_headers" else {}
    assert record.attributes == expected


async def test_the_record_follows_the_configuration() -> None:
    current = Wanted({"request.path": None})
    authorization = Authorization(Decider(Client(), lambda: current), PolicyMetrics())
    data = http_request().SerializeToString()

    async def kept() -> set[str]:
        answer = CheckResponse.FromString(await authorization.check(data))
        record = read_record({"envoy.filters.http.ext_authz": answer.dynamic_metadata})
        assert record is not None
        return set(record.attributes)

    assert await kept() == {"request.path"}
    current = Wanted({"request.host": None})
    assert await kept() == {"request.host"}


# Bad input


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05abc", b"\x08"], ids=repr)
async def test_bytes_that_are_no_request_are_refused(data: bytes) -> None:
    with pytest.raises(ServiceError, match="malformed CheckRequest") as caught:
        await service(Client()).check(data)

    assert caught.value.code is Code.INVALID_ARGUMENT


@given(st.binary(max_size=200))
async def test_any_bytes_get_an_answer_or_a_refusal(data: bytes) -> None:
    code = Code.OK
    try:
        CheckResponse.FromString(await service(Client()).check(data))
    except ServiceError as exc:
        code = exc.code

    assert code in (Code.OK, Code.INVALID_ARGUMENT)


async def test_absurd_sizes_are_borne_with() -> None:
    request = http_request("/" + "p" * 100_000 + "?" + "&".join(f"k{n}" for n in range(5000)))
    for number in range(2000):
        request.attributes.request.http.headers[f"x-{number}"] = "v" * 100
    metrics = PolicyMetrics()
    wanted = Wanted({"request.headers": None, "request.path": None, "request.method": None})

    answer = await Authorization(Decider(Client(), lambda: wanted), metrics).check(request.SerializeToString())
    record = read_record({"envoy.filters.http.ext_authz": CheckResponse.FromString(answer).dynamic_metadata})

    assert len(answer) < 5000
    assert record is not None
    assert record.cut
    assert record.attributes["request.method"] == "GET"
    assert _counted(metrics, "mixer_envoy_left_out_total", "attributes_too_large") == 1


def test_the_service_is_where_envoy_looks_for_it() -> None:
    assert list(service(Client()).methods.unary) == [paths.CHECK] == ["/envoy.service.auth.v3.Authorization/Check"]


async def test_verdicts_are_counted() -> None:
    metrics = PolicyMetrics()
    level = QuotaLevel(1, 0, Duration(0), Duration(0))
    for verdict in (
        Verdict(),
        Verdict(quotas={"q": QuotaAnswer(1, level=level)}),
        Verdict(Code.UNAVAILABLE, failed=True),
    ):
        await Authorization(Decider(Client(verdict)), metrics).check(http_request().SerializeToString())

    assert _counted(metrics, "mixer_envoy_answers_total", "allowed", "true") == 2
    assert _counted(metrics, "mixer_envoy_answers_total", "denied", "false") == 1


def _counted(metrics: PolicyMetrics, name: str, *labels: str) -> float:
    return sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and set(labels) <= set(sample.labels.values())
    )
