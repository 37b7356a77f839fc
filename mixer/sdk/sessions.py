"""One handler for each configuration that Mixer sends, however many sessions share it.

The workers of a Mixer each open a session with the same configuration, and open it anew after a break of the
connection. They all get the same handler, so what it keeps (counters, connections) is one, and survives the break.

Source: spec runtime 6.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from time import monotonic, time_ns
from typing import Any, Final

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry

from mixer.adapters.base import AdapterInfo, Env, Handler, InstanceInfo
from mixer.adapters.remote.descriptors import TemplateModel
from mixer.adapters.remote.types import read_types
from mixer.attributes import Timestamp
from mixer.errors import AdapterError
from mixer.sdk.params import ParamsCodec
from mixer.store.problem import FieldError, format_path
from mixer.store.protojson import decode
from mixer.templates import Template

MOST_SESSIONS: Final = 1000
"""Above this the session that was used least recently is forgotten; Mixer opens it anew if it lives."""

IDLE_S: Final = 3600.0
"""A session that is not used for so long belongs to a Mixer that is no more."""

LINGER_S: Final = 10.0
"""A handler without sessions waits so long for its Mixer to come back."""

MOST_STATELESS: Final = 32
"""Handlers for configurations that come with each call."""

BUILD_LIMIT_S: Final = 30.0
CLOSE_LIMIT_S: Final = 10.0


class RefusedError(AdapterError):
    """A configuration that the adapter does not take, and why."""


class UnknownSessionError(AdapterError):
    """A session that was never opened here, or was forgotten."""


class SystemClock:
    """The time of the machine."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return monotonic()

    def now(self) -> Timestamp:
        """The wall clock."""
        return Timestamp(time_ns())

    async def sleep(self, seconds: float, /) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass(eq=False, slots=True)
class _Running:
    """A handler with the tasks it started; ``sessions`` counts who uses it."""

    key: tuple[Any, ...]
    handler: Handler
    sessions: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    leave_at: float = 0.0


@dataclass(eq=False, slots=True)
class _Session:
    running: _Running
    used_at: float


