"""The cases with a real Envoy measure what they say they do."""

from __future__ import annotations

import pytest

from loadtest.cases import all_cases
from loadtest.scenario import Load, Mode, Scenario

ENVOY = sorted(name for name in all_cases() if name.startswith("envoy-"))


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("name", ["envoy-cached-http", "envoy-ratelimit", "envoy-log"])
def test_envoy_case_measures_with_and_without(name: str) -> None:
    load = Load(seconds=0.3, warmup_s=0.1, repetitions=1, connections=2, in_flight=1)

    asked, alone = all_cases()[name].measure(Mode.WIRE, Scenario(label_sets=10), load, lambda line: None)

    assert (asked.case, alone.case) == (name, f"{name}-without")
    assert asked.windows[0].units > 10
    assert asked.windows[0].cpu_s > alone.windows[0].cpu_s
    assert not asked.windows[0].errors


def test_every_way_is_a_case() -> None:
    assert {"envoy-check", "envoy-check-http", "envoy-cached", "envoy-uncached", "envoy-ratelimit"} <= set(ENVOY)
