"""Instances over a real socket and back: every template, every variety, and every way of not answering."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from mixer.adapters.base import CheckResult, Code, DirectResponse, QuotaArgs, QuotaResult, Status
from mixer.adapters.remote import backend
from mixer.adapters.testing import RecordingEnv
from mixer.attributes import Duration, MappingBag, Timestamp, ValueType
from mixer.attributes.values import ZERO_TIME
from mixer.errors import AdapterError, BackendRejectedError, BackendUnavailableError
from mixer.templates.authorization import Action, AuthorizationInstance, Subject
from mixer.templates.listentry import ListEntryInstance
from mixer.templates.metric import MetricInstance
from tests.adapters.remote.remote_support import Seen, adapter, built, calling, instance, served
from tests.e2e.backends.relay import Relay

NAME = "i.instance.istio-system"
NOW = Timestamp(1_700_000_000_123_456_789)


async def test_an_instance_arrives_as_an_adapter_of_mixer_would_get_it() -> None:
    seen = Seen()
    made = instance(
        "metric",
        {
            "value": "request.size",
            "dimensions": {
                "name": "source.name",
                "ip": "source.ip",
                "when": "request.time",
                "long": "response.duration",
                "ratio": "request.ratio",
                "ok": "request.ok",
                "host": "request.host",
                "literal": '"10s"',
                "number": 5,
            },
            "monitoredResourceType": "'disk'",
        },
    )
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        given = built(
            made,
            request__size=12,
            source__name="ann",
            source__ip=bytes((10, 0, 0, 1)),
            request__time=NOW,
            response__duration=Duration.parse("-1.5s"),
            request__ratio=0.25,
            request__ok=True,
            request__host="a.b",
        )
        await handler.handle_report([given, given])

    expected = MetricInstance(
        NAME,
        12,
        {
            "name": "ann",
            "ip": bytes((10, 0, 0, 1)),
            "when": NOW,
            "long": Duration.parse("-1.5s"),
            "ratio": 0.25,
            "ok": True,
            "host": "a.b",
            "literal": "10s",
            "number": 5.0,
        },
        "disk",
    )
    assert seen.instances == [expected, expected]
    assert seen.batches == [2]
    assert isinstance(seen.instances[0].dimensions["when"], Timestamp)


@pytest.mark.parametrize(
    ("template", "params", "attributes", "expected"),
    [
        ("listentry", {"value": "source.ip"}, {"source__ip": b"\1\2\3\4"}, ListEntryInstance(NAME, b"\1\2\3\4")),
        ("listentry", {}, {}, ListEntryInstance(NAME, None)),
        (
            "authorization",
            {"subject": {"user": "source.name", "properties": {"size": "request.size"}}, "action": {}},
            {"source__name": "ann", "request__size": 3},
            AuthorizationInstance(NAME, Subject("ann", "", {"size": 3}), Action()),
        ),
        ("authorization", {}, {}, AuthorizationInstance(NAME)),
    ],
    ids=["address", "nothing", "nested", "nothing-nested"],
)
async def test_instances_of_checks(template: str, params: Any, attributes: Any, expected: Any) -> None:
    seen = Seen()
    made = instance(template, params)
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        result = await handler.handle_check(built(made, **attributes))

    assert seen.instances == [expected]
    assert result == CheckResult(Status(), Duration.parse("2s"), 7)


@pytest.mark.parametrize("template", ["logentry", "tracespan", "edge", "reportnothing", "checknothing", "apikey"])
async def test_an_instance_without_params_has_the_defaults_of_its_class(template: str) -> None:
    seen = Seen()
    made = instance(template, {})
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        call = handler.handle_check if template in ("checknothing", "apikey") else handler.handle_report
        await call(built(made) if template in ("checknothing", "apikey") else [built(made)])

    from mixer.templates import TEMPLATES

    assert seen.instances == [TEMPLATES[template].instance_type(NAME)]
    assert getattr(seen.instances[0], "timestamp", ZERO_TIME) == ZERO_TIME


async def test_a_denial_comes_back_whole() -> None:
    denial = CheckResult(
        Status(Code.PERMISSION_DENIED, "no", DirectResponse(302, "go", {"location": "/login"})), Duration(5), 3
    )
    seen = Seen(answer=denial)
    made = instance("checknothing", {})
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        assert await handler.handle_check(built(made)) == denial


async def test_a_quota_is_asked_for_under_the_name_of_its_instance_with_the_id_of_the_request() -> None:
    seen = Seen(answer=QuotaResult(2, Duration.parse("1m"), Status(Code.RESOURCE_EXHAUSTED, "some")))
    made = instance("quota", {"dimensions": {"user": "source.name"}})
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        result = await handler.handle_quota(built(made, source__name="ann"), QuotaArgs(5, True, "id-1quota"))

    assert seen.quotas == [QuotaArgs(5, True, "id-1quota")]
    assert result == QuotaResult(2, Duration.parse("1m"), Status(Code.RESOURCE_EXHAUSTED, "some"))


@pytest.mark.parametrize("granted", [-1, 6])
async def test_a_grant_of_more_than_was_asked_for_is_no_answer(granted: int) -> None:
    seen = Seen(answer=QuotaResult(granted, Duration.parse("1m")))
    made = instance("quota", {})
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        with pytest.raises(BackendRejectedError, match=f"asked for 5, granted {granted}"):
            await handler.handle_quota(built(made), QuotaArgs(5))


async def test_generated_attributes_are_bound() -> None:
    seen = Seen(answer={"source_pod_ip": b"\x0a\0\0\1", "source_labels": {"app": "web"}, "source_namespace": "shop"})
    bindings = {"source.name": "$out.source_namespace", "source.labels": "output.source_labels"}
    made = instance("kubernetes", {"source_uid": "source.uid"}, bindings=bindings)
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        outputs = await handler.generate_attributes(built(made, source__uid="kubernetes://x"))

    assert outputs == {"source_pod_ip": b"\x0a\0\0\1", "source_labels": {"app": "web"}, "source_namespace": "shop"}
    assert made.bind is not None
    assert made.bind(outputs, MappingBag({})) == {"source.name": "shop", "source.labels": {"app": "web"}}


async def test_params_come_with_each_call_and_make_one_handler() -> None:
    seen = Seen()
    made = instance("checknothing", {})
    async with (
        served(adapter(seen)) as server,
        calling(server.port, [made], params={"greeting": "hi", "limits": {"a": 1}}) as handler,
    ):
        for _ in range(3):
            await handler.handle_check(built(made))

    assert [(p.greeting, p.limits) for p in seen.params] == [("hi", {"a": 1})]
    assert len(seen.instances) == 3
    assert seen.closed == 1


async def test_dedup_ids_of_calls_differ() -> None:
    ids: list[str] = []

    async def keep(request: bytes, context: Any) -> bytes:
        from mixer.adapters.remote.standard import standard_model

        message: Any = standard_model("checknothing").request()
        message.ParseFromString(request)
        ids.append(message.dedup_id)
        return b""

    made = instance("checknothing", {})
    async with raw_server(keep) as port, calling(port, [made]) as handler:
        for _ in range(3):
            assert (await handler.handle_check(built(made))).is_default

    assert len(set(ids)) == 3
    assert all(id_.isdecimal() for id_ in ids)


# A backend that does not answer as it should


def raw_server(method: Any, service: str = "checknothing.HandleCheckNothingService", name: str = "") -> Any:
    """A server whose answers are any bytes."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def running() -> Any:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        called = name or service.rsplit(".", 1)[1].removesuffix("Service")
        handler = grpc.method_handlers_generic_handler(service, {called: grpc.unary_unary_rpc_method_handler(method)})
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield port
        finally:
            await server.stop(0)

    return running()


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff", b"\x12\x02\x08", b"\x0a\x7f"], ids=["bytes", "cut", "length"])
async def test_nonsense_is_an_error_of_the_backend(nonsense: bytes) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return nonsense

    made = instance("checknothing", {})
    async with raw_server(answer) as port, calling(port, [made]) as handler:
        with pytest.raises(BackendRejectedError, match="answered with nonsense"):
            await handler.handle_check(built(made))


