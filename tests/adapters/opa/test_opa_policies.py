"""Policies in this process. Source: spec adapters 4.11."""

import importlib.util
import json
import re

import pytest

from mixer.adapters.base import Code
from mixer.adapters.opa import INFO
from mixer.adapters.opa.document import input_document
from mixer.adapters.opa.rego import MISSING
from mixer.adapters.testing import assert_handler_lifecycle
from mixer.attributes import Duration, Timestamp
from mixer.errors import AdapterError
from mixer.store.protojson import decode
from mixer.templates.authorization import Action, AuthorizationInstance, Subject

ALLOW = "data.mixerauthz.allow"
OK = (Code.OK, "")
NO = (Code.PERMISSION_DENIED, "opa: request was rejected")

BUCKETS = """
package mixerauthz

policy = [
  {"rule": {"verbs": ["storage.buckets.get"], "users": ["bucket-admins"]}},
]

default allow = false

allow = true {
  rule := policy[_].rule
  rule.users[_] == input.subject.user
  rule.verbs[_] == input.action.method
}
"""

ORG_CHART = """
package mixerauthz

import data.service_graph
import data.org_chart

default allow = false

allow {
  service_graph.allow
  org_chart.allow
}
"""
SERVICES = """
package service_graph

calls = {"landing_page": ["details", "reviews"], "reviews": ["ratings"]}

default allow = false

allow { input.action.properties.source == "outside"; input.action.service == "landing_page" }
allow { calls[input.action.properties.source][_] == input.action.service }
"""
PEOPLE = """
package org_chart

boss = {"alice": "janet", "bob": "alice"}
hr = {"ken"}

target = parts[2] { parts := split(input.action.path, "/") }

default allow = false

allow { startswith(input.action.path, "/detail/") }
allow { startswith(input.action.path, "/reviews/"); input.subject.user == target }
allow { startswith(input.action.path, "/reviews/"); boss[target] == input.subject.user }
allow { startswith(input.action.path, "/reviews/"); hr[input.subject.user] }
"""


def params(*policies, **more):
    return {"policy": list(policies), "checkMethod": ALLOW, **more}


def rule(text, head="package mixerauthz"):
    return f"{head}\n{text}\n"


def faults(spec):
    model, found = decode(INFO.params, spec)
    return [(".".join(map(str, fault.path)), fault.message) for fault in found or INFO.validate(model, ())]


async def test_lifecycle():
    await assert_handler_lifecycle(INFO, params(BUCKETS))
    await assert_handler_lifecycle(INFO, {"failClose": True})
    await assert_handler_lifecycle(INFO, {"serverUrl": "http://127.0.0.1:1", "checkMethod": ALLOW})


@pytest.mark.parametrize(
    ("user", "method", "answer"),
    [
        ("bucket-admins", "storage.buckets.get", OK),
        ("bucket-admins", "storage.buckets.put", NO),
        ("others", "storage.buckets.get", NO),
        ("", "", NO),
    ],
)
@pytest.mark.parametrize("fail_close", [False, True])
async def test_policy_decides(bench, user, method, answer, fail_close):
    handler = await bench.build(**params(BUCKETS, failClose=fail_close))
    assert await bench.check(handler, user, method) == answer
    assert bench.outcomes() == {"allowed" if answer == OK else "denied": 1}
    assert bench.sample("mixer_opa_decision_seconds_count") == 1


@pytest.mark.parametrize(
    ("user", "source", "service", "path", "answer"),
    [
        pytest.param("janet", "landing_page", "details", "/detail/alice", OK, id="details-are-for-all"),
        pytest.param("janet", "landing_page", "reviews", "/reviews/alice", OK, id="of-a-report"),
        pytest.param("alice", "landing_page", "reviews", "/reviews/janet", NO, id="of-the-boss"),
        pytest.param("ken", "landing_page", "reviews", "/reviews/janet", OK, id="hr"),
        pytest.param("janet", "landing_page", "nowhere", "/detail/alice", NO, id="unknown-target"),
        pytest.param("janet", "details", "reviews", "/reviews/alice", NO, id="unknown-call"),
    ],
)
async def test_modules_import_each_other(bench, user, source, service, path, answer):
    handler = await bench.build(**params(ORG_CHART, SERVICES, PEOPLE))
    checked = await bench.check(handler, user, service=service, path=path, action={"source": source})
    assert checked == answer


