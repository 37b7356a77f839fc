"""Adapters in other processes behind the dispatcher: the conformance cases of dynamic dispatch, and absence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry

from mixer.adapters.base import CheckResult, Code, QuotaResult, Status
from mixer.adapters.loading import by_name
from mixer.attributes import Duration, MappingBag
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.results import DispatchError, ReportError
from mixer.sdk.resources import adapter_resource, template_resources
from mixer.sdk.sessions import SystemClock
from mixer.store import FileStore
from mixer.templates import KUBERNETES, LISTENTRY, METRIC, QUOTA
from tests.adapters.remote.remote_support import Seen, adapter, served

CONFIG = """
kind: attributemanifest
metadata: {name: words}
spec:
  attributes:
    s: {valueType: STRING}
    size: {valueType: INT64}
    pod: {valueType: STRING}
---
kind: handler
metadata: {name: h}
spec: {adapter: remembering, params: {greeting: hi}, connection: {address: "127.0.0.1:PORT", timeout: 500ms}}
---
kind: instance
metadata: {name: m}
spec: {template: metric, params: {value: size, dimensions: {s: s}}}
---
kind: instance
metadata: {name: q}
spec: {template: quota, params: {dimensions: {s: s}}}
---
kind: instance
metadata: {name: c}
spec: {template: listentry, params: {value: s}}
---
kind: instance
metadata: {name: g}
spec:
  template: kubernetes
  params: {source_uid: s}
  attribute_bindings: {pod: '$out.source_pod_name | "none"'}
---
kind: rule
metadata: {name: all}
spec: {actions: [{handler: h, instances: [m, q]}]}
---
kind: rule
metadata: {name: checks}
spec: {match: s == "judged", actions: [{handler: h, instances: [c]}]}
---
kind: rule
metadata: {name: generated}
spec: {match: s == "generated", actions: [{handler: h, instances: [g]}]}
---
kind: rule
metadata: {name: after-generation}
spec: {match: pod == "web-1", actions: [{handler: h, instances: [c]}]}
"""


class Ask(NamedTuple):
    """How much of a quota."""

    amount: int
    best_effort: bool = False


@asynccontextmanager
async def mixer(folder: Path, port: int, seen: Seen) -> AsyncIterator[Controller]:
    info = adapter(seen, (KUBERNETES, LISTENTRY, METRIC, QUOTA))
    resources = [*template_resources(info.templates), adapter_resource(info)]
    (folder / "remote.yaml").write_text(yaml.safe_dump_all(resources))
    (folder / "config.yaml").write_text(CONFIG.replace("PORT", str(port)))
    metrics = RuntimeMetrics()
    controller = Controller(
        SnapshotBuilder(by_name([])), clock=SystemClock(), scrape=CollectorRegistry(), metrics=metrics
    )
    await controller.start(FileStore(folder, default_namespace="istio-system"))
    assert controller.snapshot.problems == ()
    try:
        yield controller
    finally:
        await controller.aclose()


@asynccontextmanager
async def both(folder: Path, seen: Seen) -> AsyncIterator[Controller]:
    info = adapter(seen, (KUBERNETES, LISTENTRY, METRIC, QUOTA))
    async with served(info) as server, mixer(folder, server.port, seen) as controller:
        yield controller


def bag(s: str, size: int = 1) -> Any:
    return MappingBag({"s": s, "size": size, "context.reporter.kind": "inbound"})


async def test_a_report_of_two_records_is_one_call_with_two_instances(tmp_path: Path) -> None:
    seen = Seen()
    async with both(tmp_path, seen) as controller:
        await controller.dispatcher.report([bag("a", 1), bag("b", 2)])

    assert seen.batches == [2]
    assert [(i.name, i.value, i.dimensions) for i in seen.instances] == [
        ("m.instance.istio-system", 1, {"s": "a"}),
        ("m.instance.istio-system", 2, {"s": "b"}),
    ]


async def test_a_quota_and_a_denial_reach_the_caller(tmp_path: Path) -> None:
    seen = Seen(answer=QuotaResult(2, Duration.parse("1s")))
    async with both(tmp_path, seen) as controller:
        outcome = await controller.dispatcher.check(bag("a"), {"q": Ask(5, True)}, "id-")
        assert outcome.quotas["q"].result.amount == 2
        assert [args.dedup_id for args in seen.quotas] == ["id-q"]
        seen.answer = CheckResult(Status(Code.PERMISSION_DENIED, "no"))
        outcome = await controller.dispatcher.check(bag("judged"))
        assert outcome.result.status.message == "h.istio-system:no"
        assert ("s", "") in outcome.referenced


async def test_what_is_generated_is_seen_by_the_rules(tmp_path: Path) -> None:
    seen = Seen(answer={"source_pod_name": "web-1"})

    async def answer() -> Any:
        return {"source_pod_name": "web-1"} if len(seen.instances) == 1 else CheckResult(Status(Code.NOT_FOUND, "seen"))

    seen.answer = answer
    async with both(tmp_path, seen) as controller:
        outcome = await controller.dispatcher.check(bag("generated"))

    assert outcome.result.status.code == Code.NOT_FOUND


async def test_an_adapter_that_is_away_fails_what_needs_it(tmp_path: Path) -> None:
    seen = Seen()
    async with served(adapter(seen)) as server:
        port = server.port
    async with mixer(tmp_path, port, seen) as controller:
        with pytest.raises(DispatchError, match="rpc error: code = Unavailable"):
            await controller.dispatcher.check(bag("judged"))
        with pytest.raises(ReportError, match=r"failed to report all values: .*rpc error: code = Unavailable"):
            await controller.dispatcher.report([bag("a")])
        outcome = await controller.dispatcher.check(bag("a"), {"q": Ask(5)})
        assert outcome.result.status.ok
        assert outcome.quotas["q"].result.status.code == Code.UNAVAILABLE
