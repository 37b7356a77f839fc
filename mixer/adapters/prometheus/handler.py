"""The prometheus handler: binds its metrics, records reports, sweeps what has expired. Source: spec adapters 4.1."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixer.adapters.base import Env, Handler, InstanceInfo
from mixer.adapters.prometheus.definitions import define, with_labels
from mixer.adapters.prometheus.params import MetricInfo, PrometheusParams
from mixer.adapters.prometheus.recording import OpenSeries, Recorder
from mixer.adapters.prometheus.series import RecordError
from mixer.adapters.prometheus.store import ConflictError, MetricStore, User
from mixer.errors import AdapterError
from mixer.templates.metric import MetricInstance

_SHOWN = 3
"""How many faults an error spells out."""


class PrometheusHandler(Handler):
    """Aggregates in place; a report costs a dictionary access for each instance and waits for nothing.

    A metric that another running handler defines differently is left out, with a log line, and its instances are
    errors. It joins as soon as nobody stands against it, for example when both handlers were changed in one go and
    their predecessors are closed.
    """

    def __init__(self, params: PrometheusParams, instances: Sequence[InstanceInfo], env: Env) -> None:
        policy = params.metrics_expiration_policy
        self._env = env
        self._store = MetricStore.of(env.shared, env.scrape)
        self._user = User(env.handler, policy.metrics_expiry_duration.seconds if policy else math.inf)
        self._cap = params.max_series_per_metric
        self._dimensions = {i.name: keys for i in instances if isinstance(keys := i.types.get("dimensions"), Mapping)}
        self._recorders: dict[str, Recorder] = {}
        self._refused: dict[str, tuple[MetricInfo, str]] = {}
        self._sweeper: asyncio.Task[Any] | None = None
        self._closed = False
        for info in params.metrics:
            if (reason := self._bind(info)) is not None:
                env.log.error("metric_left_out", instance=info.instance_name, reason=reason)
        if policy:
            interval = policy.expiry_check_interval_duration.seconds or self._user.expiry_s / 2
            env.spawn(self._sweep(interval))

    def handle_report(self, instances: Sequence[MetricInstance], /) -> None:
        """Record a batch, each instance by itself."""
        if self._refused:
            self._bind_refused()
        now = self._env.clock.monotonic()
        recorders = self._recorders
        faults: list[str] = []
        for instance in instances:
            try:
                recorder = recorders.get(instance.name)
                if recorder is None:
                    raise RecordError(self._why_unknown(instance.name))
                recorder.record(instance, now)
            except RecordError as exc:
                faults.append(f"{instance.name}: {exc}")
        if faults:
            raise AdapterError(_summary(faults, len(instances)))

    def open_series(self, instance: str, dimensions: Mapping[str, Any], /) -> OpenSeries | None:
        """Where values of an instance with these dimensions go; None while its metric is left out."""
        recorder = self._recorders.get(instance)
        if recorder is None:
            return None
        try:
            return recorder.open(dimensions)
        except RecordError as exc:
            raise AdapterError(_summary([f"{instance}: {exc}"], 1)) from exc

    def handle_samples(self, samples: Sequence[tuple[Any, Any]], /) -> None:
        """Record values for open series, each by itself."""
        now = self._env.clock.monotonic()
        faults: list[str] = []
        for series, value in samples:
            try:
                series.take(value, now)
            except RecordError as exc:
                faults.append(f"{series.name}: {exc}")
        if faults:
            raise AdapterError(_summary(faults, len(samples)))

    async def aclose(self) -> None:
        """Stop sweeping and let go of the metrics, which stay exposed."""
        if not self._closed:
            self._closed = True
            self._store.release(self._user)
            if self._sweeper is not None:
                self._sweeper.cancel()

    def _bind(self, info: MetricInfo) -> str | None:
        """Get the series of a metric; answers why it cannot be had."""
        name = info.instance_name
        try:
            series = self._store.bind(define(with_labels(info, self._dimensions.get(name, ()))), self._user)
        except ConflictError as exc:
            if name:
                self._refused[name] = info, str(exc)
            return str(exc)
        if name:
            self._recorders[name] = Recorder(series, self._dimensions.get(name, ()), self._cap)
        return None

    def _bind_refused(self) -> None:
        if self._closed:
            return
        waiting, self._refused = self._refused, {}
        for info, _ in waiting.values():
            if self._bind(info) is None:
                self._env.log.info("metric_joins", instance=info.instance_name)

    def _why_unknown(self, name: str) -> str:
        return self._refused[name][1] if name in self._refused else "could not find metric info"

    async def _sweep(self, interval_s: float) -> None:
        self._sweeper = asyncio.current_task()
        while not self._closed:
            await self._env.clock.sleep(interval_s)
            if dropped := self._store.expire(self._env.clock.monotonic()):
                self._env.log.debug("series_expired", count=dropped)


def _summary(faults: Sequence[str], batch: int) -> str:
    shown = "; ".join(faults[:_SHOWN])
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return f"{len(faults)} of {batch} instances not recorded: {shown}{more}"
