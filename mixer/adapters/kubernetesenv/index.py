"""Pods by name and by address, each with the attributes that a request to or from it gets. Source: spec adapters 4.8.

An index is built once for each state of a cluster and never changes, so a request costs two dictionary lookups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mixer.adapters.kubernetesenv.objects import INTERMEDIATE, Intermediate, Known, OwnerReference, Pod, short_address
from mixer.attributes import AttributeValue
from mixer.attributes.values import parse_ip

_SCHEME: Final = "kubernetes://"


@dataclass(frozen=True, slots=True)
class PodEntry:
    """A pod and what it adds to a request, under the names of each side."""

    source: Mapping[str, AttributeValue]
    destination: Mapping[str, AttributeValue]
    ports: Mapping[int, str]


class PodIndex:
    """The pods of one cluster at one moment.

    Args:
        objects: Pods and what owns them, in any order; of two with one name the later one counts.
    """

    def __init__(self, objects: Iterable[Known] = ()) -> None:
        pods: dict[tuple[str, str], Pod] = {}
        owners: dict[tuple[str, str, str], Intermediate] = {}
        for known in objects:
            if isinstance(known, Pod):
                pods[known.namespace, known.name] = known
            else:
                owners[known.kind, known.namespace, known.name] = known
        self._by_name: dict[tuple[str, str], PodEntry] = {}
        self._by_address: dict[bytes, PodEntry] = {}
        # Of several pods with one address the last in this order is found: one that runs, with a network of its own.
        for key, pod in sorted(pods.items(), key=lambda item: (not item[1].finished, not item[1].host_network)):
            entry = self._by_name[key] = _entry(pod, owners)
            self._by_address.update(dict.fromkeys(pod.addresses, entry))

    def __len__(self) -> int:
        return len(self._by_name)

    def by_uid(self, uid: str) -> PodEntry | None:
        """The pod of a ``kubernetes://name.namespace``, of a ``namespace/name``, or of an address written as text."""
        if not uid.startswith(_SCHEME):
            try:
                return self.by_address(parse_ip(uid))
            except ValueError:
                pass
        name = uid.removeprefix(_SCHEME)
        pod, dot, namespace = name.rpartition(".")  # pods have dots in their names, namespaces do not
        if not dot:
            namespace, _, pod = name.partition("/")
        return self._by_name.get((namespace, pod))

    def by_address(self, address: bytes) -> PodEntry | None:
        """The pod with an address of 4 or 16 bytes."""
        return self._by_address.get(short_address(address))


def _entry(pod: Pod, owners: Mapping[tuple[str, str, str], Intermediate]) -> PodEntry:
    workload, owner = _workload(pod, owners)
    outputs: dict[str, AttributeValue] = {
        "labels": pod.labels,
        "pod_name": pod.name,
        "namespace": pod.namespace,
        "pod_uid": f"{_SCHEME}{pod.name}.{pod.namespace}",
        "service_account_name": pod.service_account,
        "pod_ip": pod.addresses[0] if pod.addresses else b"",
        "host_ip": pod.host_address,
        "workload_name": workload,
        "workload_namespace": pod.namespace,
        "workload_uid": f"istio://{pod.namespace}/workloads/{workload}",
        "owner": owner,
    }
    known = {name: value for name, value in outputs.items() if value}
    return PodEntry(
        {f"source_{name}": value for name, value in known.items()},
        {f"destination_{name}": value for name, value in known.items()},
        pod.ports,
    )


def _workload(pod: Pod, owners: Mapping[tuple[str, str, str], Intermediate]) -> tuple[str, str]:
    """The name of what the pod is part of, and the address of that object."""
    reference = pod.controller
    if reference is None:
        return pod.name, pod.self_link
    passed: set[OwnerReference] = set()
    while reference.kind in INTERMEDIATE and reference not in passed:  # owners in a circle end where they began
        passed.add(reference)
        above = owners.get((reference.kind, pod.namespace, reference.name))
        if above is None or above.controller is None:
            break
        reference = above.controller
    kinds = f"{reference.kind.lower()}s"
    return (
        reference.name,
        f"{_SCHEME}apis/{reference.api_version}/namespaces/{pod.namespace}/{kinds}/{reference.name}",
    )
