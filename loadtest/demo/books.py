"""The books of the demo: what each part says of the same requests, and whether all of them agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import URLError

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from loadtest.demo.machine import Machine
from loadtest.demo.sidecars import CALLS
from loadtest.demo.visitors import Diary
from loadtest.demo.workloads import GATEWAY, HTTP_WORKLOADS, MONGODB
from loadtest.servers import sum_of

REQUESTS: Final = "istio_requests_total"
REFUSED: Final = frozenset((403, 429))
_COMPLETED: Final = "http.{}_http.downstream_rq_completed"
_REPORTERS: Final = ("source", "destination")


@dataclass(frozen=True, slots=True)
class Sample:
    """A series of a metric."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two or more parts say of the same thing; ``sides`` are who says how much."""

    what: str
    sides: tuple[tuple[str, int], ...]

    @property
    def holds(self) -> bool:
        """Whether they say the same."""
        return len({value for _, value in self.sides}) == 1


@dataclass(frozen=True, slots=True)
class Books:
    """One look at every part.

    Attributes:
        metrics: Mixer's scrape, series by name.
        hops: Lines of the instance ``hop`` in the access log.
        lines: How many lines of the access log are about requests.
        proxy: Page of mixproxy's metrics.
        completed: Requests that Envoys completed, by workload and direction.
        served: What the services counted, by workload; and what MongoDB did.
        mongodb: Connections and bytes, as MongoDB counted them.
    """

    metrics: Mapping[str, Sequence[Sample]]
    hops: Sequence[Mapping[str, Any]]
    lines: int
    proxy: str
    completed: Mapping[tuple[str, str], int]
    served: Mapping[str, int]
    mongodb: Mapping[str, int]

    def total(self, name: str, **labels: str) -> int:
        """The sum of the series of a metric that have these labels."""
        found = (s.value for s in self.metrics.get(name, ()) if labels.items() <= s.labels.items())
        return round(sum(found))


def read_books(machine: Machine) -> Books:
    """Ask every part; a part that does not answer has its figures as 0."""
    mixs = machine.programs["mixs"]
    lines = [json.loads(line) for line in _whole_lines(mixs.output.read_text("utf-8")) if line.startswith("{")]
    told = json.loads(machine.programs["services"].page("port", "/served"))
    return Books(
        read_metrics(mixs.page("metrics-port", "/metrics")),
        [line for line in lines if line["instance"].startswith("hop.")],
        sum(line["instance"].startswith("accesslog.") for line in lines),
        machine.programs["mixproxy"].page("monitoring-port", "/metrics"),
        {
            (name, direction): _completed(machine, name, direction)
            for name in machine.envoys
            for direction in ("inbound", "outbound")
        },
        told["requests"],
        told["mongodb"],
    )


def _whole_lines(text: str) -> Iterable[str]:
    return text[: text.rfind("\n") + 1].splitlines()


def _completed(machine: Machine, name: str, direction: str) -> int:
    try:
        return machine.envoys[name].stat(_COMPLETED.format(direction))
    except URLError:
        return 0


def read_metrics(page: str) -> dict[str, list[Sample]]:
    """The series of a page of metrics, by name."""
    found: dict[str, list[Sample]] = {}
    families: Iterable[Metric] = text_string_to_metric_families(page)
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, []).append(Sample(sample.labels, sample.value))
    return found


def agreements(books: Books, diary: Diary) -> list[Agreement]:
    """Everything that must be equal once all reports have come."""
    requests = books.total(REQUESTS)
    found = [
        Agreement(
            "visits",
            (
                ("sent", diary.asked[GATEWAY]),
                ("gateway's Envoy", books.completed[GATEWAY, "outbound"]),
                ("counted by Mixer", books.total(REQUESTS, reporter="source", source_workload=GATEWAY)),
            ),
        )
    ]
    found += (_inbound(books, name) for name in HTTP_WORKLOADS)
    found += (
        Agreement(
            f"from {name}",
            (
                ("its Envoy", books.completed[name, "outbound"]),
                ("counted by Mixer", books.total(REQUESTS, reporter="source", source_workload=name)),
            ),
        )
        for name in CALLS
        if name != GATEWAY
    )
    traces = Counter(hop["traceId"] for hop in books.hops)
    found += (
        Agreement("records of requests", (("counted", requests), ("logged", books.lines), ("traced", len(books.hops)))),
        Agreement("traces", (("requests from outside", diary.sent), ("trace ids", len(traces)))),
        Agreement("hops that one end alone has told", (("found", len(one_sided(books.hops))), ("expected", 0))),
        _delivery(books),
    )
    return found + _mongodb(books)


def _inbound(books: Books, name: str) -> Agreement:
    counted = books.total(REQUESTS, reporter="destination", destination_workload=name)
    refused = sum(
        books.total(REQUESTS, reporter="destination", destination_workload=name, response_code=str(code))
        for code in REFUSED
    )
    return Agreement(
        f"to {name}",
        (
            ("its Envoy", books.completed[name, "inbound"]),
            ("counted by Mixer", counted),
            ("served and refused", books.served.get(name, 0) + refused),
        ),
    )


def _delivery(books: Books) -> Agreement:
    lost = sum_of(books.proxy, "mixer_proxy_records_dropped_total")
    lost += sum_of(books.proxy, "mixer_proxy_report_records_dropped_total")
    waiting = sum_of(books.proxy, "mixer_proxy_records_pending")
    return Agreement("records that mixproxy lost or still has", (("both", round(lost + waiting)), ("expected", 0)))


def _mongodb(books: Books) -> list[Agreement]:
    def told(what: str, metric: str, own: str) -> Agreement:
        sides = [(f"by the {r}", books.total(metric, reporter=r, destination_workload=MONGODB)) for r in _REPORTERS]
        return Agreement(f"{what} mongodb", ((MONGODB, books.mongodb.get(own, 0)), *sides))

    return [
        told("connections to", "istio_tcp_connections_opened_total", "connections"),
        told("ended connections to", "istio_tcp_connections_closed_total", "closed"),
        told("bytes to", "istio_tcp_received_bytes_total", "received"),
        told("bytes from", "istio_tcp_sent_bytes_total", "sent"),
    ]


def one_sided(hops: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Hops, as trace, source and destination, of which the two ends did not tell the same number of requests."""
    told: Counter[tuple[str, str, str]] = Counter()
    for hop in hops:
        told[hop["traceId"], hop["source"], hop["destination"]] += 1 if hop["reporter"] == "source" else -1
    return [hop for hop, balance in told.items() if balance]


def longest_trace(hops: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of the last of the traces with the most hops, all of which were answered; in the order of time."""
    failed = {hop["traceId"] for hop in hops if hop["code"] != 200}
    lengths = Counter(hop["traceId"] for hop in hops if hop["traceId"] not in failed)
    if not lengths:
        return []
    most = max(lengths.values())
    chosen = [trace for trace, length in lengths.items() if length == most][-1]
    return sorted((hop for hop in hops if hop["traceId"] == chosen), key=lambda hop: str(hop["time"]))
