"""Time compressed: a stream of ever new label sets, and what it does to memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import grpc

from loadtest.encoded import reports
from loadtest.scenario import Scenario
from loadtest.servers import MixerServer

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """How to soak; every label set of the scenario occurs once, spread over the time, and then again from the start."""

    scenario: Scenario
    seconds: float
    samples: int
    scrape: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """The state at one moment, ``at_s`` from the first request; ``series`` is None where nobody counted them."""

    at_s: float
    records: int
    rss_bytes: int
    series: int | None = None


@dataclass(frozen=True, slots=True)
class SoakResult:
    """What a soak found.

    ``rss_after_scrape_bytes`` is what the last scrape left behind; a page of many series is large.
    """

    readings: list[Reading]
    rss_after_scrape_bytes: int

    @property
    def bytes_per_second(self) -> float:
        """How fast memory grows, from a line through all readings but the first."""
        return slope([(r.at_s, float(r.rss_bytes)) for r in self.readings[1:]])

    @property
    def bytes_per_series(self) -> float:
        """How much memory a label set takes with all its metrics."""
        counted = [(float(r.series), float(r.rss_bytes)) for r in self.readings if r.series is not None]
        return slope(counted)

    @property
    def text(self) -> str:
        """The findings in a line."""
        last = self.readings[-1]
        return (
            f"memory grows by {self.bytes_per_second / 1024:,.1f} KiB/s, "
            f"{self.bytes_per_series / 1024:,.2f} KiB for each label set; "
            f"{last.series or 0:,} label sets and {last.rss_bytes / 2**20:,.0f} MiB in the end, "
            f"{self.rss_after_scrape_bytes / 2**20:,.0f} MiB after a scrape"
        )

    def to_json(self) -> str:
        """Readings and slopes."""
        readings = [asdict(reading) for reading in self.readings]
        figures = {
            "bytes_per_second": self.bytes_per_second,
            "bytes_per_series": self.bytes_per_series,
            "rss_after_scrape_bytes": self.rss_after_scrape_bytes,
        }
        return json.dumps({"readings": readings, **figures}, indent=1) + "\n"


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line with the least squares; 0 where all x are the same."""
    if not points:
        return 0.0
    mean_x, mean_y = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def soak(plan: SoakPlan, tell: Tell) -> SoakResult:
    """Send Reports evenly over the time, and read memory and series ``samples`` times.

    Series are counted at both ends, and at every reading with ``scrape``: then sending pauses, because the page
    takes its time, and memory is that of a server which is scraped.
    """
    tell("encoding requests")
    requests = reports(plan.scenario)
    with MixerServer(plan.scenario, policy=False) as server, grpc.insecure_channel(server.target) as channel:
        report = channel.unary_unary(requests.method, None, None)
        readings: list[Reading] = []
        began, sent, paused_s = time.monotonic(), 0, 0.0
        while len(readings) < plan.samples:
            elapsed = time.monotonic() - began - paused_s
            if elapsed >= plan.seconds * len(readings) / (plan.samples - 1):
                pause = time.monotonic()
                rss_bytes = server.usage().rss_bytes
                is_end = len(readings) in (0, plan.samples - 1)
                series = server.series() if is_end or plan.scrape else None
                readings.append(Reading(elapsed, sent * requests.units, rss_bytes, series))
                paused_s += time.monotonic() - pause
                tell(f"{elapsed:.0f} of {plan.seconds:.0f} s: {readings[-1].records:,} records")
                continue
            if sent < len(requests.bodies) * elapsed / plan.seconds:
                report(requests.bodies[sent % len(requests.bodies)], timeout=30, wait_for_ready=True)
                sent += 1
            else:
                time.sleep(0.001)
        return SoakResult(readings, server.usage().rss_bytes)
