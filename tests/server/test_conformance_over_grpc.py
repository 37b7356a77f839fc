"""Observed behaviour of the original, over the wire. Source: spec runtime 10."""

from __future__ import annotations

from typing import Any

import aiohttp
import grpc
import pytest

from mixer.api import messages
from mixer.api.encode import encode_check, encode_report
from mixer.api.referenced import decode_referenced

DENIERS = """
kind: handler
metadata: {name: d7, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: seven}, validDuration: 7s, validUseCount: 11}}
---
kind: denier
metadata: {name: d5, namespace: istio-system}
spec: {status: {code: 5, message: five}, validDuration: 3s, validUseCount: 30}
---
kind: handler
metadata: {name: agree, namespace: istio-system}
spec: {compiledAdapter: noop}
---
kind: instance
metadata: {name: nothing, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: r7, namespace: istio-system}
spec:
  match: match(request.path, "/seven*") || request.path == "/both"
  actions: [{handler: d7, instances: [nothing]}]
---
kind: rule
metadata: {name: r5, namespace: istio-system}
spec:
  match: match(request.path, "/five*") || request.path == "/both"
  actions: [{handler: d5.denier, instances: [nothing]}]
---
kind: rule
metadata: {name: agree, namespace: istio-system}
spec:
  match: request.path == "/agree"
  actions: [{handler: agree, instances: [nothing]}]
"""

NAMESPACED = """
kind: handler
metadata: {name: deny, namespace: bookinfo}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: here}}}
---
kind: instance
metadata: {name: nothing, namespace: bookinfo}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: bookinfo}
spec: {actions: [{handler: deny, instances: [nothing]}]}
"""

QUOTA = """
kind: handler
metadata: {name: mq, namespace: istio-system}
spec:
  compiledAdapter: memquota
  params: {quotas: [{name: rc.instance.istio-system, maxAmount: 5}]}
---
kind: instance
metadata: {name: rc, namespace: istio-system}
spec: {compiledTemplate: quota, params: {dimensions: {user: 'source.user | "none"'}}}
---
kind: rule
metadata: {name: rc, namespace: istio-system}
spec:
  match: request.path == "/limited"
  actions: [{handler: mq, instances: [rc]}]
"""


async def check(
    mixer: Any, quotas: dict[str, tuple[int, bool]] | None = None, dedup: str = "", **attributes: Any
) -> Any:
    params = {n: messages.QuotaParams(amount=a, best_effort=b) for n, (a, b) in (quotas or {}).items()}
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return await mixer.stub.Check(encode_check(named, quotas=params, deduplication_id=dedup))


def told(response: Any) -> tuple[int, str, int, int]:
    p = response.precondition
    return p.status.code, p.status.message, p.valid_duration.seconds, p.valid_use_count


def references(response: Any) -> set[str]:
    found = decode_referenced(response.precondition.referenced_attributes)
    return {f"{c.name} {name}" + (f"[{key}]" if key else "") for (name, key), c in found.items()}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/seven", (7, "d7.istio-system:seven", 7, 11), id="1: uniform handler"),
        pytest.param("/five", (5, "d5.denier.istio-system:five", 3, 30), id="2: legacy handler"),
        pytest.param("/both", (7, "d7.istio-system:seven, d5.denier.istio-system:five", 3, 11), id="3: both"),
        pytest.param("/agree", (0, "", 1_000_000_000, 1_000_000_000), id="5: noop"),
        pytest.param("/other", (0, "", 60, 10_000), id="nobody objects"),
    ],
)
async def test_check_answers_as_the_original(start_mixer: Any, path: str, expected: tuple[Any, ...]) -> None:
    mixer = await start_mixer(DENIERS)

    response = await check(mixer, request__path=path)

    assert told(response) == expected
    assert references(response) == {
        "ABSENCE context.reporter.kind",
        "ABSENCE destination.namespace",
        "EXACT request.path",
    }


async def test_check_without_attributes_is_ok(start_mixer: Any) -> None:
    mixer = await start_mixer(DENIERS)

    response = await check(mixer)

    assert told(response) == (0, "", 60, 10_000)
    assert "ABSENCE request.path" in references(response)


async def test_an_instance_that_cannot_be_built_is_internal(start_mixer: Any) -> None:
    mixer = await start_mixer(
        """
kind: handler
metadata: {name: lc, namespace: istio-system}
spec: {compiledAdapter: listchecker, params: {overrides: [a]}}
---
kind: instance
metadata: {name: le, namespace: istio-system}
spec: {compiledTemplate: listentry, params: {value: source.user}}
---
kind: rule
metadata: {name: le, namespace: istio-system}
spec: {actions: [{handler: lc, instances: [le]}]}
"""
    )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(mixer)

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == (
        "performing check operation failed: 1 error occurred:\n\t* "
        "evaluation failed at [le.instance.istio-system]'Value': 'lookup failed: 'source.user''\n\n"
    )


