"""memquota: counts quotas in the memory of this process.

Counters vanish with the handler, and replicas of Mixer do not share them: made for one replica, tests and
demonstrations. Source: spec adapters 4.6.

* `params`: what an operator writes, and which limit a set of dimensions gets;
* `mixer.adapters.windows`: units that come back after a while;
* `dedup`: the memory of recent answers;
* `handler`: puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixer.adapters.base import AdapterInfo, Env, InstanceInfo
from mixer.adapters.memquota.handler import MemQuotaHandler
from mixer.adapters.memquota.params import MemQuotaParams, validate
from mixer.templates import QUOTA


async def build(params: MemQuotaParams, instances: Sequence[InstanceInfo], env: Env) -> MemQuotaHandler:
    """A handler with full counters."""
    return MemQuotaHandler(params, env.clock)


INFO: Final = AdapterInfo(
    name="memquota",
    templates=(QUOTA,),
    params=MemQuotaParams,
    build=build,
    validate=validate,
    description="Counts quotas in memory, for a single replica of Mixer.",
    shared=lambda params: True,
)

__all__ = ["INFO", "MemQuotaHandler", "MemQuotaParams", "build"]
