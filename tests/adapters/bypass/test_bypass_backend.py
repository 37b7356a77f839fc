"""bypass against a gRPC backend on this machine. Source: spec adapters 4.15, spec runtime 6.1 and 6.2."""

import asyncio
import contextlib
import socket

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration as WireDuration
from google.rpc.status_pb2 import Status as WireStatus

from mixer.adapters.base import CheckResult, Code, InstanceInfo, QuotaArgs, QuotaResult, Status
from mixer.adapters.bypass import INFO
from mixer.adapters.testing import RecordingEnv, assert_handler_lifecycle, build_handler
from mixer.api.gen.mixer.adapter.model.v1beta1 import infrastructure_backend_pb2 as infrastructure
from mixer.api.gen.mixer.adapter.model.v1beta1 import infrastructure_backend_pb2_grpc as infrastructure_grpc
from mixer.api.gen.mixer.adapter.model.v1beta1.check_pb2 import CheckResult as WireCheckResult
from mixer.api.gen.mixer.adapter.model.v1beta1.quota_pb2 import QuotaResult as WireQuotaResult
from mixer.api.gen.mixer.adapter.model.v1beta1.report_pb2 import ReportResult
from mixer.api.gen.mixer.template.checknothing import template_handler_service_pb2_grpc as checknothing_grpc
from mixer.api.gen.mixer.template.metric import template_handler_service_pb2_grpc as metric_grpc
from mixer.api.gen.mixer.template.quota import template_handler_service_pb2_grpc as quota_grpc
from mixer.api.gen.mixer.template.reportnothing import template_handler_service_pb2_grpc as reportnothing_grpc
from mixer.attributes import Duration, ValueType
from mixer.errors import AdapterError, BackendRejectedError, BackendUnavailableError
from mixer.templates import METRIC
from mixer.templates.metric import MetricInstance
from mixer.templates.nothing import CheckNothingInstance, ReportNothingInstance
from mixer.templates.quota import QuotaInstance

SPAN = WireDuration(seconds=1000)
PARAMS = {"@type": "type.googleapis.com/google.rpc.Status", "code": 5}
CHECK = CheckNothingInstance("check")


class PlayedBackend(
    checknothing_grpc.HandleCheckNothingServiceServicer,
    reportnothing_grpc.HandleReportNothingServiceServicer,
    metric_grpc.HandleMetricServiceServicer,
    quota_grpc.HandleQuotaServiceServicer,
    infrastructure_grpc.InfrastructureBackendServicer,
):
    """Remembers its requests; says yes for 1000 s and 1000 uses and grants 100 unless told otherwise."""

    def __init__(self):
        self.requests = []
        self.calls = []
        self.check = WireCheckResult(valid_duration=SPAN, valid_use_count=1000)
        self.quota = WireQuotaResult.Result(valid_duration=SPAN, granted_amount=100)
        self.quota_name = None
        self.validated, self.created = WireStatus(), WireStatus()
        self.abort = None

    async def _take(self, call, request, context):
        self.calls.append(call)
        self.requests.append(request)
        if self.abort is not None:
            await context.abort(*self.abort)

    async def HandleCheckNothing(self, request, context):
        await self._take("check", request, context)
        return self.check

    async def HandleReportNothing(self, request, context):
        await self._take("report", request, context)
        return ReportResult()

    async def HandleMetric(self, request, context):
        await self._take("metric", request, context)
        return ReportResult()

    async def HandleQuota(self, request, context):
        await self._take("quota", request, context)
        return WireQuotaResult(quotas={self.quota_name or next(iter(request.quota_request.quotas)): self.quota})

    async def Validate(self, request, context):
        await self._take("validate", request, context)
        return infrastructure.ValidateResponse(status=self.validated)

    async def CreateSession(self, request, context):
        await self._take("create", request, context)
        return infrastructure.CreateSessionResponse(
            session_id=f"session-{self.calls.count('create')}", status=self.created
        )

    async def CloseSession(self, request, context):
        await self._take("close", request, context)
        return infrastructure.CloseSessionResponse()


