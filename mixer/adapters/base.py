"""The contract between Mixer and an adapter: everything an adapter needs to know, and all that it may.

An adapter is a package that exports one value, ``INFO: AdapterInfo``; importing it has no side effect.
A handler (an adapter with params, running) lives through four phases:

1. *Params* are decoded onto ``AdapterInfo.params`` and checked by ``AdapterInfo.validate``: pure, no I/O,
   at every configuration change and in ``mixs validate``.
2. ``await AdapterInfo.build(params, instances, env)`` makes the handler. It may open files and start tasks.
   A backend that is away is no reason to fail: the handler starts and keeps trying.
3. ``handle_*`` is called for each request, from the event loop, possibly again before an earlier call
   is done. It returns its answer, or an awaitable of it when it has to wait for something. It never blocks
   the loop. A fault of one instance never costs the others of its batch.
4. ``await aclose()`` flushes what is owed and frees what is held; safe on an unused handler, safe twice.

Source: spec adapters 1.1 and 1.4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from pydantic import ConfigDict

from mixer.api.answer import QuotaLevel
from mixer.api.codes import Code as Code
from mixer.attributes import AttributeValue, Duration, Timestamp
from mixer.store.problem import FieldError, Problem
from mixer.store.protojson import ProtoModel
from mixer.store.resource import Resource, ResourceKey
from mixer.templates import InferredTypes, Template
from mixer.templates.quota import QuotaInstance


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """What the proxy shall answer in place of the service; ``code`` is an HTTP status, 0 = by the status code."""

    code: int = 0
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """OK or why not; ``code`` is any integer that configuration gives, usually a `Code`."""

    code: int = Code.OK
    message: str = ""
    direct_response: DirectResponse | None = None

    @property
    def ok(self) -> bool:
        """Whether this is no objection."""
        return self.code == Code.OK


OK_STATUS: Final = Status()
NO_DURATION: Final = Duration(0)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A handler's opinion of a request, and how long and how often a proxy may reuse it.

    OK with both limits 0 is "no opinion". A denial with both limits 0 must not be cached.
    """

    status: Status = OK_STATUS
    valid_duration: Duration = NO_DURATION
    valid_use_count: int = 0

    @property
    def is_default(self) -> bool:
        """Whether the handler has no opinion."""
        return self.status.code == Code.OK and not self.valid_use_count and not self.valid_duration


@dataclass(frozen=True, slots=True)
class QuotaArgs:
    """How much is wanted.

    Attributes:
        amount: Units; negative gives them back, 0 asks nothing.
        best_effort: Less than the amount is welcome.
        dedup_id: A retry of the same request repeats it; empty when the caller gave none, which repeats nothing.
    """

    amount: int
    best_effort: bool = False
    dedup_id: str = ""


@dataclass(frozen=True, slots=True)
class QuotaResult:
    """What is granted, and for how long; a ``valid_duration`` of 0 means that the grant never expires.

    ``level`` is where the counter stands after this, if the adapter knows; a caller shows it to the user.
    """

    amount: int = 0
    valid_duration: Duration = NO_DURATION
    status: Status = OK_STATUS
    level: QuotaLevel | None = field(default=None, compare=False)


class Series(Protocol):
    """A handler's place for the values of one metric with one set of dimensions; opaque to everyone else."""


class Handler:
    """Base of handlers: override what the adapter's templates need.

    The dispatcher calls nothing that ``AdapterInfo.templates`` does not promise.
    """

    def handle_check(self, instance: Any, /) -> CheckResult | Awaitable[CheckResult]:
        """Judge one instance.

        Raises:
            AdapterError: There is no answer; the whole Check fails closed.
        """
        raise NotImplementedError

    def handle_report(self, instances: Sequence[Any], /) -> Awaitable[None] | None:
        """Take a batch of instances, all of one template, in the order of their arrival.

        Raises:
            AdapterError: Some could not be taken; the message says which and why. The others were.
        """
        raise NotImplementedError

    def open_series(self, instance: str, dimensions: Mapping[str, AttributeValue], /) -> Series | None:
        """Where measurements of a metric instance with these dimensions go, for a handler that aggregates in place.

        The same dimensions come again and again, so Mixer remembers the series and sends values alone
        (`handle_samples`). None means that this handler, or these dimensions now, take whole instances.

        Raises:
            AdapterError: An instance with these dimensions cannot be taken.
        """
        return None

    def handle_samples(self, samples: Sequence[tuple[Series, Any]], /) -> None:
        """Take a batch of values for series that this handler opened, in the order of their arrival.

        Raises:
            AdapterError: Some could not be taken; the message says which and why. The others were.
        """
        raise NotImplementedError

    def handle_quota(self, instance: QuotaInstance, args: QuotaArgs, /) -> QuotaResult | Awaitable[QuotaResult]:
        """Take units from (or give them back to) the counter of an instance.

        Raises:
            AdapterError: There is no answer; the quota's entry carries the failure.
        """
        raise NotImplementedError

    def generate_attributes(
        self, instance: Any, /
    ) -> Mapping[str, AttributeValue] | Awaitable[Mapping[str, AttributeValue]]:
        """Answer with output fields of the template; a field that is not set is absent.

        Raises:
            AdapterError: There is no answer; the request fails.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Flush what is owed, free what is held; safe unused, safe twice, never raises for a dead backend."""


