"""Objects that belong to adapters, such as roles: decoded and compiled once, whichever handlers use them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mixer.adapters.base import ConfigObjects
from mixer.store import Problem, Resource
from mixer.store.protojson import ProtoModel, decode

Decoded: TypeAlias = tuple[Resource, ProtoModel]


@dataclass(frozen=True, slots=True)
class CompiledObjects:
    """All objects of one adapter; ``value`` is what the adapter made of them.

    ``fingerprint`` is equal for equal objects, and empty where an adapter has no kinds of its own.
    """

    value: Any = None
    fingerprint: str = ""


NO_OBJECTS: Final = CompiledObjects()


def decode_object(resource: Resource, objects: ConfigObjects) -> tuple[Decoded | None, list[Problem]]:
    """An object on the model of its kind; every fault is a problem."""
    spec, faults = decode(objects.kinds[resource.key.kind], resource.spec)
    if spec is not None:
        faults = list(objects.validate(resource.key, spec))
    if spec is None or faults:
        return None, [
            Problem.of(resource, fault.path if fault.path[:1] == ("metadata",) else ("spec", *fault.path), fault.message, expected=fault.expected)
            for fault in faults
        ]  # fmt: skip
    return (resource, spec), []


def compile_objects(objects: ConfigObjects, decoded: Sequence[Decoded]) -> tuple[CompiledObjects, Sequence[Problem]]:
    """What an adapter makes of its objects, and what is wrong with them together."""
    text = json.dumps([[*resource.key, resource.spec] for resource, _ in decoded], sort_keys=True, default=str)
    fingerprint = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    try:
        value, problems = objects.compile(decoded)
    except Exception as exc:  # noqa: BLE001  a bug of one adapter must not cost the configuration
        message = f"{', '.join(objects.kinds)}: the adapter failed on these objects: {type(exc).__name__}: {exc}"
        return CompiledObjects(None, f"failed {fingerprint}"), [Problem(message)]
    return CompiledObjects(value, fingerprint), problems