@contextlib.asynccontextmanager
async def listening(backend, address="127.0.0.1:0"):
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    checknothing_grpc.add_HandleCheckNothingServiceServicer_to_server(backend, server)
    reportnothing_grpc.add_HandleReportNothingServiceServicer_to_server(backend, server)
    metric_grpc.add_HandleMetricServiceServicer_to_server(backend, server)
    quota_grpc.add_HandleQuotaServiceServicer_to_server(backend, server)
    infrastructure_grpc.add_InfrastructureBackendServicer_to_server(backend, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def bypassing(address, *, env=None, instances=(), **params):
    handler = await build_handler(INFO, {"backendAddress": address, **params}, instances=instances, env=env)
    try:
        yield handler
    finally:
        await handler.aclose()


@contextlib.asynccontextmanager
async def connected(*, instances=(), env=None, **params):
    """A backend, and a handler that knows it."""
    backend = PlayedBackend()
    async with listening(backend) as address, bypassing(address, instances=instances, env=env, **params) as handler:
        yield backend, handler


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("session_based", [False, True])
async def test_bypass_keeps_the_lifecycle_with_and_without_a_backend(session_based):
    params = {"sessionBased": session_based, "params": PARAMS}
    await assert_handler_lifecycle(INFO, {"backendAddress": free_address(), **params})
    async with listening(PlayedBackend()) as address:
        await assert_handler_lifecycle(INFO, {"backendAddress": address, **params})


async def test_answers_are_those_of_the_backend():
    async with connected() as (_, handler):
        span = Duration.parse("1000s")
        assert await handler.handle_check(CHECK) == CheckResult(Status(), span, 1000)
        assert await handler.handle_quota(QuotaInstance("q"), QuotaArgs(100)) == QuotaResult(100, span, Status())
        assert await handler.handle_report([ReportNothingInstance("r")]) is None
        assert await handler.handle_report([MetricInstance("m", 1)]) is None


async def test_denials_and_refusals_are_answers():
    async with connected() as (backend, handler):
        backend.check = WireCheckResult(status=WireStatus(code=7, message="no"))
        assert await handler.handle_check(CHECK) == CheckResult(Status(Code.PERMISSION_DENIED, "no"))
        backend.quota = WireQuotaResult.Result(status=WireStatus(code=8, message="none left"))
        refused = await handler.handle_quota(QuotaInstance("q"), QuotaArgs(1))
        assert refused == QuotaResult(0, Duration(0), Status(Code.RESOURCE_EXHAUSTED, "none left"))


async def test_each_call_has_its_own_dedup_id_and_a_quota_the_callers():
    async with connected() as (backend, handler):
        await handler.handle_check(CHECK)
        await handler.handle_check(CHECK)
        await handler.handle_report([ReportNothingInstance("r")])
        await handler.handle_quota(QuotaInstance("q"), QuotaArgs(1, dedup_id="mine"))
        ids = [request.dedup_id for request in backend.requests]
        assert len({*ids, ""}) == 5
        assert ids[-1] == "mine"


async def test_quota_is_asked_by_the_name_of_the_instance():
    async with connected() as (backend, handler):
        await handler.handle_quota(QuotaInstance("q.instance.ns", {"a": 1}), QuotaArgs(3, best_effort=True))
        request = backend.requests[0]
        assert request.instance.name == "q.instance.ns"
        assert request.instance.dimensions["a"].int64_value == 1
        assert {name: (p.amount, p.best_effort) for name, p in request.quota_request.quotas.items()} == {
            "q.instance.ns": (3, True)
        }
        backend.quota_name = "other"
        with pytest.raises(BackendRejectedError, match=r"did not respond with the requested quota 'q\.instance\.ns'"):
            await handler.handle_quota(QuotaInstance("q.instance.ns"), QuotaArgs(3))


async def test_a_batch_is_one_call_and_bad_metrics_stay_behind():
    async with connected(instances=[InstanceInfo("m", METRIC, {"dimensions": {"u": ValueType.URI}})]) as (
        backend,
        handler,
    ):
        batch = [MetricInstance("m", n, {"u": "/x"}) for n in range(3)]
        await handler.handle_report(batch)
        assert [i.value.int64_value for i in backend.requests[0].instances] == [0, 1, 2]
        assert backend.requests[0].instances[0].dimensions["u"].uri_value.value == "/x"
        with pytest.raises(AdapterError, match="1 of 4 metrics not sent: m: value cannot be sent: a mapping"):
            await handler.handle_report([*batch, MetricInstance("m", {"a": "b"})])
        assert len(backend.requests[1].instances) == 3
        with pytest.raises(AdapterError, match="1 of 1 metrics not sent"):
            await handler.handle_report([MetricInstance("m", {"a": "b"})])
        await handler.handle_report([])
        assert len(backend.requests) == 2


async def test_quota_dimensions_that_cannot_be_sent_fail_the_call():
    async with connected() as (backend, handler):
        with pytest.raises(AdapterError, match="dimension 'labels' cannot be sent"):
            await handler.handle_quota(QuotaInstance("q", {"labels": {}}), QuotaArgs(1))
        assert backend.requests == []


async def test_params_go_with_every_call_without_sessions():
    async with connected(params=PARAMS) as (backend, handler):
        await handler.handle_check(CHECK)
        config = WireStatus()
        assert backend.requests[0].adapter_config.Unpack(config)
        assert config.code == 5
        assert backend.calls == ["check"]


async def test_no_params_are_sent_when_there_are_none():
    async with connected() as (backend, handler):
        await handler.handle_check(CHECK)
        assert not backend.requests[0].HasField("adapter_config")


async def test_session_is_validated_opened_used_and_closed():
    instance = InstanceInfo("m", METRIC, {"value": ValueType.INT64})
    async with connected(params=PARAMS, sessionBased=True, instances=[instance]) as (backend, handler):
        await handler.handle_check(CHECK)
        await handler.handle_check(CHECK)
        await handler.aclose()
        assert backend.calls == ["validate", "create", "check", "check", "close"]
        validate, create, check, _, close = backend.requests
        assert validate.adapter_config == create.adapter_config
        assert validate.inferred_types["m"].type_url == "type.googleapis.com/metric.Type"
        assert check.adapter_config.type_url == "google.protobuf.Any.type_url"
        assert check.adapter_config.value == b"session-1"
        assert close.session_id == "session-1"


@pytest.mark.parametrize(
    ("step", "message"),
    [("validated", "refuses the params: bad host"), ("created", "opens no session: bad host")],
)
async def test_a_backend_that_refuses_the_params_fails_the_build(step, message):
    backend = PlayedBackend()
    setattr(backend, step, WireStatus(code=3, message="bad host"))
    async with listening(backend) as address:
        with pytest.raises(BackendRejectedError, match=message):
            await build_handler(INFO, {"backendAddress": address, "sessionBased": True})


async def eventually(call):
    """The answer once the backend is there."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(BackendUnavailableError):
                return await call()
            await asyncio.sleep(0.01)  # the reconnection is gRPC's, and its clock is real


@pytest.mark.slow
@pytest.mark.parametrize("session_based", [False, True])
async def test_calls_fail_while_the_backend_is_away_and_work_when_it_comes(session_based):
    address, env = free_address(), RecordingEnv()
    async with bypassing(address, sessionBased=session_based, env=env) as handler:
        assert [line["event"] for line in env.logged] == ["backend_away"] * session_based
        with pytest.raises(BackendUnavailableError, match=f"backend {address}: UNAVAILABLE"):
            await handler.handle_check(CHECK)
        for calls in (["validate", "create", "check"], ["validate", "create", "check"]):
            backend = PlayedBackend()
            async with listening(backend, address):
                assert (await eventually(lambda: handler.handle_check(CHECK))).valid_use_count == 1000
                assert backend.calls == (calls if session_based else ["check"])
            with pytest.raises(BackendUnavailableError):
                await handler.handle_check(CHECK)


async def test_a_silent_backend_has_a_time_limit():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with bypassing(address, callTimeout="50ms", sessionBased=True) as handler:
            with pytest.raises(BackendUnavailableError):
                await handler.handle_check(CHECK)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, BackendUnavailableError),
        (grpc.StatusCode.INVALID_ARGUMENT, BackendRejectedError),
        (grpc.StatusCode.UNIMPLEMENTED, BackendRejectedError),
    ],
    ids=str,
)
async def test_failures_say_whether_to_try_again(code, error):
    async with connected() as (backend, handler):
        backend.abort = (code, "because")
        with pytest.raises(error, match=f"{code.name}: because"):
            await handler.handle_check(CHECK)
