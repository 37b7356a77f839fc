"""The envelope of an object: ``kind``, ``metadata`` and ``spec`` of plain data make a `Resource`.

Lists (``kind: List``, as ``kubectl get -o yaml`` prints them) are unpacked. Nothing is said here about
which kinds there are: objects of other systems become resources too, and later layers leave them aside.

Source: spec runtime 1.1 and 1.13.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mixer.store.problem import FieldError, Problem, Severity, format_path
from mixer.store.protojson import describe
from mixer.store.resource import Origin, Path, Resource, ResourceKey

GROUP: Final = "config.istio.io"
_SHAPE: Final = "an object with kind, metadata and spec"


def unwrap(
    value: object, origin: Origin, lines: Mapping[Path, int], *, default_namespace: str
) -> tuple[list[Resource], list[Problem]]:
    """The resources in one document, and what is wrong with it.

    An object of another API group that is no resource (it has no name, say) is left out in silence: its
    owner may know better.

    Args:
        value: The document's data.
        origin: Its place.
        lines: The line of each path in it, as far as known.
        default_namespace: For objects that name none.
    """
    resources: list[Resource] = []
    problems: list[Problem] = []
    for item, place, item_lines in _items(value, origin, lines):
        found = _resource(item, place, item_lines, default_namespace)
        if isinstance(found, Resource):
            resources.append(found)
            problems += _odd_annotations(item, found)
        else:
            problems += found
    return resources, problems


def _items(
    value: object, origin: Origin, lines: Mapping[Path, int]
) -> Iterator[tuple[object, Origin, Mapping[Path, int]]]:
    """The objects of a document, each with its own place and lines; lists inside lists are unpacked too."""
    if not isinstance(value, Mapping) or not _is_list(value):
        yield value, origin, lines
        return
    inner: dict[int, dict[Path, int]] = {}
    for path, line in lines.items():
        if len(path) > 2 and path[0] == "items" and isinstance(path[1], int):
            inner.setdefault(path[1], {})[path[2:]] = line
    for i, item in enumerate(value["items"] or ()):
        place = Origin(origin.file, origin.document, lines.get(("items", i), origin.line))
        yield from _items(item, place, inner.get(i, {}))


def _is_list(value: Mapping[str, Any]) -> bool:
    """Whether this is a list of objects: by its kind, and by having items instead of a spec."""
    kind = value.get("kind")
    named = isinstance(kind, str) and kind.endswith("List")
    return named and "spec" not in value and isinstance(value.get("items", False), list | None)


def _resource(
    value: object, origin: Origin, lines: Mapping[Path, int], default_namespace: str
) -> Resource | list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(f"{describe(value)} is no configuration object", expected=_SHAPE, origin=origin)]
    errors: list[FieldError] = []
    kind = _text(value, ("kind",), errors)
    metadata = value.get("metadata")
    name, namespace, annotations = "", "", {}
    if metadata is None or isinstance(metadata, Mapping):
        metadata = metadata or {}
        name = _text(metadata, ("metadata", "name"), errors)
        if metadata.get("namespace") is not None:
            namespace = _text(metadata, ("metadata", "namespace"), errors)
        given = metadata.get("annotations")
        if given is not None and not isinstance(given, Mapping):
            errors.append(
                FieldError(("metadata", "annotations"), f"{describe(given)} cannot be read here", "a mapping")
            )
        elif given:
            annotations = {k: v for k, v in given.items() if isinstance(v, str)}
    else:
        errors.append(FieldError(("metadata",), f"{describe(metadata)} cannot be read here", "a mapping"))
    spec = value.get("spec")
    if spec is not None and not isinstance(spec, Mapping):
        errors.append(FieldError(("spec",), f"{describe(spec)} cannot be read here", "a mapping"))
    if not errors:
        key = ResourceKey(kind, namespace or default_namespace, name)
        return Resource(key, spec or {}, annotations, origin, lines)
    if _is_foreign(value):
        return []
    draft = Resource(ResourceKey(kind, namespace, name), {}, {}, origin, lines)
    named = draft.key if kind and name else None
    return [Problem(e.message, named, format_path(e.path), e.expected, draft.origin_of(e.path)) for e in errors]


def _text(owner: Mapping[str, Any], path: Path, errors: list[FieldError]) -> str:
    value = owner.get(str(path[-1]))
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        errors.append(FieldError(path, "required field is missing", _SHAPE if path == ("kind",) else "a name"))
    else:
        errors.append(FieldError(path, f"{describe(value)} cannot be read here", "a string (quote it)"))
    return ""


def _is_foreign(value: Mapping[str, Any]) -> bool:
    version = value.get("apiVersion")
    return isinstance(version, str) and version.partition("/")[0] != GROUP


def _odd_annotations(item: Any, resource: Resource) -> list[Problem]:
    """Annotations that are no texts are left out; the object itself is used."""
    given = (item.get("metadata") or {}).get("annotations") or {}
    return [
        Problem.of(
            resource,
            ("metadata", "annotations", name),
            f"{describe(value)} cannot be read here, the annotation is left out",
            expected="a string (quote it)",
            severity=Severity.WARNING,
        )
        for name, value in given.items()
        if not isinstance(value, str)
    ]
