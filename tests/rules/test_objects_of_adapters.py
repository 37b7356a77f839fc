"""Kinds of objects that belong to an adapter: decoded, checked and compiled with the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mixer.adapters.base import AdapterInfo, ConfigObjects, Env, Handler, InstanceInfo, Params
from mixer.adapters.loading import by_name
from mixer.rules.build import SnapshotBuilder
from mixer.store import FieldError, Problem, Resource, ResourceKey, Severity, StoreContents
from mixer.store.protojson import ProtoModel
from mixer.templates import TEMPLATES


class Flavour(ProtoModel):
    """An object of the adapter under test."""

    taste: str = ""


class Nothing(Params):
    """No params."""


async def build(params: Nothing, instances: Sequence[InstanceInfo], env: Env) -> Handler:
    return Handler()


def faults(key: ResourceKey, spec: Flavour) -> Iterator[FieldError]:
    if spec.taste == "bad":
        yield FieldError(("taste",), "is bad")
    if key.name == "unnamed":
        yield FieldError(("metadata", "name"), "is no name")


def compiled(objects: Sequence[tuple[Resource, Flavour]]) -> tuple[list[str], list[Problem]]:
    tastes = [spec.taste for _, spec in objects]
    if "poison" in tastes:
        raise RuntimeError("ouch")
    doubled = [r for r, spec in objects if tastes.count(spec.taste) > 1]
    return tastes, [Problem.of(r, ("spec", "taste"), "twice", severity=Severity.WARNING) for r in doubled]


INFO = AdapterInfo(
    "cook", tuple(TEMPLATES.values()), Nothing, build, objects=ConfigObjects({"Flavour": Flavour}, compiled, faults)
)
SERVED = [
    Resource(ResourceKey("handler", "n", "h"), {"compiledAdapter": "cook"}),
    Resource(ResourceKey("instance", "n", "i"), {"compiledTemplate": "checknothing"}),
    Resource(ResourceKey("rule", "n", "r"), {"actions": [{"handler": "h", "instances": ["i"]}]}),
]


@pytest.fixture
def builder() -> SnapshotBuilder:
    return SnapshotBuilder(by_name([INFO]))


def contents(**tastes: Any) -> StoreContents:
    found = [*SERVED, *(Resource(ResourceKey("Flavour", "n", name), {"taste": t}) for name, t in tastes.items())]
    return StoreContents({r.key: r for r in found})


def cooked(builder: SnapshotBuilder, **tastes: Any) -> tuple[Any, list[str], str]:
    """What reaches the handler, the problems, and the handler's signature."""
    snapshot = builder.build(contents(**tastes))
    config = snapshot.handlers["h.handler.n"]
    return config.objects.value, [f"{p.field}: {p.message}" for p in snapshot.problems], config.signature


def test_objects_reach_the_handler_in_order(builder: SnapshotBuilder) -> None:
    assert cooked(builder, b="sweet", a="sour")[:2] == (["sweet", "sour"], [])


def test_problems_of_all_together_are_told(builder: SnapshotBuilder) -> None:
    assert cooked(builder, a="salt", b="salt")[:2] == (["salt", "salt"], ["spec.taste: twice"] * 2)


@pytest.mark.parametrize(
    ("name", "taste", "problem"),
    [
        ("a", "bad", "spec.taste: is bad"),
        ("a", 5, "spec.taste: the number 5 cannot be read here"),
        ("unnamed", "sour", "metadata.name: is no name"),
    ],
)
def test_object_with_a_fault_is_left_out(builder: SnapshotBuilder, name: str, taste: Any, problem: str) -> None:
    assert cooked(builder, z="sweet", **{name: taste})[:2] == (["sweet"], [problem])


def test_object_keeps_its_last_good_version(builder: SnapshotBuilder) -> None:
    before = cooked(builder, a="sour")
    kept = cooked(builder, a="bad")

    assert kept[:2] == (["sour"], ["spec.taste: is bad"])
    assert kept[2] == before[2], "nothing changes for the handler"


def test_change_of_an_object_changes_the_signature_of_the_handler(builder: SnapshotBuilder) -> None:
    signatures = [cooked(builder, **tastes)[2] for tastes in ({}, {"a": "sour"}, {"a": "sweet"}, {"b": "sweet"})]

    assert len(set(signatures)) == 4
    assert cooked(builder, b="sweet")[2] == signatures[3]


def test_adapter_that_fails_on_its_objects_costs_nothing_else(builder: SnapshotBuilder) -> None:
    value, problems, _ = cooked(builder, a="poison")

    assert value is None
    assert problems == [": Flavour: the adapter failed on these objects: RuntimeError: ouch"]


def test_kinds_are_known_and_counted(builder: SnapshotBuilder) -> None:
    assert "Flavour" in builder.kinds
    assert builder.build(contents(a="sour")).counts["Flavour"] == 1
    assert builder.build(contents()).counts["Flavour"] == 0
