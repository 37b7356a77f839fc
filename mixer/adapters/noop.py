"""noop: agrees with everything and keeps nothing.

For trying rules out, and for measuring what Mixer itself costs. Source: spec adapters 4.14.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mixer.adapters.base import AdapterInfo, CheckResult, Env, Handler, InstanceInfo, Params, QuotaArgs, QuotaResult
from mixer.attributes import Duration
from mixer.templates import AUTHORIZATION, CHECKNOTHING, LISTENTRY, LOGENTRY, METRIC, QUOTA, REPORTNOTHING, TRACESPAN
from mixer.templates.quota import QuotaInstance

_AGES: Final = Duration.from_seconds(1_000_000_000)
_YES: Final = CheckResult(valid_duration=_AGES, valid_use_count=1_000_000_000)


class NoopParams(Params):
    """noop has no params."""


class NoopHandler(Handler):
    """Says yes for a billion seconds and a billion uses, grants whatever is asked, drops every report."""

    def handle_check(self, instance: Any, /) -> CheckResult:
        """Agree."""
        return _YES

    def handle_report(self, instances: Sequence[Any], /) -> None:
        """Drop the batch."""

    def handle_quota(self, instance: QuotaInstance, args: QuotaArgs, /) -> QuotaResult:
        """Grant the amount that is asked for."""
        return QuotaResult(args.amount, _AGES)


async def build(params: NoopParams, instances: Sequence[InstanceInfo], env: Env) -> NoopHandler:
    """A handler without state."""
    return NoopHandler()


INFO: Final = AdapterInfo(
    name="noop",
    templates=(AUTHORIZATION, CHECKNOTHING, REPORTNOTHING, LISTENTRY, LOGENTRY, METRIC, QUOTA, TRACESPAN),
    params=NoopParams,
    build=build,
    description="Agrees with every check, grants every quota and drops every report.",
)
