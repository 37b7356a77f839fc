"""Entries of requests as records. Source: spec envoy 4.2, 5.3 and 10, spec proxy 3."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.attributes import AttributeValue, Duration, Timestamp
from proxy.envoy.correlation import CheckRecord
from proxy.envoy.gen.accesslog_pb2 import HTTPAccessLogEntry
from proxy.envoy.log_http import MERGES, REQUEST_ROWS, RESPONSE_ROWS
from tests.proxy.envoy.log_kit import START_S, FakeClient, http_entry, logged, message, put, recorded

ADDRESSES = {"origin.ip": bytes((10, 0, 0, 9)), "destination.ip": bytes((127, 0, 0, 1)), "destination.port": 8080}
LOCAL = {
    "context.reporter.uid": "kubernetes://reviews-1.ns2",
    "destination.uid": "kubernetes://reviews-1.ns2",
    "destination.namespace": "ns2",
}
PLAIN: dict[str, AttributeValue] = {
    **ADDRESSES,
    **LOCAL,
    "connection.mtls": False,
    "context.protocol": "http",
    "context.proxy_error_code": "-",
    "context.reporter.kind": "inbound",
    "request.headers": {"x-user": "bob"},
    "request.host": "reviews:9080",
    "request.method": "GET",
    "request.path": "/a/b?x=1",
    "request.query_params": {"x": "1"},
    "request.scheme": "http",
    "request.size": 0,
    "request.time": Timestamp(START_S * 10**9 + 500_000_000),
    "request.total_size": 340,
    "request.url_path": "/a/b",
    "request.useragent": "curl/7",
    "response.code": 200,
    "response.duration": Duration(7_000_000),
    "response.headers": {":status": "200"},
    "response.size": 5,
    "response.time": Timestamp(START_S * 10**9 + 507_000_000),
    "response.total_size": 126,
}
CHECKED = {"check.cache_hit": False, "quota.cache_hit": False}


async def one(entry: HTTPAccessLogEntry, log_name: str = "inbound_http", **kwargs: Any) -> dict[str, AttributeValue]:
    (found,) = await logged(message([entry], log_name), **kwargs)
    return found


def test_the_tables_have_every_attribute_that_an_entry_tells() -> None:
    # What else there is: static attributes, forwarded ones, those of an API, those named by tags and filters.
    assert {*REQUEST_ROWS, *RESPONSE_ROWS, *MERGES} == {
        *PLAIN.keys() - {"context.reporter.uid", "destination.namespace"},
        *CHECKED,
        *("check.error_code", "check.error_message", "connection.requested_server_name", "destination.principal"),
        *("source.principal", "source.user", "source.namespace", "request.referer"),
        *(f"request.auth.{name}" for name in ("principal", "audiences", "presenter", "claims", "raw_claims")),
        *("response.grpc_status", "response.grpc_message"),
        *("rbac.permissive.response_code", "rbac.permissive.effective_policy_id"),
    }


async def test_a_request_without_a_check_is_told_by_its_entry_alone() -> None:
    assert await one(http_entry()) == PLAIN


async def test_a_check_adds_what_it_knew() -> None:
    record = CheckRecord(check_cache_hit=True, attributes={"request.path": "/as/asked?y=2", "source.uid": "pod"})

    assert await one(http_entry(record, path="/after/rewriting")) == {
        **{name: value for name, value in PLAIN.items() if name != "request.query_params"},
        "request.path": "/as/asked?y=2",
        "request.url_path": "/after/rewriting",  # the check would have kept it, had anybody asked
        "source.uid": "pod",
        "check.cache_hit": True,
        "quota.cache_hit": False,
    }


async def test_kept_headers_win_over_logged_ones_and_join_them() -> None:
    record = CheckRecord(attributes={"request.headers": {"x-user": "alice", "cookie": "c"}})
    entry = http_entry(record)
    entry.request.request_headers["x-request-id"] = "7"
    entry.request.request_headers["x-istio-attributes"] = "CgA="

    assert (await one(entry))["request.headers"] == {"x-user": "alice", "cookie": "c", "x-request-id": "7"}


@pytest.mark.parametrize(
    "entry",
    [http_entry(CheckRecord(service="reviews")), http_entry(service_config="reviews")],
    ids=["of the check", "of the tag"],
)
async def test_static_attributes_come_from_the_service(entry: HTTPAccessLogEntry) -> None:
    client = FakeClient(
        {"reviews": {"destination.service.name": "r"}, "inbound_http": {"destination.service.name": "l"}}
    )

    assert (await one(entry, client=client))["destination.service.name"] == "r"
    assert [service for service, _, _ in client.calls] == ["reviews"]


async def test_without_another_name_the_log_names_the_service() -> None:
    client = FakeClient({"outbound_http": {"destination.service.name": "by log"}})

    found = await one(http_entry(), "outbound_http", client=client)

    assert found["destination.service.name"] == "by log"
    assert found["context.reporter.kind"] == "outbound"
    assert found["source.uid"] == found["context.reporter.uid"] == "kubernetes://reviews-1.ns2"
    assert "destination.namespace" not in found
    assert [service for service, _, _ in client.calls] == ["outbound_http"]


@pytest.mark.parametrize(
    ("log_name", "kind"), [("inbound", "inbound"), ("inboundish", None), ("mixer", None), ("outbound_a_b", "outbound")]
)
async def test_the_log_name_tells_the_direction(log_name: str, kind: str | None) -> None:
    assert (await one(http_entry(), log_name)).get("context.reporter.kind") == kind


async def test_the_forwarded_header_goes_to_the_client() -> None:
    client = FakeClient()

    await one(http_entry(CheckRecord(forwarded="CgA=")), client=client)

    assert client.forwarded == ["CgA="]


# The verdict


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (CheckRecord(), CHECKED),
        (CheckRecord(quota_cache_hit=True), {"check.cache_hit": False, "quota.cache_hit": True}),
        (CheckRecord(checked=False), {}),
        (
            CheckRecord(code=7, message="shish"),
            {**CHECKED, "check.error_code": 7, "check.error_message": "PERMISSION_DENIED:shish"},
        ),
        (CheckRecord(code=2), {**CHECKED, "check.error_code": 2, "check.error_message": "UNKNOWN"}),
        (
            CheckRecord(code=14, message="no answer", failed=True),
            {**CHECKED, "check.error_code": 14, "check.error_message": "UNAVAILABLE:no answer"},
        ),
    ],
    ids=["allowed", "quota from the cache", "check off", "denied", "denied without a word", "failed closed"],
)
async def test_the_verdict_is_the_one_of_the_record(record: CheckRecord, expected: dict[str, AttributeValue]) -> None:
    found = await one(http_entry(record))

    assert {n: v for n, v in found.items() if n.startswith(("check.", "quota."))} == expected


async def test_a_grpc_denial_has_the_http_code_of_its_status() -> None:
    entry = http_entry(CheckRecord(code=8, message="quota"))
    entry.request.request_headers["content-type"] = "application/grpc"
    entry.response.response_headers["grpc-status"] = "8"
    entry.response.response_headers["grpc-message"] = "RESOURCE_EXHAUSTED:quota"

    found = await one(entry)

    assert found["response.code"] == 429
    assert found["context.protocol"] == "grpc"
    assert found["response.grpc_status"] == "8"
    assert found["response.grpc_message"] == "RESOURCE_EXHAUSTED:quota"


@pytest.mark.parametrize(
    ("record", "sent", "flags", "code"),
    [
        (CheckRecord(direct=200), 200, "-", None),
        (CheckRecord(direct=302), 302, "-", None),
        (CheckRecord(direct=503, code=7, message="m"), 503, "UAEX", 7),
        (CheckRecord(direct=200, code=7), 200, "UAEX", 7),
    ],
    ids=str,
)
async def test_a_direct_answer_is_reported_as_sent(
    record: CheckRecord, sent: int, flags: str, code: int | None
) -> None:
    entry = http_entry(record, flags="UAEX")
    entry.response.response_code.value = sent
    entry.response.response_headers["grpc-status"] = "2"

    found = await one(entry)

    assert found["response.code"] == sent
    assert found["context.proxy_error_code"] == flags
    assert found.get("check.error_code") == code


# Single attributes


def _trailers(entry: HTTPAccessLogEntry) -> None:
    entry.response.response_headers["grpc-status"] = "9"
    entry.response.response_trailers["grpc-status"] = "0"
    entry.response.response_trailers[":status"] = "t"


def _status_only(entry: HTTPAccessLogEntry) -> None:
    entry.response.response_trailers["grpc-status"] = "14"


def _huge(entry: HTTPAccessLogEntry) -> None:
    entry.request.request_body_bytes = (1 << 64) - 1


def _pipe(entry: HTTPAccessLogEntry) -> None:
    entry.common_properties.downstream_direct_remote_address.pipe.path = "@pipe"


def _v6(entry: HTTPAccessLogEntry) -> None:
    put(entry.common_properties.downstream_direct_remote_address, "::1", 1)


def _no_upstream(entry: HTTPAccessLogEntry) -> None:
    entry.common_properties.ClearField("upstream_remote_address")


def _rewritten(entry: HTTPAccessLogEntry) -> None:
    entry.request.original_path = "/before"


def _custom_method(entry: HTTPAccessLogEntry) -> None:
    entry.request.request_method = 0
    entry.request.request_headers[":method"] = "PROPFIND"


def _mtls(entry: HTTPAccessLogEntry) -> None:
    tls = entry.common_properties.tls_properties
    tls.tls_sni_hostname = "istio.io"
    names = tls.peer_certificate_properties.subject_alt_name
    names.add().dns = "client.example.com"
    names.add().uri = "spiffe://cluster.local/ns/ns1/sa/client"
    names.add().uri = "spiffe://second"
    tls.local_certificate_properties.subject_alt_name.add().uri = "https://local/id"


def _dns_only(entry: HTTPAccessLogEntry) -> None:
    entry.common_properties.tls_properties.peer_certificate_properties.subject = "CN=dns"


def _one_sided_tls(entry: HTTPAccessLogEntry) -> None:
    entry.common_properties.tls_properties.local_certificate_properties.subject = "CN=server"


def _rbac(entry: HTTPAccessLogEntry) -> None:
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.rbac"].update(
        {"shadow_engine_result": "denied", "shadow_effective_policy_id": "p1", "n": 3}
    )


def _other_filter(entry: HTTPAccessLogEntry) -> None:
    metadata = entry.common_properties.metadata.filter_metadata
    metadata["istio_authn"].update({"principal": "p", "groups": ["a", "b"], "n": 5, "mixed": ["a", 1]})
    metadata["nothing"].update({"n": 5})
    metadata["istio.mixer"].update({"status": "OK"})


def _token(entry: HTTPAccessLogEntry) -> None:
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.jwt_authn"].update(
        {"jwt_payload": {"iss": "i", "sub": "s", "aud": ["a1", "a2"], "azp": "z", "exp": 20000000000, "x": "y"}}
    )


def _tags(entry: HTTPAccessLogEntry) -> None:
    tags = entry.common_properties.custom_tags
    tags["dest.uid"] = "kubernetes://pod9.ns9"
    tags["conn"] = "0"
    tags["destination.service.host"] = "reviews"
    tags["destination.labels[app]"] = "reviews"
    tags["a.number:int64"] = "5"


SINGLE = {
    "trailers over headers": (
        _trailers,
        {
            "response.headers": {":status": "t", "grpc-status": "0"},
            "response.grpc_status": "0",
            "response.grpc_message": "",
        },
    ),
    "grpc status without a message": (_status_only, {"response.grpc_status": "14", "response.grpc_message": ""}),
    "a number beyond 64 bits": (_huge, {"request.size": (1 << 63) - 1, "request.total_size": (1 << 63) - 1}),
    "a pipe": (_pipe, {"origin.ip": None}),
    "IPv6": (_v6, {"origin.ip": bytes(15) + b"\x01"}),
    "no host was chosen": (_no_upstream, {"destination.ip": bytes((10, 0, 0, 1)), "destination.port": 15006}),
    "the route changed the path": (_rewritten, {"request.path": "/before", "request.query_params": None}),
    "a method of its own": (_custom_method, {"request.method": "PROPFIND"}),
    "mutual TLS": (
        _mtls,
        {
            "connection.mtls": True,
            "connection.requested_server_name": "istio.io",
            "source.principal": "cluster.local/ns/ns1/sa/client",
            "source.user": "cluster.local/ns/ns1/sa/client",
            "source.namespace": "ns1",
            "destination.principal": "https://local/id",
        },
    ),
    "certificate without URI": (_dns_only, {"connection.mtls": True, "source.principal": None}),
    "TLS without client certificate": (_one_sided_tls, {"connection.mtls": False, "destination.principal": None}),
    "RBAC in shadow mode": (
        _rbac,
        {
            "rbac.permissive.response_code": "denied",
            "rbac.permissive.effective_policy_id": "p1",
            "envoy.filters.http.rbac": {"shadow_engine_result": "denied", "shadow_effective_policy_id": "p1"},
        },
    ),
    "another filter": (
        _other_filter,
        {"istio_authn": {"principal": "p", "groups": "a,b"}, "nothing": None, "istio.mixer": None},
    ),
    "a token": (
        _token,
        {
            "request.auth.principal": "i/s",
            "request.auth.audiences": "a1",
            "request.auth.presenter": "z",
            "request.auth.claims": {"iss": "i", "sub": "s", "aud": "a1,a2", "azp": "z", "x": "y"},
        },
    ),
    "tags": (
        _tags,
        {
            "destination.uid": "kubernetes://pod9.ns9",
            "destination.service.host": "reviews",
            "destination.labels": {"app": "reviews"},
            "a.number": 5,
            "conn": None,
        },
    ),
}


@pytest.mark.parametrize(("change", "expected"), SINGLE.values(), ids=SINGLE)
async def test_an_attribute_is_where_the_table_says(change: Any, expected: dict[str, AttributeValue | None]) -> None:
    entry = http_entry()
    change(entry)

    found = await one(entry)

    assert {name: found.get(name) for name in expected} == expected


async def test_outbound_has_no_destination_before_a_host_is_chosen() -> None:
    entry = http_entry()
    _no_upstream(entry)

    assert "destination.ip" not in await one(entry, "outbound_http")


async def test_an_address_that_is_configured_is_not_replaced() -> None:
    client = FakeClient({"inbound_http": {"destination.ip": b"\x01\x02\x03\x04", "destination.uid": "static"}})

    found = await one(http_entry(**{"dest.uid": "endpoint"}), client=client)

    assert found["destination.ip"] == b"\x01\x02\x03\x04"
    assert found["destination.port"] == 8080
    assert found["destination.uid"] == "endpoint"


async def test_a_trace_of_opentelemetry_joins_the_callers() -> None:
    trace, came, left = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "88f4e39ad8fd36a6"
    entry = http_entry(CheckRecord(attributes={"request.headers": {"traceparent": f"00-{trace}-{came}-01"}}))
    entry.request.request_headers["traceparent"] = f"00-{trace}-{left}-01"

    assert (await one(entry))["request.headers"] == {
        "x-user": "bob",
        "traceparent": f"00-{trace}-{came}-01",
        "x-b3-traceid": trace,
        "x-b3-spanid": left,
        "x-b3-parentspanid": came,
        "x-b3-sampled": "1",
    }


# What a real Envoy sent

_NO_CHECK = {"check.cache_hit": None, "quota.cache_hit": None, "check.error_code": None}
_ALLOWED = {"check.cache_hit": True, "check.error_code": None}
_DENIED = {
    "response.code": 403,
    "context.proxy_error_code": "UAEX",
    "check.error_code": 7,
    "check.error_message": "PERMISSION_DENIED:shish",
}
HTTP_LOG: list[tuple[str, dict[str, Any]]] = [
    ("/a/b?x=1", {**_ALLOWED, "response.code": 200, "context.proxy_error_code": "-", "origin.ip": b"\x7f\0\0\1",
                  "request.referer": "http://ref/", "destination.uid": "kubernetes://pod9.ns9"}),
    ("/deny", {**_DENIED, "response.grpc_status": None}),
    ("/deny", {**_DENIED, "context.protocol": "grpc", "response.grpc_status": "7"}),
    ("/rewritten", _ALLOWED),
    ("/direct302", {"response.code": 302, "check.error_code": None, "context.proxy_error_code": "-"}),
    ("/direct200", {"response.code": 200, "check.error_code": None}),
    ("/slow", {**_NO_CHECK, "response.code": 503, "context.proxy_error_code": "UAEX"}),
    ("/post", {**_ALLOWED, "request.size": 1_000_000, "request.total_size": 1_000_333}),
    ("/refused", {**_ALLOWED, "response.code": 503, "context.proxy_error_code": "UF", "destination.port": 19199}),
    ("/nocluster", {"response.code": 503, "context.proxy_error_code": "NC"}),
    ("/hang", {"response.code": 504, "context.proxy_error_code": "UT"}),
    ("/reset", {"response.code": 503, "context.proxy_error_code": "UC"}),
    ("/x/hang", {"response.code": 500, "context.proxy_error_code": "DC", "response.headers": None}),
    ("", {**_NO_CHECK, "response.code": 400, "context.proxy_error_code": "DPE", "request.method": None}),
    ("/tp", {"request.path": "/tp"}),
]  # fmt: skip


async def test_the_requests_of_a_real_envoy_give_these_records() -> None:
    found = await logged(*recorded("inbound_http"))

    assert [record["request.path"] for record in found] == [path for path, _ in HTTP_LOG]
    for record, (_, expected) in zip(found, HTTP_LOG, strict=True):
        assert {name: record.get(name) for name in expected} == expected
    headers = found[-1]["request.headers"]
    assert isinstance(headers, dict)
    assert headers["x-b3-traceid"] == "0af7651916cd43dd8448eb211c80319c"


async def test_tls_of_a_real_envoy() -> None:
    by_uri, by_dns = await logged(*recorded("inbound_https"))

    assert by_uri["source.principal"] == "cluster.local/ns/ns1/sa/client"
    assert by_uri["source.namespace"] == "ns1"
    assert by_uri["destination.principal"] == "cluster.local/ns/ns2/sa/server"
    assert by_uri["connection.requested_server_name"] == "istio.io"
    assert by_uri["connection.mtls"] is by_dns["connection.mtls"] is True
    assert "source.principal" not in by_dns


async def test_an_earlier_filter_of_a_real_envoy_that_answers() -> None:
    (found,) = await logged(*recorded("inbound_fault"))

    assert found["context.proxy_error_code"] == "FI"
    assert found["response.code"] == 503
    assert "check.cache_hit" not in found
