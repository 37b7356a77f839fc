"""A Report that comes again under its deduplication id counts once; without an id nothing is a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from mixer.adapters.testing import settle
from mixer.api.encode import encode_report
from mixer.api.service import awaitable
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.recent import RecentIds
from mixer.server.service import MixerService

COUNT = """
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: requests, namespace: istio-system}
spec:
  compiledTemplate: metric
  params: {value: "1", dimensions: {source: source.name}}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: prom, namespace: istio-system}
spec:
  compiledAdapter: prometheus
  params: {metrics: [{name: requests, instance_name: requests.instance.istio-system, kind: COUNTER, label_names: [source]}]}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: r, namespace: istio-system}
spec: {actions: [{handler: prom, instances: [requests]}]}
"""


@pytest.mark.parametrize(("ids", "counted"), [(["a", "a", "b", "a"], 4), (["", "", ""], 6)], ids=["ids", "no ids"])
async def test_report_counts_once_for_each_id(start_mixer: Any, ids: list[str], counted: int) -> None:
    mixer = await start_mixer(COUNT)
    request = encode_report([{"source.name": "x"}, {"source.name": "x"}])

    for each in ids:
        request.deduplication_id = each
        await awaitable(mixer.stub.Report(request))

    async with aiohttp.ClientSession() as session, session.get(mixer.url("metrics-port", "/metrics")) as page:
        assert f'istio_requests{{source="x"}} {counted}.0' in await page.text()
    repeats = mixer.server.metrics.registry.get_sample_value("mixer_api_repeated_reports_total")
    assert repeats == (len(ids) - len(set(ids)) if any(ids) else 0)


class SlowDispatcher:
    """Takes records when it is told to."""

    def __init__(self) -> None:
        self.binding = SimpleNamespace(snapshot=SimpleNamespace(wanted=None))
        self.taken: list[int] = []
        self.calls = 0
        self.go = asyncio.Event()

    async def report(self, bags: Sequence[Any]) -> None:
        self.calls += 1
        await self.go.wait()
        self.taken.append(len(bags))


@pytest.mark.parametrize("given_up", [False, True], ids=["the first is answered", "the first is given up"])
async def test_repeat_is_acknowledged_when_the_records_are_taken_and_not_before(given_up: bool) -> None:
    dispatcher = SlowDispatcher()
    ready = asyncio.Event()
    ready.set()
    service = MixerService(SimpleNamespace(ready=ready, dispatcher=dispatcher), RuntimeMetrics())  # type: ignore[arg-type]
    request = encode_report([{"source.name": "x"}, {"source.name": "y"}])
    request.deduplication_id = "a"
    data = request.SerializeToString()

    first = asyncio.create_task(service.report(data))
    await settle()
    repeats = [asyncio.create_task(service.report(data)) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in repeats)
    if given_up:  # as when the connection of the first breaks after the repeat came on another
        first.cancel()
        await settle()
        assert not any(task.done() for task in repeats)
    dispatcher.go.set()

    assert await asyncio.gather(*repeats) == [b"", b"", b""]
    (outcome,) = await asyncio.gather(first, return_exceptions=True)
    assert (outcome == b"") is not given_up
    assert dispatcher.taken == [2]
    assert await service.report(data) == b""
    assert dispatcher.taken == [2]


def test_oldest_ids_are_forgotten() -> None:
    ids = RecentIds(2)

    assert [ids.add(each) for each in "aabcab"] == [True, False, True, True, True, True]
    assert len(ids) == 2
    ids.discard("b")
    ids.discard("never")
    assert ids.add("b")
