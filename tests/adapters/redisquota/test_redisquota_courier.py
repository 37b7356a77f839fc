"""How decisions travel, on links that do as they are told."""

import asyncio

import pytest
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from mixer.adapters.base import QuotaArgs
from mixer.adapters.redisquota import INFO
from mixer.adapters.redisquota.courier import PROBE_S, describe_error
from mixer.adapters.redisquota.handler import open_handler
from mixer.adapters.testing import RecordingEnv, parse_params, settle
from mixer.api.codes import Code
from mixer.templates.quota import QuotaInstance

GRANT = [1, 1000, 9, 1000, 0]


class ScriptedLink:
    """Answers each batch with what ``answer`` makes of it; an exception is raised."""

    def __init__(self):
        self.batches, self.pings = [], 0
        self.answer = lambda call: GRANT
        self.fault = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def connect(self):
        pass

    async def run(self, calls, timeout_s):
        self.batches.append(calls)
        await self.gate.wait()
        if self.fault:
            raise self.fault
        return [self.answer(call) for call in calls]

    async def ping(self, timeout_s):
        self.pings += 1
        if self.fault:
            raise self.fault

    async def aclose(self):
        pass


@pytest.fixture
async def scripted():
    made = []

    def make(links=1, **params):
        env = RecordingEnv()
        quota = {"name": "q", "maxAmount": 10, "validDuration": "10s"}
        model = parse_params(INFO, {"redisServerUrl": "none:1", "quotas": [quota], **params})
        fakes = [ScriptedLink() for _ in range(links)]
        handler = open_handler(model, fakes, env.env())
        made.append((handler, env))
        return handler, env, *fakes

    yield make
    for handler, env in made:
        await handler.aclose()
        await env.aclose()
        assert env.crashes == []


async def ask(handler, amount=1, **dimensions):
    answer = handler.handle_quota(QuotaInstance("q", dimensions), QuotaArgs(amount))
    return await answer if asyncio.iscoroutine(answer) else answer


def failures(env, reason):
    labels = {"handler": "test.istio-system", "reason": reason}
    return env.metrics.get_sample_value("mixer_redisquota_failures_total", labels)


async def test_decisions_of_one_turn_share_a_round_trip(scripted):
    handler, _, link = scripted()
    await settle()
    await asyncio.gather(*(ask(handler) for _ in range(50)))
    assert [len(batch) for batch in link.batches] == [50]


async def test_decisions_that_come_during_a_round_trip_share_the_next(scripted):
    handler, _, link = scripted()
    await settle()
    link.gate.clear()
    first = asyncio.ensure_future(ask(handler))
    await settle()
    others = [asyncio.ensure_future(ask(handler)) for _ in range(30)]
    await settle()
    link.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in link.batches] == [1, 30]


async def test_large_crowds_are_split_among_links(scripted):
    handler, _, one, other = scripted(links=2)
    await settle()
    results = await asyncio.gather(*(ask(handler) for _ in range(400)))
    assert {result.amount for result in results} == {1}
    assert sorted(len(batch) for batch in one.batches + other.batches) == [144, 256]


async def test_circuit_opens_after_failures_in_a_row_and_closes_when_redis_answers(scripted):
    handler, env, link = scripted()
    await settle()
    link.fault = ConnectionError("gone")
    for _ in range(3):
        assert (await ask(handler)).status.code == Code.UNAVAILABLE
    await settle()
    link.batches.clear()
    answer = handler.handle_quota(QuotaInstance("q", {}), QuotaArgs(1))
    assert answer.status.message == "redisquota: Service Unavailable", "at once, and not from the link"
    assert link.batches == []
    await env.clock.advance(PROBE_S * 3)
    assert link.pings == 3
    link.fault = None
    await env.clock.advance(PROBE_S)
    assert (await ask(handler)).amount == 1
    assert (failures(env, "connection"), failures(env, "circuit_open")) == (3, 1)
    assert [line["event"] for line in env.logged if "redis_is" in line["event"]] == ["redis_is_away", "redis_is_back"]


