"""What a page is asked for: the query parameters of the graph endpoints. Source: spec adapters 4.13."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mixer.adapters.servicegraph.graph import Edge

DEFAULT_HORIZON: Final = "5m"
_UNITS_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_PART: Final = re.compile(r"([0-9]{1,12})(ms|[smhdwy])", re.ASCII)
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:ms|[smhdwy]))+", re.ASCII)


def parse_prometheus_duration(text: str) -> float:
    """Seconds of a duration as Prometheus writes it, such as ``5m``, ``1d`` or ``1h30m``.

    Raises:
        ValueError: It is none.
    """
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f"not a valid duration string: {text[:40]!r}")
    return float(sum(int(number) * _UNITS_S[unit] for number, unit in _PART.findall(text)))


@dataclass(frozen=True, slots=True)
class GraphQuery:
    """Which edges, and over which time; an empty text admits all."""

    horizon_s: float
    filter_empty: bool = False
    source_namespace: str = ""
    source_workload: str = ""
    destination_namespace: str = ""
    destination_workload: str = ""

    @classmethod
    def parse(cls, parameters: Mapping[str, str], *, retention_s: float) -> GraphQuery:
        """Read the parameters of a request; others than ours are ignored.

        Raises:
            ValueError: The horizon is no duration, or none that the graph can look over.
        """
        horizon_s = min(parse_prometheus_duration(DEFAULT_HORIZON), retention_s)
        if given := parameters.get("time_horizon"):
            horizon_s = parse_prometheus_duration(given)
            if not 0 < horizon_s <= retention_s:
                raise ValueError(f"time_horizon {given} is not within the retention of {retention_s:g} s")
        return cls(
            horizon_s,
            parameters.get("filter_empty") == "true",
            parameters.get("source_namespace", ""),
            parameters.get("source_workload", ""),
            parameters.get("destination_namespace", ""),
            parameters.get("destination_workload", ""),
        )

    def wants(self, edge: Edge) -> bool:
        """Whether an edge is between the workloads that were asked for."""
        return (
            self.source_namespace in ("", edge.source.namespace)
            and self.source_workload in ("", edge.source.workload)
            and self.destination_namespace in ("", edge.destination.namespace)
            and self.destination_workload in ("", edge.destination.workload)
        )
