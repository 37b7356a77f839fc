from __future__ import annotations

import asyncio
import base64
import textwrap
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

import proxy.client
from mixer.api.answer import AppliedHeader, CheckAnswer, HeaderKind, QuotaLevel, RouteDirective
from mixer.api.codes import Code
from mixer.api.messages import Attributes
from mixer.attributes import ABSENT, AttributeBag, Duration, MappingBag
from mixer.errors import MixerCallError
from proxy.client import (
    PASS_THROUGH,
    FailPolicy,
    HttpClientConfig,
    LocalNode,
    NetworkFailPolicy,
    ServiceConfig,
    SidecarClient,
    TcpClientConfig,
    Transport,
    Verdict,
    check_attributes,
    for_all_services,
    http_status,
    read_config,
    status_text,
    with_report,
)
from proxy.mixer import CheckCall
from proxy.policy import NO_DECISION, PolicyClient
from tests.proxy.client.fakes import (
    Clock,
    FakeMixer,
    answer,
    ask,
    bag_of,
    charging,
    config,
    exact,
    granted,
    settle,
    tally,
    values,
    verdict_of,
)

TARGET = exact("target.name")
Make = Callable[..., SidecarClient]


@pytest.fixture
def mixer() -> FakeMixer:
    return FakeMixer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(mixer: FakeMixer, clock: Clock) -> AsyncIterator[Make]:
    made: list[SidecarClient] = []

    def build(http: HttpClientConfig | None = None, tcp: TcpClientConfig | None = None, **more: Any) -> SidecarClient:
        made.append(SidecarClient(mixer, http or config(), tcp, monotonic=clock, **more))
        return made[-1]

    yield build
    if mixer.gate is not None:
        mixer.gate.set()
    for client in made:
        await client.aclose(1.0)
    assert len(asyncio.all_tasks()) == 1


def test_sidecar_client_is_a_policy_client(make: Make) -> None:
    client: PolicyClient = make()
    assert client.forward() == ""