async def test_failures_with_successes_between_do_not_open_the_circuit(scripted):
    handler, _, link = scripted()
    await settle()
    for _ in range(5):
        link.fault = ConnectionError("gone")
        await ask(handler)
        await ask(handler)
        link.fault = None
        assert (await ask(handler)).amount == 1


async def test_late_answer_is_a_time_out_and_the_next_is_no_ones_elses(scripted):
    handler, env, link = scripted(requestTimeout="10ms")
    await settle()
    link.gate.clear()
    assert (await ask(handler)).status.code == Code.UNAVAILABLE
    assert failures(env, "timeout") == 1
    link.answer = lambda call: [2, 0, 0, 0, 0]
    link.gate.set()
    assert (await ask(handler)).amount == 2


async def test_error_reply_is_unavailable_and_logged_once(scripted):
    """Scenario 9. The original's debug line for each request is left out."""
    handler, env, link = scripted()
    await settle()
    link.answer = lambda call: ResponseError("ERR something")
    results = [await ask(handler) for _ in range(20)]
    assert {(result.status.code, result.status.message) for result in results} == {
        (Code.UNAVAILABLE, "redisquota: Service Unavailable")
    }
    (line,) = env.logged
    assert (line["event"], line["error"]) == ("failed to run quota script", "ResponseError: ERR something")
    assert failures(env, "server_error") == 20
    await env.clock.advance(11)
    await ask(handler)
    assert len(env.logged) == 2


@pytest.mark.parametrize(
    "reply", [[1], b"OK", None, 7, [1, 2, 3, 4, b"5"], [1, 2, 3, 4, 5, 6], [-1, 0, 0, 0, 0]], ids=repr
)
async def test_malformed_reply_is_an_internal_error(scripted, reply):
    handler, env, link = scripted(failurePolicy="OPEN")
    await settle()
    link.answer = lambda call: reply
    result = await ask(handler)
    assert (result.amount, result.status.code, result.status.message) == (0, 13, "redisquota: Internal Error")
    assert failures(env, "malformed") == 1
    assert [line["event"] for line in env.logged] == ["invalid response from the redis server"]


async def test_caller_that_goes_away_harms_nobody(scripted):
    handler, _, link = scripted()
    await settle()
    link.gate.clear()
    callers = [asyncio.ensure_future(ask(handler)) for _ in range(3)]
    await settle()
    callers[0].cancel()
    callers[1].cancel()
    await settle()
    link.gate.set()
    assert (await callers[2]).amount == 1
    assert (await ask(handler)).amount == 1


async def test_closing_answers_what_waits(scripted):
    handler, env, link = scripted()
    await settle()
    link.gate.clear()
    waiting = [asyncio.ensure_future(ask(handler)) for _ in range(3)]
    await settle()
    await handler.aclose()
    assert {result.status.code for result in await asyncio.gather(*waiting)} == {Code.UNAVAILABLE}
    assert (await ask(handler)).status.code == Code.UNAVAILABLE
    assert failures(env, "closed") == 4
    assert env.running == 0


async def test_too_many_that_wait_are_answered_at_once(scripted, monkeypatch):
    monkeypatch.setattr("mixer.adapters.redisquota.courier.MAX_WAITING", 5)
    handler, env, link = scripted()
    await settle()
    link.gate.clear()
    waiting = [asyncio.ensure_future(ask(handler)) for _ in range(8)]
    await settle()
    link.gate.set()
    await asyncio.gather(*waiting)
    assert failures(env, "overload") == 3


def test_errors_are_told_without_what_was_sent():
    assert describe_error(ResponseError("ERR unknown command `AUTH`, with args beginning with: `u` `secret`")) == (
        "ResponseError"
    )
    assert describe_error(AuthenticationError("WRONGPASS secret password")) == "AuthenticationError"
    assert (
        describe_error(ConnectionError("Error 111 connecting to a:1")) == "ConnectionError: Error 111 connecting to a:1"
    )
