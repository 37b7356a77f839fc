"""Lists of measurements: those of a command line, and named suites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from loadtest.cases.base import Case
from loadtest.scenario import FLOORS, Load, Mode, Scenario


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement to make."""

    case: Case
    mode: Mode
    scenario: Scenario
    load: Load

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        each = self.load.seconds + self.load.warmup_s
        windows = self.load.repetitions * (2 if self.load.then_share and self.mode is Mode.WIRE else 1)
        return 5 + windows * each


def jobs(cases: Sequence[Case], modes: Sequence[Mode], scenario: Scenario, load: Load) -> Iterator[Job]:
    """Each case in each of the modes that it knows."""
    for case in cases:
        for mode in modes:
            if mode in case.modes:
                yield Job(case, mode, scenario, load)


def standard(cases: Mapping[str, Case], scenario: Scenario, load: Load) -> Iterator[Job]:
    """Saturation and p99 at half of it: few and many rules, few and many series, with and without access log.

    One thing is varied at a time, and then all of them together; floors come from the same run. The layers below
    the wire are measured for the plainest scenario.
    """
    load = replace(load, then_share=load.then_share or 0.5)
    plain = replace(scenario, idle_rules=1, label_sets=1_000, access_log=False)
    everything = replace(plain, idle_rules=1_000, label_sets=12_000, access_log=True)
    varied = (
        replace(plain, idle_rules=everything.idle_rules),
        replace(plain, label_sets=everything.label_sets),
        replace(plain, access_log=True),
    )
    report, cold, repeated, quota = (cases[name] for name in ("report", "check-cold", "check-repeated", "quota"))
    for each in (plain, *varied, everything):
        yield Job(report, Mode.WIRE, each, load)
    for rules in (1, 1_000):
        for case in (cold, repeated):
            yield Job(case, Mode.WIRE, replace(plain, idle_rules=rules), load)
    yield Job(quota, Mode.WIRE, plain, load)
    for case in (report, cold, quota):
        yield from jobs([case], (Mode.INPROCESS, Mode.DISPATCHER), plain, load)
    for case in (report, cold):
        yield from jobs([case], FLOORS, plain, load)


def envoy(cases: Mapping[str, Case], scenario: Scenario, load: Load) -> Iterator[Job]:
    """Every way from a real Envoy to Mixer, one request at a time and sixteen."""
    for name in sorted(name for name in cases if name.startswith("envoy-")):
        for connections in (1, 16):
            yield Job(cases[name], Mode.WIRE, scenario, replace(load, connections=connections, in_flight=1))


Suite = Callable[[Mapping[str, Case], Scenario, Load], Iterator[Job]]

SUITES: Final[Mapping[str, Suite]] = MappingProxyType({"standard": standard, "envoy": envoy})