async def test_an_answer_about_another_quota_is_an_error() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return b""

    made = instance("quota", {})
    async with raw_server(answer, "quota.HandleQuotaService") as port, calling(port, [made]) as handler:
        with pytest.raises(BackendRejectedError, match=r"did not respond with the requested quota 'i\.instance"):
            await handler.handle_quota(built(made), QuotaArgs(1))


async def test_a_backend_without_the_service_refuses_for_good() -> None:
    made = instance("checknothing", {})
    async with served(adapter(Seen(), ())) as server, calling(server.port, [made]) as handler:
        with pytest.raises(BackendRejectedError, match="code = Unimplemented"):
            await handler.handle_check(built(made))


async def test_errors_of_the_adapter_come_back_with_their_text() -> None:
    seen = Seen(answer=AdapterError("the disk is full"))
    made = instance("reportnothing", {})
    env = RecordingEnv()
    async with served(adapter(seen)) as server, calling(server.port, [made], env=env) as handler:
        with pytest.raises(BackendRejectedError, match="code = Internal desc = the disk is full"):
            await handler.handle_report([built(made)] * 3)

    lost = env.metrics.get_sample_value(
        "mixer_remote_adapter_lost_instances_total", {"handler": "test.istio-system", "outcome": "rejected"}
    )
    assert lost == 3


