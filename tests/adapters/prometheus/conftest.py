"""Handlers of one process, and what a scrape shows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.prometheus import INFO, PrometheusHandler
from mixer.adapters.testing import RecordingEnv, parse_params
from mixer.attributes import ValueType
from mixer.templates import METRIC


class Process:
    """One Mixer process: its handlers share the table of metrics and the page."""

    def __init__(self) -> None:
        self.recording = RecordingEnv()
        self.clock = self.recording.clock
        self._handlers: list[PrometheusHandler] = []

    async def build(
        self,
        params: object,
        *,
        name: str = "prom.istio-system",
        dimensions: Mapping[str, tuple[str, ...]] | None = None,
    ) -> PrometheusHandler:
        """A handler of these params; ``dimensions`` are those of the routed instances, by full name."""
        routed = [
            InstanceInfo(
                instance,
                METRIC,
                {"value": ValueType.INT64, "dimensions": dict.fromkeys(keys, ValueType.STRING)},
            )
            for instance, keys in (dimensions or {}).items()
        ]
        handler = await INFO.build(parse_params(INFO, params, routed), routed, self.recording.env(name))
        assert isinstance(handler, PrometheusHandler)
        self._handlers.append(handler)
        return handler

    def page(self, encode: Callable[[Any], bytes] = generate_latest) -> list[str]:
        """The lines of a scrape, without those about the adapter itself."""
        return [line for line in encode(self.recording.scrape).decode().splitlines() if "mixer_prometheus_" not in line]

    def samples(self) -> dict[str, float]:
        """Sample -> value, as the text format has them."""
        lines = [line.rsplit(" ", 1) for line in self.page() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def sample(self, name: str, **labels: str) -> float | None:
        """One sample, the adapter's own ones included."""
        return self.recording.scrape.get_sample_value(name, labels)

    async def aclose(self) -> None:
        for handler in self._handlers:
            await handler.aclose()
        await self.recording.aclose()
        assert not self.recording.crashes


@pytest.fixture
async def process():
    made = Process()
    yield made
    await made.aclose()
