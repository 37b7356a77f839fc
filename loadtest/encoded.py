"""Requests as bytes, made before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from loadtest.scenario import Scenario
from loadtest.traffic import Traffic
from mixer.api.encode import encode_check, encode_report
from mixer.api.messages import SERVICE_NAME, QuotaParams
from mixer.attributes import AttributeValue

REPORT = f"/{SERVICE_NAME}/Report"
CHECK = f"/{SERVICE_NAME}/Check"
QUOTA_NAME = "calls"
_FEWEST_BATCHES = 100


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests for one method, to be sent in turn and over again.

    Attributes:
        method: The gRPC method's full path.
        bodies: The serialized requests.
        units: What each request holds of what is counted: records of a Report, 1 for a Check.
        unit: The name of that.
    """

    method: str
    bodies: tuple[bytes, ...]
    units: int
    unit: str

    def part(self, number: int, of: int) -> Requests:
        """The share of one of several clients; clients share nothing as long as there is enough."""
        bodies = self.bodies[number::of] if len(self.bodies) >= of else self.bodies
        return Requests(self.method, bodies, self.units, self.unit)

    @property
    def bytes_each(self) -> float:
        """Average size of a request."""
        return sum(map(len, self.bodies)) / len(self.bodies)


def reports(scenario: Scenario, *, batches: int | None = None) -> Requests:
    """Reports; by default as many as it takes to show every label set."""
    traffic = Traffic(scenario)
    count = batches or max(traffic.batches_for_all(), _FEWEST_BATCHES)
    bodies = tuple(encode_report(records).SerializeToString() for records in traffic.batches(count))
    return Requests(REPORT, bodies, scenario.batch, "record")


def checks(scenario: Scenario, *, count: int) -> Requests:
    """Checks of different requests, each with its own ids, path and headers."""
    return _checks(Traffic(scenario).requests(count))


def repeated_checks(scenario: Scenario, *, distinct: int, count: int) -> Requests:
    """Checks of a few requests over and over."""
    few = list(Traffic(scenario).requests(distinct))
    return _checks(few[number % distinct] for number in range(count))


def quota_checks(scenario: Scenario, *, count: int, best_effort: bool = False) -> Requests:
    """Checks that also take one unit of a quota, each with its own deduplication id."""
    quotas = {QUOTA_NAME: QuotaParams(amount=1, best_effort=best_effort)}
    return _checks(islice(Traffic(scenario).requests(count), count), quotas)


def _checks(
    requests: Iterable[Mapping[str, AttributeValue]], quotas: Mapping[str, QuotaParams] | None = None
) -> Requests:
    bodies = tuple(
        encode_check(values, quotas=quotas, deduplication_id=f"client-{number}" if quotas else "").SerializeToString()
        for number, values in enumerate(requests)
    )
    return Requests(CHECK, bodies, 1, "check")