@pytest.mark.parametrize(
    ("attributes", "denied"),
    [
        ({}, False),
        ({"destination__namespace": "bookinfo"}, True),
        ({"context__reporter__kind": "inbound", "destination__namespace": "bookinfo"}, True),
        ({"context__reporter__kind": "outbound", "source__namespace": "bookinfo"}, True),
        ({"context__reporter__kind": "outbound", "destination__namespace": "bookinfo"}, False),
        ({"context__reporter__kind": "local", "destination__namespace": "bookinfo"}, False),
    ],
)
async def test_rules_apply_to_requests_of_their_namespace(start_mixer: Any, attributes: Any, denied: bool) -> None:
    mixer = await start_mixer(NAMESPACED)

    response = await check(mixer, **attributes)

    assert response.precondition.status.code == (7 if denied else 0)


async def test_rules_of_the_default_namespace_apply_everywhere(start_mixer: Any) -> None:
    mixer = await start_mixer(NAMESPACED.replace("bookinfo", "istio-system"))

    assert (await check(mixer, destination__namespace="bookinfo")).precondition.status.code == 7


async def test_header_operations_come_in_order_and_empty_values_are_left_out(start_mixer: Any) -> None:
    mixer = await start_mixer(
        """
kind: rule
metadata: {name: headers, namespace: istio-system}
spec:
  requestHeaderOperations:
  - {name: x-user, operation: REPLACE, values: ['source.user | ""']}
  - {name: x-tag, operation: APPEND, values: ['"a"', '"b"']}
  - {name: x-secret, operation: REMOVE}
  responseHeaderOperations:
  - {name: x-answered-by, values: [destination.service.host]}
"""
    )

    response = await check(mixer, destination__service__host="ratings")

    directive = response.precondition.route_directive
    assert [(o.operation, o.name, o.value) for o in directive.request_header_operations] == [
        (messages.HeaderOperation.APPEND, "x-tag", "a"),
        (messages.HeaderOperation.APPEND, "x-tag", "b"),
        (messages.HeaderOperation.REMOVE, "x-secret", ""),
    ]
    assert [(o.name, o.value) for o in directive.response_header_operations] == [("x-answered-by", "ratings")]
    assert told(response) == (0, "", 60, 10_000)
    assert {"ABSENCE source.user", "EXACT destination.service.host"} <= references(response)


async def test_quotas_are_granted_refused_and_remembered(start_mixer: Any) -> None:
    mixer = await start_mixer(QUOTA)

    async def take(amount: int, best_effort: bool = False, dedup: str = "") -> int:
        response = await check(mixer, {"RC": (amount, best_effort)}, dedup, request__path="/limited")
        return response.quotas["RC"].granted_amount

    granted = [
        await take(3, dedup="x"),
        await take(3, dedup="x"),
        await take(3, dedup="y"),
        await take(3, best_effort=True, dedup="z"),
        await take(1, best_effort=True, dedup="u"),
        await take(1, dedup="v"),
    ]

    assert granted == [3, 3, 0, 2, 0, 0]


@pytest.mark.parametrize(
    ("name", "attributes", "amount"),
    [
        pytest.param("nobody", {"request__path": "/limited"}, 3, id="11: not configured"),
        pytest.param("rc", {"request__path": "/other"}, 9, id="13: rule does not match"),
        pytest.param("rc", {}, 9, id="13: match cannot be evaluated"),
        pytest.param("rc.instance.istio-system", {"request__path": "/limited"}, 9, id="14: full names do not count"),
    ],
)
async def test_a_quota_that_nobody_keeps_is_free_for_a_minute(
    start_mixer: Any, name: str, attributes: Any, amount: int
) -> None:
    mixer = await start_mixer(QUOTA)

    response = await check(mixer, {name: (amount, False)}, **attributes)

    entry = response.quotas[name]
    assert (entry.granted_amount, entry.valid_duration.seconds, entry.status.code) == (amount, 60, 0)


async def test_a_denied_request_takes_no_quota(start_mixer: Any) -> None:
    mixer = await start_mixer(DENIERS)

    response = await check(mixer, {"rc": (1, False)}, request__path="/seven")

    assert not response.quotas


