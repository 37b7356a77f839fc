"""A metric without labelNames takes the dimensions of its instance."""

from __future__ import annotations

from prometheus_client import generate_latest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.prometheus import INFO
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.attributes import ValueType
from mixer.templates import METRIC
from mixer.templates.metric import MetricInstance

NAME = "seen.metric.istio-system"
SEEN = InstanceInfo(NAME, METRIC, {"dimensions": {"path": ValueType.STRING, "code": ValueType.INT64}})


async def test_labels_left_out_are_the_dimensions() -> None:
    env = RecordingEnv()
    params = {"metrics": [{"name": "seen", "instance_name": NAME, "kind": "COUNTER"}]}

    handler = await build_handler(INFO, params, instances=[SEEN], env=env)
    handler.handle_report([MetricInstance(NAME, 2, {"path": "/x", "code": 200})])

    assert b'istio_seen{code="200",path="/x"} 2.0' in generate_latest(env.scrape)
    await handler.aclose()
