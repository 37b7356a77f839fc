"""What a measurement is about: the traffic and configuration (`Scenario`), and how hard it is driven (`Load`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final


class Mode(StrEnum):
    """How much is measured; the last two are yardsticks that hold nothing of Mixer."""

    WIRE = "wire"
    """``mixs server`` in a process of its own, asked over gRPC."""
    INPROCESS = "inprocess"
    """The service called with bytes, without a transport."""
    DISPATCHER = "dispatcher"
    """The dispatcher called with decoded attributes."""
    ECHO = "echo"
    """A gRPC server that does nothing, sent the same bytes."""
    PARSE = "parse"
    """Protobuf parsing of the same bytes, and nothing else."""


FLOORS: Final = (Mode.ECHO, Mode.PARSE)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The world: what proxies send, and what Mixer is configured to do with it.

    Attributes:
        services: Services of the mesh, each with ``versions`` workloads.
        label_sets: Distinct combinations of metric labels in the traffic, HTTP and TCP together.
        repeats: Share of records about one of the few busy label sets of their proxy, from 0 to below 1.
        header_bytes: About how much text the two header maps of a request have together.
        tcp_share: Share of label sets about TCP connections; ``grpc_share`` likewise.
        batch: Records in one Report.
        idle_rules: Rules whose match never holds, for Check and for Report.
        access_log: Whether the mesh's access log is on, written to /dev/null.
        server_flags: More flags for ``mixs server``. Runs that differ in nothing else are compared.
    """

    services: int = 50
    versions: int = 2
    label_sets: int = 1000
    repeats: float = 0.5
    header_bytes: int = 900
    tcp_share: float = 0.05
    grpc_share: float = 0.2
    batch: int = 100
    idle_rules: int = 1
    access_log: bool = False
    seed: int = 1
    server_flags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What usually differs between the scenarios of one run."""
        log = ", access log" if self.access_log else ""
        flags = f", {' '.join(self.server_flags)}" if self.server_flags else ""
        return f"{self.idle_rules:,} idle rules, {self.label_sets:,} label sets{log}{flags}"


@dataclass(frozen=True, slots=True)
class Load:
    """How the traffic is driven.

    Attributes:
        seconds: Length of one counted window.
        warmup_s: Sending before each window.
        repetitions: Windows; the spread over them tells how much a figure means.
        processes: Client processes; ``connections`` and ``in_flight`` (calls on each connection) are for each.
        rate: Calls a second of all processes together, sent at their time whatever the server does (open loop);
            0 sends as soon as an answer arrives (closed loop).
        poisson: Random arrivals instead of evenly spaced ones.
        then_share: After a closed loop also an open one, at this share of the throughput that it reached; 0 for none.
    """

    seconds: float = 5.0
    warmup_s: float = 1.0
    repetitions: int = 3
    processes: int = 1
    connections: int = 2
    in_flight: int = 4
    rate: float = 0.0
    poisson: bool = True
    then_share: float = 0.0

    @property
    def text(self) -> str:
        """The load in a few words."""
        if self.rate:
            return f"open, {self.rate:,.0f} calls/s{', Poisson' if self.poisson else ''}"
        return f"closed, {self.processes * self.connections} x {self.in_flight} in flight"


def to_json(value: Scenario | Load) -> dict[str, Any]:
    """Plain data as it comes back from JSON, one key for each attribute."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(value)))
    return data
