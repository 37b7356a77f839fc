"""A Mixer without its wire: resources in, reports in, and what its handlers send."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from mixer.adapters.base import AdapterInfo
from mixer.adapters.loading import by_name
from mixer.adapters.testing import FakeClock
from mixer.attributes import MappingBag, Timestamp
from mixer.errors import MixerError
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.store import FileStore

CONFIG = Path(__file__).parents[3] / "config"
START = Timestamp.parse("2026-01-31T12:00:00Z")
END = Timestamp.parse("2026-01-31T12:00:00.2Z")


def request(**attributes: Any) -> dict[str, Any]:
    """Attributes of an ordinary request; ``__`` stands for a dot, and None takes an attribute away."""
    given = {name.replace("__", "."): value for name, value in attributes.items()}
    values = {
        "context.protocol": "http",
        "request.time": START,
        "response.time": END,
        "request.method": "GET",
        "request.path": "/reviews/0",
        "response.code": 200,
        "source.workload.name": "productpage",
        "destination.workload.name": "reviews",
        **given,
    }
    return {name: value for name, value in values.items() if value is not None}


async def report(folder: Path, info: AdapterInfo, objects: str, *requests: Mapping[str, Any]) -> list[MixerError]:
    """Report requests to a Mixer on the vocabulary and the given YAML, and close it; the faults of the reports."""
    (folder / "attributes.yaml").write_text((CONFIG / "mesh" / "attributes.yaml").read_text())
    (folder / "objects.yaml").write_text(objects)
    builder = SnapshotBuilder(by_name([info]))
    controller = Controller(builder, clock=FakeClock(), scrape=CollectorRegistry(), metrics=RuntimeMetrics())
    snapshot = await controller.apply(await FileStore(folder).load())
    assert [str(problem) for problem in snapshot.problems] == []
    faults: list[MixerError] = []
    for attributes in requests:
        try:
            await controller.dispatcher.report([MappingBag(attributes)])
        except MixerError as exc:
            faults.append(exc)
    await controller.aclose()
    return faults
