"""The params of rbac and their faults. Source: spec adapters 4.9.2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import Field

from mixer.adapters.base import InstanceInfo, Params
from mixer.adapters.rbac.policies import Semantics
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, enum_field

_FOLDER: Final = "fs://"


class RbacParams(Params):
    """Params of the rbac adapter."""

    config_store_url: str = ""
    """Where roles and bindings are: empty, the default, for Mixer's own configuration; or a folder, ``fs:///path``.

    A folder is followed as Mixer's own configuration is.
    """

    cache_duration: DurationField = Duration.parse("60s")
    """How long a proxy may reuse an answer, also a denial; default 60s."""

    semantics: enum_field(Semantics) = Semantics.ADAPTER  # type: ignore[valid-type]
    """How objects are read: ADAPTER (the default), as Istio's Mixer adapter did, or MESH, as its proxies did.

    ADAPTER asks roles for every request that a rule sends, unless a ClusterRbacConfig says otherwise, and takes users,
    groups and properties of subjects as whole texts. MESH asks only where a ClusterRbacConfig says so. A param of ours.
    """

    trust_domains: list[str] = Field(default_factory=list)
    """With MESH: names of one trust domain; a principal of one of them is the same principal of all."""

    @property
    def folder(self) -> str:
        """The folder of `config_store_url`, empty when there is none."""
        return self.config_store_url.removeprefix(_FOLDER)


def validate(params: RbacParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    url = params.config_store_url
    if url.startswith("k8s://"):
        message = "Kubernetes is not read by this adapter"
        yield FieldError(("configStoreUrl",), message, "nothing, for Mixer's own configuration, or fs:///folder")
    elif url and not url.startswith("fs:///"):
        yield FieldError(("configStoreUrl",), "not a configuration store", "fs:///folder")
    if params.cache_duration < 0:
        yield FieldError(("cacheDuration",), "must not be negative")
    if params.trust_domains and params.semantics is not Semantics.MESH:
        yield FieldError(("trustDomains",), "has no effect with semantics ADAPTER", "semantics: MESH")
