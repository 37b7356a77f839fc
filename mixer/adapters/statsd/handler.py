"""The handlers of statsd and dogstatsd: instances become lines, which leave by themselves. Source: spec adapters 4.12 and 5."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from mixer.adapters.base import Env, Handler, InstanceInfo
from mixer.adapters.statsd.ledger import Drop, Ledger, StatsdMetrics
from mixer.adapters.statsd.lines import LineEncoder, LineError, dogstatsd_encoder, statsd_encoder
from mixer.adapters.statsd.nametemplate import parse_template
from mixer.adapters.statsd.packets import Packets
from mixer.adapters.statsd.params import (
    DEFAULT_BUFFER_BYTES,
    DEFAULT_FLUSH,
    DEFAULT_FLUSH_BYTES,
    DOG_FLUSH,
    MAX_DATAGRAM_BYTES,
    DogstatsdParams,
    StatsdParams,
    parse_address,
)
from mixer.adapters.statsd.sender import Sender
from mixer.errors import AdapterError
from mixer.templates.metric import MetricInstance

_SHOWN: Final = 3
"""How many faults an error spells out."""


class StatsdHandler(Handler):
    """Takes instances without ever waiting; every one of them is accounted for."""

    def __init__(
        self, encoders: Mapping[str, LineEncoder], sender: Sender, ledger: Ledger, *, rate: float, chance: random.Random
    ) -> None:
        self._encoders, self._sender, self._ledger = encoders, sender, ledger
        self._rate, self._chance = rate, chance

    def handle_report(self, instances: Sequence[MetricInstance], /) -> None:
        """Take a batch, each instance by itself.

        Raises:
            AdapterError: Some are of no known metric, have a value of another type, or found no room.
        """
        ledger, faults = self._ledger, list[str]()
        ledger.accept(len(instances))
        for instance in instances:
            encode = self._encoders.get(instance.name)
            if encode is None:
                ledger.drop(Drop.UNKNOWN_METRIC)
                faults.append(f"{instance.name}: no such metric is configured, or its name template fails")
                continue
            try:
                line = encode(instance)
            except LineError as exc:
                ledger.drop(Drop.BAD_VALUE)
                faults.append(f"{instance.name}: {exc}")
                continue
            if self._rate < 1 and self._chance.random() >= self._rate:
                ledger.leave_out()
            elif (refusal := self._sender.offer(line)) is not None:
                ledger.drop(refusal)
                faults.append(f"{instance.name}: dropped, {refusal.value}")
        if faults:
            shown = "; ".join(faults[:_SHOWN])
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise AdapterError(f"{len(faults)} of {len(instances)} instances not sent: {shown}{more}")

    async def aclose(self) -> None:
        """Send what waits."""
        await self._sender.aclose()


async def build_statsd(params: StatsdParams, instances: Sequence[InstanceInfo], env: Env) -> StatsdHandler:
    """A handler with its task started; whether a server listens is not looked at."""
    flush_bytes = params.flush_bytes
    if flush_bytes <= 0:
        flush_bytes = DEFAULT_FLUSH_BYTES
        env.log.info("flush_bytes_by_default", flush_bytes=flush_bytes)
    flush = params.flush_duration if params.flush_duration > 0 else DEFAULT_FLUSH
    ledger = Ledger(StatsdMetrics.of("statsd", env), env.handler)
    packets = Packets(
        packet_bytes=flush_bytes, packet_lines=None, buffer_bytes=params.buffer_bytes or DEFAULT_BUFFER_BYTES
    )
    sender = Sender(parse_address(params.address), packets, ledger, env, interval_s=flush.seconds)
    env.spawn(sender.run())
    return StatsdHandler(
        _statsd_encoders(params, instances, env), sender, ledger, rate=params.sampling_rate, chance=random.Random()
    )


def _statsd_encoders(params: StatsdParams, instances: Sequence[InstanceInfo], env: Env) -> dict[str, LineEncoder]:
    prefix = f"{params.prefix.removesuffix('.')}." if params.prefix else ""
    known = {instance.name: instance for instance in instances}
    encoders: dict[str, LineEncoder] = {}
    for name, metric in params.metrics.items():
        if name not in known:
            env.log.info("metric_without_instances", metric=name, reason="no rule routes such an instance here")
            continue
        template = parse_template(metric.name_template) if metric.name_template else None
        dimensions = known[name].types.get("dimensions")
        if template is not None and (fault := template.trial(dimensions if isinstance(dimensions, Mapping) else ())):
            env.log.warning("metric_left_out", metric=name, reason=f"its name template fails: {fault}")
            continue
        encoders[name] = statsd_encoder(metric.type, template, name, prefix, params.sampling_rate)
    return encoders


async def build_dogstatsd(params: DogstatsdParams, instances: Sequence[InstanceInfo], env: Env) -> StatsdHandler:
    """A handler with its task started; whether an agent listens is not looked at."""
    ledger = Ledger(StatsdMetrics.of("dogstatsd", env), env.handler)
    packets = Packets(
        packet_bytes=MAX_DATAGRAM_BYTES,
        packet_lines=params.buffer_length or 1,
        buffer_bytes=params.buffer_bytes or DEFAULT_BUFFER_BYTES,
    )
    sender = Sender(parse_address(params.address), packets, ledger, env, interval_s=DOG_FLUSH.seconds)
    env.spawn(sender.run())
    prefix = params.prefix if params.prefix.endswith(".") or not params.prefix else f"{params.prefix}."
    encoders = {
        name: dogstatsd_encoder(
            metric.type, prefix + metric.name, {**params.global_tags, **metric.tags}, params.sample_rate
        )
        for name, metric in params.metrics.items()
    }
    return StatsdHandler(encoders, sender, ledger, rate=params.sample_rate, chance=random.Random())
