"""The objects of the walkthrough load as they are, with what it only hints at filled in."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from mixer.adapters import noop, prometheus
from mixer.adapters.base import AdapterInfo, Params
from mixer.adapters.loading import by_name
from mixer.rules.build import SnapshotBuilder
from mixer.store import FileStore
from mixer.templates import LOGENTRY

TESTS = Path(__file__).parents[1]
SEED = TESTS / "seed"
ATTRIBUTES = TESTS.parent / "config" / "mesh" / "attributes.yaml"
UNSHOWN = ("requestduration", "requestsize", "responsesize")
"""Metrics that the rule of the walkthrough names and the text does not show."""


class FluentdParams(Params):
    """As much of fluentd's params as the walkthrough uses."""

    address: str = ""


async def test_objects_of_the_walkthrough_load_without_a_problem(tmp_path: Path) -> None:
    for path in (*SEED.glob("*.yaml"), ATTRIBUTES):
        shutil.copy(path, tmp_path / path.name)
    shown = yaml.safe_load((SEED / "requestcount.yaml").read_text())
    for name in UNSHOWN:
        more = {**shown, "metadata": {**shown["metadata"], "name": name}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(more))
    handler = yaml.safe_load((SEED / "prometheus.yaml").read_text())
    # The text leaves out how the handler goes on; the labels have to be those of the instance.
    handler["spec"]["params"]["metrics"][0]["label_names"] = sorted(shown["spec"]["dimensions"])
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(handler))
    fluentd = AdapterInfo("fluentd", (LOGENTRY,), FluentdParams, noop.build)

    contents = await FileStore(tmp_path).load()
    snapshot = SnapshotBuilder(by_name([prometheus.INFO, fluentd])).build(contents)

    assert [str(problem) for problem in snapshot.problems] == []
    assert {rule.key.name: [len(a.instances) for a in rule.actions] for rule in snapshot.rules} == {
        "newlogtofluentd": [1],
        "promhttp": [4],
    }
    assert sorted(snapshot.handlers) == ["handler.fluentd.istio-system", "prometheus.handler.istio-system"]
