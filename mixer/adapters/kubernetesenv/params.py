"""The params of kubernetesenv and their faults. Source: spec adapters 4.8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from mixer.adapters.base import InstanceInfo, Params
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField


class KubernetesEnvParams(Params):
    """Params of the kubernetesenv adapter."""

    object_paths: list[str] = Field(default_factory=list)
    """Files or folders with the pods of a cluster each, as ``kubectl get pods,replicasets -A -o json`` prints them.

    JSON and YAML; folders are read with all below. Changes are followed. The first cluster that has a pod
    counts. Empty, the default: no pod is known, and bindings get their fallbacks. A param of ours.
    """

    kubeconfig_path: str = ""
    """Istio's way to a cluster. This version reads no cluster by itself, so it must be empty, the default."""

    cache_refresh_duration: DurationField = Duration.parse("5m")
    """Istio's time between two full readings of a cluster; accepted and without effect. Files are followed at once."""

    cluster_registries_namespace: str = ""
    """Istio's place for the credentials of further clusters; accepted and without effect."""


def validate(params: KubernetesEnvParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    if params.kubeconfig_path:
        message = "clusters are not read by this version"
        yield FieldError(("kubeconfigPath",), message, "objectPaths, with files of pods")
    for index, path in enumerate(params.object_paths):
        if not path:
            yield FieldError(("objectPaths", index), "is empty", "a file or a folder")
        elif path in params.object_paths[:index]:
            yield FieldError(("objectPaths", index), "stands here twice", "each cluster once")
