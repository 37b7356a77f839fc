"""The objects of the walkthrough that users come from are read as they are written, with the right lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixer.store import FileStore, Resource, ResourceKey

SEED = Path(__file__).parents[1] / "seed"


@pytest.fixture
async def seed() -> dict[ResourceKey, Resource]:
    contents = await FileStore(SEED).load()
    assert contents.problems == ()
    return dict(contents.resources)


def named(seed: dict[ResourceKey, Resource], kind: str, name: str) -> Resource:
    return seed[ResourceKey(kind, "istio-system", name)]


def test_all_are_there(seed: dict[ResourceKey, Resource]) -> None:
    assert {str(key) for key in seed} == {
        "promhttp.rule.istio-system",
        "requestcount.metric.istio-system",
        "prometheus.handler.istio-system",
        "newlog.logentry.istio-system",
        "handler.fluentd.istio-system",
        "newlogtofluentd.rule.istio-system",
    }


def test_wrapped_match_is_one_line_again(seed: dict[ResourceKey, Resource]) -> None:
    rule = named(seed, "rule", "promhttp")

    assert rule.spec["match"] == (
        '(context.protocol == "http" || context.protocol == "grpc")'
        ' && (match((request.useragent | "-"), "kube-probe*") == false)'
    )
    assert rule.origin_of(("spec", "match")).line == 13
    assert rule.spec["actions"][0]["instances"][3] == "responsesize.metric"
    assert rule.origin_of(("spec", "actions", 0, "instances", 3)).line == 12


def test_quoted_one_stays_text(seed: dict[ResourceKey, Resource]) -> None:
    metric = named(seed, "metric", "requestcount")

    assert metric.spec["value"] == "1"
    assert metric.spec["dimensions"]["connection_security_policy"] == (
        'conditional((context.reporter.kind | "inbound") == "outbound", "unknown",'
        ' conditional(connection.mtls | false, "mutual_tls", "none"))'
    )
    assert metric.origin_of(("spec", "dimensions", "destination_app")).line == 10


def test_fields_are_found_in_either_spelling(seed: dict[ResourceKey, Resource]) -> None:
    handler = named(seed, "handler", "prometheus")

    assert handler.spec["params"]["metrics"][0]["instance_name"] == "requestcount.metric.istio-system"
    assert handler.origin_of(("spec", "params", "metrics", 0, "instanceName")).line == 10


def test_three_documents_of_one_file_keep_their_lines(seed: dict[ResourceKey, Resource]) -> None:
    log, fluentd, rule = (
        named(seed, "logentry", "newlog"),
        named(seed, "fluentd", "handler"),
        named(seed, "rule", "newlogtofluentd"),
    )

    assert [(r.origin.document, r.origin.line) for r in (log, fluentd, rule)] == [(0, 2), (1, 20), (2, 29)]
    assert log.spec["severity"] == '"info"'
    assert log.origin_of(("spec", "variables", "latency")).line == 16
    assert fluentd.origin_of(("spec", "address")).line == 26
    assert rule.spec == {"match": "true", "actions": [{"handler": "handler.fluentd", "instances": ["newlog.logentry"]}]}
