"""rbac: may this subject do this, by roles and bindings? Source: spec adapters 4.9.

* `specs`: the objects ServiceRole, ServiceRoleBinding, ClusterRbacConfig and RbacConfig, and their faults;
* `roles`: roles joined with their bindings, and what dangles;
* `patterns`, `requests`: patterns of texts and addresses; what is read of a request;
* `policies`: roles compiled, indexed, and deciding;
* `params`, `handler`: what an operator writes; answers, counts, and a folder that is followed.

The objects stand in Mixer's own configuration, whose checks and last good versions they share. Where we differ from the
reference: fields of later releases count in both ways of reading, and a fact that an instance does not give never
satisfies an exclusion (``notPaths`` and the like).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from mixer.adapters.base import AdapterInfo, Env, InstanceInfo
from mixer.adapters.rbac.handler import OBJECTS, RbacHandler, RoleStore
from mixer.adapters.rbac.params import RbacParams, validate
from mixer.adapters.rbac.roles import Roles
from mixer.store.file import FileStore
from mixer.templates import AUTHORIZATION


async def build(params: RbacParams, instances: Sequence[InstanceInfo], env: Env) -> RbacHandler:
    """A handler that has compiled the roles there are; a folder that is away is waited for in the background."""
    handler = RbacHandler(params, env)
    if params.folder:
        store = cast(RoleStore, FileStore(params.folder))
        await handler.load(store)
        env.spawn(handler.follow(store))
    else:
        await handler.use(env.objects if isinstance(env.objects, Roles) else Roles())
    return handler


INFO: Final = AdapterInfo(
    name="rbac",
    templates=(AUTHORIZATION,),
    params=RbacParams,
    build=build,
    validate=validate,
    description="Admits what roles permit to the subjects bound to them, and denies everything else.",
    objects=OBJECTS,
)

__all__ = ["INFO", "OBJECTS", "RbacHandler", "RbacParams", "build"]
