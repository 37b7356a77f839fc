"""Problems and resources: texts, places, equality."""

from __future__ import annotations

import pytest

from mixer.store import Origin, Path, Problem, Resource, ResourceKey, Severity, format_path
from mixer.store.resource import to_camel, to_snake

KEY = ResourceKey("rule", "istio-system", "promhttp")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("spec",), "spec"),
        (("spec", "actions", 0, "handler"), "spec.actions[0].handler"),
        (("spec", "dimensions", "a.b"), 'spec.dimensions["a.b"]'),
        (("spec", "dimensions", ""), 'spec.dimensions[""]'),
        (("spec", "response-flags_2"), "spec.response-flags_2"),
        ((0, 1), "[0][1]"),
    ],
)
def test_paths_in_words(path: Path, text: str) -> None:
    assert format_path(path) == text


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("a.yaml"), "a.yaml"),
        (Origin("a.yaml", 2, 7), "a.yaml:7"),
        (Origin("a.yaml", 2, 7, 3), "a.yaml:7:3"),
        (Origin("a.yaml", 2, 0, 3), "a.yaml"),
    ],
)
def test_origins_in_words(origin: Origin, text: str) -> None:
    assert str(origin) == text


def test_problem_in_words() -> None:
    full = Problem("m", KEY, "spec.match", "e", Origin("a.yaml", 0, 3), Severity.WARNING)

    assert str(full) == "a.yaml:3: warning: promhttp.rule.istio-system: spec.match: m (expected e)"
    assert str(Problem("m")) == "error: m"


def test_problem_of_a_field_knows_its_line_in_either_spelling() -> None:
    lines: dict[Path, int] = {("spec",): 4, ("spec", "max_amount"): 5, ("spec", "list"): 6, ("spec", "list", 0): 7}
    resource = Resource(KEY, {}, origin=Origin("a.yaml", 1, 2), lines=lines)

    assert Problem.of(resource, ("spec", "maxAmount"), "m").origin == Origin("a.yaml", 1, 5)
    assert Problem.of(resource, ("spec", "max_amount", "deeper", 3), "m").origin == Origin("a.yaml", 1, 5)
    assert Problem.of(resource, ("spec", "list", 0, "x"), "m").origin == Origin("a.yaml", 1, 7)
    assert Problem.of(resource, ("spec", "list", 1), "m").origin == Origin("a.yaml", 1, 6)
    assert Problem.of(resource, ("metadata",), "m").origin == Origin("a.yaml", 1, 2)
    assert Problem.of(resource, (), "m").origin == resource.origin


def test_inner_paths_are_found_below_a_field_in_the_other_spelling() -> None:
    lines: dict[Path, int] = {("spec", "some_map"): 5, ("spec", "some_map", "inner_key"): 6}
    resource = Resource(KEY, {}, origin=Origin("a.yaml", 0, 1), lines=lines)

    assert resource.origin_of(("spec", "someMap", "innerKey")).line == 6


def test_equality_is_of_content_not_of_place() -> None:
    here = Resource(KEY, {"a": [1, {"b": "c"}]}, origin=Origin("a", 0, 1), lines={("spec",): 1})
    there = Resource(KEY, {"a": [1, {"b": "c"}]}, origin=Origin("b", 5, 9))

    assert here == there
    assert here != Resource(KEY, {"a": [1]})
    assert here != Resource(KEY._replace(name="x"), here.spec)
    assert here != Resource(KEY, here.spec, {"policy.istio.io/lang": "CEL"})
    assert here != "text"


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (0, False), (1, 1.0), (1, "1"), ([1], [True]), ({}, []), (None, "")]
)
def test_values_of_different_kinds_differ_however_equal_they_look(one: object, other: object) -> None:
    assert Resource(KEY, {"a": one}) != Resource(KEY, {"a": other})
    assert Resource(KEY, {"a": {"b": [one]}}) != Resource(KEY, {"a": {"b": [other]}})


def test_not_a_number_equals_itself() -> None:
    assert Resource(KEY, {"a": float("nan")}) == Resource(KEY, {"a": float("nan")})


def test_key_prints_as_full_name() -> None:
    assert str(KEY) == "promhttp.rule.istio-system"


@pytest.mark.parametrize(
    ("snake", "camel"), [("instance_name", "instanceName"), ("a", "a"), ("max_2_b", "max2B"), ("already", "already")]
)
def test_spellings(snake: str, camel: str) -> None:
    assert to_camel(snake) == to_camel(camel) == camel
    assert to_snake(camel).replace("_", "") == snake.replace("_", "")
