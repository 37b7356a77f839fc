"""The books at the end: what Mixer counted, what each receiver wrote down, and whether one is the other, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.backends.configuration import LIMIT, NAMESPACE
from tests.e2e.backends.load import DEADLINE_S, KINDS, Answer
from tests.e2e.backends.programs import Backend

UNAFFECTED_S = 0.25
ENOUGH = 500
FAILED = ("guests", "INTERNAL")
TELEMETRY = {
    "fluentd": ("fluentd_entries", "delivered"),
    "otlp": ("otlp_spans", "delivered"),
    "zipkin": ("zipkin_spans", "delivered"),
    "statsd": ("statsd_instances", "sent"),
    "unix": ("statsd_instances", "sent"),
}
"""For each handler: what the names of its metrics begin with, and what it calls the end that is wished for."""


class Metrics:
    """One page of Mixer's own metrics."""

    def __init__(self, page: str) -> None:
        self._samples = [s for family in text_string_to_metric_families(page) for s in family.samples]

    def of(self, name: str, handler: str, label: str = "") -> Counter[str]:
        """A metric of one handler, by the value of a label ("" for none); values of 0 are left out."""
        found: Counter[str] = Counter()
        for sample in self._samples:
            if sample.name == name and sample.labels.get("handler") == f"{handler}.{NAMESPACE}" and sample.value:
                found[sample.labels.get(label, "")] += int(sample.value)
        return found

    def one(self, name: str, handler: str) -> int:
        return self.of(name, handler)[""]

    def waiting(self) -> int:
        """Instances in the buffers of all telemetry handlers."""
        return sum(self.one(f"mixer_{prefix}_buffered", name) for name, (prefix, _) in TELEMETRY.items())


