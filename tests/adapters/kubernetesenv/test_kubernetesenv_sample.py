"""The sample of kubernetesenv as it ships, in a running dispatcher. Source: spec adapters 6.7."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixer.adapters import kubernetesenv
from mixer.adapters.base import CheckResult
from mixer.attributes import Condition
from mixer.attributes.values import parse_ip
from mixer.store import FileStore, ResourceKey, StoreContents
from tests.runtime.fakes import Bench, contents, fake, instance, rule

ROOT = Path(__file__).parents[3]
PAGE, DETAILS = "productpage-v1-7f4cc988c6-qxqjs.bookinfo", "details-v1-5974b67c8-w4tnp.bookinfo"
SEEN = [
    f"{side}.{name}"
    for side in ("source", "destination")
    for name in ("uid", "name", "namespace", "owner", "serviceAccount", "workload.uid", "workload.name", "workload.namespace")
]  # fmt: skip


@pytest.fixture
async def serving() -> AsyncIterator[Bench]:
    bench = Bench([kubernetesenv.INFO])
    bench.backend.answers = {"judge": CheckResult()}
    judged = contents(
        fake("judge"),
        *(instance("listentry", name.replace(".", "-"), {"value": name}) for name in [*SEEN, "source.ip", "destination.container.name"]),
        *(instance("listentry", f"{side}-app", {"value": f'{side}.labels["app"] | "none"'}) for side in ("source", "destination")),
        rule("judge", {"judge": [n.replace(".", "-") for n in [*SEEN, "source.ip", "destination.container.name", "source.app", "destination.app"]]}),
    ).resources  # fmt: skip
    shipped: dict[ResourceKey, Any] = {}
    for path in ("mesh/attributes.yaml", "samples/kubernetesenv"):
        shipped |= (await FileStore(ROOT / "config" / path).load()).resources
    for key, resource in shipped.items():
        if key.kind == "handler":
            params = {"objectPaths": [str(ROOT / "config/samples/kubernetesenv/pods.json")]}
            shipped[key] = replace(resource, spec={**resource.spec, "params": params})
    judged = {key: resource for key, resource in judged.items() if key.kind != "attributemanifest"}
    snapshot = await bench.controller.apply(StoreContents({**shipped, **judged}))
    assert not snapshot.problems
    yield bench
    await bench.controller.aclose()


async def seen(bench: Bench, attributes: dict[str, Any]) -> dict[str, Any]:
    bench.backend.calls.clear()
    await bench.check(attributes)
    return {i.name.split(".")[0].replace("-", "."): i.value for (i,) in bench.backend.calls_of("judge")}


async def test_sample_adds_what_is_known_of_both_pods(serving: Bench) -> None:
    sent = {
        "source.ip": parse_ip("10.20.0.11"),
        "destination.uid": f"kubernetes://{DETAILS}",
        "destination.port": 9080,
    }

    assert await seen(serving, sent) == {
        "source.ip": parse_ip("10.20.0.11"),
        "source.uid": f"kubernetes://{PAGE}",
        "source.name": "productpage-v1-7f4cc988c6-qxqjs",
        "source.namespace": "bookinfo",
        "source.owner": "kubernetes://apis/apps/v1/namespaces/bookinfo/deployments/productpage-v1",
        "source.serviceAccount": "bookinfo-productpage",
        "source.workload.uid": "istio://bookinfo/workloads/productpage-v1",
        "source.workload.name": "productpage-v1",
        "source.workload.namespace": "bookinfo",
        "source.app": "productpage",
        "destination.uid": f"kubernetes://{DETAILS}",
        "destination.name": "details-v1-5974b67c8-w4tnp",
        "destination.namespace": "bookinfo",
        "destination.owner": "kubernetes://apis/apps/v1/namespaces/bookinfo/deployments/details-v1",
        "destination.serviceAccount": "bookinfo-details",
        "destination.workload.uid": "istio://bookinfo/workloads/details-v1",
        "destination.workload.name": "details-v1",
        "destination.workload.namespace": "bookinfo",
        "destination.app": "details",
        "destination.container.name": "details",
    }


async def test_sample_has_fallbacks_for_what_is_unknown(serving: Bench) -> None:
    found = await seen(serving, {})

    special = {"source.ip": bytes(4), "source.namespace": "default", "destination.namespace": "default"}
    assert found == {**dict.fromkeys(found, "unknown"), **special, "source.app": "none", "destination.app": "none"}


async def test_what_the_proxy_sends_stays(serving: Bench) -> None:
    """Scenario 18: the address finds the pod, and the uid that was sent hides the one that it has."""
    sent = {"source.uid": "", "source.ip": parse_ip("10.20.0.11"), "source.labels": {"app": "mine"}}

    found = await seen(serving, sent)

    assert (found["source.uid"], found["source.workload.name"], found["source.app"]) == ("", "productpage-v1", "mine")


async def test_answer_depends_on_what_finds_the_pods_and_on_the_absence_of_the_rest(serving: Bench) -> None:
    outcome = await serving.check({"source.uid": f"kubernetes://{PAGE}"})

    assert outcome.referenced["source.uid", ""] is Condition.EXACT
    absent = {"source.ip", "destination.uid", "destination.port", "source.workload.name", "source.labels"}
    assert {outcome.referenced[name, ""] for name in absent} == {Condition.ABSENCE}
