"""Handlers that all workers share: they run in the owner, and a worker has a stand-in that asks it.

An adapter says so by ``AdapterInfo.shared``. Its handlers see every call of every worker, one after the other,
just as in a single process. The worker's dispatcher puts its usual time-out on the answer, so an owner that is
slow costs a call no more than any slow handler; one that is gone fails it at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

import structlog

from mixer.adapters.base import AdapterInfo, CheckResult, Env, Handler, InstanceInfo, QuotaArgs, QuotaResult
from mixer.attributes import AttributeValue
from mixer.errors import AdapterError, BackendUnavailableError, UnknownQuotaError
from mixer.server.workers.link import Link

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.workers.sharing")

CALLS: Final = frozenset({"handle_check", "handle_report", "handle_quota", "generate_attributes"})
_ERRORS: Final = {kind.__name__: kind for kind in (BackendUnavailableError, UnknownQuotaError, AdapterError)}


class OwnerCalls:
    """A worker's calls to its owner that wait for their answers."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._lost = False

    async def call(self, handler: str, method: str, *arguments: Any) -> Any:
        """Ask a handler of the owner.

        Raises:
            AdapterError: What the handler raised, or `BackendUnavailableError` when there is no owner to ask.
        """
        if self._lost:
            raise BackendUnavailableError("the process that keeps the state of this handler is gone")
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._link.send("call", number, handler, method, arguments)
            return await future
        finally:
            del self._waiting[number]

    def answered(self, number: int, error: str, value: Any) -> None:
        """The owner's answer to a call, or its error and message."""
        future = self._waiting.get(number)
        if future is None or future.done():
            return  # the call has timed out
        if error:
            future.set_exception(_ERRORS.get(error, AdapterError)(value))
        else:
            future.set_result(value)

    def lose(self) -> None:
        """The owner is gone; nobody need wait."""
        self._lost = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BackendUnavailableError("the process that keeps the state of this handler died"))


class StandIn(Handler):
    """A worker's side of a handler that runs in the owner."""

    def __init__(self, name: str, calls: OwnerCalls) -> None:
        self._name, self._calls = name, calls

    def handle_check(self, instance: Any, /) -> Awaitable[CheckResult]:
        """Ask."""
        return self._calls.call(self._name, "handle_check", instance)

    def handle_report(self, instances: Sequence[Any], /) -> Awaitable[None]:
        """Hand on."""
        return self._calls.call(self._name, "handle_report", instances)

    def handle_quota(self, instance: Any, args: QuotaArgs, /) -> Awaitable[QuotaResult]:
        """Ask."""
        return self._calls.call(self._name, "handle_quota", instance, args)

    def generate_attributes(self, instance: Any, /) -> Awaitable[Mapping[str, AttributeValue]]:
        """Ask."""
        return self._calls.call(self._name, "generate_attributes", instance)


class SharedHandlers:
    """The owner's handlers that workers may call, by display name.

    ``settled`` is waited for before a handler is closed: workers may still serve the former configuration.
    """

    def __init__(self, settled: Callable[[], Awaitable[object]]) -> None:
        self._settled = settled
        self._handlers: dict[str, Handler] = {}

    async def answer(self, link: Link, number: int, name: str, method: str, arguments: tuple[Any, ...]) -> None:
        """Serve a worker's call; whatever goes wrong is an answer, too."""
        try:
            handler = self._handlers.get(name)
            if handler is None or method not in CALLS:
                raise BackendUnavailableError(f"handler '{name}' does not run any more")
            value = getattr(handler, method)(*arguments)
            if inspect.isawaitable(value):
                value = await value
            link.send("answer", number, "", value)
        except AdapterError as exc:
            kind = next(name for name, kind in _ERRORS.items() if isinstance(exc, kind))
            link.send("answer", number, kind, str(exc))
        except Exception as exc:
            log.error("handler_crashed", handler=name, exc_info=exc)
            link.send("answer", number, "AdapterError", f"handler '{name}' crashed: {type(exc).__name__}: {exc}")

    def keep(self, info: AdapterInfo) -> AdapterInfo:
        """The adapter as the owner runs it: shared handlers can be called while they live, others do nothing."""

        async def build(params: Any, instances: Sequence[InstanceInfo], env: Env) -> Handler:
            if not info.shared(params):
                return Handler()
            inner = await info.build(params, instances, env)
            self._handlers[env.handler] = inner
            return _Kept(inner, lambda: self._forget(env.handler, inner))

        return replace(info, build=build)

    async def _forget(self, name: str, handler: Handler) -> None:
        await self._settled()
        if self._handlers.get(name) is handler:
            del self._handlers[name]


class _Kept(Handler):
    """Closes a shared handler when no worker can call it any more."""

    def __init__(self, inner: Handler, forget: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._forget = inner, forget

    async def aclose(self) -> None:
        await self._forget()
        await self._inner.aclose()


def with_stand_ins(info: AdapterInfo, calls: OwnerCalls) -> AdapterInfo:
    """The adapter as a worker runs it: shared handlers are asked from afar, others are here."""

    async def build(params: Any, instances: Sequence[InstanceInfo], env: Env) -> Handler:
        return StandIn(env.handler, calls) if info.shared(params) else await info.build(params, instances, env)

    return replace(info, build=build)
