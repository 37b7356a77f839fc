"""What a sidecar client counts: plain integers on the way, Prometheus families when they are scraped.

The thirty counters of the reference keep their names, as ``mixer_proxy_<name>_total`` with the label ``protocol``
(``http`` or ``tcp``). Results of calls are counted once a call, after all its attempts.

Source: spec proxy 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mixer.api.codes import Code
from proxy.client.checkcache import CheckCache
from proxy.client.quotacache import QuotaCache

COUNTERS: Final[Mapping[str, str]] = {
    "check_calls": "Requests that were checked.",
    "check_cache_hits": "Requests that the check cache decided.",
    "check_cache_misses": "Requests that the check cache could not decide.",
    "check_cache_hit_accepts": "Requests that the check cache let pass.",
    "check_cache_hit_denies": "Requests that the check cache denied.",
    "remote_check_calls": "Decisions asked of Mixer.",
    "remote_check_accepts": "Decisions of Mixer, or of the fail policy, to let pass.",
    "remote_check_denies": "Decisions of Mixer, or of the fail policy, to deny.",
    "quota_calls": "Requests that were charged.",
    "quota_cache_hits": "Requests that were charged from prefetched tokens.",
    "quota_cache_misses": "Requests that Mixer charged.",
    "quota_cache_hit_accepts": "Requests for which there were prefetched tokens.",
    "quota_cache_hit_denies": "Requests for which there were no prefetched tokens.",
    "remote_quota_calls": "Calls that asked Mixer for quotas.",
    "remote_quota_accepts": "Requests that Mixer charged and let pass.",
    "remote_quota_denies": "Requests that Mixer refused to charge.",
    "remote_quota_prefetch_calls": "Calls in the background that asked Mixer for tokens.",
    "remote_calls": "Calls of Check.",
    "remote_call_successes": "Calls of Check that were answered.",
    "remote_call_timeouts": "Calls of Check without answer in time.",
    "remote_call_send_errors": "Calls of Check that did not reach Mixer.",
    "remote_call_other_errors": "Calls of Check that failed in another way.",
    "remote_call_retries": "Further attempts of a call of Check.",
    "remote_call_cancellations": "Calls of Check that nobody waited for any more.",
    "report_calls": "Records reported.",
    "remote_report_calls": "Calls of Report.",
    "remote_report_successes": "Calls of Report that were answered.",
    "remote_report_timeouts": "Calls of Report without answer in time.",
    "remote_report_send_errors": "Calls of Report that did not reach Mixer.",
    "remote_report_other_errors": "Calls of Report that failed in another way.",
    # Beyond the thirty.
    "check_coalesced": "Requests that waited for the answer to one like them.",
    "quota_units_given_back": "Units given back because another quota of the request refused.",
    "quota_units_not_given_back": "Units that should have been given back, and the call failed.",
    "quota_prefetches_not_sent": "Wishes of pools that were not sent because too many calls were under way.",
}
"""Names and meanings."""

DROP_FULL: Final = "buffer_full"
DROP_SHUT_DOWN: Final = "shut_down"
DROP_FAILED: Final = "call_failed"


class Counters:
    """One integer for each name of `COUNTERS`, and what was lost of reports, by reason."""

    __slots__ = (*COUNTERS, "batches_dropped", "records_dropped")

    check_calls: int
    check_cache_hits: int
    check_cache_misses: int
    check_cache_hit_accepts: int
    check_cache_hit_denies: int
    remote_check_calls: int
    remote_check_accepts: int
    remote_check_denies: int
    quota_calls: int
    quota_cache_hits: int
    quota_cache_misses: int
    quota_cache_hit_accepts: int
    quota_cache_hit_denies: int
    remote_quota_calls: int
    remote_quota_accepts: int
    remote_quota_denies: int
    remote_quota_prefetch_calls: int
    remote_calls: int
    remote_call_successes: int
    remote_call_timeouts: int
    remote_call_send_errors: int
    remote_call_other_errors: int
    remote_call_retries: int
    remote_call_cancellations: int
    report_calls: int
    remote_report_calls: int
    remote_report_successes: int
    remote_report_timeouts: int
    remote_report_send_errors: int
    remote_report_other_errors: int
    check_coalesced: int
    quota_units_given_back: int
    quota_units_not_given_back: int
    quota_prefetches_not_sent: int

    def __init__(self) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)
        self.records_dropped = dict.fromkeys((DROP_FULL, DROP_SHUT_DOWN, DROP_FAILED), 0)
        self.batches_dropped = dict.fromkeys((DROP_FULL, DROP_SHUT_DOWN, DROP_FAILED), 0)

    def as_dict(self) -> dict[str, int]:
        """The counters that are not zero."""
        return {name: value for name in COUNTERS if (value := getattr(self, name))}

    def drop(self, reason: str, records: int) -> None:
        """A batch is lost."""
        self.batches_dropped[reason] += 1
        self.records_dropped[reason] += records

    def call_failed(self, code: int) -> None:
        """A Check got no answer."""
        if code == Code.DEADLINE_EXCEEDED:
            self.remote_call_timeouts += 1
        elif code == Code.UNAVAILABLE:
            self.remote_call_send_errors += 1
        else:
            self.remote_call_other_errors += 1

    def report_failed(self, code: int) -> None:
        """A Report got no good answer."""
        if code == Code.DEADLINE_EXCEEDED:
            self.remote_report_timeouts += 1
        elif code == Code.UNAVAILABLE:
            self.remote_report_send_errors += 1
        else:
            self.remote_report_other_errors += 1


class Source:
    """What is scraped of one protocol.

    Attributes:
        protocol: The label.
        counters: Of that protocol.
        checks: The check cache; None when it is off.
        quotas: The quota cache; None when it is off.
        records: How many records wait to be reported.
    """

    __slots__ = ("checks", "counters", "protocol", "quotas", "records")

    def __init__(
        self,
        protocol: str,
        counters: Counters,
        checks: CheckCache | None,
        quotas: QuotaCache | None,
        records: Callable[[], int],
    ) -> None:
        self.protocol = protocol
        self.counters = counters
        self.checks = checks
        self.quotas = quotas
        self.records = records


class StatsCollector:
    """Registers itself; two clients cannot share a registry.

    Args:
        registry: Where the families are scraped.
        sources: One a protocol.
        retries: Attempts that the Mixer at hand repeated, for all protocols; kept in the family of retries with the
            protocol ``all``.
    """

    def __init__(
        self, registry: CollectorRegistry, sources: Sequence[Source], retries: Callable[[], int] | None = None
    ) -> None:
        self._sources = sources
        self._retries = retries
        self._registry = registry
        registry.register(self)

    def close(self) -> None:
        """Take the families off the registry."""
        self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """The families, so that a registry notices when it has them already."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The families with what they are worth now."""
        label = ("protocol",)
        for name, text in COUNTERS.items():
            family = CounterMetricFamily(f"mixer_proxy_{name}", text, labels=label)
            if name == "remote_call_retries":
                family.add_metric(("all",), self._retries() if self._retries is not None else 0)
            else:
                for source in self._sources:
                    family.add_metric((source.protocol,), getattr(source.counters, name))
            yield family
        records = CounterMetricFamily(
            "mixer_proxy_report_records_dropped", "Records lost.", labels=("protocol", "reason")
        )
        batches = CounterMetricFamily(
            "mixer_proxy_report_batches_dropped", "Batches of records lost.", labels=("protocol", "reason")
        )
        rejected = CounterMetricFamily(
            "mixer_proxy_check_answers_rejected",
            "Answers not cached because what they referenced does not fit their request.",
            labels=label,
        )
        sizes = GaugeMetricFamily("mixer_proxy_cache_entries", "Entries of a cache.", labels=("protocol", "cache"))
        shapes = GaugeMetricFamily(
            "mixer_proxy_cache_shapes", "Sets of referenced attributes kept.", labels=("protocol", "cache")
        )
        pools = GaugeMetricFamily("mixer_proxy_quota_pools", "Prefetch pools, by mode.", labels=("protocol", "mode"))
        waiting = GaugeMetricFamily("mixer_proxy_report_records_waiting", "Records not yet reported.", labels=label)
        for source in self._sources:
            protocol, counters = source.protocol, source.counters
            for reason, count in counters.records_dropped.items():
                records.add_metric((protocol, reason), count)
            for reason, count in counters.batches_dropped.items():
                batches.add_metric((protocol, reason), count)
            if source.checks is not None:
                sizes.add_metric((protocol, "check"), len(source.checks))
                shapes.add_metric((protocol, "check"), source.checks.shapes)
                rejected.add_metric((protocol,), source.checks.rejected)
            if source.quotas is not None:
                opened = [pool.open for pool in source.quotas.pools()]
                sizes.add_metric((protocol, "quota"), len(opened))
                shapes.add_metric((protocol, "quota"), source.quotas.shapes)
                pools.add_metric((protocol, "open"), opened.count(True))
                pools.add_metric((protocol, "close"), opened.count(False))
            waiting.add_metric((protocol,), source.records())
        yield from (records, batches, rejected, sizes, shapes, pools, waiting)