async def test_a_crash_of_the_adapter_costs_one_call() -> None:
    seen = Seen(answer=ZeroDivisionError("oops"))
    made = instance("checknothing", {})
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        with pytest.raises(BackendRejectedError, match="the adapter crashed: ZeroDivisionError: oops"):
            await handler.handle_check(built(made))
        seen.answer = None
        assert (await handler.handle_check(built(made))).status.ok


@pytest.mark.slow
async def test_a_backend_that_is_away_fails_at_once_and_is_found_within_a_second_of_its_return() -> None:
    seen = Seen()
    made = instance("checknothing", {})
    async with served(adapter(seen)) as server:
        port = server.port
    async with calling(port, [made]) as handler:
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match="rpc error: code = Unavailable desc = "):
            await handler.handle_check(built(made))
        assert time.monotonic() - started < 1

        async with served(adapter(seen), f"127.0.0.1:{port}"):
            back = time.monotonic()
            while True:
                try:
                    await handler.handle_check(built(made))
                    break
                except BackendUnavailableError:
                    assert time.monotonic() - back < 3
                    await asyncio.sleep(0.02)
            assert time.monotonic() - back < 1.5


@pytest.mark.slow
async def test_a_slow_backend_is_cut_off_at_the_time_out_of_the_connection() -> None:
    seen = Seen(answer=lambda: asyncio.sleep(30))
    made = instance("checknothing", {})
    async with served(adapter(seen)) as server, calling(server.port, [made], timeout="200ms") as handler:
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match="code = DeadlineExceeded"):
            await handler.handle_check(built(made))
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("session_based", [False, True], ids=["params", "session"])
async def test_a_connection_that_leads_nowhere_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, session_based: bool
) -> None:
    """A router that forgot the connection tells nobody, and calls that give up soon leave keepalive no time."""
    monkeypatch.setattr(backend, "SILENCE_S", 0.1)
    made = instance("checknothing", {})
    async with (
        served(adapter(Seen())) as server,
        Relay(server.port) as relay,
        calling(relay.port, [made], session_based=session_based, timeout="300ms") as handler,
    ):
        await handler.handle_check(built(made))

        relay.bore()
        with pytest.raises(BackendUnavailableError):
            await handler.handle_check(built(made))

        assert (await handler.handle_check(built(made))).status.code == Code.OK


