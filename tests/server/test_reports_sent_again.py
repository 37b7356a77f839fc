"""A Report that comes again under its deduplication id counts once; without an id nothing is a repeat."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from mixer.api.encode import encode_report
from mixer.api.service import awaitable
from mixer.server.recent import RecentIds

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


def test_oldest_ids_are_forgotten() -> None:
    ids = RecentIds(2)

    assert [ids.add(each) for each in "aabcab"] == [True, False, True, True, True, True]
    assert len(ids) == 2
    ids.discard("b")
    ids.discard("never")
    assert ids.add("b")
