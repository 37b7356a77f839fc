"""The objects of the walkthrough load as they are, with what it only hints at filled in."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from mixer.adapters import fluentd, prometheus
from mixer.adapters.loading import by_name
from mixer.adapters.testing import FakeClock
from mixer.attributes import MappingBag, Timestamp
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.store import FileStore, StoreContents

TESTS = Path(__file__).parents[1]
SEED = TESTS / "seed"
ATTRIBUTES = TESTS.parent / "config" / "mesh" / "attributes.yaml"
UNSHOWN = ("requestduration", "requestsize", "responsesize")
"""Metrics that the rule of the walkthrough names and the text does not show."""


async def walkthrough(folder: Path) -> StoreContents:
    for path in (*SEED.glob("*.yaml"), ATTRIBUTES):
        shutil.copy(path, folder / path.name)
    shown = yaml.safe_load((SEED / "requestcount.yaml").read_text())
    for name in UNSHOWN:
        more = {**shown, "metadata": {**shown["metadata"], "name": name}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(more))
    return await FileStore(folder).load()


async def test_objects_of_the_walkthrough_load_without_a_problem(tmp_path: Path) -> None:
    contents = await walkthrough(tmp_path)

    snapshot = SnapshotBuilder(by_name([prometheus.INFO, fluentd.INFO])).build(contents)

    assert [str(problem) for problem in snapshot.problems] == []
    assert {rule.key.name: [len(a.instances) for a in rule.actions] for rule in snapshot.rules} == {
        "newlogtofluentd": [1],
        "promhttp": [4],
    }
    assert sorted(snapshot.handlers) == ["handler.fluentd.istio-system", "prometheus.handler.istio-system"]


async def test_a_backend_that_is_away_is_no_problem_of_the_configuration(tmp_path: Path) -> None:
    """The walkthrough's Fluentd is a name that resolves nowhere here; its log entries wait, all else runs."""
    builder = SnapshotBuilder(by_name([prometheus.INFO, fluentd.INFO]))
    controller = Controller(builder, clock=FakeClock(), scrape=CollectorRegistry(), metrics=RuntimeMetrics())

    snapshot = await controller.apply(await walkthrough(tmp_path))
    await controller.dispatcher.report([MappingBag({"request.time": Timestamp(1), "response.code": 200})])

    assert snapshot.problems == ()
    assert {live.name: live.error for live in controller.dispatcher.binding.live.values()} == {
        "handler.fluentd.istio-system": "",
        "prometheus.istio-system": "",
    }
    await controller.aclose()
