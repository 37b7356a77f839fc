"""The life of a TCP connection as Mixer sees it: one Check at the first data, then records until it closes.

``connection.{received,sent}.bytes`` count from the last ``continue`` record, not from the last record: ``open`` and the
first ``continue`` both contain the bytes up to ``open``. Sum over ``continue`` and ``close``, or take the totals of
``close``. Source: spec proxy 4.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from mixer.attributes import AttributeBag, AttributeValue, Duration, MappingBag, Timestamp
from proxy.client.bags import with_report
from proxy.client.outcome import check_attributes
from proxy.client.values import AttributeValues
from proxy.policy import NOT_CHECKED, PolicyClient, Verdict


class TcpConnection:
    """A connection that was accepted. The host calls, in this order: `check`, `opened` if the verdict is OK, `close`.

    Bytes are counted with `count` as they pass. What the peer is (TLS, addresses) is given at the first data, because
    at accept the handshake is not over.

    Args:
        client: Composes, decides, takes records.
        connection_id: Unique in the process and beyond.
        local: ``destination.ip`` and ``destination.port`` that hold until an upstream host is chosen.
        report_interval_s: Between two ``continue`` records.
        monotonic_ns: A clock that is never set, in nanoseconds.
        wall_ns: The time of day, in nanoseconds since 1970.
    """

    def __init__(
        self,
        client: PolicyClient,
        connection_id: str,
        *,
        local: AttributeValues,
        report_interval_s: float = 10.0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._client = client
        self._id = connection_id
        self._upstream: dict[str, AttributeValue] = dict(local)
        self._metadata: dict[str, AttributeValue] = {}
        self._interval_s = report_interval_s
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._began_ns = monotonic_ns()
        self._bag: AttributeBag | None = None
        self._verdict: Verdict = NOT_CHECKED
        self._received = self._sent = 0
        self._base: tuple[int, int] = (0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._reports: set[asyncio.Task[None]] = set()
        self._closed = False

    def count(self, *, received: int = 0, sent: int = 0) -> None:
        """Bytes passed: ``received`` from the client, ``sent`` to it."""
        self._received += received
        self._sent += sent

    def upstream(self, attributes: AttributeValues) -> None:
        """An upstream host is chosen: its ``destination.ip``, ``destination.port`` and perhaps ``destination.uid``."""
        self._upstream.update(attributes)

    def filter_metadata(self, attributes: AttributeValues) -> None:
        """What a protocol filter found out since the last record."""
        self._metadata.update(attributes)

    def check(self, derived: AttributeValues, *, timeout_s: float | None = None) -> Verdict | Awaitable[Verdict]:
        """The verdict, at the first data of the client; reading should stop until it is there.

        Args:
            derived: What the connection itself says: addresses, identities, TLS.
            timeout_s: The verdict is worth nothing after so many seconds.
        """
        own: dict[str, AttributeValue] = {
            "context.protocol": "tcp",
            "connection.id": self._id,
            "context.time": Timestamp(self._wall_ns()),
        }
        self._bag = self._client.compose(MappingBag({**derived, **own}), tcp=True)
        found = self._client.check(self._bag, tcp=True, timeout_s=timeout_s)
        if not isinstance(found, Verdict):
            return self._await(found)
        self._verdict = found
        return found

    def opened(self) -> None:
        """The connection may go on: record ``open``, and ``continue`` from time to time."""
        self._record("open")
        self._wait()

    def close(self, derived: AttributeValues | None = None) -> None:
        """Either side closed, or the check denied: record ``close``, once.

        Args:
            derived: What the connection itself says, for one that closes before any data and was never checked.
        """
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._bag is None:
            own = {"context.protocol": "tcp", "connection.id": self._id}
            self._bag = self._client.compose(MappingBag({**(derived or {}), **own}), tcp=True)
        elapsed = Duration(self._monotonic_ns() - self._began_ns)
        errors = {name: value for name, value in check_attributes(self._verdict).items() if "error" in name}
        self._record("close", {"connection.duration": elapsed, **errors})

    async def wait_reported(self) -> None:
        """Until the client has taken all records; to be awaited before the connection is forgotten."""
        while self._reports:
            await asyncio.gather(*self._reports)

    async def _await(self, found: Awaitable[Verdict]) -> Verdict:
        self._verdict = await found
        return self._verdict

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._continue)

    def _continue(self) -> None:
        self._record("continue")
        self._base = (self._received, self._sent)
        self._wait()

    def _record(self, event: str, more: AttributeValues | None = None) -> None:
        assert self._bag is not None
        received, sent = self._base
        cached = {name: value for name, value in check_attributes(self._verdict).items() if "cache_hit" in name}
        values: dict[str, AttributeValue] = {
            **self._metadata,
            **self._upstream,
            **cached,
            "context.time": Timestamp(self._wall_ns()),
            "connection.event": event,
            "connection.received.bytes": self._received - received,
            "connection.sent.bytes": self._sent - sent,
            "connection.received.bytes_total": self._received,
            "connection.sent.bytes_total": self._sent,
            **(more or {}),
        }
        self._metadata = {}
        taken = self._client.report([with_report(self._bag, values)], tcp=True)
        if taken is not None:
            task = asyncio.get_running_loop().create_task(_finish(taken), name="report a connection")
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)


async def _finish(taken: Awaitable[None]) -> None:
    await taken
