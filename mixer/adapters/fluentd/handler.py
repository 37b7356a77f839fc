"""The fluentd handler: log entries become entries of a queue, which a task of its own delivers.

Source: spec adapters 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from mixer.adapters.base import Env, Handler, InstanceInfo
from mixer.adapters.fluentd.chunks import EntryQueue
from mixer.adapters.fluentd.connection import ForwardConnection
from mixer.adapters.fluentd.entries import Entry, EntryEncoder, EntryError
from mixer.adapters.fluentd.ledger import FluentdMetrics, Ledger, Reason
from mixer.adapters.fluentd.memory import MemoryQueue
from mixer.adapters.fluentd.params import FluentdParams, Limits, split_address
from mixer.adapters.fluentd.shipper import Shipper
from mixer.adapters.fluentd.spool import SpoolQueue
from mixer.errors import AdapterError
from mixer.templates.logentry import LogEntryInstance

CLOSE_TIMEOUT_S: Final = 5.0
_SHOWN: Final = 3
"""How many faults an error spells out."""


class FluentdHandler(Handler):
    """Takes entries without ever waiting; every one of them is accounted for."""

    def __init__(
        self,
        encoder: EntryEncoder,
        queue: EntryQueue,
        shipper: Shipper,
        ledger: Ledger,
        *,
        batch_bytes: int,
        durable: bool,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._encoder, self._queue, self._shipper, self._ledger = encoder, queue, shipper, ledger
        self._batch_bytes, self._durable, self._log = batch_bytes, durable, log
        self._closed = False

    def handle_report(self, instances: Sequence[LogEntryInstance], /) -> None:
        """Take entries, in order; one that is larger than a batch is dropped without an error.

        Raises:
            AdapterError: Some are lost; all others are taken.
        """
        ledger, faults, entries = self._ledger, list[str](), list[Entry]()
        ledger.accept(len(instances))
        if self._closed:
            ledger.drop(Reason.CLOSED, len(instances))
            raise AdapterError("fluentd handler is closed; dropping log entries")
        for instance in instances:
            try:
                entry = self._encoder.encode(instance)
            except EntryError as exc:
                ledger.drop(exc.reason)
                faults.append(str(exc))
                continue
            if entry.size > self._batch_bytes:
                ledger.drop(Reason.TOO_LARGE)
            else:
                entries.append(entry)
        if refusal := self._queue.extend(entries) if entries else None:
            ledger.drop(refusal.reason, refusal.count)
            faults.append(f"{refusal.message} ({refusal.count} of them)" if refusal.count > 1 else refusal.message)
        if self._queue.ripe:
            self._shipper.wake()
        if faults:
            shown = "; ".join(faults[:_SHOWN])
            raise AdapterError(f"{shown}; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else shown)

    async def aclose(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what waits, for the given time at most; the rest stays in the spool, or is dropped."""
        if self._closed:
            return
        self._closed = True
        await self._shipper.aclose(timeout_s)
        rest = self._ledger.buffered
        if rest and self._durable:
            self._log.info("fluentd_entries_left_in_spool", entries=rest)
        elif rest:  # at the end of the process nobody will read the counter any more
            self._log.warning("fluentd_entries_dropped", reason=Reason.CLOSED.value, entries=rest)
        if self._durable:
            self._ledger.leave()
        else:
            self._ledger.drop(Reason.CLOSED, rest)
        await self._queue.aclose()


async def build(params: FluentdParams, instances: Sequence[InstanceInfo], env: Env) -> FluentdHandler:
    """A handler with its tasks started. Nothing is sent yet, so a receiver that is away does no harm.

    Raises:
        AdapterError: The spool cannot be made.
    """
    limits = Limits.of(params)
    host, port = split_address(params.address)
    ledger = Ledger(FluentdMetrics.of(env), env.handler)
    queue: EntryQueue
    if params.spool_directory:
        queue = spool = SpoolQueue(params.spool_directory, limits, ledger, env)
        env.spawn(spool.sync())
    else:
        queue = MemoryQueue(limits)
    connection = ForwardConnection(host, port, timeout_s=limits.timeout_s, ask_ack=params.require_ack_response)
    shipper = Shipper(queue, connection, ledger, interval_s=limits.interval_s, clock=env.clock, log=env.log)
    env.spawn(shipper.run())
    encoder = EntryEncoder(params, instances, env.clock)
    return FluentdHandler(
        encoder,
        queue,
        shipper,
        ledger,
        batch_bytes=limits.batch_bytes,
        durable=bool(params.spool_directory),
        log=env.log,
    )
