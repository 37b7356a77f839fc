"""References between resources, and the names that operators see. Source: spec runtime 2.1."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

from mixer.store import ResourceKey

GENERIC_KINDS: Final = ("rule", "instance", "handler", "attributemanifest", "template", "adapter")
"""The kinds that exist whatever is compiled in; each template and adapter adds a legacy kind of its name."""


def candidates(reference: str, kind: str, namespace: str) -> Iterator[str]:
    """The full names that a reference may mean, best first.

    Args:
        reference: As written in a resource.
        kind: The generic kind that is wanted: ``handler``, ``instance``, ``adapter`` or ``template``.
        namespace: Of the resource that refers.
    """
    dots = reference.count(".")
    if dots == 0:
        yield f"{reference}.{kind}.{namespace}"
    elif dots == 1:
        name, other = reference.split(".")
        yield f"{reference}.{namespace}"
        yield f"{name}.{kind}.{other}"
    else:
        yield reference


def resolve(reference: str, kind: str, namespace: str, known: Container[str]) -> str | None:
    """The full name that a reference means among those known, or None."""
    if not reference:
        return None
    return next((name for name in candidates(reference, kind, namespace) if name in known), None)


def short_name(full_name: str) -> str:
    """The part before the first dot of a regular full name, else all of it."""
    return full_name.split(".", 1)[0] if full_name.count(".") == 2 else full_name


def display_name(key: ResourceKey) -> str:
    """How messages, logs and metric labels call a handler: without the kind when that is the generic one."""
    return f"{key.name}.{key.namespace}" if key.kind == "handler" else str(key)