METRIC = """
kind: instance
metadata: {name: seen, namespace: istio-system}
spec:
  compiledTemplate: metric
  params:
    value: request.size | 0
    dimensions: {user: 'source.user | "none"', path: request.path}
---
kind: handler
metadata: {name: prom, namespace: istio-system}
spec:
  compiledAdapter: prometheus
  params:
    metrics: [{name: seen, instance_name: seen.instance.istio-system, kind: COUNTER, label_names: [user, path]}]
---
kind: rule
metadata: {name: seen, namespace: istio-system}
spec: {actions: [{handler: prom, instances: [seen]}]}
"""


async def samples(mixer: Any, name: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(mixer.url("metrics-port", "/metrics")) as page:
        lines = (await page.text()).splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{")}


@pytest.mark.parametrize(
    ("delta", "second"),
    [
        (False, ('istio_seen{path="p2",user="none"}', 0.0)),
        (True, ('istio_seen{path="p2",user="a"}', 1.0)),
    ],
    ids=["independent", "delta"],
)
async def test_records_stand_alone_or_build_on_each_other(start_mixer: Any, delta: bool, second: Any) -> None:
    mixer = await start_mixer(METRIC)
    request = encode_report(
        [
            {"request.path": "p1", "source.user": "a", "request.size": 1},
            {"request.path": "p2", **({"source.user": "a", "request.size": 1} if delta else {})},
        ],
        delta=delta,
    )

    await mixer.stub.Report(request)

    assert await samples(mixer, "istio_seen") == {'istio_seen{path="p1",user="a"}': 1.0, second[0]: second[1]}


async def test_a_record_that_cannot_be_reported_costs_only_itself(start_mixer: Any) -> None:
    mixer = await start_mixer(METRIC)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mixer.stub.Report(
            encode_report(
                [
                    {"request.path": "p1", "request.size": 1},
                    {"request.size": 1},
                    {"request.path": "p3", "request.size": 1},
                ]
            )
        )

    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert caught.value.details() == (
        "1 error occurred:\n\t* evaluation failed at [seen.instance.istio-system]'Dimensions[path]': "
        "'lookup failed: 'request.path''\n\n"
    )
    assert set(await samples(mixer, "istio_seen")) == {
        'istio_seen{path="p1",user="none"}',
        'istio_seen{path="p3",user="none"}',
    }


async def test_a_malformed_record_costs_only_itself(start_mixer: Any) -> None:
    mixer = await start_mixer(METRIC)
    request = encode_report([{"request.path": "p1", "request.size": 1}, {"request.path": "p2"}, {"request.path": "p3"}])
    request.attributes[1].strings[-70] = 3

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mixer.stub.Report(request)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "-70" in caught.value.details()
    assert "record 1" in caught.value.details()
    assert set(await samples(mixer, "istio_seen")) == {
        'istio_seen{path="p1",user="none"}',
        'istio_seen{path="p3",user="none"}',
    }


async def test_a_delta_record_that_fails_leaves_no_trace(start_mixer: Any) -> None:
    mixer = await start_mixer(METRIC)
    request = encode_report([{"request.path": "p1", "request.size": 1}], delta=True)
    bad = request.attributes.add()
    bad.int64s[23] = 7  # request.size
    bad.strings[-99] = 3
    request.attributes.add().strings[6] = 91  # source.user = POST

    with pytest.raises(grpc.aio.AioRpcError):
        await mixer.stub.Report(request)

    assert await samples(mixer, "istio_seen") == {
        'istio_seen{path="p1",user="none"}': 1.0,
        'istio_seen{path="p1",user="POST"}': 1.0,
    }


async def test_a_client_with_more_global_words_loses_only_those(start_mixer: Any) -> None:
    mixer = await start_mixer(DENIERS)
    request = encode_check({"request.path": "/seven"})
    request.global_word_count = 5_000
    request.attributes.strings[4_000] = 3
    request.attributes.strings[6] = 4_001  # source.user = a word that we do not know

    response = await mixer.stub.Check(request)

    assert told(response)[0] == 7
    async with aiohttp.ClientSession() as session, session.get(mixer.url("monitoring-port", "/metrics")) as page:
        assert "mixer_api_unknown_words_total 2.0" in await page.text()


async def test_a_faulty_index_is_an_invalid_argument(start_mixer: Any) -> None:
    mixer = await start_mixer(DENIERS)
    request = encode_check({"request.path": "/seven"})
    request.attributes.strings[2] = -17

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mixer.stub.Check(request)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "-17" in caught.value.details()


async def test_an_empty_report_is_ok(start_mixer: Any) -> None:
    mixer = await start_mixer(METRIC)

    assert await mixer.stub.Report(messages.ReportRequest()) == messages.ReportResponse()
