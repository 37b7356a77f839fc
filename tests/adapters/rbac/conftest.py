"""What the tests of rbac share: objects as YAML, and questions in short form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mixer.adapters.rbac.policies import Decision, Policies, Semantics
from mixer.adapters.rbac.requests import Request
from mixer.adapters.rbac.roles import Roles, join
from mixer.adapters.rbac.specs import KINDS, faults
from mixer.store import Resource, ResourceKey
from mixer.store.protojson import decode


def resources(text: str, namespace: str = "default") -> list[Resource]:
    """Resources of YAML documents in short form: kind, name, namespace? and the fields of the spec."""
    found = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        spec = dict(document)
        key = ResourceKey(spec.pop("kind"), spec.pop("namespace", namespace), spec.pop("name"))
        found.append(Resource(key, spec))
    return found


def decoded(text: str) -> list[tuple[Resource, Any]]:
    """Objects that are sound."""
    pairs = []
    for resource in resources(text):
        spec, wrong = decode(KINDS[resource.key.kind], resource.spec)
        assert spec is not None, wrong
        assert not list(faults(resource.key, spec))
        pairs.append((resource, spec))
    return pairs


def joined(text: str) -> Roles:
    roles, problems = join(decoded(text))
    assert not problems
    return roles


def policies(text: str, semantics: Semantics = Semantics.ADAPTER, trust_domains: tuple[str, ...] = ()) -> Policies:
    return Policies(joined(text), semantics, trust_domains)


def request(service: str = "", path: str = "", method: str = "", **more: Any) -> Request:
    action: Mapping[str, Any] = more.pop("action", {})
    subject: Mapping[str, Any] = more.pop("subject", {})
    fields = {"namespace": "default", "user": "", "groups": "", **more}
    return Request(service=service, path=path, method=method, action=action, subject=subject, **fields)


def decision(found: Policies, **asked: Any) -> Decision:
    return found.decide(request(**asked))
