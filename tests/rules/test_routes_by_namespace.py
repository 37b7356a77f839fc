"""Routes: what each namespace sees, and nothing else. Source: spec runtime 2.2 and 3.9."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters import noop
from mixer.adapters.base import AdapterInfo
from mixer.adapters.loading import by_name
from mixer.attributes import Condition, MappingBag, TrackingBag
from mixer.rules.build import SnapshotBuilder
from mixer.rules.routes import request_namespace
from mixer.rules.snapshot import Snapshot
from mixer.store import Resource, ResourceKey, StoreContents
from mixer.templates import TEMPLATES

DEFAULT = "istio-system"
NAMESPACES = [DEFAULT, "a", "b", "c", "d"]
VARIETIES = {"checknothing": "checks", "metric": "reports", "kubernetes": "generators"}


def build(rules: list[tuple[str, str, bool]]) -> Snapshot:
    """A snapshot of rules, each in a namespace, for a template, with or without a header operation."""
    spec = {"compiledAdapter": "anything"}
    every = AdapterInfo("anything", tuple(TEMPLATES.values()), noop.INFO.params, noop.INFO.build)
    resources = [Resource(ResourceKey("handler", DEFAULT, "h"), spec)]
    resources += [
        Resource(ResourceKey("instance", DEFAULT, template), {"compiledTemplate": template})
        for template in (*VARIETIES, "quota")
    ]
    for number, (namespace, template, header) in enumerate(rules):
        headers: list[Any] = [{"name": "x", "values": ['"1"']}] if header else []
        action = {"handler": f"h.{DEFAULT}", "instances": [f"{template}.{DEFAULT}"]}
        key = ResourceKey("rule", namespace, f"r{number}")
        resources.append(Resource(key, {"actions": [action], "requestHeaderOperations": headers}))
    snapshot = SnapshotBuilder(by_name([every])).build(StoreContents({r.key: r for r in resources}))
    assert not snapshot.problems
    return snapshot


rule_sets = st.lists(
    st.tuples(st.sampled_from(NAMESPACES), st.sampled_from([*VARIETIES, "quota"]), st.booleans()), max_size=25
)


@given(rule_sets)
def test_namespace_sees_the_common_rules_and_its_own_in_order(rules: list[tuple[str, str, bool]]) -> None:
    """No namespace ever sees a rule of another one, however many there are (the original mixed them up)."""
    table = build(rules).routes

    for namespace in [*NAMESPACES, "without-rules", ""]:
        routes = table.of(namespace)
        visible = [(n, rule) for n, rule in enumerate(rules) if rule[0] == DEFAULT]
        if namespace != DEFAULT:
            visible += [(n, rule) for n, rule in enumerate(rules) if rule[0] == namespace]
        for template, field in VARIETIES.items():
            listed = routes.reports if field == "reports" else getattr(routes, field).things
            found = [route.rule.key.name for route in listed]
            assert found == [f"r{n}" for n, (_, t, _) in visible if t == template]
        quotas = routes.quotas.get("quota")
        found = [route.rule.key.name for route in quotas.things] if quotas else []
        assert found == [f"r{n}" for n, (_, t, _) in visible if t == "quota"]
        found = [directive.rule.key.name for directive in routes.directives.things]
        assert found == [f"r{n}" for n, (_, _, header) in visible if header]


ABSENT, EXACT = Condition.ABSENCE, Condition.EXACT


@pytest.mark.parametrize(
    ("attributes", "namespace", "read"),
    [
        ({}, "", {"context.reporter.kind": ABSENT, "destination.namespace": ABSENT}),
        ({"destination.namespace": "a"}, "a", {"context.reporter.kind": ABSENT, "destination.namespace": EXACT}),
        (
            {"context.reporter.kind": "inbound", "destination.namespace": "a"},
            "a",
            {"context.reporter.kind": EXACT, "destination.namespace": EXACT},
        ),
        (
            {"context.reporter.kind": "outbound", "source.namespace": "b", "destination.namespace": "a"},
            "b",
            {"context.reporter.kind": EXACT, "source.namespace": EXACT},
        ),
        ({"context.reporter.kind": "outbound"}, "", {"context.reporter.kind": EXACT, "source.namespace": ABSENT}),
        ({"context.reporter.kind": "local", "destination.namespace": "a"}, "", {"context.reporter.kind": EXACT}),
        ({"context.reporter.kind": "", "destination.namespace": "a"}, "", {"context.reporter.kind": EXACT}),
        (
            {"context.reporter.kind": 1, "destination.namespace": b"a"},
            "",
            {"context.reporter.kind": EXACT, "destination.namespace": EXACT},
        ),
    ],
    ids=["nothing", "by default", "inbound", "outbound", "outbound of nowhere", "local", "empty kind", "wrong types"],
)
def test_namespace_of_a_request_and_what_is_read_for_it(
    attributes: dict[str, Any], namespace: str, read: dict[str, Condition]
) -> None:
    bag = TrackingBag(MappingBag(attributes))

    assert request_namespace(bag) == namespace
    assert bag.referenced == {(name, ""): condition for name, condition in read.items()}
