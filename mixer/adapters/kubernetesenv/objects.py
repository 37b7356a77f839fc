"""Kubernetes objects as far as this adapter looks at them, read from what ``kubectl get -o json`` (or yaml) prints.

Source: spec adapters 4.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from mixer.attributes.values import parse_ip
from mixer.store.protojson import describe

_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_FINISHED: Final = frozenset({"Succeeded", "Failed"})
INTERMEDIATE: Final = frozenset({"ReplicaSet", "ReplicationController"})
"""Kinds that others own in turn, so that they are no workload of their own where that owner is known."""


class ObjectFault(ValueError):
    """An object that cannot be read; the text says which field, and what was expected."""


class OwnerReference(NamedTuple):
    """The controlling owner of an object, as the object names it."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    Attributes:
        addresses: Of the pod, the first being ``status.podIP``; 4 or 16 bytes each.
        host_address: Of its node; empty when it has none yet.
        controller: The owner with ``controller: true``.
        ports: The first container that exposes each port.
        finished: It runs no more, and its address may be another's by now.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    service_account: str
    self_link: str
    addresses: tuple[bytes, ...]
    host_address: bytes
    host_network: bool
    controller: OwnerReference | None
    ports: Mapping[int, str]
    finished: bool


@dataclass(frozen=True, slots=True)
class Intermediate:
    """A ReplicaSet or ReplicationController: known for who owns it."""

    kind: str
    name: str
    namespace: str
    controller: OwnerReference | None


Known: TypeAlias = Pod | Intermediate


def short_address(address: bytes) -> bytes:
    """4 bytes for an IPv4 address, however it is written."""
    return address[12:] if len(address) == 16 and address.startswith(_V4_MAPPED) else address


def items_of(value: object) -> Iterator[Mapping[str, Any] | ObjectFault]:
    """The objects in a document: itself, or those of a list, whose kind those that name none have.

    An entry of a list that is no object is a fault in its place, as long as another is one.

    Raises:
        ObjectFault: It is no object.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise ObjectFault(f"{describe(value)} is no Kubernetes object, which would have a kind")
    kind = value["kind"]
    if not kind.endswith("List") or not isinstance(value.get("items", []), list | None):
        yield value
        return
    sense, fault = False, None
    for item in value.get("items") or ():
        if isinstance(item, Mapping) and "kind" not in item and kind != "List":
            item = {**item, "kind": kind.removesuffix("List")}
        try:
            for each in items_of(item):
                sense = sense or not isinstance(each, ObjectFault)
                yield each
        except ObjectFault as exc:
            fault = fault or exc
            yield exc
    if fault is not None and not sense:
        raise fault


def read_object(value: Mapping[str, Any]) -> Known | None:
    """A pod, or an object that owns pods; None for every other kind.

    Raises:
        ObjectFault: It is of such a kind, and a field that counts is not what it should be.
    """
    kind = value["kind"]
    if kind == "Pod":
        return _pod(value)
    if kind in INTERMEDIATE:
        metadata = _mapping(value, "metadata")
        name, namespace = _names(metadata)
        return Intermediate(kind, name, namespace, _controller(metadata))
    return None


def _pod(value: Mapping[str, Any]) -> Pod:
    metadata = _mapping(value, "metadata")
    spec, status = _mapping(value, "spec"), _mapping(value, "status")
    name, namespace = _names(metadata)
    labels = _mapping(metadata, "labels", "metadata.")
    host_address = _text(status, "hostIP", "status.")
    return Pod(
        name,
        namespace,
        {_key(key): _text(labels, key, "metadata.labels.") for key in labels},
        _text(spec, "serviceAccountName", "spec."),
        _text(metadata, "selfLink", "metadata."),
        _addresses(status),
        _address(host_address, "status.hostIP") if host_address else b"",
        spec.get("hostNetwork") is True,
        _controller(metadata),
        _ports(spec),
        _text(status, "phase", "status.") in _FINISHED,
    )


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise ObjectFault(f"metadata.labels: {describe(key)} is no label, expected a string (quote it)")
    return key


def _names(metadata: Mapping[str, Any]) -> tuple[str, str]:
    name = _text(metadata, "name", "metadata.")
    if not name:
        raise ObjectFault("metadata.name: required field is missing")
    return name, _text(metadata, "namespace", "metadata.") or "default"


def _addresses(status: Mapping[str, Any]) -> tuple[bytes, ...]:
    texts = [_text(status, "podIP", "status.")]
    texts += [_text(entry, "ip", "status.podIPs.") for entry in _list(status, "podIPs", "status.")]
    return tuple(dict.fromkeys(_address(text, "status.podIP") for text in texts if text))


def _address(text: str, path: str) -> bytes:
    try:
        return short_address(parse_ip(text))
    except ValueError:
        raise ObjectFault(f"{path}: {text!r} is not an IP address") from None


def _controller(metadata: Mapping[str, Any]) -> OwnerReference | None:
    """The controlling owner; one that does not say so controls nothing."""
    for reference in _list(metadata, "ownerReferences", "metadata."):
        if reference.get("controller") is True:
            path = "metadata.ownerReferences."
            return OwnerReference(*(_text(reference, field, path) for field in ("apiVersion", "kind", "name")))
    return None


def _ports(spec: Mapping[str, Any]) -> Mapping[int, str]:
    ports: dict[int, str] = {}
    for container in _list(spec, "containers", "spec."):
        name = _text(container, "name", "spec.containers.")
        for port in _list(container, "ports", "spec.containers."):
            number = port.get("containerPort")
            if isinstance(number, int):
                ports.setdefault(number, name)
    return ports


def _mapping(owner: Mapping[str, Any], key: str, path: str = "") -> Mapping[str, Any]:
    value = owner.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ObjectFault(f"{path}{key}: {describe(value)} cannot be read here, expected a mapping")
    return value


def _list(owner: Mapping[str, Any], key: str, path: str) -> list[Mapping[str, Any]]:
    value = owner.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ObjectFault(f"{path}{key}: {describe(value)} cannot be read here, expected a list of mappings")
    return value


def _text(owner: Mapping[str, Any], key: str, path: str) -> str:
    value = owner.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ObjectFault(f"{path}{key}: {describe(value)} cannot be read here, expected a string (quote it)")
    return value
