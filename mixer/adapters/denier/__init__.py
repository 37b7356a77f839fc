"""denier: answers every check with one configured status, usually a denial. Source: spec adapters 4.4.

Nothing in the instances is looked at; the rule decides who meets a denier. Quotas are refused by granting 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mixer.adapters.base import AdapterInfo, CheckResult, Env, Handler, InstanceInfo, QuotaArgs, QuotaResult
from mixer.adapters.denier.params import DenierParams
from mixer.templates import CHECKNOTHING, LISTENTRY, QUOTA
from mixer.templates.quota import QuotaInstance


class DenierHandler(Handler):
    """Gives the same answer always."""

    def __init__(self, params: DenierParams) -> None:
        self._answer = CheckResult(params.status.as_status(), params.valid_duration, params.valid_use_count)
        self._no_units = QuotaResult()

    def handle_check(self, instance: Any, /) -> CheckResult:
        """The configured status, for as long and as often as configured."""
        return self._answer

    def handle_quota(self, instance: QuotaInstance, args: QuotaArgs, /) -> QuotaResult:
        """Grant nothing; the status stays OK."""
        return self._no_units


async def build(params: DenierParams, instances: Sequence[InstanceInfo], env: Env) -> DenierHandler:
    """A handler without state."""
    return DenierHandler(params)


INFO: Final = AdapterInfo(
    name="denier",
    templates=(CHECKNOTHING, LISTENTRY, QUOTA),
    params=DenierParams,
    build=build,
    description="Denies every check that rules send to it, with a configured status.",
)

__all__ = ["INFO", "DenierHandler", "DenierParams", "build"]
