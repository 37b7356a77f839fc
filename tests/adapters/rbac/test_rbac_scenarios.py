"""rbac as the Mixer adapter reads objects, row by row. Source: spec adapters 4.9.2."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.adapters.base import CheckResult, Code, Status
from mixer.adapters.rbac import INFO, RbacHandler
from mixer.adapters.rbac.policies import INCOMPLETE
from mixer.adapters.rbac.roles import Roles
from mixer.adapters.testing import RecordingEnv, assert_handler_lifecycle, parse_params
from mixer.attributes import Duration
from mixer.errors import BackendUnavailableError
from mixer.store.protojson import decode
from mixer.templates.authorization import Action, AuthorizationInstance, Subject
from tests.adapters.rbac.conftest import joined, policies, request

TABLE = """
kind: ServiceRole
name: role1
rules: [{services: [bookstore], paths: [/books], methods: [GET]}]
---
kind: ServiceRoleBinding
name: binding1
subjects: [{properties: {namespace: acme}}]
roleRef: {kind: ServiceRole, name: role1}
---
kind: ServiceRole
name: role2
rules: [{services: [products], methods: ["*"], constraints: [{key: version, values: [v1, v2]}]}]
---
kind: ServiceRoleBinding
name: binding2
subjects: [{user: alice}, {properties: {service: reviews, namespace: abc}}]
roleRef: {kind: ServiceRole, name: role2}
---
kind: ServiceRoleBinding
name: binding3
subjects: [{properties: {namespace: abcfish}}]
roleRef: {kind: ServiceRole, name: role3}
---
kind: ServiceRole
name: role3
rules: [{services: ["fish*"], paths: ["/pond/*"], methods: [GET]}]
---
kind: ServiceRole
name: role4
rules: [{services: [fish], paths: ["*/review"], methods: [GET]}]
---
kind: ServiceRoleBinding
name: binding4
subjects: [{user: alice, properties: {namespace: mynamespace, service: xyz}}]
roleRef: {kind: ServiceRole, name: role4}
---
kind: ServiceRole
name: role5
rules: [{services: [abc], methods: [GET]}]
---
kind: ServiceRoleBinding
name: binding5
subjects: [{user: "*"}]
roleRef: {kind: ServiceRole, name: role5}
"""


def of(service: str, namespace: str) -> dict[str, Any]:
    return {"subject": {"service": service, "namespace": namespace}}


def version(text: str) -> dict[str, Any]:
    return {"action": {"version": text}}


@pytest.mark.parametrize(
    ("asked", "role"),
    [
        pytest.param({"service": "products", "path": "/", "method": "GET", "user": "alice", **version("v1")}, "role2", id="1"),
        pytest.param(
            {"service": "products", "path": "/", "method": "POST", "user": "bob", **version("v2"), **of("reviews", "abc")},
            "role2", id="2: by properties",
        ),
        pytest.param(
            {"service": "products", "path": "/", "method": "POST", "user": "bob", **version("v2"), **of("svc1", "abc")},
            "", id="2: one property differs",
        ),
        pytest.param({"service": "products", "path": "/", "method": "GET", "user": "alice", **version("v3")}, "", id="3: constraint"),
        pytest.param({"service": "products", "path": "/", "method": "GET", "user": "alice"}, "", id="3: property is missing"),
        pytest.param(
            {"service": "products", "path": "/", "method": "GET", "user": "alice", "action": {"version": 1}}, "", id="3: no string"
        ),
        pytest.param({"service": "bookstore", "path": "/books", "method": "GET", **of("x", "acme")}, "role1", id="4"),
        pytest.param({"service": "bookstore", "path": "/books", "method": "POST", **of("x", "acme")}, "", id="4: method"),
        pytest.param({"service": "bookstore", "path": "/shelf", "method": "GET", **of("x", "acme")}, "", id="4: path"),
        pytest.param({"service": "fishpond", "path": "/pond/a", "method": "GET", **of("x", "abcfish")}, "role3", id="5"),
        pytest.param(
            {"service": "fish", "path": "/pond/review", "method": "GET", "user": "alice", **of("xyz", "mynamespace")},
            "role4", id="6",
        ),
        pytest.param(
            {"service": "fish", "path": "/pond/review", "method": "GET", "user": "bob", **of("xyz", "mynamespace")},
            "", id="6: user",
        ),
        pytest.param(
            {"service": "fish", "path": "/pond/review", "method": "GET", "user": "alice", **of("xyz", "other")},
            "", id="6: properties count beside the user",
        ),
        pytest.param({"service": "fishpond", "path": "/pond/review", "method": "GET", "user": "alice"}, "", id="7"),
        pytest.param({"service": "abc", "path": "/index", "method": "GET", "user": "anyone"}, "role5", id="8"),
        pytest.param({"service": "abc", "path": "/index", "method": "GET"}, "role5", id="8: nobody is anybody"),
        pytest.param({"service": "abc", "path": "/index", "method": "GET", "namespace": "other"}, "", id="namespace without roles"),
        pytest.param({"service": "nobody's", "path": "/", "method": "GET", "user": "alice"}, "", id="unknown service"),
    ],
)  # fmt: skip
def test_decision(asked: dict[str, Any], role: str) -> None:
    found = policies(TABLE).decide(request(**asked))

    assert (found.allowed, found.role, found.enforced) == (bool(role), role, True)


@pytest.mark.parametrize("missing", ["namespace", "service", "path", "method"])
def test_request_that_lacks_something_is_denied(missing: str) -> None:
    """Scenario 9."""
    asked = {"service": "abc", "path": "/index", "method": "GET", missing: ""}

    assert policies(TABLE).decide(request(**asked)) is INCOMPLETE


ROLE = """
kind: ServiceRole
name: r
rules: [{%s}]
---
kind: ServiceRoleBinding
name: b
subjects: [{%s}]
roleRef: {kind: ServiceRole, name: r}
"""


@pytest.mark.parametrize(
    ("rule", "subject", "asked", "allowed"),
    [
        ("methods: [GET]", "user: '*'", {}, False),
        ("services: [s]", "user: '*'", {}, False),
        ("services: [s], methods: [GET]", "user: '*'", {}, True),
        ("services: [s], methods: [GET]", "user: 'a*'", {"user": "ab"}, False),
        ("services: [s], methods: [GET]", "user: 'a*'", {"user": "a*"}, True),
        ("services: [s], methods: [GET]", "group: admins", {"groups": "admins"}, True),
        ("services: [s], methods: [GET]", "group: admins", {"groups": "admins,others"}, False),
        ("services: [s], methods: [GET]", "group: '*'", {}, True),
        ("services: [s], methods: [GET]", "properties: {a: '*'}", {"subject": {"a": "b"}}, False),
        ("services: [s], methods: [GET]", "user: u, group: g", {"user": "u"}, False),
        ("services: [s], methods: [GET], constraints: [{key: k, values: ['v*']}]", "user: '*'", {"action": {"k": "v9"}}, True),
        ("services: ['*'], methods: [GET], notPaths: [/admin*]", "user: '*'", {"path": "/admin/x"}, False),
        ("services: ['*'], methods: [GET], notPaths: [/admin*]", "user: '*'", {"path": "/"}, True),
        ("services: ['*'], notMethods: [DELETE]", "user: '*'", {}, True),
        ("services: ['*'], notMethods: [GET]", "user: '*'", {}, False),
        ("services: [s], methods: [GET], notHosts: [h]", "user: '*'", {}, False),
        ("services: [s], methods: [GET], notHosts: [h]", "user: '*'", {"action": {"request.host": "g"}}, True),
    ],
)  # fmt: skip
def test_field(rule: str, subject: str, asked: dict[str, Any], allowed: bool) -> None:
    found = policies(ROLE % (rule, subject))

    assert found.decide(request(**{"service": "s", "path": "/p", "method": "GET", **asked})).allowed is allowed


async def answering(text: str = TABLE, **params: Any) -> tuple[RbacHandler, RecordingEnv]:
    env = RecordingEnv()
    model, _ = decode(INFO.params, params)
    assert model is not None
    handler = RbacHandler(model, env.env("h"))
    await handler.use(joined(text))
    return handler, env


def instance(user: str = "", **action: Any) -> AuthorizationInstance:
    return AuthorizationInstance("a", Subject(user=user), Action(**{"namespace": "default", "path": "/", **action}))


async def test_limits_are_the_same_for_both_answers() -> None:
    """Scenario 10."""
    handler, env = await answering(cacheDuration="90s")

    yes = handler.handle_check(instance(service="abc", method="GET"))
    no = handler.handle_check(instance(service="abc", method="POST"))

    limits = Duration.parse("90s"), 1_000_000_000
    assert yes == CheckResult(Status(), *limits)
    assert no == CheckResult(Status(Code.PERMISSION_DENIED, "RBAC: permission denied."), *limits)
    handler.handle_check(AuthorizationInstance("a"))
    outcomes = ("allowed", "denied", "unasked", "incomplete")
    counts = [env.metrics.get_sample_value("mixer_rbac_checks_total", {"handler": "h", "outcome": o}) for o in outcomes]
    assert counts == [1, 1, 0, 1]
    assert env.metrics.get_sample_value("mixer_rbac_roles", {"handler": "h"}) == 5
    assert env.metrics.get_sample_value("mixer_rbac_bindings", {"handler": "h"}) == 5


async def test_rbac_keeps_the_lifecycle() -> None:
    await assert_handler_lifecycle(INFO)


async def test_handler_without_objects_denies() -> None:
    handler, _ = await answering()
    await handler.use(Roles())

    assert handler.handle_check(instance(service="abc", method="GET")).status.code == Code.PERMISSION_DENIED


async def test_handler_that_has_read_no_roles_gives_no_answer() -> None:
    env = RecordingEnv()
    handler = RbacHandler(parse_params(INFO, {"configStoreUrl": "fs:///nowhere"}), env.env())  # type: ignore[arg-type]

    with pytest.raises(BackendUnavailableError, match="roles cannot be read from /nowhere"):
        handler.handle_check(instance())


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"configStoreUrl": "k8s://"}, "configStoreUrl", "Kubernetes is not read by this adapter"),
        ({"configStoreUrl": "http://x/"}, "configStoreUrl", "not a configuration store"),
        ({"configStoreUrl": "fs://x"}, "configStoreUrl", "not a configuration store"),
        ({"cacheDuration": "-1s"}, "cacheDuration", "must not be negative"),
        ({"trustDomains": ["td"]}, "trustDomains", "has no effect with semantics ADAPTER"),
    ],
)
def test_params_are_validated(params: dict[str, Any], field: str, message: str) -> None:
    model, _ = decode(INFO.params, params)

    assert [(fault.path, fault.message) for fault in INFO.validate(model, ())] == [((field,), message)]
