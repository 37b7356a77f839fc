"""The handler of kubernetesenv: the pods at both ends of a request, and how it keeps its knowledge of them fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Final, cast

from prometheus_client import Counter, Gauge

from mixer.adapters.base import Env, Handler
from mixer.adapters.kubernetesenv.index import PodEntry
from mixer.adapters.kubernetesenv.sources import PodSource
from mixer.attributes import AttributeValue
from mixer.templates.kubernetes import KubernetesInstance

_UNSPECIFIED: Final = (bytes(4), bytes(16), bytes(10) + b"\xff\xff" + bytes(4))


class KubernetesEnvMetrics:
    """The metrics of all handlers of the adapter; one object for each process."""

    def __init__(self, env: Env) -> None:
        self.lookups = Counter(
            "mixer_kubernetesenv_lookups",
            "Pods looked up, by outcome: found, unknown.",
            ("handler", "outcome"),
            registry=env.metrics,
        )
        self.pods = Gauge(
            "mixer_kubernetesenv_pods", "Pods that are known.", ("handler", "source"), registry=env.metrics
        )
        self.failures = Counter(
            "mixer_kubernetesenv_failures",
            "Looks at a source that found new faults: files or objects that cannot be read.",
            ("handler", "source"),
            registry=env.metrics,
        )

    @classmethod
    def of(cls, env: Env) -> KubernetesEnvMetrics:
        """The process's metrics; made by the first handler that asks."""
        if _KEY not in env.shared:
            env.shared[_KEY] = cls(env)
        return cast(KubernetesEnvMetrics, env.shared[_KEY])


_KEY: Final = "metrics"


class KubernetesEnvHandler(Handler):
    """Answers from the indexes of its sources; the builder awaits `refresh` once and spawns `follow` for each."""

    def __init__(self, env: Env, sources: Sequence[PodSource]) -> None:
        self._env = env
        self._sources = tuple(sources)
        self._metrics = KubernetesEnvMetrics.of(env)
        self._found = self._metrics.lookups.labels(env.handler, "found")
        self._unknown = self._metrics.lookups.labels(env.handler, "unknown")
        self._faults: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def generate_attributes(self, instance: KubernetesInstance, /) -> Mapping[str, AttributeValue]:
        """What is known of both pods; an output is set only where there is something to say."""
        outputs: dict[str, AttributeValue] = {}
        destination = self._pod(instance.destination_uid, instance.destination_ip)
        if destination is not None:
            outputs.update(destination.destination)
            container = destination.ports.get(instance.destination_port) if instance.destination_port > 0 else None
            if container:
                outputs["destination_container_name"] = container
        source = self._pod(instance.source_uid, instance.source_ip)
        if source is not None:
            outputs.update(source.source)
        return outputs

    def _pod(self, uid: str, address: bytes) -> PodEntry | None:
        """The pod with the uid, if there is one, else the one with the address; a uid that is unknown decides too."""
        if not uid and (not address or address in _UNSPECIFIED):
            return None
        for source in self._sources:
            entry = source.pods.by_uid(uid) if uid else source.pods.by_address(address)
            if entry is not None:
                self._found.inc()
                return entry
        self._unknown.inc()
        return None

    async def refresh(self, source: PodSource) -> None:
        """Look at a source; what is newly wrong with it is told once."""
        faults = await source.refresh()
        if faults != self._faults.get(source.name, []):
            self._faults[source.name] = faults
            if faults:
                self._metrics.failures.labels(self._env.handler, source.name).inc()
                self._env.log.warning("pods_not_readable", source=source.name, faults=faults)
            else:
                self._env.log.info("pods_readable_again", source=source.name, pods=len(source.pods))
        self._metrics.pods.labels(self._env.handler, source.name).set(len(source.pods))

    async def follow(self, source: PodSource) -> None:
        """Refresh a source whenever it changes; runs until `aclose`."""
        task = asyncio.current_task()
        if self._closed or task is None:
            return
        self._tasks.add(task)
        async with aclosing(source.watch()) as ticks:
            async for _ in ticks:
                await self.refresh(source)

    async def aclose(self) -> None:
        """Stop following; the sources and what they know stay, for a successor."""
        self._closed = True
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
