"""Connection, session and calls to a backend; the one module of bypass that knows gRPC. Source: spec runtime 6.2."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status as WireStatus

from mixer.api.gen.mixer.adapter.model.v1beta1 import check_pb2, quota_pb2, report_pb2
from mixer.api.gen.mixer.adapter.model.v1beta1.infrastructure_backend_pb2 import (
    CloseSessionRequest,
    CreateSessionRequest,
    ValidateRequest,
)
from mixer.api.gen.mixer.adapter.model.v1beta1.infrastructure_backend_pb2_grpc import InfrastructureBackendStub
from mixer.api.gen.mixer.template.checknothing import template_handler_service_pb2_grpc as checknothing_grpc
from mixer.api.gen.mixer.template.checknothing.template_handler_service_pb2 import HandleCheckNothingRequest
from mixer.api.gen.mixer.template.metric import template_handler_service_pb2_grpc as metric_grpc
from mixer.api.gen.mixer.template.metric.template_handler_service_pb2 import HandleMetricRequest
from mixer.api.gen.mixer.template.quota import template_handler_service_pb2_grpc as quota_grpc
from mixer.api.gen.mixer.template.quota.template_handler_service_pb2 import HandleQuotaRequest
from mixer.api.gen.mixer.template.reportnothing import template_handler_service_pb2_grpc as reportnothing_grpc
from mixer.api.gen.mixer.template.reportnothing.template_handler_service_pb2 import HandleReportNothingRequest
from mixer.errors import AdapterError, BackendRejectedError, BackendUnavailableError

_SESSION_TYPE: Final = "google.protobuf.Any.type_url"
_CLOSE_TIMEOUT_S: Final = 1.0
_OPTIONS: Final = (
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 10_000),
)
_TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class _Method(Protocol[Answer_co]):
    def __call__(self, request: Any, *, timeout: float) -> Awaitable[Answer_co]: ...


class Backend:
    """One backend as one handler sees it.

    The connection is made in the background, and made again whenever it is lost. With sessions, the params
    are validated and a session is opened once, by `prepare` or before the first call; after a call that
    found the backend unavailable the session is opened anew, because the backend may have lost it.

    Every method raises `BackendUnavailableError` when the same call may succeed later, and
    `BackendRejectedError` when it will not.
    """

    def __init__(
        self,
        address: str,
        config: AnyMessage | None,
        types: Mapping[str, AnyMessage],
        *,
        session_based: bool,
        timeout_s: float,
    ) -> None:
        self._address = address
        self._params = config
        self._types = types
        self._session_based = session_based
        self._timeout_s = timeout_s
        self._session: AnyMessage | None = None
        self._opening = asyncio.Lock()
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._infrastructure = InfrastructureBackendStub(self._channel)
        self._check = checknothing_grpc.HandleCheckNothingServiceStub(self._channel).HandleCheckNothing
        self._report = reportnothing_grpc.HandleReportNothingServiceStub(self._channel).HandleReportNothing
        self._metric = metric_grpc.HandleMetricServiceStub(self._channel).HandleMetric
        self._quota = quota_grpc.HandleQuotaServiceStub(self._channel).HandleQuota

    async def prepare(self) -> None:
        """With sessions: have the params validated and open one; otherwise nothing."""
        if self._session_based:
            await self._open_session()

    async def check(self, request: HandleCheckNothingRequest) -> check_pb2.CheckResult:
        """Judge an instance."""
        return await self._handle(self._check, request)

    async def report(self, request: HandleReportNothingRequest) -> report_pb2.ReportResult:
        """Take reportnothing instances."""
        return await self._handle(self._report, request)

    async def metric(self, request: HandleMetricRequest) -> report_pb2.ReportResult:
        """Take metric instances."""
        return await self._handle(self._metric, request)

    async def quota(self, request: HandleQuotaRequest) -> quota_pb2.QuotaResult:
        """Grant, or not."""
        return await self._handle(self._quota, request)

    async def _handle(self, method: _Method[Answer], request: Any) -> Answer:
        """Call with the params, or with the session, as the request's configuration."""
        config = await self._open_session() if self._session_based else self._params
        if config is not None:
            request.adapter_config.CopyFrom(config)
        try:
            return await self._call(method, request)
        except BackendUnavailableError as exc:
            if self._session is config and _code(exc) is grpc.StatusCode.UNAVAILABLE:
                self._session = None
            raise

    async def _open_session(self) -> AnyMessage:
        if self._session is not None:
            return self._session
        try:
            async with asyncio.timeout(self._timeout_s), self._opening:
                if self._session is None:  # nobody opened one while we waited
                    self._session = await self._new_session()
                return self._session
        except TimeoutError as exc:
            raise BackendUnavailableError(f"backend {self._address} opens no session in {self._timeout_s:g} s") from exc

    async def _new_session(self) -> AnyMessage:
        validate = ValidateRequest(adapter_config=self._params, inferred_types=self._types)
        checked = await self._call(self._infrastructure.Validate, validate)
        self._require_ok("refuses the params", checked.status)
        create = CreateSessionRequest(adapter_config=self._params, inferred_types=self._types)
        created = await self._call(self._infrastructure.CreateSession, create)
        self._require_ok("opens no session", created.status)
        return AnyMessage(type_url=_SESSION_TYPE, value=created.session_id.encode())

    def _require_ok(self, complaint: str, status: WireStatus) -> None:
        if status.code:
            raise BackendRejectedError(f"backend {self._address} {complaint}: {status.message} (code {status.code})")

    async def _call(self, method: _Method[Answer], request: Any, *, timeout_s: float | None = None) -> Answer:
        try:
            return await method(request, timeout=timeout_s or self._timeout_s)
        except grpc.aio.AioRpcError as exc:
            kind = BackendUnavailableError if exc.code() in _TRANSIENT else BackendRejectedError
            raise kind(f"backend {self._address}: {exc.code().name}: {exc.details()}") from exc

    async def aclose(self) -> None:
        """Close the session, if the backend listens, and the connection."""
        session, self._session = self._session, None
        if session is not None:
            request = CloseSessionRequest(session_id=session.value.decode())
            with contextlib.suppress(AdapterError):  # a backend that is gone has no session either
                await self._call(self._infrastructure.CloseSession, request, timeout_s=_CLOSE_TIMEOUT_S)
        await self._channel.close(None)


def _code(exc: BaseException) -> grpc.StatusCode | None:
    cause = exc.__cause__
    return cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None
