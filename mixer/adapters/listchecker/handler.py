"""The handler of listchecker: a list, kept fresh in the background, and answers from it. Source: spec adapters 4.5."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, cast

from prometheus_client import Counter, Gauge

from mixer.adapters.base import CheckResult, Code, Env, Handler, Status
from mixer.adapters.listchecker.entries import EntryList, ListSyntaxError, UnusableValueError, make_list, read_entries
from mixer.adapters.listchecker.fetch import ListSource
from mixer.adapters.listchecker.params import ListCheckerParams
from mixer.attributes.values import format_ip, stringify
from mixer.errors import BackendUnavailableError
from mixer.templates.listentry import ListEntryInstance

_READ_AT_ONCE: Final = 1 << 16
"""Bodies up to that many bytes are read on the event loop, larger ones in a thread."""
_METRICS: Final = "metrics"


class ListMetrics:
    """The metrics of all handlers that fetch their lists; one object for each process."""

    def __init__(self, env: Env) -> None:
        label = ("handler",)
        self.fetches = Counter(
            "mixer_listchecker_fetches", "Fetches of lists by their end.", (*label, "outcome"), registry=env.metrics
        )
        self.stale = Gauge(
            "mixer_listchecker_list_stale",
            "1 while the list cannot be fetched, or is wrong.",
            label,
            registry=env.metrics,
        )

    @classmethod
    def of(cls, env: Env) -> ListMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _METRICS not in env.shared:
            env.shared[_METRICS] = cls(env)
        return cast(ListMetrics, env.shared[_METRICS])


class ListHandler(Handler):
    """Answers from a list.

    Without a source, the list is the overrides. With one, the builder awaits `refresh` once and spawns
    `keep_fresh`; a list then lives ``ttl`` after the last fetch that succeeded. A fetch that is under way
    when that time comes decides: ``ttl`` and ``refreshInterval`` may be the same without a gap.
    """

    def __init__(self, params: ListCheckerParams, env: Env, source: ListSource | None = None) -> None:
        self._params = params
        self._env = env
        self._source = source
        self._list: EntryList | None = None if source else make_list(params.entry_type, params.overrides)
        self._digest = b""
        self._expires_s = 0.0
        self._failure = ""
        self._refresher: asyncio.Task[None] | None = None
        self._closed = False
        self._yes = self._answer(Code.OK, "")
        if source is not None:
            metrics = ListMetrics.of(env)
            self._good, self._bad = (metrics.fetches.labels(env.handler, end) for end in ("success", "failure"))
            self._stale = metrics.stale.labels(env.handler)

    def handle_check(self, instance: ListEntryInstance, /) -> CheckResult:
        """Look the value up: a text, or the bytes of an address.

        Raises:
            BackendUnavailableError: There is no list, because it could not be fetched.
        """
        value = instance.value
        if isinstance(value, bytes):
            value = format_ip(value)
        elif not isinstance(value, str):
            return self._answer(Code.INVALID_ARGUMENT, f"{stringify(value)} is not a valid string or IP address")
        if self._list is None:
            raise BackendUnavailableError(f"there is no list: {self._failure or 'it has not been fetched yet'}")
        try:
            found = self._list.contains(value)
        except UnusableValueError as exc:
            return self._answer(Code.INVALID_ARGUMENT, str(exc))
        if found is not self._params.blacklist:
            return self._yes
        why = "is blacklisted" if found else "is not whitelisted"
        return self._answer(Code.PERMISSION_DENIED, f"{value} {why}")

    def _answer(self, code: Code, message: str) -> CheckResult:
        return CheckResult(Status(code, message), self._params.caching_interval, self._params.caching_use_count)

    async def refresh(self) -> None:
        """Fetch the list once; any failure keeps the list that is there, and its time."""
        if self._source is None:
            return
        try:
            body = await self._source.fetch()
            digest = hashlib.sha1(body, usedforsecurity=False).digest()
            if self._list is None or digest != self._digest:
                self._list = await self._read(body)
                self._digest = digest
        except BackendUnavailableError as exc:
            self._fail(str(exc))
        except ListSyntaxError as exc:
            self._fail(f"{self._source}: {exc}")
        else:
            self._good.inc()
            self._stale.set(0)
            if self._failure:
                self._env.log.info("list_fetched_again")
            self._failure = ""
            self._expires_s = self._env.clock.monotonic() + self._params.ttl.seconds

    async def _read(self, body: bytes) -> EntryList:
        if len(body) > _READ_AT_ONCE:
            return await asyncio.to_thread(self._list_of, body)
        return self._list_of(body)

    def _list_of(self, body: bytes) -> EntryList:
        kind = self._params.entry_type
        return make_list(kind, [*read_entries(kind, body), *self._params.overrides])

    def _fail(self, reason: str) -> None:
        self._bad.inc()
        self._stale.set(1)
        # A URL that is away is away for many fetches: the log has the first, and each other reason; the counter all.
        if reason != self._failure:
            self._env.log.warning("list_fetch_failed", reason=reason, has_list=self._list is not None)
        self._failure = reason

    async def keep_fresh(self) -> None:
        """Fetch at every interval, and drop the list when its time is over; runs until `aclose`."""
        if self._closed:
            return
        self._refresher = asyncio.current_task()
        clock, interval_s = self._env.clock, self._params.refresh_interval.seconds
        fetch_at = clock.monotonic() + interval_s
        while True:
            if self._list is not None and self._expires_s < fetch_at:
                await clock.sleep(self._expires_s - clock.monotonic())
                self._list = None
                self._env.log.warning("list_dropped", reason=self._failure, ttl=str(self._params.ttl))
            await clock.sleep(fetch_at - clock.monotonic())
            await self.refresh()
            # Intervals count from fetch to fetch as planned; those that a slow fetch has missed are left out.
            fetch_at = max(fetch_at + interval_s, clock.monotonic())

    async def aclose(self) -> None:
        """Stop fetching."""
        self._closed = True
        if self._refresher is not None and self._refresher is not asyncio.current_task():
            self._refresher.cancel()
            await asyncio.wait({self._refresher})
        if self._source is not None:
            await self._source.aclose()