async def test_calls_under_way_when_the_handler_closes_fail_as_if_the_backend_were_away() -> None:
    made = instance("checknothing", {})
    hang = asyncio.Event()

    async def answer() -> CheckResult:
        await hang.wait()
        return CheckResult()

    async with served(adapter(Seen(answer=answer))) as server:
        async with calling(server.port, [made]) as handler:
            call = asyncio.ensure_future(handler.handle_check(built(made)))
            await asyncio.sleep(0.05)
        hang.set()
        with pytest.raises(BackendUnavailableError, match="the connection was closed"):
            await call


async def test_more_calls_than_a_backend_can_have_waiting_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "MOST_CALLS", 2)
    go, two = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        if len(seen.batches) == 2:
            two.set()
        await go.wait()

    seen = Seen(answer=wait)
    made = instance("reportnothing", {})
    env = RecordingEnv()
    async with served(adapter(seen)) as server, calling(server.port, [made], env=env) as handler:
        waiting = [asyncio.ensure_future(handler.handle_report([built(made)])) for _ in range(2)]
        await asyncio.wait_for(two.wait(), 2)
        with pytest.raises(BackendUnavailableError, match="2 calls wait for an answer already"):
            await handler.handle_report([built(made)])
        go.set()
        await asyncio.gather(*waiting)

    labels = {"handler": "test.istio-system", "outcome": "overloaded"}
    assert env.metrics.get_sample_value("mixer_remote_adapter_calls_total", labels) == 1
    assert env.metrics.get_sample_value("mixer_remote_adapter_lost_instances_total", labels) == 1


async def test_a_large_report_goes_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    from mixer.adapters.remote import handler as module

    made = instance("reportnothing", {})
    monkeypatch.setattr(module, "LARGEST_CALL", 3 * len(built(made).payload))
    seen = Seen()
    async with served(adapter(seen)) as server, calling(server.port, [made]) as handler:
        await handler.handle_report([built(made)] * 7)

    assert seen.batches == [3, 3, 1]


# Sessions


async def test_a_session_gets_params_and_types_once_and_is_closed() -> None:
    seen = Seen()
    made = instance("metric", {"value": "request.size", "dimensions": {"a": "source.name", "b": '"x"', "c": 1.5}})
    async with served(adapter(seen)) as server:
        async with calling(server.port, [made], params={"greeting": "hi"}, session_based=True) as handler:
            for _ in range(2):
                await handler.handle_report([built(made, request__size=1, source__name="n")])
            assert len(server.sessions._sessions) == 1
        assert server.sessions._sessions == {}

    kinds = {"a": ValueType.STRING, "b": ValueType.STRING, "c": ValueType.DOUBLE}
    unset: dict[str, ValueType] = {}
    assert seen.types == [
        {NAME: {"value": ValueType.INT64, "dimensions": kinds, "monitored_resource_dimensions": unset}}
    ]
    assert [p.greeting for p in seen.params] == ["hi"]


@pytest.mark.parametrize(
    ("greeting", "complaint"),
    [("", r"refuses the params: params.greeting: must not be empty \(expected a word\)"), ("explode", "it exploded")],
)
async def test_a_refused_session_is_a_failure_of_the_build(greeting: str, complaint: str) -> None:
    made = instance("checknothing", {})
    async with served(adapter(Seen())) as server:
        with pytest.raises(BackendRejectedError, match=complaint):
            async with calling(server.port, [made], params={"greeting": greeting}, session_based=True):
                pass


async def test_a_forgotten_session_is_opened_anew_within_the_call() -> None:
    seen = Seen()
    made = instance("checknothing", {})
    async with served(adapter(seen)) as server, calling(server.port, [made], session_based=True) as handler:
        await handler.handle_check(built(made))
        for name in list(server.sessions._sessions):
            server.sessions.close(name)
        await handler.handle_check(built(made))

    assert len(seen.instances) == 2
    assert len(seen.params) == 1, "sessions of one configuration share the handler"


