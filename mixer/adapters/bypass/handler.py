"""The handler of bypass: one call to the backend for each check and quota, one for each batch of a report."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from mixer.adapters.base import CheckResult, Handler, InstanceInfo, QuotaArgs, QuotaResult
from mixer.adapters.bypass.backend import Backend
from mixer.adapters.bypass.convert import NO_TYPES, check_result, quota_result, to_metric, to_quota, to_type
from mixer.adapters.bypass.params import BypassParams
from mixer.api.gen.mixer.adapter.model.v1beta1.quota_pb2 import QuotaRequest
from mixer.api.gen.mixer.template.checknothing import template_handler_service_pb2 as checknothing_pb2
from mixer.api.gen.mixer.template.metric.template_handler_service_pb2 import HandleMetricRequest
from mixer.api.gen.mixer.template.quota.template_handler_service_pb2 import HandleQuotaRequest
from mixer.api.gen.mixer.template.reportnothing import template_handler_service_pb2 as reportnothing_pb2
from mixer.errors import AdapterError, BackendRejectedError
from mixer.templates.metric import MetricInstance
from mixer.templates.nothing import CheckNothingInstance, ReportNothingInstance
from mixer.templates.quota import QuotaInstance


class BypassHandler(Handler):
    """Hands everything on, and answers what the backend answers.

    Each call has a deduplication id of its own; a quota call has that of the request.
    Source: spec adapters 4.15, spec runtime 6.1.
    """

    def __init__(self, params: BypassParams, instances: Sequence[InstanceInfo]) -> None:
        self._types = {info.name: info.types for info in instances}
        self._backend = Backend(
            params.backend_address,
            params.backend_params(),
            {info.name: to_type(info) for info in instances},
            session_based=params.session_based,
            timeout_s=params.call_timeout.seconds,
        )

    async def prepare(self) -> None:
        """Do what can be done before the first call.

        Raises:
            BackendUnavailableError: The backend is away; the first call tries again.
            BackendRejectedError: It refuses the params.
        """
        await self._backend.prepare()

    async def handle_check(self, instance: CheckNothingInstance, /) -> CheckResult:
        """Ask the backend."""
        request = checknothing_pb2.HandleCheckNothingRequest(
            instance=checknothing_pb2.InstanceMsg(name=instance.name), dedup_id=_new_id()
        )
        return check_result(await self._backend.check(request))

    async def handle_report(self, instances: Sequence[MetricInstance | ReportNothingInstance], /) -> None:
        """Hand a batch on, in one call; instances that cannot be converted are left out and then reported."""
        if not instances:
            return
        metrics = [instance for instance in instances if isinstance(instance, MetricInstance)]
        if metrics:
            await self._report_metrics(metrics)
            return
        request = reportnothing_pb2.HandleReportNothingRequest(
            instances=[reportnothing_pb2.InstanceMsg(name=instance.name) for instance in instances], dedup_id=_new_id()
        )
        await self._backend.report(request)

    async def _report_metrics(self, instances: Sequence[MetricInstance]) -> None:
        request = HandleMetricRequest(dedup_id=_new_id())
        faults = []
        for instance in instances:
            try:
                request.instances.append(to_metric(instance, self._types.get(instance.name, NO_TYPES)))
            except AdapterError as exc:
                faults.append(str(exc))
        if request.instances:
            await self._backend.metric(request)
        if faults:
            raise AdapterError(
                f"{len(faults)} of {len(instances)} metrics not sent: {'; '.join(dict.fromkeys(faults))}"
            )

    async def handle_quota(self, instance: QuotaInstance, args: QuotaArgs, /) -> QuotaResult:
        """Ask the backend, under the instance's name.

        Raises:
            BackendRejectedError: Its answer is about other quotas.
        """
        wanted = QuotaRequest.QuotaParams(amount=args.amount, best_effort=args.best_effort)
        request = HandleQuotaRequest(
            instance=to_quota(instance, self._types.get(instance.name, NO_TYPES)),
            dedup_id=args.dedup_id,
            quota_request=QuotaRequest(quotas={instance.name: wanted}),
        )
        answer = await self._backend.quota(request)
        if instance.name not in answer.quotas:
            raise BackendRejectedError(f"remote server did not respond with the requested quota '{instance.name}'")
        return quota_result(answer.quotas[instance.name])

    async def aclose(self) -> None:
        """Close session and connection."""
        await self._backend.aclose()


def _new_id() -> str:
    return str(uuid.uuid4())