class Clock(Protocol):
    """Time, passed in so that tests own it."""

    def monotonic(self) -> float:
        """Seconds that only grow, from an arbitrary start."""
        ...

    def now(self) -> Timestamp:
        """The wall clock."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


Encode: TypeAlias = Callable[[Collector], bytes]
"""One of prometheus-client's encoders: all families that a collector yields, as a page of one format."""


@runtime_checkable
class StreamedMetric(Protocol):
    """What a family of a collector in ``Env.scrape`` may offer besides being a `prometheus_client.Metric`.

    Families without it are made into text by the encoder, which holds all of their samples and lines at a time.
    """

    def render(self, encode: Encode, /) -> Iterator[bytes]:
        """What ``encode`` would make of this family, without the end that it puts to a page.

        Called, and advanced, in a thread, a piece at a time as the scraper takes them; possibly never to the end.

        Args:
            encode: The encoder of the format that the scraper asked for.

        Returns:
            Pieces of some ten KiB each.
        """
        ...


@dataclass(frozen=True, slots=True)
class Env:
    """What Mixer lends to a handler.

    Attributes:
        handler: The display name of the handler, for messages.
        log: A logger that already carries the handler's name.
        clock: The time.
        spawn: Runs a background task that ends with the handler at the latest; a crash in it is logged and
            counted and does not spread. Adapters never create tasks themselves.
        shared: State of this adapter that outlives its handlers, one mapping for all handlers of the
            adapter in this process. Keys are the adapter's business.
        scrape: What ``--metrics-port`` serves; a handler registers collectors here, whose
            families may be of the kind `StreamedMetric`.
        metrics: What ``--monitoring-port`` serves: Mixer's metrics of itself. Handlers come and go and a
            registry takes a name once, so collectors made here are kept in ``shared``.
        objects: What `AdapterInfo.objects` made of the configuration's objects; None for adapters without.
            When they change, the handler is built anew.
    """

    handler: str
    log: structlog.stdlib.BoundLogger
    clock: Clock
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    shared: MutableMapping[str, Any]
    scrape: CollectorRegistry
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    objects: Any = None


class Params(ProtoModel):
    """Base of the params models of adapters; see `mixer.store.protojson` for field types.

    The string literal below a field is its description: what it does, its unit, what its default means.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """An instance that rules route to a handler: what the handler may prepare for."""

    name: str
    template: Template
    types: InferredTypes


def _no_object_faults(key: ResourceKey, spec: Any, /) -> Iterable[FieldError]:
    return ()


@dataclass(frozen=True, slots=True)
class ConfigObjects:
    """Objects of the configuration that belong to an adapter, such as roles, and how they are read.

    Everything here is pure and runs in a thread at each configuration change, and in ``mixs validate``.

    Attributes:
        kinds: Kind -> the model of its spec. No two adapters may name the same kind.
        compile: All that decode and are sound, in the order of their declaration, to what handlers work with
            (`Env.objects`), and what is wrong with them together. It never fails.
        validate: Faults of one spec that decodes well, by paths below the spec, or that begin with ``metadata``.
            An object with a fault is left out, or its last good version kept.
    """

    kinds: Mapping[str, type[ProtoModel]]
    compile: Callable[[Sequence[tuple[Resource, Any]]], tuple[Any, Sequence[Problem]]]
    validate: Callable[[ResourceKey, Any], Iterable[FieldError]] = _no_object_faults


def _no_faults(params: Any, instances: Sequence[InstanceInfo], /) -> Iterable[FieldError]:
    return ()


def _has_no_state(params: Any, /) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """All that Mixer knows of an adapter.

    Attributes:
        name: What ``compiledAdapter`` says, and the legacy kind; matches ``[a-z]([-a-z0-9]*[a-z0-9])?``.
        templates: The templates whose instances the handler takes.
        params: The model of the handler's ``params``.
        build: Makes the handler. Raises `AdapterError` when it cannot exist at all.
        validate: Faults of params that decode well, seen with the instances routed to the handler (which
            may be none); pure; all faults, not only the first.
        description: One sentence for ``mixs adapters``.
        shared: Whether a handler with such params must be the only one of its kind though several processes
            serve requests, for what it keeps or holds: it then runs in one of them, and the others ask it.
            Instances and answers cross over pickled. The default is that each process has its own.
        objects: Kinds of objects that the adapter reads besides its handlers' params, if any.
    """

    name: str
    templates: tuple[Template, ...]
    params: type[Params]
    build: Callable[[Any, Sequence[InstanceInfo], Env], Awaitable[Handler]]
    validate: Callable[[Any, Sequence[InstanceInfo]], Iterable[FieldError]] = _no_faults
    description: str = ""
    shared: Callable[[Any], bool] = _has_no_state
    objects: ConfigObjects | None = None
