"""What a case is, and the kind of case that most are: requests of Mixer's own API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from loadtest.encoded import Requests
from loadtest.inprocess import measure_inprocess
from loadtest.results import Measurement
from loadtest.scenario import Load, Mode, Scenario
from loadtest.wire import measure_echo, measure_wire

Tell = Callable[[str], None]
"""Takes a line about what is going on."""


class Case(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        ...

    @property
    def summary(self) -> str:
        """One line for people."""
        ...

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that it can be measured in, floors included."""
        ...

    def measure(self, mode: Mode, scenario: Scenario, load: Load, tell: Tell) -> list[Measurement]:
        """Start what it needs, drive it, and end what it started."""
        ...


@dataclass(frozen=True)
class MixerCase:
    """Check or Report, over the wire or within this program.

    Attributes:
        make: The requests of a scenario; only its traffic counts, not what Mixer is configured with.
        policy: Whether Mixer is given rules for Check.
    """

    name: str
    summary: str
    make: Callable[[Scenario], Requests]
    policy: bool = False
    modes: tuple[Mode, ...] = tuple(Mode)

    def measure(self, mode: Mode, scenario: Scenario, load: Load, tell: Tell) -> list[Measurement]:
        """See `Case.measure`."""
        tell(f"{self.name}: encoding requests for {scenario.text}")
        requests = _requests(self.make, replace(scenario, idle_rules=0, access_log=False, server_flags=()))
        if mode is Mode.WIRE:
            return measure_wire(self.name, scenario, load, requests, policy=self.policy, tell=tell)
        if mode is Mode.ECHO:
            return measure_echo(self.name, scenario, load, requests, tell=tell)
        return measure_inprocess(self.name, mode, scenario, load, requests, policy=self.policy, tell=tell)


@lru_cache(4)
def _requests(make: Callable[[Scenario], Requests], scenario: Scenario) -> Requests:
    return make(scenario)
