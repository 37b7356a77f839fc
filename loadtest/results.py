"""What a run found: measurements with their repetitions, as JSON on disk and as objects here."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

FORMAT: Final = 1

DISTURBING_CPUS: Final = 0.25
"""So many CPUs in use by others make figures doubtful."""


class ResultsError(Exception):
    """A file that holds no results, or those of another format."""


@dataclass(slots=True)
class Window:
    """One counted window.

    Attributes:
        units: Records or Checks that the server finished, and ``calls`` that carried them.
        cpu_s: What the server's processes used; ``client_cpu_s`` the clients; ``others_cpu_s`` everything else on
            the machine, which disturbs.
        latency: Quantile -> seconds; empty where nothing waits for answers.
        lag_p99_s: Open loop: how late requests left (the client's own fault).
        errors: Failed calls by status code, warm-up included.
        histogram: See `loadtest.histogram`.
        rss_bytes: The server's memory at the end; ``peak_rss_bytes`` since it was started.
    """

    seconds: float
    calls: int
    units: int
    cpu_s: float
    client_cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    latency: dict[str, float] = field(default_factory=dict)
    lag_p99_s: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    histogram: dict[str, int] = field(default_factory=dict)
    rss_bytes: int = 0
    peak_rss_bytes: int = 0

    def metrics(self) -> dict[str, float]:
        """The figures that are shown and compared."""
        found = {"throughput": self.units / self.seconds, "errors": float(sum(self.errors.values()))}
        if self.units:
            found["us_cpu"] = self.cpu_s / self.units * 1e6
        if self.cpu_s and self.units:
            found["per_cpu_s"] = self.units / self.cpu_s
        found |= {name: seconds * 1e3 for name, seconds in self.latency.items()}
        if self.rss_bytes:
            found["rss_mib"] = self.rss_bytes / 2**20
            found["peak_rss_mib"] = self.peak_rss_bytes / 2**20
        return found


METRICS: Final = {
    "us_cpu": "us CPU / unit",
    "per_cpu_s": "units / CPU s",
    "throughput": "units / s",
    "p50": "p50 ms",
    "p90": "p90 ms",
    "p99": "p99 ms",
    "p99.9": "p99.9 ms",
    "rss_mib": "RSS MiB",
    "peak_rss_mib": "peak MiB",
    "errors": "errors",
}
"""Metric -> heading, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, median and largest of several figures."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(min(values), statistics.median(values), max(values))


@dataclass(slots=True)
class Measurement:
    """One case in one mode under one scenario and load.

    Attributes:
        case: Such as ``report``; floors are cases of their own, such as ``report-echo``.
        unit: What is counted: ``record`` or ``check``.
        scenario: See `loadtest.scenario`; ``load`` likewise, empty where nothing is sent.
        load_text: The load in words.
        notes: Figures beside the windows, such as how many series there were at the end.
    """

    case: str
    mode: str
    unit: str
    scenario: dict[str, Any]
    load: dict[str, Any]
    scenario_text: str
    load_text: str
    windows: list[Window] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What the same measurement of another run has in common with this one; loads need to be of a kind only."""
        kind = "open" if self.load.get("rate") else "closed" if self.load else ""
        comparable = {name: value for name, value in self.scenario.items() if name != "server_flags"}
        scenario = json.dumps(comparable, sort_keys=True)
        return (self.case, self.mode, kind, scenario)

    @property
    def title(self) -> str:
        """Case, mode and load."""
        return " ".join(filter(None, (self.case, self.mode, f"({self.load_text})" if self.load_text else "")))

    @property
    def others_cpus(self) -> float:
        """How many CPUs everything else on the machine used, in the worst of the repetitions."""
        return max((window.others_cpu_s / window.seconds for window in self.windows), default=0.0)

    def spread(self, metric: str) -> Spread | None:
        """A metric over the repetitions; None where there is none."""
        values = [window.metrics()[metric] for window in self.windows if metric in window.metrics()]
        return Spread.of(values) if values else None


@dataclass(slots=True)
class Results:
    """All measurements of a run, and what they were made with."""

    environment: dict[str, Any]
    started: str
    command: str
    measurements: list[Measurement] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write JSON."""
        data = {"format": FORMAT, **asdict(self)}
        for row, measurement in zip(data["measurements"], self.measurements, strict=True):
            row["summary"] = {name: asdict(s) for name in METRICS if (s := measurement.spread(name)) is not None}
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote.

        Raises:
            ResultsError: The file holds something else.
        """
        try:
            data = json.loads(path.read_text())
            if data.get("format") != FORMAT:
                raise ResultsError(f"{path}: format {data.get('format')!r} is not {FORMAT}")
            return cls(
                data["environment"], data["started"], data["command"], [_measurement(m) for m in data["measurements"]]
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ResultsError(f"{path} holds no results of a load test: {exc!r}") from exc

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.measurements)


def _measurement(data: dict[str, Any]) -> Measurement:
    known = {name: data[name] for name in (f.name for f in fields(Measurement)) if name != "windows"}
    return Measurement(**known, windows=[Window(**window) for window in data["windows"]])
