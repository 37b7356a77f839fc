"""References, display names and the vocabulary. Source: spec runtime 2.1, 1.7 and 3.2."""

from __future__ import annotations

import itertools

import pytest

from mixer.attributes import ValueType
from mixer.rules.names import candidates, display_name, resolve, short_name
from mixer.rules.specs import AttributeManifestSpec
from mixer.rules.vocabulary import build_vocabulary
from mixer.store import Problem, Resource, ResourceKey, Severity
from mixer.templates import TEMPLATES


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("a", ["a.handler.ns"]),
        ("a.b", ["a.b.ns", "a.handler.b"]),
        ("a.b.c", ["a.b.c"]),
        ("a.b.c.d", ["a.b.c.d"]),
        ("", [".handler.ns"]),
    ],
)
def test_candidates_stand_in_the_order_of_preference(reference: str, expected: list[str]) -> None:
    assert list(candidates(reference, "handler", "ns")) == expected


def test_kind_beats_a_namespace_of_the_same_spelling() -> None:
    both = {"d.denier.ns", "d.handler.denier"}

    assert resolve("d.denier", "handler", "ns", both) == "d.denier.ns"
    assert resolve("d.denier", "handler", "other", both) == "d.handler.denier"


def test_reference_that_leads_nowhere_is_none() -> None:
    known = {"d.denier.ns", "x.handler.ns"}

    assert [resolve(name, "handler", "ns", known) for name in ("", "d", "x.y", "d.denier.other")] == [None] * 4


@pytest.mark.parametrize(
    ("full", "short"), [("a.b.c", "a"), ("a", "a"), ("a.b", "a.b"), ("a.b.c.d", "a.b.c.d"), ("", "")]
)
def test_short_name_is_the_first_part_of_a_regular_full_name(full: str, short: str) -> None:
    assert short_name(full) == short


def test_handlers_are_shown_without_the_generic_kind() -> None:
    assert display_name(ResourceKey("handler", "ns", "h")) == "h.ns"
    assert display_name(ResourceKey("denier", "ns", "h")) == "h.denier.ns"


def manifest(namespace: str, name: str, **types: str) -> tuple[Resource, AttributeManifestSpec]:
    spec = {"attributes": {key.replace("__", "."): {"valueType": kind} for key, kind in types.items()}}
    resource = Resource(ResourceKey("attributemanifest", namespace, name), spec)
    return resource, AttributeManifestSpec.model_validate(spec)


def test_vocabulary_is_the_union_of_manifests_and_template_outputs() -> None:
    problems: list[Problem] = []

    vocabulary = build_vocabulary(
        [manifest("a", "one", source__name="STRING"), manifest("b", "two", request__size="INT64")],
        TEMPLATES.values(),
        problems,
    )

    assert vocabulary["source.name"] is ValueType.STRING
    assert vocabulary["request.size"] is ValueType.INT64
    assert vocabulary["adapter_template_kubernetes.output.source_pod_ip"] is ValueType.IP_ADDRESS
    assert vocabulary["adapter_template_kubernetes.output.destination_container_name"] is ValueType.STRING
    assert len([name for name in vocabulary if name.startswith("adapter_template_kubernetes.output.")]) == 23
    assert problems == []


def test_conflict_is_told_and_decided_alike_in_every_order() -> None:
    manifests = [
        manifest("b", "a", x="INT64"),
        manifest("a", "z", x="STRING"),
        manifest("a", "zz", x="BOOL"),
        manifest("c", "a", x="STRING"),
    ]
    for order in itertools.permutations(manifests):
        problems: list[Problem] = []

        vocabulary = build_vocabulary(order, (), problems)

        assert vocabulary == {"x": ValueType.STRING}
        assert [(str(p.resource), p.severity, p.message) for p in problems] == [
            (f"{name}", Severity.WARNING, f"attribute x is declared {kind} here and STRING by z.attributemanifest.a")
            for name, kind in (("zz.attributemanifest.a", "BOOL"), ("a.attributemanifest.b", "INT64"))
        ]


def test_fingerprint_is_that_of_the_content() -> None:
    one = build_vocabulary([manifest("a", "m", x="INT64", y="STRING")], (), [])
    other = build_vocabulary([manifest("b", "n", y="STRING"), manifest("c", "o", x="INT64")], (), [])

    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != build_vocabulary([manifest("a", "m", x="INT64", y="URI")], (), []).fingerprint
