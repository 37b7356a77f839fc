"""redisquota: counts quotas in Redis, for any number of Mixers together. Source: spec adapters 4.7.

Read in this order: `params` (what an operator writes), `limits` (which limit, which keys), `scripts` (what Redis does),
`link` (the way there), `courier` (how decisions travel), `fallback` (decisions without Redis), `ledger` (what became of
them), `handler` (puts them together).
"""

from __future__ import annotations

from typing import Final

from mixer.adapters.base import AdapterInfo
from mixer.adapters.redisquota.handler import RedisQuotaHandler, build
from mixer.adapters.redisquota.params import RedisQuotaParams, validate
from mixer.templates import QUOTA

INFO: Final = AdapterInfo(
    name="redisquota",
    templates=(QUOTA,),
    params=RedisQuotaParams,
    build=build,
    validate=validate,
    description="Counts quotas in Redis: rates, token buckets and leases, shared by all replicas of Mixer.",
)

__all__ = ["INFO", "RedisQuotaHandler", "RedisQuotaParams", "build"]