@dataclass(slots=True)
class Row:
    """What became of all that one backend was meant to get.

    Attributes:
        arrived: Distinct ids in the receiver's book.
        again: Ids that are there more than once, as often as that.
    """

    backend: str
    faults: int = 0
    accepted: int = 0
    delivered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    arrived: int = 0
    again: int = 0
    retries: int = 0
    wrong: list[str] = field(default_factory=list)

    def require(self, holds: bool, text: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(text)


def telemetry_row(
    backend: Backend, metrics: Metrics, sent: Sequence[str], faults: Counter[str], later: Collection[str]
) -> Row:
    """The books of a backend of reports; ids that were sent ``later`` than the metrics were read are left aside."""
    name = backend.name
    prefix, end = TELEMETRY[name]
    entries = [
        (what, delivery, tuple(i for i in ids if i.partition("/")[0] not in later))
        for what, delivery, ids in backend.entries()
    ]
    taken = Counter(i.partition("/")[0] for what, _, ids in entries if what == "taken" for i in ids)
    refused = {i.partition("/")[0] for what, _, ids in entries if what == "refused" for i in ids}
    row = Row(
        name,
        sum(faults.values()),
        metrics.one(f"mixer_{prefix}_accepted_total", name),
        metrics.one(f"mixer_{prefix}_{end}_total", name),
        metrics.of(f"mixer_{prefix}_dropped_total", name, "reason"),
        len(taken),
        sum(taken.values()) - len(taken),
        metrics.one(f"mixer_{prefix.split('_')[0]}_retries_total", name),
    )
    lost = sum(row.dropped.values())
    row.require(row.accepted == len(sent), f"{len(sent)} were reported")
    row.require(metrics.one(f"mixer_{prefix}_buffered", name) == 0, "something still waits")
    row.require(row.accepted == row.delivered + lost, f"{row.accepted} accepted, {row.delivered} {end}, {lost} dropped")
    row.require(taken.keys() <= set(sent), "something came that nobody sent")
    missing = set(sent) - taken.keys()
    if name in ("statsd", "unix"):
        _judge_datagrams(row, faults)
    elif name == "fluentd":
        row.require(row.delivered == row.arrived, f"{row.delivered} acknowledged, {row.arrived} arrived")
        _judge_chunks(row, entries)
    else:
        row.require(row.dropped.keys() <= {"buffer_full", "rejected"}, f"dropped for {dict(row.dropped)}")
        row.require(
            len(missing - refused) == row.dropped["buffer_full"],
            f"{len(missing - refused)} are gone without a refusal, {row.dropped['buffer_full']} found no room",
        )
        row.require(
            len(missing & refused) <= row.dropped["rejected"] <= len(refused),
            f"{len(refused)} refused, {len(missing & refused)} of them missing, {row.dropped['rejected']} rejected",
        )
        spans = {i for what, _, ids in entries if what == "taken" for i in ids}
        row.require(len(spans) == row.arrived, "a span came again with another id")
        row.require(row.again == 0 or row.retries > 0, "something came twice that was not sent twice")
    return row


def _judge_datagrams(row: Row, faults: Counter[str]) -> None:
    """Of what the system took, a receiver that lives loses nothing; a Unix socket holds what nobody reads yet."""
    row.require(row.again == 0, "a datagram came twice")
    row.require(row.arrived <= row.delivered, f"{row.delivered} sent, {row.arrived} arrived")
    losing = {"kill", "terminate"} if row.backend == "unix" else {"kill", "terminate", "freeze", "full"}
    if not losing & faults.keys():
        row.require(row.arrived == row.delivered, f"{row.delivered} sent, {row.arrived} arrived")


def _judge_chunks(row: Row, entries: Iterable[tuple[str, str, tuple[str, ...]]]) -> None:
    """What comes again comes in a chunk of the same id and content, so whoever drops those has each entry once."""
    chunks: dict[str, tuple[str, ...]] = {}
    for _, chunk, ids in entries:
        row.require(chunks.setdefault(chunk, ids) == ids, f"chunk {chunk} has two contents")
    once = Counter(i for ids in chunks.values() for i in ids)
    row.require(len(once) == once.total(), "an entry is in two chunks")


def visits_row(
    backend: Backend,
    metrics: Metrics,
    visits: Sequence[str],
    reports: int,
    checks: Sequence[Answer],
    faults: Counter[str],
) -> Row:
    """The books of the adapter out of process: nothing is kept for it, so what it did not take is lost, and counted."""
    name = backend.name
    taken = Counter(i for what, _, ids in backend.entries() if what == "taken" for i in ids)
    lost = metrics.of("mixer_remote_adapter_lost_instances_total", name, "outcome")
    outcomes = metrics.of("mixer_remote_adapter_calls_total", name, "outcome")
    row = Row(name, sum(faults.values()), len(visits), len(visits) - sum(lost.values()), lost, len(taken))
    row.again = sum(taken.values()) - len(taken)
    calls = reports + len(checks)
    given_up = sum(not answer.is_given for answer in checks)
    row.require(0 <= calls - outcomes.total() <= given_up, f"{calls} calls were made, {dict(outcomes)}")
    row.require(row.again == 0, "a report came twice")
    row.require(taken.keys() <= set(visits), "something came that nobody sent")
    row.require(row.delivered <= row.arrived, f"{row.delivered} taken, {row.arrived} arrived")
    # One whose answer was lost counts as lost and has arrived.
    row.require(row.arrived + lost.total() >= len(visits), f"{row.arrived} arrived, {lost.total()} lost")
    return row


def opa_row(metrics: Metrics, answers: Sequence[Answer], faults: Counter[str]) -> Row:
    """Checks by what the policy came to."""
    mine = [answer for answer in answers if answer.kind == "opa"]
    outcomes = metrics.of("mixer_opa_checks_total", "opa", "outcome")
    row = Row("opa", sum(faults.values()), len(mine), outcomes["allowed"] + outcomes["denied"])
    row.dropped = Counter({"failed": outcomes["failed"], "undefined": outcomes["undefined"]})
    row.arrived = row.delivered
    given_up = sum(not answer.is_given for answer in mine)
    row.require(0 <= len(mine) - outcomes.total() <= given_up, f"{len(mine)} Checks, {dict(outcomes)}")
    admitted = sum(answer.code == 0 for answer in mine)
    more = outcomes["allowed"] - admitted
    row.require(0 <= more <= given_up, f"{admitted} admitted, {outcomes['allowed']} allowed")
    return row


def redis_row(metrics: Metrics, answers: Sequence[Answer], limits: dict[str, int], faults: Counter[str]) -> Row:
    """Quotas: every Check has one end, and no key was granted more than its limit."""
    mine = [answer for answer in answers if answer.kind == "redis"]
    decisions = metrics.of("mixer_redisquota_decisions_total", "redis", "outcome")
    failures = metrics.of("mixer_redisquota_failures_total", "redis", "reason")
    row = Row("redis", sum(faults.values()), len(mine), decisions.total(), failures)
    granted: Counter[str] = Counter()
    for answer in mine:
        granted[answer.key] += answer.granted
    row.arrived = granted.total()
    given_up = sum(not answer.is_given for answer in mine)
    less = len(mine) - decisions.total() - failures.total()
    row.require(0 <= less <= given_up, f"{len(mine)} Checks, {dict(decisions)}, {dict(failures)}")
    more = decisions["granted"] - granted.total()
    row.require(0 <= more <= given_up, f"{granted.total()} granted, {dict(decisions)}")
    row.require(not decisions["repeated"], "a charge was repeated")
    for key, units in granted.items():
        row.require(units <= limits.get(key, LIMIT), f"{units} granted of {key}")
    return row


def answers_row(answers: Sequence[Answer], fair: Sequence[Answer], calm: Sequence[Answer], failed: Counter[str]) -> Row:
    """All Checks in time and never wrong; those of backends that were well at the time as if there were no others.

    A handler that fails is gRPC's INTERNAL to whoever checks, and UNKNOWN to whoever reports. The handlers of opa and
    redisquota never fail. Time is judged by ``fair`` answers only.
    """
    row = Row("checks", accepted=len(answers), delivered=sum(isinstance(a.code, int) for a in answers))
    row.arrived = row.delivered
    row.dropped = Counter(a.code for a in answers if isinstance(a.code, str))
    late = sum(not answer.is_given for answer in fair)
    row.require(not late, f"{late} Checks were not answered in time")
    given = [answer for answer in answers if answer.is_given]
    odd = Counter((a.kind, a.code) for a in given if isinstance(a.code, str) and (a.kind, a.code) != FAILED)
    row.require(not odd, f"Checks without an answer: {dict(odd)}")
    row.require(failed.keys() <= {"UNKNOWN"}, f"Reports that failed: {dict(failed)}")
    slowest = max(answer.took_s for answer in fair)
    row.require(slowest < DEADLINE_S, f"the slowest Check took {slowest:.3f} s")
    for kind in KINDS:
        quiet = sorted(answer.took_s for answer in calm if answer.kind == kind)
        if quiet:
            share = (
                0.99 if len(quiet) >= ENOUGH else 0.9
            )  # the few slowest of a short run show the machine's other work
            took_s = quiet[int(len(quiet) * share)]
            row.require(took_s < UNAFFECTED_S, f"p{share * 100:g} of unaffected Checks of {kind}: {took_s:.3f} s")
    row.require(all(a.code == 7 for a in given if a.kind == "free"), "a denial without a backend was not one")
    wrongly = [a for a in answers if a.kind in ("opa", "guests") and a.user == "eve" and a.code == 0]
    row.require(not wrongly, f"eve was admitted {len(wrongly)} times")
    return row