async def test_unusable_policy_denies_everything_when_failing_closed(bench):
    spec = params("bad policy", failClose=True)
    assert faults(spec) == []
    handler = await bench.build(**spec)
    assert await bench.check(handler, "anyone") == NO
    assert bench.outcomes() == {"misconfigured": 1}
    assert [line["event"] for line in bench.recording.logged] == ["opa_policies_are_unusable"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(params("bad policy"), [("policy.0", "opa_policy.0:1:1: expecting `package`")], id="no-parse"),
        pytest.param(params(BUCKETS, checkMethod=""), [("checkMethod", "is not configured")], id="no-method"),
        pytest.param({"checkMethod": ALLOW}, [("policy", "policies are not configured")], id="no-policy"),
        pytest.param({}, [("checkMethod", ""), ("policy", "")], id="neither"),
        pytest.param(params(BUCKETS, "also bad"), [("policy.1", "opa_policy.1:1:1")], id="one-of-two-alone"),
        pytest.param(params(rule("allow { x }"), "bad"), [("policy.1", "opa_policy.1:1:1")], id="parse-before-compile"),
        pytest.param(params("bad", BUCKETS, "bad"), [("policy.0", ""), ("policy.2", "")], id="all-that-do-not-parse"),
        pytest.param(params(rule("allow { not q }")), [("policy.0", "`q` is unsafe")], id="unsafe-variable"),
        pytest.param(params(rule("allow { nix(1) }")), [("policy.0", "could not find function nix")], id="no-function"),
        pytest.param(params(rule("allow { allow }")), [("policy.0", "recursion")], id="recursion"),
        pytest.param(params(BUCKETS, checkMethod="data["), [("checkMethod", "1:1: syntax error")], id="query"),
        pytest.param(params(BUCKETS, checkMethod="allow"), [("checkMethod", "unsafe")], id="query-unsafe"),
        pytest.param(params(BUCKETS, token="t"), [("token", "serverUrl")], id="token-without-server"),
        pytest.param(params(rule("allow if true")), [("policy.0", "")], id="v1-without-saying-so"),
    ],
)  # fmt: skip
def test_fault_is_found(spec, expected):
    found = faults(spec)
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert all(text in message for (_, message), (_, text) in zip(found, expected, strict=True))
    assert all("backtrace" not in message and "\n" not in message for _, message in found)


@pytest.mark.parametrize(
    "spec",
    [
        params(rule("allow if { input.x == 1 }"), regoV1=True),
        params(rule("import rego.v1\nallow if { input.x == 1 }")),
        params(rule("allow = true { not input.a } allow = false { not input.b }")),
        params(rule("allow { to_number(input.x) > 1 }")),
    ],
    ids=["v1", "v1-by-import", "conflict-of-some-inputs", "fails-for-some-inputs"],
)
def test_sound_policy_is_accepted(spec):
    assert faults(spec) == []


CONFLICT = rule('allow = true { input.subject.user == "u" } allow = false { input.subject.user == "u" }')


