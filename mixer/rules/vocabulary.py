"""Manifests and templates -> the vocabulary of a snapshot. Source: spec runtime 1.7 and 3.2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mixer.attributes import ValueType, Vocabulary
from mixer.rules.specs import AttributeManifestSpec
from mixer.store import Problem, Resource, Severity
from mixer.templates import Template


def template_outputs(templates: Iterable[Template]) -> Mapping[str, ValueType]:
    """The attributes that generators put out, by the full name under which expressions see them."""
    return {
        f"{template.output_prefix}.{field}": kind for template in templates for field, kind in template.outputs.items()
    }


def build_vocabulary(
    manifests: Iterable[tuple[Resource, AttributeManifestSpec]], templates: Iterable[Template], problems: list[Problem]
) -> Vocabulary:
    """Merge manifests, in order of (namespace, name); the first to declare a name has it.

    A second declaration of another type is a warning.
    """
    types: dict[str, ValueType] = {}
    owners: dict[str, Resource] = {}
    for resource, spec in sorted(manifests, key=lambda pair: (pair[0].key.namespace, pair[0].key.name)):
        for name, info in spec.attributes.items():
            path = ("spec", "attributes", name)
            kind = ValueType(info.value_type)
            if kind is ValueType.VALUE_TYPE_UNSPECIFIED:
                problems.append(
                    Problem.of(
                        resource,
                        path,
                        f"attribute {name} has no type",
                        expected="a valueType",
                        severity=Severity.WARNING,
                    )
                )
            if types.setdefault(name, kind) is not kind:
                message = f"attribute {name} is declared {kind.name} here and {types[name].name} by {owners[name].key}"
                problems.append(
                    Problem.of(
                        resource,
                        path,
                        message,
                        expected="one type; the first declaration holds",
                        severity=Severity.WARNING,
                    )
                )
            owners.setdefault(name, resource)
    return Vocabulary({**types, **template_outputs(templates)})
