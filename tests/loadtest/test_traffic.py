from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import encoded
from loadtest.mesh import Mesh
from loadtest.scenario import Scenario
from loadtest.traffic import Traffic
from mixer.api.decode import decode_check, decode_report_bytes, parse_check
from mixer.api.messages import ReportRequest
from mixer.attributes import AttributeValue

SMALL = Scenario(services=6, label_sets=60, batch=10)

LABELS = (
    "context.reporter.kind",
    "source.workload.name",
    "destination.workload.name",
    "context.protocol",
    "response.code",
    "context.proxy_error_code",
)


def records(scenario: Scenario, batches: int) -> list[dict[str, AttributeValue]]:
    return [record for batch in Traffic(scenario).batches(batches) for record in batch]


def label_sets(bodies: tuple[bytes, ...]) -> set[tuple[object, ...]]:
    bags = [bag for body in bodies for bag in decode_report_bytes(body).bags]
    return {tuple(bag.get(name) for name in LABELS) for bag in bags}


def test_traffic_is_the_same_for_the_same_seed() -> None:
    assert records(SMALL, 5) == records(SMALL, 5)
    assert list(Traffic(SMALL).requests(20)) == list(Traffic(SMALL).requests(20))


def test_traffic_differs_for_another_seed() -> None:
    assert records(SMALL, 5) != records(replace(SMALL, seed=2), 5)


def test_reports_decode_to_the_records_that_they_were_made_of() -> None:
    bodies = encoded.reports(SMALL, batches=8).bodies
    decoded = [bag for body in bodies for bag in decode_report_bytes(body).bags]
    assert [{name: bag.get(name) for name in bag.names()} for bag in decoded] == records(SMALL, 8)


def test_checks_decode_to_the_requests_that_they_were_made_of() -> None:
    bags = [decode_check(parse_check(body)) for body in encoded.checks(SMALL, count=30).bodies]
    assert [{name: bag.get(name) for name in bag.names()} for bag in bags] == list(Traffic(SMALL).requests(30))


def test_reports_share_one_dictionary() -> None:
    request = ReportRequest.FromString(encoded.reports(SMALL, batches=1).bodies[0])
    assert request.default_words
    assert not any(message.words for message in request.attributes)
    assert request.repeated_attributes_semantics == ReportRequest.INDEPENDENT_ENCODING


@settings(max_examples=15)
@given(
    services=st.integers(4, 30),
    sets=st.integers(1, 400),
    repeats=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 99),
)
def test_reports_show_as_many_label_sets_as_asked_for(services: int, sets: int, repeats: float, seed: int) -> None:
    scenario = Scenario(services=services, label_sets=sets, repeats=repeats, seed=seed, batch=20)
    edges = {edge for proxy in Mesh(scenario).proxies for edge in proxy.edges}
    assert len(edges) == sets
    assert len(label_sets(encoded.reports(scenario).bodies)) == sets


def test_a_mesh_too_small_for_its_label_sets_is_refused() -> None:
    with pytest.raises(ValueError, match="larger mesh"):
        Mesh(Scenario(services=2, versions=1, label_sets=1000))


def test_a_batch_comes_from_one_proxy() -> None:
    for batch in Traffic(SMALL).batches(12):
        assert len({(record["context.reporter.uid"], record["context.reporter.kind"]) for record in batch}) == 1


def test_requests_are_inbound_http_without_an_answer() -> None:
    for request in Traffic(replace(SMALL, tcp_share=0.5)).requests(50):
        assert request["context.reporter.kind"] == "inbound"
        assert request["context.protocol"] in ("http", "grpc")
        assert not any(name.startswith("response.") for name in request)


def test_records_are_of_the_size_that_sidecars_send() -> None:
    http = [record for record in records(SMALL, 10) if record["context.protocol"] == "http"]
    assert all(40 <= len(record) <= 50 for record in http)


def test_headers_have_about_the_size_asked_for() -> None:
    for size in (1000, 4000):
        for record in records(replace(SMALL, header_bytes=size, tcp_share=0), 3):
            maps = (record["request.headers"], record["response.headers"])
            total = sum(len(key) + len(value) for headers in maps for key, value in headers.items())  # type: ignore[union-attr]
            assert abs(total - size) < 250


def test_repeated_checks_are_few_and_cold_ones_all_differ() -> None:
    assert len(set(encoded.repeated_checks(SMALL, distinct=4, count=40).bodies)) == 4
    assert len(set(encoded.checks(SMALL, count=200).bodies)) == 200


def test_quota_checks_ask_for_one_unit_each_under_their_own_id() -> None:
    requests = [parse_check(body) for body in encoded.quota_checks(SMALL, count=10).bodies]
    assert [list(request.quotas) for request in requests] == [[encoded.QUOTA_NAME]] * 10
    assert len({request.deduplication_id for request in requests}) == 10


def test_clients_share_the_requests_without_overlap() -> None:
    whole = encoded.checks(SMALL, count=11)
    parts = [whole.part(number, 3).bodies for number in range(3)]
    assert sorted(body for part in parts for body in part) == sorted(whole.bodies)


def test_clients_that_are_more_than_the_requests_get_all_of_them() -> None:
    whole = encoded.checks(SMALL, count=2)
    assert whole.part(2, 3).bodies == whole.bodies
