"""An agent that is asked, with faults. Source: spec adapters 4.11, and OPA's Data API."""

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web

from mixer.adapters.base import Code
from mixer.adapters.opa import INFO
from mixer.adapters.opa.breaker import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker
from mixer.adapters.opa.params import data_path
from mixer.adapters.testing import FakeClock
from mixer.store.protojson import decode

ALLOW = "data.mixerauthz.allow"
OK = (Code.OK, "")
NO = (Code.PERMISSION_DENIED, "opa: request was rejected")


class Agent:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self):
        self.answer = lambda: web.json_response({"result": True})
        self.asked = []
        self.url = ""
        self.hold = asyncio.Event()
        self.heard = asyncio.Event()
        self.hold.set()

    async def serve(self, request):
        self.asked.append((request.method, request.rel_url.raw_path, await request.json(), dict(request.headers)))
        self.heard.set()
        await self.hold.wait()
        return self.answer()


@pytest.fixture
async def agent():
    agent = Agent()
    runner = web.ServerRunner(web.Server(agent.serve), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    agent.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield agent
    agent.hold.set()
    await runner.cleanup()


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_agent_is_asked_for_the_document(bench, agent):
    handler = await bench.build(serverUrl=f"{agent.url}/base/", checkMethod='data.a["b c"].allow', token="s3cret")
    assert await bench.check(handler, "janet", "GET", groups="g") == OK
    ((method, path, body, headers),) = agent.asked
    assert (method, path) == ("POST", "/base/v1/data/a/b%20c/allow")
    assert body == {"input": {"action": {"method": "GET"}, "subject": {"user": "janet", "groups": ["g"]}}}
    assert headers["Authorization"] == "Bearer s3cret"
    assert bench.outcomes() == {"allowed": 1}


@pytest.mark.parametrize("fail_close", [False, True])
async def test_false_denies(bench, agent, fail_close):
    agent.answer = lambda: web.json_response({"result": False, "decision_id": "1"})
    handler = await bench.build(serverUrl=agent.url, checkMethod=ALLOW, failClose=fail_close)
    assert await bench.check(handler, "u") == NO


@pytest.mark.parametrize(
    ("answer", "outcome", "why"),
    [
        pytest.param({"json": {}}, "undefined", "", id="undefined"),
        pytest.param({"json": {"result": "true"}}, "undefined", "", id="text"),
        pytest.param({"json": {"result": [True]}}, "undefined", "", id="list"),
        pytest.param({"json": [True]}, "failed", "OPA's answer is no JSON object", id="wrong-shape"),
        pytest.param({"text": "yes"}, "failed", "OPA's answer is no JSON", id="no-json"),
        pytest.param({"text": "[" * 50_000}, "failed", "OPA's answer is no JSON", id="deep"),
        pytest.param({"text": " " * 70_000}, "failed", "OPA answers with more than 65536 bytes", id="large"),
        pytest.param({"text": "", "status": 500}, "failed", "OPA answers 500", id="500"),
        pytest.param({"text": "", "status": 401}, "failed", "OPA answers 401", id="401"),
        pytest.param({"text": "", "status": 302, "headers": {"Location": "/x"}}, "failed", "OPA answers 302", id="302"),
    ],
)
async def test_no_decision_is_as_fail_close_says(bench, agent, answer, outcome, why):
    make = web.json_response if "json" in answer else web.Response
    agent.answer = lambda: make(
        *([answer["json"]] if "json" in answer else []), **{k: v for k, v in answer.items() if k != "json"}
    )
    handler = await bench.build(serverUrl=agent.url, checkMethod=ALLOW)
    assert await bench.check(handler, "u") == OK
    handler = await bench.build(serverUrl=agent.url, checkMethod=ALLOW, failClose=True)
    assert await bench.check(handler, "u") == (NO[0], f"{NO[1]}. err: {why}" if why else NO[1])
    assert bench.outcomes() == {outcome: 2}


async def test_slow_agent_costs_the_timeout_and_no_more(bench, agent):
    agent.hold.clear()
    handler = await bench.build(serverUrl=agent.url, checkMethod=ALLOW, failClose=True, timeout="50ms")
    async with asyncio.timeout(2):
        answers = await asyncio.gather(*(bench.check(handler, "u") for _ in range(20)))
    assert set(answers) == {(NO[0], f"{NO[1]}. err: OPA did not answer in 0.05 s")}


async def test_agent_that_is_away_is_spared_and_then_tried_by_one(bench, agent):
    port = free_port()
    handler = await bench.build(serverUrl=f"http://127.0.0.1:{port}", checkMethod=ALLOW, failClose=True)
    for _ in range(FAILURES):
        _, message = await bench.check(handler, "u")
        assert message.endswith("err: OPA cannot be asked: ClientConnectorError")
    assert bench.sample("mixer_opa_agent_spared") == 1
    _, message = await bench.check(handler, "u")
    assert message.endswith("err: OPA did not answer and is not asked for a while")

    runner = web.ServerRunner(web.Server(agent.serve), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        _, message = await bench.check(handler, "u")
        assert message.endswith("for a while")
        await bench.clock.advance(FIRST_PAUSE_S)
        agent.hold.clear()
        probe = asyncio.create_task(bench.check(handler, "u"))
        await agent.heard.wait()
        assert (await bench.check(handler, "u"))[1].endswith("for a while")
        agent.hold.set()
        assert await probe == OK
        assert await bench.check(handler, "u") == OK
        assert bench.sample("mixer_opa_agent_spared") == 0
        assert len(agent.asked) == 2
    finally:
        await handler.aclose()
        await runner.cleanup()


async def test_probe_that_is_cancelled_makes_way_for_the_next(bench, agent):
    handler = await bench.build(serverUrl=agent.url, checkMethod=ALLOW)
    agent.answer = lambda: web.Response(status=500)
    for _ in range(FAILURES):
        await bench.check(handler, "u")
    agent.answer = lambda: web.json_response({"result": False})
    await bench.clock.advance(FIRST_PAUSE_S)
    agent.hold.clear()
    agent.heard.clear()
    probe = asyncio.create_task(bench.check(handler, "u"))
    await agent.heard.wait()
    probe.cancel()
    await asyncio.wait({probe})
    agent.hold.set()
    assert await bench.check(handler, "u") == NO


def test_breaker_waits_ever_longer():
    class At(FakeClock):
        now_s = 0.0

        def monotonic(self):
            return self.now_s

    clock = At()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        assert breaker.enter()
        breaker.fail()
    pauses = []
    for _ in range(8):
        start = clock.now_s
        while not breaker.enter():
            clock.now_s += 0.5
        breaker.fail()
        pauses.append(clock.now_s - start)
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert breaker.is_open
    clock.now_s += LONGEST_PAUSE_S
    assert breaker.enter()
    breaker.succeed()
    assert breaker.enter()


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"serverUrl": "opa:8181", "checkMethod": ALLOW}, ["serverUrl"]),
        ({"serverUrl": "http://", "checkMethod": ALLOW}, ["serverUrl"]),
        ({"serverUrl": "http://o?x=1", "checkMethod": ALLOW}, ["serverUrl"]),
        ({"serverUrl": "http://o", "checkMethod": "x := data.a"}, ["checkMethod"]),
        ({"serverUrl": "http://o"}, ["checkMethod"]),
        ({"serverUrl": "http://o", "checkMethod": ALLOW, "policy": ["package a"]}, ["policy"]),
        ({"serverUrl": "http://o", "checkMethod": ALLOW, "timeout": "0"}, ["timeout"]),
        ({"serverUrl": "http://o", "checkMethod": ALLOW, "token": "a\nb"}, ["token"]),
        (
            {"serverUrl": "x", "checkMethod": "", "timeout": "-1s", "failClose": True},
            ["serverUrl", "timeout", "checkMethod"],
        ),
        ({"serverUrl": "https://o:8181/p", "checkMethod": ALLOW, "token": "t"}, []),
    ],
)
def test_fault_names_the_field(params, fields):
    model, found = decode(INFO.params, params)
    assert [".".join(map(str, fault.path)) for fault in found or INFO.validate(model, ())] == fields


def test_token_is_never_shown():
    model, _ = decode(INFO.params, {"serverUrl": "http://o", "checkMethod": ALLOW, "token": "s3cret"})
    assert "s3cret" not in f"{model!r} {model}"


@pytest.mark.parametrize(
    ("reference", "path"), [("data.a.b", "/a/b"), ('data["a/b"].c', "/a%2Fb/c"), (" data.x ", "/x")]
)
def test_reference_becomes_a_path(reference, path):
    assert data_path(reference) == path