@pytest.mark.slow
async def test_a_session_is_opened_when_a_backend_comes_that_was_away_at_the_build() -> None:
    seen = Seen()
    made = instance("checknothing", {})
    async with served(adapter(seen)) as server:
        port = server.port
    env = RecordingEnv()
    async with calling(port, [made], session_based=True, env=env, timeout="300ms") as handler:
        assert [line["event"] for line in env.logged] == ["backend_away"]
        async with served(adapter(seen), f"127.0.0.1:{port}"):
            for _ in range(100):
                try:
                    assert (await handler.handle_check(built(made))).status.ok
                    break
                except BackendUnavailableError:
                    await asyncio.sleep(0.02)
            else:
                pytest.fail("not found again")


async def test_workers_share_one_handler_for_one_configuration() -> None:
    seen = Seen()
    made = instance("quota", {})
    async with (
        served(adapter(seen)) as server,
        calling(server.port, [made], session_based=True) as first,
        calling(server.port, [made], session_based=True) as second,
    ):
        await first.handle_quota(built(made), QuotaArgs(1))
        await second.handle_quota(built(made), QuotaArgs(1))

    assert len(seen.quotas) == 2
    assert len(seen.params) == 1


async def test_handlers_without_sessions_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    from mixer.sdk import sessions

    monkeypatch.setattr(sessions, "LINGER_S", 0.0)
    seen = Seen()
    made = instance("checknothing", {})
    async with served(adapter(seen)) as server:
        async with calling(server.port, [made], session_based=True) as handler:
            await handler.handle_check(built(made))
            await server.sessions.sweep()
            assert seen.closed == 0
        await server.sessions.sweep()
        assert seen.closed == 1


@pytest.mark.slow
async def test_a_backend_that_hangs_while_a_session_is_opened_takes_no_longer_than_one_call() -> None:
    """Validate, CreateSession and the call share one time-out; many callers do not wait for each other."""
    from contextlib import suppress

    hang = asyncio.Event()

    async def answer(request: bytes, context: Any) -> bytes:
        await hang.wait()
        return b""

    made = instance("checknothing", {})
    service = "istio.mixer.adapter.model.v1beta1.InfrastructureBackend"
    async with raw_server(answer, service, "Validate") as port:
        async with calling(port, [made], session_based=True, timeout="200ms") as handler:
            started = time.monotonic()
            calls = [asyncio.ensure_future(handler.handle_check(built(made))) for _ in range(20)]
            for call in calls:
                with suppress(BackendUnavailableError):
                    await call
            assert all(isinstance(call.exception(), BackendUnavailableError) for call in calls)
            assert time.monotonic() - started < 0.6
        hang.set()


async def test_a_refused_session_is_not_asked_for_again_at_once() -> None:
    seen = Seen()
    made = instance("checknothing", {})
    env = RecordingEnv()
    async with served(adapter(seen)) as server, calling(server.port, [made], session_based=True, env=env) as handler:
        await handler.handle_check(built(made))
        asked = []
        server.sessions._sessions.clear()
        server.sessions.validate = lambda config, types: asked.append(1) or refuse()  # type: ignore[method-assign,assignment,func-returns-value]
        for _ in range(10):
            with pytest.raises(BackendRejectedError, match="refuses the params: changed its mind"):
                await handler.handle_check(built(made))
        assert len(asked) == 1
        await env.clock.advance(backend.SESSION_AGAIN_S)
        with pytest.raises(BackendRejectedError, match="changed its mind"):
            await handler.handle_check(built(made))
        assert len(asked) == 2


def refuse() -> Any:
    from mixer.sdk.sessions import RefusedError

    raise RefusedError("changed its mind")