@pytest.mark.parametrize(
    ("policy", "query", "outcome", "open_answer"),
    [
        pytest.param(rule('allow { input.subject.user == "x" }'), ALLOW, "undefined", OK, id="undefined"),
        pytest.param(rule("x = 1"), "data.mixerauthz.nix", "undefined", OK, id="no-such-rule"),
        pytest.param(rule('allow = "yes"'), ALLOW, "undefined", OK, id="text"),
        pytest.param(rule("allow = {true}"), "data.mixerauthz.allow[_]; true", "undefined", OK, id="two-expressions"),
        pytest.param(rule("x = [true, true]"), "data.mixerauthz.x[_]", "undefined", OK, id="several"),
        pytest.param(CONFLICT, ALLOW, "failed", OK, id="conflict"),
    ],
)
async def test_no_decision_is_as_fail_close_says(bench, policy, query, outcome, open_answer):
    handler = await bench.build(**params(policy, checkMethod=query))
    assert await bench.check(handler, "u") == open_answer
    handler = await bench.build(**params(policy, checkMethod=query, failClose=True))
    code, message = await bench.check(handler, "u")
    assert (code, message.partition(". err: ")[0]) == NO
    assert bool(message.partition(". err: ")[2]) is (outcome == "failed")
    assert bench.outcomes() == {outcome: 2}


async def test_default_false_denies_though_not_failing_closed(bench):
    handler = await bench.build(**params(rule("default allow = false")))
    assert await bench.check(handler, "u") == NO


async def test_function_that_fails_never_admits_as_a_default_may_stand_behind_it(bench):
    policy = rule("default allow = false\nallow { to_number(input.subject.user) > 1 }")
    handler = await bench.build(**params(policy))
    assert await bench.check(handler, "2") == OK
    code, message = await bench.check(handler, "no number")
    assert code == Code.PERMISSION_DENIED
    assert re.fullmatch(
        r"opa: request was rejected\. err: opa_policy\.0:3:\d+: could not parse string as number", message
    )
    assert await bench.check(handler, "3") == OK
    events = [line["event"] for line in bench.recording.logged]
    assert events == ["opa_gave_no_decision", "opa_decides_again"]


async def test_text_that_is_no_text_is_denied(bench):
    handler = await bench.build(**params(BUCKETS))
    code, _ = await bench.check(handler, "\ud800")
    assert code == Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("subject", "action", "document"),
    [
        pytest.param(None, None, {"action": {}, "subject": {}}, id="neither-is-configured"),
        pytest.param(Subject(), Action(), {"action": {}, "subject": {}}, id="empty"),
        pytest.param(Subject("u", "g"), None, {"action": {}, "subject": {"user": "u", "groups": ["g"]}}, id="groups"),
        pytest.param(
            Subject(properties={"ip": b"\1\2\3\4", "at": Timestamp(0), "map": {"a": "b"}, "n": 3}),
            Action("ns", "s", "m", "/p", {"d": Duration.parse("10ms"), "f": 1.5, "nan": float("nan"), "t": True}),
            {
                "subject": {"properties": {"ip": "1.2.3.4", "at": "1970-01-01T00:00:00Z", "map": {"a": "b"}, "n": 3}},
                "action": {
                    "namespace": "ns", "service": "s", "method": "m", "path": "/p",
                    "properties": {"d": "10ms", "f": 1.5, "nan": "NaN", "t": True},
                },
            },
            id="all",
        ),
    ],
)  # fmt: skip
def test_input_document_is(subject, action, document):
    assert json.loads(input_document(AuthorizationInstance("i", subject, action))) == document


async def test_policy_sees_an_omitted_subject_as_an_empty_object(bench):
    handler = await bench.build(**params(rule("allow { count(input.subject) == 0; count(input.action) == 0 }")))
    assert await bench.check(handler, instance=AuthorizationInstance("i")) == OK


@pytest.mark.parametrize("fail_close", [False, True])
async def test_missing_interpreter_is_named_with_its_extra(bench, monkeypatch, fail_close):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec = params(BUCKETS, failClose=fail_close)
    assert faults(spec) == [("policy", MISSING)]
    model, _ = decode(INFO.params, spec)
    if fail_close:
        handler = await INFO.build(model, (), bench.recording.env())
        assert await bench.check(handler, "bucket-admins", "storage.buckets.get") == NO
    else:
        with pytest.raises(AdapterError, match="not installed"):
            await INFO.build(model, (), bench.recording.env())
