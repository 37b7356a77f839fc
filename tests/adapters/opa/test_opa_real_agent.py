"""Against OPA itself: the adapter asks it well, and policies in this process decide as it does.

Opt-in, as it takes a Go compiler and a while: ``go install github.com/open-policy-agent/opa@v1.4.2``, then run with
``MIXER_OPA=PATH``; without it the conftest leaves this file out.
"""

import asyncio
import itertools
import os
import socket

import aiohttp
import pytest

from mixer.adapters.base import Code
from mixer.adapters.opa import INFO
from mixer.store.protojson import decode

PROGRAM = os.environ.get("MIXER_OPA", "")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ALLOW = "data.mixerauthz.allow"
POLICIES = {
    "buckets": 'policy = [{"u": ["bucket-admins"], "m": ["get"]}]\ndefault allow = false\n'
    "allow { r := policy[_]; r.u[_] == input.subject.user; r.m[_] == input.action.method }",
    "undefined": 'allow { input.subject.user == "bucket-admins" }',
    "no-boolean": 'allow = "yes"',
    "conflict": 'allow = true { input.action.method == "get" } allow = false { input.subject.user == "2" }',
    "function-fails": "default allow = false\nallow { to_number(input.subject.user) > 1 }",
    "function-fails-alone": "allow { to_number(input.subject.user) > 1 }",
    "groups": 'default allow = false\nallow { input.subject.groups == ["g"] }',
    "properties": "default allow = false\nallow { not input.action.properties }",
    "pattern": "default allow = false\nallow { regex.match(`^/a/[0-9]+$`, input.action.path) }",
    "set": 'admins = {"bucket-admins", "2"}\nallow { admins[input.subject.user] }',
    "v1": "import rego.v1\ndefault allow := false\nallow if { some m in [`get`]; m == input.action.method }",
}
REFUSED = {
    "parse": "allow {",
    "unsafe": "allow { not q }",
    "no-function": "allow { nix(1) }",
    "recursion": "allow { allow }",
    "twice": "allow { y := 1; y := 2 }",
}
REQUESTS = [
    {"user": user, "method": method, "groups": groups, "path": path}
    for user, method, groups, path in itertools.product(
        ("bucket-admins", "2", "x", ""), ("get", "put"), ("g", ""), ("/a/1", "/a/b")
    )
]


@pytest.fixture
async def agent_url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "run", "--server", "--v0-compatible", "--addr", address, "--disable-telemetry", "--log-level", "error"
    )
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            while True:
                try:
                    async with session.get(f"http://{address}/health") as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def put(url, text):
    async with aiohttp.ClientSession() as session, session.put(f"{url}/v1/policies/p", data=text) as response:
        await response.read()
        return response.status


async def test_agent_and_process_decide_alike(bench, agent_url):
    for name, rules in POLICIES.items():
        text = f"package mixerauthz\n{rules}\n"
        assert await put(agent_url, text) == 200, name
        for fail_close in (False, True):
            there = await bench.build(serverUrl=agent_url, checkMethod=ALLOW, failClose=fail_close, timeout="5s")
            here = await bench.build(policy=[text], checkMethod=ALLOW, failClose=fail_close)
            for request in REQUESTS:
                theirs, ours = await bench.check(there, **request), await bench.check(here, **request)
                if "could not parse" in ours[1]:  # OPA: undefined; ours is the answer that is never too generous
                    assert ours[0] == Code.PERMISSION_DENIED
                else:
                    assert ours[0] == theirs[0], (name, fail_close, request, ours, theirs)


async def test_agent_and_process_refuse_the_same_policies(agent_url):
    for name, rules in REFUSED.items():
        text = f"package mixerauthz\n{rules}\n"
        assert await put(agent_url, text) == 400, name
        model, _ = decode(INFO.params, {"policy": [text], "checkMethod": ALLOW})
        assert list(INFO.validate(model, ())), name
