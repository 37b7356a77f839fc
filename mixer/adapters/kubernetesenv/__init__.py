"""kubernetesenv: what the cluster knows of the pods at both ends of a request. Source: spec adapters 4.8.

* `params`: what an operator writes, and its faults;
* `objects`: pods and their owners, as far as they matter, from plain data;
* `index`: pods by name and address, with their attributes ready;
* `sources`: where pods come from: files, which are watched; other sources can join;
* `handler`: answers, and keeps the sources fresh.

Where we differ from the reference: pods come from files (there is no client of Kubernetes here yet), an owner without
the flag ``controller`` controls nothing, and of several pods with one address a running one is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from mixer.adapters.base import AdapterInfo, Env, InstanceInfo
from mixer.adapters.kubernetesenv.handler import KubernetesEnvHandler
from mixer.adapters.kubernetesenv.params import KubernetesEnvParams, validate
from mixer.adapters.kubernetesenv.sources import FilePods, PodSource
from mixer.templates import KUBERNETES


async def build(params: KubernetesEnvParams, instances: Sequence[InstanceInfo], env: Env) -> KubernetesEnvHandler:
    """A handler that has looked at each of its sources once; one that is away is tried again and again."""
    sources = [_shared_source(path, env) for path in params.object_paths]
    if not sources:
        env.log.warning("no_pods", reason="objectPaths is empty, so that every lookup finds nothing")
    handler = KubernetesEnvHandler(env, sources)
    for source in sources:
        await handler.refresh(source)
        env.spawn(handler.follow(source))
    return handler


def _shared_source(path: str, env: Env) -> PodSource:
    """One source for each path in a process, whoever asks; it outlives its handlers, so a rebuilt one starts at once."""
    return cast(PodSource, env.shared.setdefault(f"pods {path}", FilePods(path)))


INFO: Final = AdapterInfo(
    name="kubernetesenv",
    templates=(KUBERNETES,),
    params=KubernetesEnvParams,
    build=build,
    validate=validate,
    description="Adds what is known of the pods at both ends: labels, workload, owner, service account.",
)

__all__ = ["INFO", "FilePods", "KubernetesEnvHandler", "KubernetesEnvParams", "PodSource", "build"]