class Sessions:
    """All handlers of one adapter in this process, and the sessions by which Mixer knows them."""

    def __init__(self, info: AdapterInfo, templates: Mapping[str, tuple[Template, TemplateModel]]) -> None:
        self._info = info
        self._codec = ParamsCodec(info.name, info.params)
        self._templates = templates
        self._running: dict[tuple[Any, ...], _Running] = {}
        self._building: dict[tuple[Any, ...], asyncio.Task[_Running]] = {}
        self._sessions: dict[str, _Session] = {}
        self._shared: dict[str, Any] = {}
        self._clock = SystemClock()
        self.metrics = CollectorRegistry()
        self.scrape = CollectorRegistry()

    def validate(self, config: AnyMessage, types: Mapping[str, AnyMessage]) -> tuple[Any, tuple[InstanceInfo, ...]]:
        """Params and instances of a configuration.

        Raises:
            RefusedError: Something is wrong with it; the message has every fault.
        """
        instances = tuple(self._instance(name, types[name]) for name in sorted(types))
        try:
            plain = self._codec.decode(config.value)
        except DecodeError as exc:
            raise RefusedError(f"the configuration is no {self._codec.package}.Params") from exc
        params, faults = decode(self._info.params, plain)
        if params is not None:
            faults = list(self._info.validate(params, instances))
        if params is None or faults:
            raise RefusedError("; ".join(_told(fault) for fault in faults))
        return params, instances

    def _instance(self, name: str, packed: AnyMessage) -> InstanceInfo:
        package = packed.type_url.rsplit("/", 1)[-1].removesuffix(".Type")
        if package not in self._templates:
            raise RefusedError(f"instance {name!r} is of no template of this adapter: {packed.type_url}")
        template, model = self._templates[package]
        try:
            return InstanceInfo(name, template, read_types(model, packed))
        except (DecodeError, ValueError) as exc:
            raise RefusedError(f"the types of instance {name!r} cannot be read") from exc

    async def open(self, config: AnyMessage, types: Mapping[str, AnyMessage]) -> str:
        """Open a session; the answer is its id.

        Raises:
            RefusedError: The configuration is wrong, or the adapter cannot be built from it.
        """
        key = (config.value, *((name, types[name].type_url, types[name].value) for name in sorted(types)))
        running = await self._run(key, config, types)
        running.sessions += 1
        if len(self._sessions) >= MOST_SESSIONS:
            oldest = min(self._sessions, key=lambda name: self._sessions[name].used_at)
            self.close(oldest)
        name = str(uuid.uuid4())
        self._sessions[name] = _Session(running, monotonic())
        return name

    def close(self, name: str) -> None:
        """Close a session; one that is not known is closed already."""
        session = self._sessions.pop(name, None)
        if session is not None:
            session.running.sessions -= 1
            session.running.leave_at = monotonic() + LINGER_S

    def of_session(self, name: str) -> Handler:
        """The handler of a session.

        Raises:
            UnknownSessionError: There is no such session.
        """
        session = self._sessions.get(name)
        if session is None:
            raise UnknownSessionError(f"unknown session {name[:64]!r}")
        session.used_at = monotonic()
        return session.running.handler

    async def of_config(self, config: AnyMessage) -> Handler:
        """The handler for a configuration that came with a call.

        Raises:
            RefusedError: The configuration is wrong, or the adapter cannot be built from it.
        """
        running = self._running.get((config.value,)) or await self._run((config.value,), config, {})
        running.leave_at = monotonic() + IDLE_S
        return running.handler

    async def _run(self, key: tuple[Any, ...], config: AnyMessage, types: Mapping[str, AnyMessage]) -> _Running:
        """The handler of a configuration; all who ask while it is built wait for the same one."""
        running = self._running.get(key)
        if running is None:
            building = self._building.get(key)
            if building is None:
                if len(key) == 1 and sum(len(other) == 1 for other in self._running) >= MOST_STATELESS:
                    raise RefusedError(f"more than {MOST_STATELESS} configurations at a time")
                building = asyncio.get_running_loop().create_task(self._build(key, config, types), name=self._info.name)
                self._building[key] = building
                building.add_done_callback(lambda task: self._built(key, task))
            running = await asyncio.shield(building)
        running.leave_at = monotonic() + LINGER_S
        return running

    def _built(self, key: tuple[Any, ...], task: asyncio.Task[_Running]) -> None:
        del self._building[key]
        if not task.cancelled() and task.exception() is None:  # a failure is told to those who wait
            running = self._running[key] = task.result()
            running.leave_at = monotonic() + LINGER_S

    async def _build(self, key: tuple[Any, ...], config: AnyMessage, types: Mapping[str, AnyMessage]) -> _Running:
        params, instances = self.validate(config, types)
        running = _Running(key, Handler())
        try:
            async with asyncio.timeout(BUILD_LIMIT_S):
                running.handler = await self._info.build(params, instances, self._env(running))
        except TimeoutError:
            await _end_tasks(running)
            raise RefusedError(f"{self._info.name} did not start within {BUILD_LIMIT_S:g} s") from None
        except Exception as exc:
            await _end_tasks(running)
            raise RefusedError(str(exc) or type(exc).__name__) from exc
        return running

    def _env(self, running: _Running) -> Env:
        log = structlog.get_logger("mixer.adapters").bind(adapter=self._info.name)

        def done(task: asyncio.Task[None]) -> None:
            running.tasks.discard(task)
            if not task.cancelled() and (exc := task.exception()) is not None:
                log.error("background_task_crashed", exc_info=exc)

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            task = asyncio.get_running_loop().create_task(work, name=self._info.name)
            running.tasks.add(task)
            task.add_done_callback(done)

        return Env(self._info.name, log, self._clock, spawn, self._shared, self.scrape, self.metrics)

    async def sweep(self) -> None:
        """Forget sessions that nobody uses, and close handlers that nobody has come back to."""
        now = monotonic()
        for name in [name for name, session in self._sessions.items() if now - session.used_at > IDLE_S]:
            self.close(name)
        left = [r for r in self._running.values() if not r.sessions and now >= r.leave_at]
        for running in left:
            del self._running[running.key]
        await asyncio.gather(*(_end(running) for running in left))

    async def aclose(self) -> None:
        """Flush and close every handler."""
        self._sessions.clear()
        building = list(self._building.values())
        for task in building:
            task.cancel()
        await asyncio.gather(*building, return_exceptions=True)
        left = list(self._running.values())
        self._running.clear()
        await asyncio.gather(*(_end(running) for running in left))


async def _end(running: _Running) -> None:
    log = structlog.get_logger("mixer.sdk")
    try:
        async with asyncio.timeout(CLOSE_LIMIT_S):
            await running.handler.aclose()
    except Exception as exc:  # noqa: BLE001  closing goes on with the next
        log.error("handler_close_failed", error=str(exc) or type(exc).__name__)
    await _end_tasks(running)


async def _end_tasks(running: _Running) -> None:
    tasks = list(running.tasks)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


def _told(fault: FieldError) -> str:
    expected = f" (expected {fault.expected})" if fault.expected else ""
    return (
        f"params.{format_path(fault.path)}: {fault.message}{expected}" if fault.path else f"{fault.message}{expected}"
    )
