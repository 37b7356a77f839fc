"""A kind that is nearly one of ours is told; everybody else's objects are passed over in silence."""

from __future__ import annotations

import pytest

from mixer.adapters.loading import by_name
from mixer.adapters.noop import INFO
from mixer.rules.build import SnapshotBuilder
from mixer.store import Resource, ResourceKey, StoreContents


@pytest.mark.parametrize(
    ("kind", "meant"), [("handlr", "handler"), ("Rule", "rule"), ("instances", "instance"), ("logentri", "logentry")]
)
def test_a_near_miss_is_a_warning(kind: str, meant: str) -> None:
    key = ResourceKey(kind, "istio-system", "x")

    snapshot = SnapshotBuilder(by_name([INFO])).build(StoreContents({key: Resource(key, {})}))

    (problem,) = snapshot.problems
    assert (problem.severity.value, problem.field, problem.expected) == ("warning", "kind", f"probably {meant}")


@pytest.mark.parametrize(
    "kind",
    ["Gateway", "VirtualService", "DestinationRule", "QuotaSpec", "QuotaSpecBinding", "HTTPAPISpec", "HTTPAPISpecBinding",
     "ServiceRole", "ServiceEntry", "Deployment", "ConfigMap", "Service", "PodTemplate", "Ingress", "Policy"],
)  # fmt: skip
def test_objects_of_others_are_passed_over(kind: str) -> None:
    key = ResourceKey(kind, "istio-system", "x")

    assert SnapshotBuilder(by_name([INFO])).build(StoreContents({key: Resource(key, {})})).problems == ()
