"""The handler of keychecker: looks keys up, and keeps those of a file up to date."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Sequence
from typing import Final, cast

from prometheus_client import Counter, Gauge

from mixer.adapters.base import CheckResult, Code, Env, Handler, InstanceInfo, Status
from mixer.adapters.keychecker.file import Mark, mark_of, read_keys
from mixer.adapters.keychecker.keys import Grant, Holder, KeyTable, Pattern
from mixer.adapters.keychecker.params import Key, KeyCheckerParams, digest_of_key
from mixer.attributes import Duration, Timestamp
from mixer.errors import BackendUnavailableError
from mixer.templates.apikey import ApiKeyInstance

_METRICS: Final = "metrics"


class Outcome(enum.StrEnum):
    """How a check ended."""

    ADMITTED = "admitted"
    MISSING = "missing"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    FORBIDDEN = "forbidden"
    NO_KEYS = "no_keys"
    """The file of keys has never been read."""


class KeyMetrics:
    """The metrics of all handlers of the adapter; one object for each process."""

    def __init__(self, env: Env) -> None:
        self.checks = Counter(
            "mixer_keychecker_checks", "Checks by their end.", ("handler", "outcome"), registry=env.metrics
        )
        self.keys = Gauge("mixer_keychecker_keys", "Keys that are known.", ("handler",), registry=env.metrics)
        self.stale = Gauge(
            "mixer_keychecker_file_stale",
            "1 while the file of keys cannot be read, or is wrong.",
            ("handler",),
            registry=env.metrics,
        )

    @classmethod
    def of(cls, env: Env) -> KeyMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _METRICS not in env.shared:
            env.shared[_METRICS] = cls(env)
        return cast(KeyMetrics, env.shared[_METRICS])


class KeyHandler(Handler):
    """Answers from the keys of the params and of the file, which `keep_fresh` looks at."""

    def __init__(self, params: KeyCheckerParams, env: Env) -> None:
        metrics = KeyMetrics.of(env)
        self._params, self._env = params, env
        self._count = {outcome: metrics.checks.labels(env.handler, outcome.value) for outcome in Outcome}
        self._known, self._stale = metrics.keys.labels(env.handler), metrics.stale.labels(env.handler)
        self._mark: Mark | None = None
        self._failure = "" if not params.keys_file else "it has not been read yet"
        self._complete = not params.keys_file
        self._task: asyncio.Task[object] | None = None
        self._closed = False
        self._missing = self._answer(Code.UNAUTHENTICATED, "API key is missing")
        self._unknown = self._answer(Code.UNAUTHENTICATED, "API key is not valid")
        self._yes = self._answer(Code.OK, "")
        self._take(())

    def handle_check(self, instance: ApiKeyInstance, /) -> CheckResult:
        """Look the key up.

        Raises:
            BackendUnavailableError: It is unknown, and the file of keys could never be read.
        """
        if not instance.api_key:
            return self._ended(Outcome.MISSING, self._missing)
        holder = self._table.find(instance.api_key)
        if holder is None:
            if not self._complete:
                self._count[Outcome.NO_KEYS].inc()
                raise BackendUnavailableError(f"there are no keys: {self._failure}")
            return self._ended(Outcome.UNKNOWN, self._unknown)
        left = self._left(holder)
        if left is not None and left <= 0:
            return self._ended(
                Outcome.EXPIRED, self._answer(Code.UNAUTHENTICATED, f"the key of {holder.name} has expired")
            )
        if not holder.may(instance):
            message = f"the key of {holder.name} is not good for this operation"
            return self._ended(Outcome.FORBIDDEN, self._answer(Code.PERMISSION_DENIED, message))
        if left is not None and left < self._params.valid_duration:
            return self._ended(Outcome.ADMITTED, CheckResult(self._yes.status, left, self._params.valid_use_count))
        return self._ended(Outcome.ADMITTED, self._yes)

    def _left(self, holder: Holder) -> Duration | None:
        """How long a key still holds, None for ever."""
        return None if holder.not_after is None else Duration(int(holder.not_after) - int(self._env.clock.now()))

    def _answer(self, code: Code, message: str) -> CheckResult:
        return CheckResult(Status(code, message), self._params.valid_duration, self._params.valid_use_count)

    def _ended(self, outcome: Outcome, result: CheckResult) -> CheckResult:
        self._count[outcome].inc()
        return result

    async def refresh(self) -> None:
        """Read the file when it has changed; what is wrong with it keeps the keys that are there."""
        path = self._params.keys_file
        mark = await asyncio.to_thread(mark_of, path)
        if mark is not None and mark == self._mark:
            return
        try:
            keys = await asyncio.to_thread(read_keys, path)
        except BackendUnavailableError as exc:
            if str(exc) != self._failure:
                self._env.log.warning("keys_not_read", reason=str(exc), outcome="the former keys hold")
            self._failure = str(exc)
            self._stale.set(1)
        else:
            self._complete, self._failure = True, ""
            self._stale.set(0)
            self._take(keys)
            self._env.log.info("keys_read", count=len(keys))
        self._mark = mark

    def _take(self, keys: Sequence[Key]) -> None:
        self._table = KeyTable(_holders([*self._params.keys, *keys]))
        self._known.set(len(self._table))

    async def keep_fresh(self) -> None:
        """Look at the file at every interval; runs until `aclose`."""
        self._task = asyncio.current_task()
        while not self._closed:
            await self._env.clock.sleep(self._params.refresh_interval.seconds)
            await self.refresh()

    async def aclose(self) -> None:
        """Stop looking at the file."""
        self._closed = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait({self._task})
        self._table = KeyTable(())


def _holders(keys: Iterable[Key]) -> Iterable[Holder]:
    for key in keys:
        grants = tuple(
            Grant(
                Pattern.parse(allowed.api),
                tuple(map(Pattern.parse, allowed.versions)),
                tuple(map(Pattern.parse, allowed.operations)),
            )
            for allowed in key.allow
        )
        not_after = Timestamp.parse(key.not_after) if key.not_after else None
        yield Holder(key.name, digest_of_key(key), grants, not_after)


async def build(params: KeyCheckerParams, instances: Sequence[InstanceInfo], env: Env) -> KeyHandler:
    """A handler that has tried to read its file once, which may fail."""
    handler = KeyHandler(params, env)
    if params.keys_file:
        await handler.refresh()
        env.spawn(handler.keep_fresh())
    return handler