class TestCheck:
    async def test_repeats_are_decided_by_the_cache_and_reported_as_such(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 3."""
        mixer.reply = answer(TARGET)
        client = make()
        for number in range(10):
            bag = bag_of(client, target__name="a", request__id=str(number))
            verdict = await verdict_of(client.check(bag))
            client.report([with_report(bag, check_attributes(verdict))])
        client.flush()
        await settle()
        assert len(mixer.calls) == 1
        assert tally(client, "check_calls", "check_cache_hits", "check_cache_hit_accepts") == (10, 9, 9)
        (records,) = mixer.reports
        assert [r.get("check.cache_hit") for r in records] == [False] + [True] * 9
        assert {r.get("quota.cache_hit") for r in records} == {False}

    async def test_every_request_is_asked_about_without_check_cache(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 4."""
        mixer.reply = answer(TARGET)
        client = make(config(transport={"disableCheckCache": True}))
        for _ in range(10):
            assert (await ask(client, target__name="a")).ok
        assert len(mixer.calls) == 10
        assert tally(client, "check_cache_hits", "check_cache_misses", "remote_check_calls") == (0, 10, 10)

    async def test_denial_has_its_status_text_and_attributes(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 5."""
        mixer.reply = answer(code=Code.UNAUTHENTICATED, message="Unauthenticated by mixer.")
        client = make()
        verdict = await ask(client)
        assert http_status(verdict.code) == 401
        text = "UNAUTHENTICATED:Unauthenticated by mixer."
        assert status_text(verdict.code, verdict.message) == text
        assert check_attributes(verdict) == {
            "check.cache_hit": False,
            "quota.cache_hit": False,
            "check.error_code": 16,
            "check.error_message": text,
        }
        assert tally(client, "remote_check_denies", "remote_check_accepts") == (1, 0)

    def test_no_error_is_reported_of_what_passed(self) -> None:
        """Scenario 6: the backend's 400 is no denial."""
        assert check_attributes(Verdict()) == {"check.cache_hit": False, "quota.cache_hit": False}
        assert check_attributes(Verdict(checked=False)) == {}

    @pytest.mark.parametrize(
        ("policy", "code", "counter"),
        [("FAIL_OPEN", Code.OK, "remote_check_accepts"), ("FAIL_CLOSE", Code.UNAVAILABLE, "remote_check_denies")],
    )
    async def test_fail_policy_decides_when_mixer_is_away(
        self, make: Make, mixer: FakeMixer, policy: str, code: Code, counter: str
    ) -> None:
        """Scenario 7; nothing of it is remembered."""
        mixer.reply = MixerCallError(Code.UNAVAILABLE, "connection refused")
        client = make(config(transport={"networkFailPolicy": {"policy": policy}}))
        for _ in range(2):
            verdict = await ask(client, target__name="a")
            assert (verdict.code, verdict.failed, verdict.check_cache_hit) == (code, True, False)
        assert http_status(Code.UNAVAILABLE) == 503
        assert tally(client, counter, "remote_call_send_errors", "check_cache_misses") == (2, 2, 2)

    async def test_fail_policy_of_the_service_wins(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = MixerCallError(Code.UNAVAILABLE, "away")
        client = make(config({"networkFailPolicy": {"policy": "FAIL_CLOSE"}}))
        assert (await ask(client)).code == Code.UNAVAILABLE

    async def test_internal_error_of_mixer_is_judged_by_each_service(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 8; the cache keeps what was said, so that services of both kinds can share it."""
        mixer.reply = answer(TARGET, Code.INTERNAL, "template error")
        open_, close = {}, {"networkFailPolicy": {"policy": "FAIL_CLOSE"}}
        client = make(config(service_configs={"open": open_, "close": close}))
        for _ in range(2):
            assert (await ask(client, "open", target__name="a")).ok
            denied = await ask(client, "close", target__name="a")
            assert (denied.code, http_status(denied.code)) == (Code.INTERNAL, 500)
        assert len(mixer.calls) == 1

    async def test_unavailable_from_policy_is_cached_like_any_denial(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = answer(TARGET, Code.UNAVAILABLE, "closed today")
        client = make()
        first, second = await ask(client, target__name="a"), await ask(client, target__name="a")
        assert (first.code, second.code, second.check_cache_hit) == (14, 14, True)
        assert not second.failed

    async def test_directive_is_cached_with_its_decision(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 31, as far as the client goes."""
        directive = RouteDirective((AppliedHeader(":path", "/new", HeaderKind.REPLACE),))
        mixer.reply = answer(TARGET, directive=directive)
        client = make()
        first, second = await ask(client, target__name="a"), await ask(client, target__name="a")
        assert first.directive == second.directive == directive
        assert len(mixer.calls) == 1

    async def test_answer_without_precondition_is_not_kept(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = CheckAnswer(Code.INVALID_ARGUMENT, "CheckResponse doesn't have PreconditionResult")
        client = make()
        assert (await ask(client)).code == Code.INVALID_ARGUMENT
        assert (await ask(client)).code == Code.INVALID_ARGUMENT
        assert len(mixer.calls) == 2

    @pytest.mark.parametrize(
        ("service", "checks", "reports"),
        [
            ({"disable_check_calls": True}, 0, 1),
            ({"disable_report_calls": True}, 1, 0),
            ({"disable_check_calls": True, "disable_report_calls": True}, 0, 0),
        ],
        ids=["no check", "no report", "neither"],
    )
    async def test_only_enabled_calls_are_made(
        self, make: Make, mixer: FakeMixer, service: dict[str, Any], checks: int, reports: int
    ) -> None:
        """Scenario 22."""
        client = make(config(service))
        verdict = await ask(client)
        assert verdict.ok
        assert verdict.checked is bool(checks)
        client.report([bag_of(client)])
        client.flush()
        await settle()
        assert (len(mixer.calls), len(mixer.reports)) == (checks, reports)

    async def test_deadline_is_kept_by_the_client_itself(self, make: Make, mixer: FakeMixer) -> None:
        mixer.gate = asyncio.Event()
        client = make(config(transport={"networkFailPolicy": {"policy": "FAIL_CLOSE"}}))
        verdict = await verdict_of(client.check(bag_of(client), timeout_s=0.01))
        assert (verdict.code, http_status(verdict.code)) == (Code.DEADLINE_EXCEEDED, 504)
        assert tally(client, "remote_call_timeouts") == (1,)
        assert mixer.calls[0].timeout_s == 0.01

    async def test_mixer_that_breaks_its_contract_costs_one_call(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = ZeroDivisionError("oops")
        client = make(config(transport={"networkFailPolicy": {"policy": "FAIL_CLOSE"}}))
        assert (await ask(client)).code == Code.INTERNAL
        assert tally(client, "remote_call_other_errors") == (1,)

    async def test_each_check_has_its_own_deduplication_id(self, make: Make, mixer: FakeMixer) -> None:
        client, other = make(), make()
        for one in (client, client, other):
            await ask(one)
        ids = [call.deduplication_id for call in mixer.calls]
        assert ids[0][:-1] == ids[1][:-1] != ids[2][:-1]
        assert [i[-1] for i in ids] == ["0", "1", "0"]


class TestCoalescing:
    async def test_requests_alike_wait_for_one_answer(self, make: Make, mixer: FakeMixer, clock: Clock) -> None:
        mixer.reply = answer(TARGET)
        client = make()
        await ask(client, target__name="warm")
        mixer.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(client, target__name="a", request__id=str(n))) for n in range(20)]
            other = group.create_task(ask(client, target__name="b"))
            await settle()
            assert len(mixer.calls) == 3
            mixer.gate.set()
        assert all(task.result().ok for task in tasks)
        assert [task.result().check_cache_hit for task in tasks].count(True) == 19
        assert not other.result().check_cache_hit
        assert tally(client, "check_calls", "check_cache_hits", "check_cache_misses", "check_coalesced") == (
            22,
            19,
            3,
            19,
        )
        assert tally(client, "remote_check_calls") == (3,)

    async def test_cancelled_request_does_not_cancel_those_that_wait_for_it(self, make: Make, mixer: FakeMixer) -> None:
        """Whoever waits takes over; whoever is cancelled while waiting leaves the others alone."""
        mixer.reply = answer(TARGET)
        client = make()
        await ask(client, target__name="warm")
        mixer.gate = asyncio.Event()
        leader, idle, heir, last = (asyncio.create_task(ask(client, target__name="a")) for _ in range(4))
        await settle()
        assert len(mixer.calls) == 2
        idle.cancel()
        leader.cancel()
        await settle()
        assert len(mixer.calls) == 3
        mixer.gate.set()
        assert not (await heir).check_cache_hit
        assert (await last).check_cache_hit
        assert leader.cancelled()
        assert idle.cancelled()
        assert tally(client, "remote_call_cancellations") == (1,)

    async def test_answer_that_cannot_be_shared_sends_everyone_on_their_own(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = answer(TARGET)
        client = make()
        await ask(client, target__name="warm")
        mixer.reply, mixer.gate = answer(None), asyncio.Event()
        tasks = [asyncio.create_task(ask(client, target__name="a")) for _ in range(5)]
        await settle()
        assert len(mixer.calls) == 2
        mixer.gate.set()
        assert all(verdict.ok for verdict in await asyncio.gather(*tasks))
        assert len(mixer.calls) == 6

    async def test_waiting_counts_towards_the_deadline(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = answer(TARGET)
        client = make(config(transport={"networkFailPolicy": {"policy": "FAIL_CLOSE"}}))
        await ask(client, target__name="warm")
        mixer.gate = asyncio.Event()
        leader = asyncio.create_task(ask(client, target__name="a"))
        await settle()
        bag = bag_of(client, target__name="a")
        waiter = await asyncio.wait_for(verdict_of(client.check(bag, timeout_s=0.01)), 1)
        assert waiter.code == Code.DEADLINE_EXCEEDED
        mixer.gate.set()
        assert (await leader).ok


def metering(tokens: int | None, referenced: Any = TARGET, valid_s: float = 10.0) -> Callable[[CheckCall], CheckAnswer]:
    """Answers to which so many tokens are left; all answers can be cached."""
    left = [tokens]

    def reply(call: CheckCall) -> CheckAnswer:
        quotas = {}
        for name, demand in call.quotas.items():
            amount = demand.amount
            if left[0] is not None:
                amount = min(amount, left[0]) if demand.best_effort else amount * (amount <= left[0])
                left[0] -= amount
            quotas[name] = granted(amount, referenced, valid_s)
        return answer(referenced, quotas=quotas)

    return reply


class TestQuotas:
    async def test_uncached_request_is_charged_exactly(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 9."""
        client = make(config(charging(5)))
        mixer.reply = answer(quotas={"RequestCount": granted(5)})
        assert (await ask(client)).ok
        demand = mixer.calls[0].quotas["RequestCount"]
        assert (demand.amount, demand.best_effort) == (5, False)
        mixer.reply = answer(quotas={"RequestCount": granted(0)})
        refused = await ask(client)
        assert http_status(refused.code) == 429
        assert status_text(refused.code, refused.message) == ("RESOURCE_EXHAUSTED:Quota is exhausted for: RequestCount")
        names = ("quota_cache_misses", "remote_quota_calls", "remote_quota_prefetch_calls", "remote_quota_denies")
        assert tally(client, *names) == (2, 2, 0, 1)

    async def test_ten_tokens_let_ten_of_twenty_pass(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 10, all at once."""
        mixer.reply = metering(10)
        client = make(config(charging()))
        first = await ask(client, target__name="a")
        verdicts = [first, *[await ask(client, target__name="a") for _ in range(19)]]
        assert sum(verdict.ok for verdict in verdicts) == 10
        names = ("quota_calls", "quota_cache_hits", "quota_cache_hit_accepts", "quota_cache_hit_denies")
        assert tally(client, *names, "quota_cache_misses", "check_cache_misses") == (20, 19, 9, 10, 1, 1)
        assert tally(client, "remote_quota_calls")[0] < 5

    async def test_unlimited_quota_costs_seven_calls_for_a_hundred_requests(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 11."""
        mixer.reply = metering(None)
        client = make(config(charging()))
        assert all([(await ask(client, target__name="a")).ok for _ in range(101)])
        assert (len(mixer.calls), len(mixer.prefetches)) == (7, 6)
        assert tally(client, "remote_quota_prefetch_calls", "remote_quota_calls") == (6, 7)
        assert all(call.quotas_only for call in mixer.prefetches)

    async def test_each_request_asks_without_quota_cache(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 12."""
        mixer.reply = metering(None)
        client = make(config(charging(), {"disableQuotaCache": True}))
        assert all([(await ask(client, target__name="a")).ok for _ in range(11)])
        assert len(mixer.calls) == 11
        assert [call.quotas_only for call in mixer.calls] == [False] + [True] * 10
        assert tally(client, "check_cache_hits", "quota_cache_misses", "quota_cache_hits") == (10, 11, 0)

    async def test_quota_is_not_asked_of_the_denied(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 13."""
        mixer.reply = answer(TARGET, Code.FAILED_PRECONDITION, uses=100, quotas={"RequestCount": granted(1)})
        client = make(config(charging()))
        verdicts = [await ask(client, target__name="a") for _ in range(11)]
        assert {verdict.code for verdict in verdicts} == {Code.FAILED_PRECONDITION}
        assert (len(mixer.calls), *tally(client, "check_cache_hit_denies", "quota_calls")) == (1, 10, 1)

    async def test_pools_are_told_apart_by_what_answers_referenced(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 19."""

        def reply(call: CheckCall) -> CheckAnswer:
            amount = 0 if call.bag.get("source.name") == "user1" else 10
            found = {name: granted(amount, exact("source.name")) for name in call.quotas}
            return answer(TARGET, quotas=found if any(d.best_effort for d in call.quotas.values()) else {})

        mixer.reply = reply
        client = make(config(charging()))
        passed: dict[str, list[bool]] = {"user1": [], "user2": []}
        await ask(client, target__name="a", source__name="user2")
        for _ in range(5):
            for user, outcomes in passed.items():
                outcomes.append((await ask(client, target__name="a", source__name=user)).ok)
        assert passed == {"user1": [True, False, False, False, False], "user2": [True] * 5}

    async def test_unusable_reference_leaves_everyone_on_one_pool(self, make: Make, mixer: FakeMixer) -> None:
        """Scenario 20."""

        def reply(call: CheckCall) -> CheckAnswer:
            best = any(demand.best_effort for demand in call.quotas.values())
            return answer(TARGET, quotas={name: granted(3, None) for name in call.quotas} if best else {})

        mixer.reply = reply
        client = make(config(charging()))
        await ask(client, target__name="a", source__name="user2")
        outcomes = [(await ask(client, target__name="a", source__name="user1")).ok for _ in range(4)]
        assert outcomes == [True, True, True, False]
        assert not (await ask(client, target__name="a", source__name="user2")).ok

    async def test_prefetch_goes_on_when_its_request_is_gone_and_changes_no_verdict(
        self, make: Make, mixer: FakeMixer
    ) -> None:
        mixer.reply = metering(None)
        client = make(config(charging()))
        await ask(client, target__name="a")
        mixer.gate = asyncio.Event()
        verdict = client.check(bag_of(client, target__name="a"))
        assert isinstance(verdict, Verdict)
        assert (verdict.check_cache_hit, verdict.quota_cache_hit) == (True, True)
        await settle()
        assert len(mixer.prefetches) == 1
        assert mixer.prefetches[0].bag.peek("check.cache_hit") is ABSENT

    async def test_refused_quota_gives_back_what_the_other_granted(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = answer(quotas={"a": granted(2), "b": granted(0), "c": granted(0)})
        client = make(config(charging(2, "a", "b", "c")))
        verdict = await ask(client)
        assert verdict.message == "Quota is exhausted for: b,c"
        assert {name: d.amount for name, d in mixer.calls[1].quotas.items()} == {"a": -2}
        assert mixer.calls[1].quotas_only
        assert tally(client, "quota_units_given_back", "quota_units_not_given_back") == (2, 0)

    async def test_units_that_cannot_be_given_back_are_counted(self, make: Make, mixer: FakeMixer) -> None:
        def reply(call: CheckCall) -> Any:
            if len(mixer.calls) > 1:
                return MixerCallError(Code.UNAVAILABLE, "away")
            return answer(quotas={"a": granted(2), "b": granted(0)})

        mixer.reply = reply
        client = make(config(charging(2, "a", "b")))
        await ask(client)
        assert tally(client, "quota_units_given_back", "quota_units_not_given_back") == (0, 2)

    @pytest.mark.parametrize("policy", ["FAIL_OPEN", "FAIL_CLOSE"])
    async def test_quota_without_answer_passes(self, make: Make, mixer: FakeMixer, policy: str) -> None:
        mixer.reply = answer(quotas={"a": granted(0, code=Code.UNAVAILABLE)})
        client = make(config(charging(1, "a", "b"), {"networkFailPolicy": {"policy": policy}}))
        assert (await ask(client)).ok

    async def test_mixer_that_went_away_leaves_pools_open(self, make: Make, mixer: FakeMixer) -> None:
        """A quota fails open on its own, whatever the network policy."""
        mixer.reply = metering(None)
        client = make(config(charging(), {"networkFailPolicy": {"policy": "FAIL_CLOSE"}}))
        await ask(client, target__name="a")
        mixer.reply = MixerCallError(Code.UNAVAILABLE, "away")
        assert all([(await ask(client, target__name="a")).ok for _ in range(50)])

    async def test_direct_response_stays_with_an_exhausted_quota(self, make: Make, mixer: FakeMixer) -> None:
        directive = RouteDirective(direct_response_code=503)
        mixer.reply = answer(directive=directive, quotas={"RequestCount": granted(0)})
        verdict = await ask(make(config(charging())))
        assert (verdict.code, verdict.directive) == (Code.RESOURCE_EXHAUSTED, directive)


class TestTake:
    async def test_take_charges_all_and_passes_levels_on(self, make: Make, mixer: FakeMixer) -> None:
        level = QuotaLevel(10, 7, Duration(0), Duration(0))
        grant = granted(3)
        grant = type(grant)(grant.granted, grant.valid_duration, level=level)
        mixer.reply = answer(quotas={"a": grant, "b": granted(1)})
        client = make(config(transport=PASS_THROUGH.model_dump()))
        verdict = await verdict_of(client.take(MappingBag({}), {"a": 3, "b": 1}))
        assert verdict.ok
        assert verdict.quotas["a"].level == level
        (call,) = mixer.calls
        assert call.quotas_only
        assert {n: (d.amount, d.best_effort) for n, d in call.quotas.items()} == {"a": (3, False), "b": (1, False)}

    async def test_take_charges_none_when_one_refuses(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = answer(quotas={"a": granted(3), "b": granted(0)})
        client = make()
        verdict = await verdict_of(client.take(MappingBag({}), {"a": 3, "b": 1}))
        assert (verdict.code, verdict.message) == (Code.RESOURCE_EXHAUSTED, "Quota is exhausted for: b")
        await settle()
        assert {n: d.amount for n, d in mixer.calls[1].quotas.items()} == {"a": -3}

    async def test_take_of_nothing_asks_nobody(self, make: Make, mixer: FakeMixer) -> None:
        assert make().take(MappingBag({}), {}) == Verdict()
        assert not mixer.calls

    async def test_take_of_zero_units_is_never_refused(self, make: Make, mixer: FakeMixer) -> None:
        mixer.reply = answer(quotas={"a": granted(0)})
        assert (await verdict_of(make().take(MappingBag({}), {"a": 0}))).ok

    @pytest.mark.parametrize(("policy", "code"), [("FAIL_OPEN", Code.OK), ("FAIL_CLOSE", Code.UNAVAILABLE)])
    async def test_fail_policy_decides_on_a_take(self, make: Make, mixer: FakeMixer, policy: str, code: Code) -> None:
        mixer.reply = MixerCallError(Code.UNAVAILABLE, "away")
        client = make(config(transport={"networkFailPolicy": {"policy": policy}}))
        verdict = await verdict_of(client.take(MappingBag({}), {"a": 1}))
        assert (verdict.code, verdict.failed) == (code, True)


def header(**texts: str) -> str:
    message = Attributes()
    for name, text in texts.items():
        message.attributes[name.replace("__", ".")].string_value = text
    return base64.b64encode(message.SerializeToString()).decode()


class TestCompose:
    def test_later_layers_win(self, make: Make) -> None:
        """Local node, client, service, derived, forwarded."""
        client = make(
            config(
                {"mixer_attributes": {"destination.uid": "service", "b": "service", "c": "service"}},
                mixer_attributes={"destination.namespace": "client", "a": "client", "b": "client"},
            ),
            node=LocalNode("node", "node"),
        )
        derived = {"c": "derived", "source.uid": "derived"}
        found = values(client.compose(MappingBag(derived), forwarded=header(source__uid="fwd", c="fwd")))
        assert found == {
            "context.reporter.uid": "node",
            "destination.namespace": "client",
            "destination.uid": "service",
            "a": "client",
            "b": "service",
            "c": "derived",
            "source.uid": "fwd",
        }

    @pytest.mark.parametrize(
        "text",
        ["", "%%%", "AAAA", "QUJD", header(source__uid="x")[:-3], "ü", header(other="x"), header(source__uid="")],
    )
    def test_forwarded_text_that_says_nothing_counts_as_none(self, make: Make, text: str) -> None:
        assert values(make().compose(MappingBag({"a": 1}), forwarded=text)) == {"a": 1}

    def test_gateway_does_not_believe_forwarded_attributes(self, make: Make) -> None:
        """Scenario 29."""
        client = make(
            config(mixer_attributes={"context.reporter.kind": "outbound"}, ignore_forwarded_attributes=True),
            node=LocalNode("kubernetes://gateway.istio-system", "istio-system"),
        )
        bag = client.compose(MappingBag({}), forwarded=header(source__uid="kubernetes://forged.x"))
        assert bag.get("source.uid") == "kubernetes://gateway.istio-system"

    def test_outbound_and_inbound_speak_of_the_same_request(self, make: Make) -> None:
        """Scenarios 1 and 30: what one proxy forwards the next one believes."""
        host = {"destination.service.host": "b.ns.svc.cluster.local"}
        outbound = make(
            config(
                {"mixer_attributes": host, "forward_attributes": host},
                mixer_attributes={"context.reporter.kind": "outbound"},
            ),
            node=LocalNode("kubernetes://a.ns", "ns"),
        )
        own = values(outbound.compose(MappingBag({})))
        assert own["source.uid"] == "kubernetes://a.ns"
        assert own["context.reporter.kind"] == "outbound"
        inbound = make(
            config(mixer_attributes={"context.reporter.kind": "inbound"}), node=LocalNode("kubernetes://b.ns", "ns")
        )
        bag = inbound.compose(MappingBag({}), forwarded=outbound.forward())
        assert values(bag) == {
            "context.reporter.kind": "inbound",
            "context.reporter.uid": "kubernetes://b.ns",
            "destination.uid": "kubernetes://b.ns",
            "destination.namespace": "ns",
            "source.uid": "kubernetes://a.ns",
            **host,
        }
        assert inbound.forward() == ""

    @pytest.mark.parametrize(
        ("derived", "expected"),
        [
            ({}, "forwarded"),
            ({"source.namespace": "own"}, "forwarded"),
            ({"source.namespace": "own", "source.principal": "p"}, "own"),
            ({"source.principal": "p"}, "forwarded"),
        ],
    )
    def test_namespace_of_a_peer_that_proved_itself_wins(
        self, make: Make, derived: dict[str, str], expected: str
    ) -> None:
        bag = make().compose(MappingBag(derived), forwarded=header(source__namespace="forwarded"))
        assert bag.get("source.namespace") == expected

    def test_derived_attributes_are_read_when_they_are_asked_for(self, make: Make) -> None:
        class Lazy(MappingBag):
            def names(self) -> Any:
                raise AssertionError("enumerated")

        client = make(config(mixer_attributes={"a": 1}))
        derived = Lazy({"b": 2})
        bag = client.compose(derived, forwarded=header(source__uid="x"))
        assert [bag.get(name) for name in ("a", "b", "source.uid", "c")] == [1, 2, "x", ABSENT]

    def test_report_values_lie_on_top_except_for_a_known_address(self, make: Make) -> None:
        bag = make(config(mixer_attributes={"destination.ip": b"1234", "destination.uid": "a"})).compose(MappingBag({}))
        late = {"destination.ip": b"5678", "destination.port": 80, "destination.uid": "b"}
        assert values(with_report(bag, late)) == {
            "destination.ip": b"1234",
            "destination.port": 80,
            "destination.uid": "b",
        }

    def test_service_without_configuration_still_forwards(self, make: Make) -> None:
        found, _ = read_config(HttpClientConfig, {"forward_attributes": {"source.uid": "me"}})
        client = make(found)
        assert client.check(MappingBag({})) == Verdict(checked=False)
        assert client.report([MappingBag({})]) is None
        assert client.forward() == header(source__uid="me")


class TestRoutes:
    def test_service_is_chosen_by_route_name_or_default(self, make: Make) -> None:
        services = {name: {"mixer_attributes": {"which": name}} for name in ("a", "default")}
        client = make(config(service_configs=services))
        route = client.register(ServiceConfig(mixer_attributes={"which": "route"}))
        found = {name: client.compose(MappingBag({}), service=name).get("which") for name in ("a", "x", "", route)}
        assert found == {"a": "a", "x": "default", "": "default", route: "route"}

    def test_least_recently_used_route_goes_first(self) -> None:
        """Scenario 43."""
        from proxy.client.services import HttpPlans

        plans = HttpPlans(config(), None, routes=3)
        keys = [plans.register(ServiceConfig(mixer_attributes={"n": n})) for n in range(3)]
        plans.of(keys[0])
        keys.append(plans.register(ServiceConfig(mixer_attributes={"n": 3})))
        assert [key in plans for key in keys] == [True, False, True, True]

    def test_route_of_equal_content_has_one_key(self, make: Make) -> None:
        client = make()
        one = client.register(ServiceConfig(mixer_attributes={"a": "x", "b": 1}))
        assert one == client.register(ServiceConfig(mixer_attributes={"b": 1, "a": "x"}))
        assert one != client.register(ServiceConfig(mixer_attributes={"b": True, "a": "x"}))

    def test_one_configuration_can_hold_for_every_service(self, make: Make) -> None:
        client = make(for_all_services(ServiceConfig(mixer_attributes={"a": 1}), PASS_THROUGH))
        assert [client.compose(MappingBag({}), service=name).get("a") for name in ("", "x")] == [1, 1]


class TestReport:
    async def test_pass_through_hands_on_the_very_records_and_is_back_pressure(
        self, make: Make, mixer: FakeMixer
    ) -> None:
        mixer.gate = asyncio.Event()
        client = make(config(transport=PASS_THROUGH.model_dump()))
        records = [bag_of(client), bag_of(client)]
        taken = client.report(records)
        assert taken is not None
        task = asyncio.ensure_future(taken)
        await settle()
        assert not task.done()
        mixer.gate.set()
        await task
        assert mixer.reports[0][0] is records[0]

    async def test_report_never_raises(self, make: Make, mixer: FakeMixer) -> None:
        mixer.report_error = MixerCallError(Code.UNKNOWN, "2 values failed")
        client = make(config(transport=PASS_THROUGH.model_dump()))
        taken = client.report([bag_of(client)])
        assert taken is not None
        await taken
        assert tally(client, "remote_report_calls", "remote_report_other_errors") == (1, 1)
        assert client.counters().records_dropped["call_failed"] == 1


class TestScrape:
    async def test_thirty_counters_and_what_is_held_are_scraped(self, make: Make, mixer: FakeMixer) -> None:
        registry = CollectorRegistry()
        mixer.reply = metering(10)
        mixer.check_retries = 7  # type: ignore[attr-defined]
        client = make(config(charging()), registry=registry)
        for _ in range(20):
            await ask(client, target__name="a")
        client.report([bag_of(client)])

        def sample(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"mixer_proxy_{name}", {"protocol": "http", **labels})

        assert sample("check_calls_total") == 20
        assert sample("quota_cache_hit_denies_total") == 10
        assert sample("remote_call_retries_total", protocol="all") == 7
        assert sample("cache_entries", cache="check") == 1
        assert sample("cache_shapes", cache="quota") == 1
        assert sample("quota_pools", mode="close") == 1
        assert sample("report_records_waiting") == 1
        assert sample("report_records_dropped_total", reason="buffer_full") == 0
        text = generate_latest(registry).decode()
        from proxy.client.stats import COUNTERS

        assert all(f"mixer_proxy_{name}_total" in text for name in COUNTERS)
        with pytest.raises(ValueError, match="Duplicated"):
            make(registry=registry)
        await client.aclose()
        assert not generate_latest(registry)
        make(registry=registry)


async def test_close_ends_prefetches_and_is_safe_twice() -> None:
    mixer = FakeMixer(reply=metering(None))
    client = SidecarClient(mixer, config(charging()))
    await ask(client, target__name="a")
    mixer.gate = asyncio.Event()
    client.check(bag_of(client, target__name="a"))
    await client.aclose()
    await client.aclose()
    assert len(asyncio.all_tasks()) == 1
    assert mixer.cancelled == 1


async def test_example_of_the_package_works(mixer: FakeMixer) -> None:
    assert proxy.client.__doc__ is not None
    example = proxy.client.__doc__.split("::\n\n", 1)[1].split("\n\n* ", 1)[0]
    example = example.replace('RemoteMixer(RemoteOptions("127.0.0.1:9091"))', "mixer")
    source = f"async def example(mixer):\n{textwrap.indent(textwrap.dedent(example), '    ')}\n    return client\n"
    scope: dict[str, Any] = {}
    exec(source, scope)
    mixer.reply = answer(code=Code.OK)
    client = await scope["example"](mixer)
    await client.aclose(1.0)
    assert mixer.calls[0].quotas["requests"].amount == 1
    assert values(mixer.reports[0][0])["response.code"] == 200


async def test_silence_of_mixer_is_told_once_and_not_to_users() -> None:
    class Silent:
        fails = True

        async def check(self, call: CheckCall) -> CheckAnswer:
            if self.fails:
                raise MixerCallError(Code.UNAVAILABLE, "failed to connect to 10.0.0.1:9091")
            return CheckAnswer()

        async def report(self, records: Sequence[AttributeBag]) -> None: ...

    silent = Silent()
    closed = NetworkFailPolicy(policy=FailPolicy.FAIL_CLOSE)
    client = SidecarClient(silent, for_all_services(ServiceConfig(), Transport(network_fail_policy=closed)))
    with structlog.testing.capture_logs() as lines:
        verdicts = [await ask(client, bag=MappingBag({"a": str(n)})) for n in range(3)]
        silent.fails = False
        await ask(client, bag=MappingBag({"a": "b"}))

    assert [line["event"] for line in lines] == ["mixer_gives_no_answer", "mixer_answers_again"]
    assert {(verdict.code, verdict.message) for verdict in verdicts} == {(Code.UNAVAILABLE, NO_DECISION)}
    await client.aclose()
