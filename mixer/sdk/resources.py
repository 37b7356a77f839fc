"""The resources by which Mixer finds an adapter: one `adapter`, and a `template` for each of its templates.

Source: spec runtime 6.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from mixer.adapters.base import AdapterInfo
from mixer.sdk.decoding import descriptor_of
from mixer.sdk.params import ParamsCodec
from mixer.templates import Template

API_VERSION = "config.istio.io/v1alpha2"


def adapter_resource(
    info: AdapterInfo, *, namespace: str = "istio-system", session_based: bool = True
) -> dict[str, Any]:
    """The `adapter` resource; it refers to the templates of `template_resources`."""
    spec: dict[str, Any] = {
        "description": info.description,
        "session_based": session_based,
        "templates": [f"{template.name}.template.{namespace}" for template in info.templates],
    }
    if info.params.model_fields:
        spec["config"] = ParamsCodec(info.name, info.params).descriptor
    return _resource("adapter", info.name, namespace, spec)


def template_resources(templates: Iterable[Template], *, namespace: str = "istio-system") -> Iterator[dict[str, Any]]:
    """The `template` resource of each template."""
    for template in templates:
        yield _resource("template", template.name, namespace, {"descriptor": descriptor_of(template)})


def _resource(kind: str, name: str, namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def to_yaml(resources: Iterable[dict[str, Any]]) -> str:
    """Resources as one file."""
    return yaml.safe_dump_all(resources, sort_keys=False, width=110)
