"""What a scrape tells of certificates; it has the files looked at, too, so a broken renewal shows without callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mixer.tls.handshakes import Refusals
from mixer.tls.renewal import Renewed


class Certified(Protocol):
    """`mixer.tls.server.ServerCertificates` or `mixer.tls.client.ClientCertificates`."""

    @property
    def renewed(self) -> Renewed[Any]:
        """The files and what became of them."""
        ...

    @property
    def refusals(self) -> Refusals:
        """Handshakes that failed."""
        ...

    @property
    def not_after_s(self) -> float:
        """When the certificate in use ends; 0 for none."""
        ...


class TlsCollector(Collector):
    """Families with a label ``side``: ``server`` for what is shown to callers, ``client`` for what Mixer is shown."""

    def __init__(self, **sides: Certified) -> None:
        self._sides = sides

    def collect(self) -> Iterable[Metric]:
        """The families."""
        labels = ("side",)
        renewals = CounterMetricFamily("mixer_tls_renewals", "Renewed certificate files taken into use.", labels=labels)
        failures = CounterMetricFamily(
            "mixer_tls_renewal_failures", "Renewed certificate files not fit for use; the log says why.", labels=labels
        )
        stale = GaugeMetricFamily(
            "mixer_tls_stale", "1 while the files are not fit for use and former ones serve.", labels=labels
        )
        end = GaugeMetricFamily(
            "mixer_tls_certificate_not_after_seconds",
            "When the certificate in use ends, as a Unix time.",
            labels=labels,
        )
        refused = CounterMetricFamily(
            "mixer_tls_handshakes_refused",
            "Handshakes that failed, of Mixer's own HTTP/2 and of checks over HTTP; grpcio counts none.",
            labels=("side", "reason"),
        )
        for side, certified in self._sides.items():
            not_after_s, renewed = certified.not_after_s, certified.renewed
            renewals.add_metric((side,), renewed.renewals)
            failures.add_metric((side,), renewed.failures)
            stale.add_metric((side,), float(bool(renewed.fault)))
            if not_after_s:
                end.add_metric((side,), not_after_s)
            for reason, count in sorted(certified.refusals.counts.items()):
                refused.add_metric((side, reason), count)
        return renewals, failures, stale, end, refused
