"""Values for remembered series are recorded exactly as whole instances are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from mixer.adapters.prometheus import INFO
from mixer.adapters.prometheus.handler import PrometheusHandler
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.attributes import Duration
from mixer.errors import AdapterError
from mixer.templates.metric import MetricInstance

NAMES = {"c": "COUNTER", "g": "GAUGE", "d": "DISTRIBUTION"}
PARAMS = {
    "maxSeriesPerMetric": 2,
    "metrics": [{"name": n, "instanceName": n, "kind": k, "labelNames": ["l"]} for n, k in NAMES.items()],
    "metricsExpirationPolicy": {"metricsExpiryDuration": "60s"},
}
_SAMPLES = st.lists(
    st.tuples(
        st.sampled_from(sorted(NAMES)),
        st.sampled_from(["a", "b", "c", 1, True]),
        st.sampled_from([1, 2.5, -1, Duration(5_000_000), "3", "x", True, None, float("nan")]),
    ),
    max_size=30,
)


async def handler_of(env: RecordingEnv) -> PrometheusHandler:
    handler = await build_handler(INFO, PARAMS, env=env)
    assert isinstance(handler, PrometheusHandler)
    return handler


def refused(record: Callable[[list[Any]], None], batch: list[Any]) -> bool:
    try:
        record(batch)
    except AdapterError:
        return True
    return False


@given(samples=_SAMPLES)
async def test_samples_and_instances_give_the_same_series(samples: list[tuple[str, object, object]]) -> None:
    whole_env, parts_env = RecordingEnv(), RecordingEnv()
    whole, parts = await handler_of(whole_env), await handler_of(parts_env)
    opened: dict[tuple[str, str], object] = {}

    for name, label, value in samples:
        series = opened.setdefault((name, repr(label)), parts.open_series(name, {"l": label}))
        failed = [
            refused(whole.handle_report, [MetricInstance(name, value, {"l": label})]),  # type: ignore[arg-type, dict-item]
            refused(parts.handle_samples, [(series, value)]),
        ]
        assert failed[0] == failed[1]

    assert generate_latest(parts_env.scrape) == generate_latest(whole_env.scrape)
    for env, handler in ((whole_env, whole), (parts_env, parts)):
        await handler.aclose()
        await env.aclose()


async def test_a_series_that_expired_begins_anew() -> None:
    env = RecordingEnv()
    handler = await handler_of(env)
    series = handler.open_series("c", {"l": "a"})
    assert series is not None
    handler.handle_samples([(series, 5)])

    await env.clock.advance(200)
    assert b"istio_c{" not in generate_latest(env.scrape)
    handler.handle_samples([(series, 2)])

    assert b'istio_c{l="a"} 2.0' in generate_latest(env.scrape)
    await handler.aclose()
    await env.aclose()


async def test_nothing_is_exposed_before_the_first_value() -> None:
    env = RecordingEnv()
    handler = await handler_of(env)

    series = handler.open_series("c", {"l": "a"})
    assert series is not None
    with pytest.raises(AdapterError, match="counter cannot add"):
        handler.handle_samples([(series, -1)])

    assert b"istio_c{" not in generate_latest(env.scrape)
    assert handler.open_series("unknown", {}) is None
    with pytest.raises(AdapterError, match="no dimension"):
        handler.open_series("c", {})
    await handler.aclose()
    await env.aclose()
