"""What the tests of span exporters share: instances, and a bench that builds handlers, moves their time, reads their books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mixer.adapters.base import AdapterInfo
from mixer.adapters.spans.handler import SpanHandler
from mixer.adapters.testing import FakeClock, RecordingEnv, build_handler
from mixer.attributes import Timestamp
from mixer.templates.tracespan import TraceSpanInstance

TRACE = "463ac35c9f6413ad48485a3953bb6124"
SPAN = "a2fb4a1d1a96d312"
PARENT = "0020000000000001"
START = Timestamp.parse("2006-01-02T22:20:39.900Z")
"""The instant 1136240439.9 s."""
END = Timestamp(int(START) + 100_000_000)


def instance(**fields: Any) -> TraceSpanInstance:
    """An instance of which all that is not given is ordinary."""
    return TraceSpanInstance(
        **{
            "name": "span.instance.istio-system",
            "trace_id": TRACE,
            "span_id": SPAN,
            "parent_span_id": PARENT,
            "span_name": "/reviews",
            "start_time": START,
            "end_time": END,
            **fields,
        }
    )


def numbered(number: int, **fields: Any) -> TraceSpanInstance:
    """An instance that can be told from others by its span's id."""
    return instance(span_id=f"{number + 1:016x}", **fields)


class Bench:
    """Builds handlers of one adapter."""

    def __init__(self, info: AdapterInfo) -> None:
        self.info = info
        self.clock = FakeClock()
        self.recording = RecordingEnv(self.clock)

    async def build(self, **params: Any) -> SpanHandler:
        handler = await build_handler(self.info, {"sampleProbability": 1.0, **params}, env=self.recording)
        assert isinstance(handler, SpanHandler)
        await asyncio.sleep(0)
        return handler

    async def until(self, condition: Callable[[], bool], *, step_s: float = 0.5) -> None:
        """Move the handler's time on until something holds."""
        for _ in range(1500):
            if condition():
                return
            await self.clock.advance(step_s)
            await asyncio.sleep(0.002)
        raise AssertionError(f"never came true; books {self.books()}, log {self.recording.logged}")

    async def until_settled(self) -> dict[str, int]:
        """Move the time on until nothing waits; the books."""
        await self.until(lambda: "buffered" not in self.books())
        return self.books()

    def books(self) -> dict[str, int]:
        """All counts that are not 0, by name, those with a reason by reason; asserts that they balance."""
        return read_books(self.recording, self.info.name)

    def events(self, level: str | None = None) -> list[str]:
        return [line["event"] for line in self.recording.logged if level in (None, line["log_level"])]

    async def aclose(self) -> None:
        assert self.recording.crashes == []
        await self.recording.aclose()


def read_books(recording: RecordingEnv, adapter: str) -> dict[str, int]:
    """The counts in the registry of an environment."""
    counts: dict[str, int] = {}
    for family in recording.metrics.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                name = sample.name.removeprefix(f"mixer_{adapter}_").removeprefix("spans_").removesuffix("_total")
                key = sample.labels.get("reason", name)
                counts[key] = counts.get(key, 0) + int(sample.value)
                if key != name:
                    counts[name] = counts.get(name, 0) + int(sample.value)
    ended = counts["delivered"] + counts.get("skipped", 0) + counts.get("dropped", 0)
    assert counts["accepted"] == ended + counts["buffered"], counts
    return {name: count for name, count in counts.items() if count}
