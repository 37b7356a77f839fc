from __future__ import annotations

from typing import Any

import pytest

from mixer.attributes import MappingBag
from mixer.store import Resource, ResourceKey, Severity
from mixer.store.protojson import decode
from proxy.client import SidecarClient, SpecBuilder, SpecIndex
from proxy.client.quotaspec import QuotaRules, QuotaSpec, requirements
from tests.proxy.client.fakes import FakeMixer, answer, ask, bag_of, config, granted


def rules(*specs: dict[str, Any]) -> QuotaRules:
    found = []
    for data in specs:
        spec, faults = decode(QuotaSpec, data)
        assert spec is not None, faults
        found.append(spec)
    return QuotaRules(found)


def rule(match: list[dict[str, Any]] | None = None, **charges: int) -> dict[str, Any]:
    quotas = [{"quota": name, "charge": charge} for name, charge in charges.items()]
    return {"match": [{"clause": clause} for clause in match or []], "quotas": quotas}


@pytest.mark.parametrize(
    ("bag", "expected"),
    [
        ({"request.http_method": "POST", "request.path": "/books", "api.operation": "x"}, {}),
        ({"request.http_method": "GET", "request.path": "/books/1"}, {"q": 5}),
        ({"api.operation": "get_books"}, {"q": 5}),
        ({}, {}),
    ],
    ids=["no match", "exact and prefix", "api only", "nothing"],
)
def test_rule_applies_when_all_clauses_of_any_match_hold(bag: dict[str, Any], expected: dict[str, int]) -> None:
    """Scenario 44."""
    matches = [
        {"request.http_method": {"exact": "GET"}, "request.path": {"prefix": "/books"}},
        {"api.operation": {"exact": "get_books"}},
    ]
    assert requirements([rules({"rules": [rule(matches, q=5)]})], MappingBag(bag)) == expected


@pytest.mark.parametrize(
    ("clause", "value", "expected"),
    [
        ({"regex": "/shelves/.*/books"}, "/shelves/10/books", True),
        ({"regex": "/shelves/.*/books"}, "/shelves/1/bar", False),
        ({"regex": "/shelves/.*/books"}, "/shelves/10/books/1", False),
        ({"regex": "a|ab"}, "ab", True),
        ({"regex": "a.c"}, "a\udcffc", True),
        ({"regex": "."}, 1, False),
        ({"exact": "1"}, 1, False),
        ({"exact": "1"}, b"1", False),
        ({}, "", True),
        ({}, 1, False),
        ({}, {}, False),
    ],
)  # fmt: skip
def test_clause_needs_a_text_and_regex_matches_all_of_it(clause: dict[str, Any], value: Any, expected: bool) -> None:
    found = requirements([rules({"rules": [rule([{"a": clause}], q=1)]})], MappingBag({"a": value}))
    assert bool(found) is expected


def test_charges_of_one_name_are_summed_over_rules_and_specs() -> None:
    one = {"rules": [rule(a=1, b=2), rule([{"x": {}}], a=10), rule(a=100)]}
    assert requirements([rules(one), rules({"rules": [rule(b=1000)]})], MappingBag({})) == {"a": 101, "b": 1002}


def resource(kind: str, name: str, spec: dict[str, Any], namespace: str = "ns") -> Resource:
    return Resource(ResourceKey(kind, namespace, name), spec)


def binding(*services: dict[str, Any], specs: Any = ({"name": "s"},)) -> Resource:
    return resource("QuotaSpecBinding", "b", {"services": list(services), "quotaSpecs": list(specs)})


SPEC = resource("QuotaSpec", "s", {"rules": [rule(q=1)]})


@pytest.mark.parametrize(
    ("service", "host", "expected"),
    [
        ({"service": "*"}, "myhost.ns.cluster.local", True),
        ({"service": "*.ns.*"}, "myhost.ns.cluster.local", True),
        ({"service": "*.ns2.*"}, "myhost.ns.cluster.local", False),
        ({"service": "other.ns.cluster.local"}, "myhost.ns.cluster.local", False),
        ({"service": "ns.*.svc.cluster"}, "myhost.ns.cluster.local", False),
        ({"service": "myhost.ns.cluster.local"}, "myhost.ns.cluster.local", True),
        ({"name": "a"}, "a.ns.svc.cluster.local", True),
        ({"name": "a"}, "a.other.svc.cluster.local", False),
        ({"name": "a", "namespace": "other"}, "a.other.svc.cluster.local", True),
        ({"name": "a", "domain": "example.com"}, "a.ns.example.com", True),
        ({"service": "*"}, "", True),
    ],
)
def test_binding_matches_hosts(service: dict[str, Any], host: str, expected: bool) -> None:
    """Scenario 45."""
    index, problems = SpecIndex.build([SPEC, binding(service)])
    assert bool(index.of(host).rules) is expected
    assert [p.severity for p in problems] == [Severity.WARNING] * (service == {"service": "ns.*.svc.cluster"})


def test_dangling_reference_is_a_warning_and_the_rest_holds() -> None:
    index, (problem,) = SpecIndex.build([SPEC, binding({"service": "*"}, specs=({"name": "no"}, {"name": "s"}))])
    assert (problem.severity, problem.field) == (Severity.WARNING, "spec.quotaSpecs[0]")
    assert problem.message == "there is no QuotaSpec no in ns"
    assert len(index.of("x").rules) == 1


