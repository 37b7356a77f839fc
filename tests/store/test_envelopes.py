"""From plain data to resources: identity, lists, and what is missing."""

from __future__ import annotations

import pytest

from mixer.store import Origin, Problem, Resource, ResourceKey, Severity
from mixer.store.envelope import unwrap
from mixer.store.yamldoc import read_documents

PLACE = Origin("a.yaml", 0, 1)


def objects(text: str) -> tuple[list[Resource], list[Problem]]:
    (document,) = read_documents(text.encode())
    assert not document.faults
    return unwrap(document.value, PLACE, document.lines, default_namespace="default")


def test_object_becomes_a_resource() -> None:
    (resource,), problems = objects(
        "kind: rule\nmetadata:\n  name: a\n  namespace: ns\n  labels: {x: y}\n"
        "  annotations: {policy.istio.io/lang: CEL}\nspec:\n  match: x\n"
    )

    assert problems == []
    assert resource.key == ResourceKey("rule", "ns", "a")
    assert resource.spec == {"match": "x"}
    assert resource.annotations == {"policy.istio.io/lang": "CEL"}
    assert resource.origin == PLACE
    assert resource.lines["spec", "match"] == 8


@pytest.mark.parametrize("spec", ["", "spec:\n", "spec: {}\n"])
def test_spec_may_be_missing(spec: str) -> None:
    (resource,), problems = objects(f"kind: checknothing\nmetadata: {{name: a}}\n{spec}")

    assert (resource.key.namespace, resource.spec, problems) == ("default", {}, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("metadata: {name: a}\n", ["a.yaml:1: error: kind: required field is missing"]),
        ("kind: rule\n", ["metadata.name: required field is missing (expected a name)"]),
        ("kind: rule\nmetadata:\n", ["a.yaml:2: error: metadata.name: required field is missing"]),
        ("kind: rule\nmetadata:\n  name: ''\n", ["a.yaml:3: error: metadata.name: required field is missing"]),
        ("kind: ''\nmetadata: {}\n", ["kind: required field", "metadata.name: required field"]),
        (
            "kind: 1\nmetadata:\n  name: yes\n",
            ["kind: the number 1", "a.yaml:3: error: metadata.name: the boolean true"],
        ),
        ("kind: rule\nmetadata: {name: a, namespace: 7}\n", ["metadata.namespace: the number 7 cannot be read here"]),
        ("kind: rule\nmetadata: [a]\n", ["metadata: a list cannot be read here (expected a mapping)"]),
        ("kind: rule\nmetadata: {name: a}\nspec: []\n", ["a.yaml:3: error: a.rule.: spec: a list cannot be read here"]),
        ("kind: rule\nmetadata: {name: a, annotations: x}\n", ["metadata.annotations: a string cannot be read here"]),
        ("- a\n- b\n", ["a list is no configuration object (expected an object with kind, metadata and spec)"]),
        ("just text", ["a string is no configuration object"]),
    ],
)
def test_what_is_missing_or_odd_is_told(text: str, told: list[str]) -> None:
    resources, problems = objects(text)

    assert resources == []
    assert len(problems) == len(told)
    for problem, part in zip(problems, told, strict=True):
        assert part in str(problem)


def test_annotation_that_is_no_text_is_left_out_with_a_warning() -> None:
    (resource,), (problem,) = objects("kind: rule\nmetadata:\n  name: a\n  annotations:\n    x: 1\n    y: z\n")

    assert resource.annotations == {"y": "z"}
    assert problem.severity is Severity.WARNING
    assert problem.origin.line == 5


def test_objects_of_other_systems_are_resources_too_and_never_a_problem() -> None:
    gateway = "apiVersion: networking.istio.io/v1alpha3\nkind: Gateway\nmetadata:\n  name: g\nspec:\n  servers: []\n"
    (resource,), problems = objects(gateway)
    assert (resource.key.kind, problems) == ("Gateway", [])

    assert objects("apiVersion: batch/v1\nkind: Job\nmetadata:\n  generateName: g\n") == ([], [])


class TestLists:
    def test_items_have_their_own_places_and_paths(self) -> None:
        resources, problems = objects(
            "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n"
            "- kind: rule\n  metadata: {name: a}\n  spec:\n    match: x\n"
            "- kind: rule\n  metadata:\n    namespace: ns\n"
            "- kind: handler\n  metadata: {name: b}\n"
        )

        assert [(r.key.name, r.origin.line) for r in resources] == [("a", 5), ("b", 12)]
        assert resources[0].origin_of(("spec", "match")).line == 8
        (problem,) = problems
        assert (problem.field, problem.origin.line) == ("metadata.name", 10)

    @pytest.mark.parametrize("items", ["items:\n", "items: []\n"])
    def test_empty_list(self, items: str) -> None:
        assert objects(f"kind: List\n{items}") == ([], [])

    def test_typed_list_and_list_in_a_list(self) -> None:
        resources, _ = objects(
            "kind: List\nitems:\n- kind: ruleList\n  items:\n  - kind: rule\n    metadata: {name: a}\n"
        )

        assert [(r.key.name, r.origin.line, r.lines["kind",]) for r in resources] == [("a", 5, 5)]

    def test_kind_that_merely_ends_like_a_list_is_an_object(self) -> None:
        (resource,), _ = objects("kind: WaitingList\nmetadata: {name: a}\nspec: {}\n")

        assert resource.key.kind == "WaitingList"