@pytest.mark.parametrize(
    ("service", "field", "expected"),
    [
        ({}, "spec.services[0]", "one of name, service"),
        ({"name": "a", "service": "b"}, "spec.services[0]", "one of name, service"),
        ({"service": "a", "namespace": "b"}, "spec.services[0]", "no namespace and no domain beside it"),
        ({"service": "a", "domain": "b"}, "spec.services[0]", "no namespace and no domain beside it"),
        ({"name": "A_b"}, "spec.services[0].name", "at most 63 of a-z, 0-9 and '-', which does not begin or end it"),
        ({"name": "a", "namespace": "-"}, "spec.services[0].namespace", "at most 63 of a-z, 0-9 and '-', which does not begin or end it"),
        ({"service": ""}, "spec.services[0].service", "a text"),
    ],
)  # fmt: skip
def test_faulty_service_is_refused_with_its_binding(service: dict[str, Any], field: str, expected: str) -> None:
    index, (problem,) = SpecIndex.build([SPEC, binding(service)])
    assert (problem.severity, problem.field, problem.expected) == (Severity.ERROR, field, expected)
    assert problem.resource == ResourceKey("QuotaSpecBinding", "ns", "b")
    assert not index


def test_binding_needs_services_and_specs() -> None:
    _, problems = SpecIndex.build([resource("QuotaSpecBinding", "b", {"services": []})])
    assert {(p.field, p.message) for p in problems} == {
        ("spec.services", "is empty"),
        ("spec.quotaSpecs", "required field is missing"),
    }


def test_faulty_spec_is_named_and_left_out() -> None:
    bad = resource("QuotaSpec", "bad", {"rules": [rule([{"a": {"regex": "*"}}], q=1)]})
    index, problems = SpecIndex.build([bad, SPEC, binding({"service": "*"}, specs=({"name": "bad"}, {"name": "s"}))])
    assert str(problems[0]).startswith("error: bad.QuotaSpec.ns: spec.rules[0].match[0].clause.a.regex: not a regular")
    assert problems[1].severity is Severity.WARNING
    assert len(index.of("x").rules) == 1


def test_spec_that_becomes_faulty_goes_on_in_its_last_good_version() -> None:
    builder, everywhere = SpecBuilder(), binding({"service": "*"})
    builder.build([SPEC, everywhere])
    faulty = resource("QuotaSpec", "s", {"rules": 7})

    for _ in range(2):
        index, problems = builder.build([faulty, everywhere])
        assert len(index.of("x").rules) == 1
        assert [(p.severity, p.resource) for p in problems] == [(Severity.ERROR, faulty.key)]

    index, _ = builder.build([everywhere])
    assert not index.of("x").rules
    index, _ = builder.build([faulty, everywhere])
    assert not index.of("x").rules  # deleted is forgotten


def test_binding_that_becomes_faulty_goes_on_in_its_last_good_version() -> None:
    builder = SpecBuilder()
    builder.build([SPEC, binding({"service": "a.ns"})])

    index, problems = builder.build([SPEC, resource("QuotaSpecBinding", "b", {"services": []})])

    assert [len(index.of(host).rules) for host in ("a.ns", "b.ns")] == [1, 0]
    assert {p.field for p in problems} == {"spec.services", "spec.quotaSpecs"}


def test_specs_hold_once_and_in_the_order_of_their_keys() -> None:
    specs = [resource("QuotaSpec", name, {"rules": [rule(**{name: 1})]}) for name in ("z", "a")]
    index, _ = SpecIndex.build([*specs, *(binding({"service": "*"}, specs=[{"name": n} for n in "zaz"]),) * 2])
    assert list(requirements(index.of("h").rules, MappingBag({}))) == ["a", "z"]


def test_memory_of_hosts_is_bounded() -> None:
    index, _ = SpecIndex.build([SPEC, binding({"service": "*.ns.*"})])
    for number in range(3_000):
        assert not index.of(f"{number}.x.local").rules
    assert len(index._memo) <= 1_000
    assert index.of("1.x.local") is index.of("2.x.local")


async def test_bound_specs_charge_inbound_requests_of_their_host() -> None:
    index, _ = SpecIndex.build([SPEC, binding({"name": "a"})])
    mixer = FakeMixer(reply=answer(quotas={"q": granted(1)}))
    for kind, charged in (("inbound", True), ("outbound", False)):
        mixer.calls.clear()
        client = SidecarClient(mixer, config(mixer_attributes={"context.reporter.kind": kind}), specs=index)
        await ask(client, destination__service__host="a.ns.svc.cluster.local")
        await ask(client, destination__service__host="b.ns.svc.cluster.local")
        assert [list(call.quotas) for call in mixer.calls] == [["q"] if charged else [], []]
        client.use_specs(SpecIndex())
        await ask(client, destination__service__host="a.ns.svc.cluster.local")
        assert not mixer.calls[-1].quotas
        await client.aclose()


async def test_attributes_of_a_bound_api_can_be_charged() -> None:
    api = {"patterns": [{"httpMethod": "GET", "uriTemplate": "/books/{id}", "attributes": {"api.operation": "read"}}]}
    index, problems = SpecIndex.build(
        [
            resource("HTTPAPISpec", "books", api),
            resource("HTTPAPISpecBinding", "b", {"services": [{"service": "*"}], "apiSpecs": [{"name": "books"}]}),
            resource("QuotaSpec", "s", {"rules": [rule([{"api.operation": {"exact": "read"}}], reads=2)]}),
            binding({"service": "*"}),
        ]
    )
    assert not problems
    mixer = FakeMixer(reply=answer(quotas={"reads": granted(2)}))
    client = SidecarClient(mixer, config(), specs=index)
    bag = bag_of(client, request__method="GET", request__path="/books/7?x=1")
    assert {"api.operation", "request.method"} <= set(bag.names())
    await ask(client, request__method="GET", request__path="/books/7?x=1")
    await ask(client, request__method="GET", request__path="/films/7")
    assert [list(call.quotas) for call in mixer.calls] == [["reads"], []]
    await client.aclose()
