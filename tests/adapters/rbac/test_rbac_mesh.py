"""rbac as the proxies read objects, row by row. Source: spec adapters 4.9.3."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.adapters.rbac.policies import UNASKED, Decision, Policies, Semantics
from mixer.attributes.values import parse_ip
from tests.adapters.rbac.conftest import policies, request

ON = "kind: ClusterRbacConfig\nname: default\nmode: 'ON'\n---\n"
REVIEWS = "reviews.default.svc.cluster.local"
GET = {"service": REVIEWS, "path": "/", "method": "GET"}


def mesh(text: str, *trust_domains: str, config: str = ON) -> Policies:
    return policies(config + text, Semantics.MESH, trust_domains)


def role(rule: str = "services: ['*']", name: str = "r") -> str:
    return f"kind: ServiceRole\nname: {name}\nrules: [{{{rule}}}]\n---\n"


def binding(subject: str = "user: '*'", of: str = "r", mode: str = "ENFORCED", name: str = "b") -> str:
    return (
        f"kind: ServiceRoleBinding\nname: {name}\nsubjects: [{{{subject}}}]\n"
        f"roleRef: {{kind: ServiceRole, name: {of}}}\nmode: {mode}\n---\n"
    )


def allowed(found: Policies, **asked: Any) -> bool:
    return found.decide(request(**{**GET, **asked})).allowed


def test_service_in_a_namespace_without_roles_denies_all() -> None:
    """Scenario 12."""
    assert not allowed(mesh(role() + binding(), config=ON), namespace="other")


def test_role_for_another_service_admits_nothing() -> None:
    """Scenario 13."""
    assert not allowed(mesh(role("services: [ratings.default.svc.cluster.local]") + binding()))


def test_two_bindings_add_up() -> None:
    """Scenario 14."""
    found = mesh(role() + binding("user: a", name="b1") + binding("user: b", name="b2"))

    assert [allowed(found, user=user) for user in ("a", "b", "c")] == [True, True, False]


def test_permissive_binding_is_tried_and_does_not_decide() -> None:
    """Scenario 15."""
    found = mesh(
        role("services: ['*'], methods: [GET]", "reader") + binding("user: a", "reader")
        + role("services: ['*'], methods: [POST]", "writer") + binding("user: a", "writer", "PERMISSIVE", "b2")
    )  # fmt: skip

    assert found.decide(request(**{**GET, "user": "a"})) == Decision(True, "reader", shadow=False)
    written = found.decide(request(**{**GET, "user": "a", "method": "POST"}))
    assert written == Decision(False, "", shadow=True, shadow_role="writer")


def test_globally_permissive_allows_all_and_tries_all() -> None:
    """Scenario 16."""
    config = "kind: ClusterRbacConfig\nname: default\nmode: 'ON'\nenforcementMode: PERMISSIVE\n---\n"
    found = mesh(role() + binding("user: a"), config=config)

    assert found.decide(request(**{**GET, "user": "a"})) == Decision(True, shadow=True, shadow_role="r")
    assert found.decide(request(**{**GET, "user": "b"})) == Decision(True, shadow=False)
    assert found.decide(request(**{**GET, "namespace": "empty"})) == Decision(True, shadow=False)


@pytest.mark.parametrize(
    ("rule", "subject", "tcp"),
    [
        pytest.param("services: ['*']", "user: '*'", True, id="nothing of HTTP"),
        pytest.param("services: ['*'], methods: ['*']", "user: '*'", False, id="17: methods"),
        pytest.param("services: ['*'], paths: ['*']", "user: '*'", False, id="17: paths"),
        pytest.param("services: ['*'], hosts: ['*']", "user: '*'", False, id="hosts"),
        pytest.param("services: ['*'], notPaths: [x]", "user: '*'", False, id="excluded paths"),
        pytest.param("services: ['*'], constraints: [{key: 'request.headers[a]', values: ['*']}]", "user: '*'", False, id="headers"),
        pytest.param("services: ['*'], ports: [9080]", "user: '*'", True, id="ports"),
        pytest.param("services: ['*']", "groups: [g]", False, id="groups"),
        pytest.param("services: ['*']", "properties: {request.auth.principal: p}", False, id="request properties"),
    ],
)  # fmt: skip
def test_connection_is_admitted_by_what_connections_have(rule: str, subject: str, tcp: bool) -> None:
    action = {"destination.port": 9080, "request.headers[a]": "x", "request.host": "h"}
    more: dict[str, Any] = {"action": action, "groups": "g", "subject": {"request.auth.principal": "p"}}
    found = mesh(role(rule) + binding(subject))

    assert allowed(found, **more)
    assert allowed(found, **more, path="", method="") is tcp


def test_trust_domains_are_one() -> None:
    """Scenario 18."""
    found = mesh(role() + binding("names: [td2/ns/foo/sa/bar]"), "td1", "td2")

    users = ("td1/ns/foo/sa/bar", "td2/ns/foo/sa/bar", "td3/ns/foo/sa/bar", "td1/ns/foo/sa/baz")
    assert [allowed(found, user=user) for user in users] == [True, True, False, False]


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        pytest.param("", False, id="none"),
        pytest.param("mode: 'OFF'", False, id="off"),
        pytest.param("mode: 'ON'", True, id="on"),
        pytest.param("mode: ON_WITH_EXCLUSION\nexclusion: {namespaces: [default]}", False, id="19: namespace excluded"),
        pytest.param(f"mode: ON_WITH_EXCLUSION\nexclusion: {{services: [{REVIEWS}]}}", False, id="service excluded"),
        pytest.param("mode: ON_WITH_EXCLUSION\nexclusion: {services: ['*']}", True, id="targets are no patterns"),
        pytest.param("mode: ON_WITH_INCLUSION\ninclusion: {namespaces: [default]}", True, id="namespace included"),
        pytest.param(f"mode: ON_WITH_INCLUSION\ninclusion: {{services: [{REVIEWS}]}}", True, id="service included"),
        pytest.param("mode: ON_WITH_INCLUSION\ninclusion: {namespaces: [other]}", False, id="not included"),
    ],
)
@pytest.mark.parametrize("kind", ["ClusterRbacConfig", "RbacConfig"])
def test_roles_are_asked_where_the_configuration_says(kind: str, config: str, asked: bool) -> None:
    found = mesh(role(), config=f"kind: {kind}\nname: default\n{config}\n---\n" if config else "")

    assert found.decide(request(**GET)) == (Decision(False) if asked else UNASKED)


def test_adapter_asks_without_a_configuration_and_heeds_one() -> None:
    text = role("services: ['*'], methods: [POST]") + binding()

    assert not policies(text).decide(request(**GET)).allowed
    assert policies("kind: RbacConfig\nname: default\nmode: 'OFF'\n---\n" + text).decide(request(**GET)) == UNASKED


def test_role_without_binding_admits_nobody() -> None:
    """Scenario 20."""
    assert not allowed(mesh(role()))


SPIFFE = "cluster.local/ns/foo/sa/bar"


@pytest.mark.parametrize(
    ("subject", "asked", "expected"),
    [
        ("user: '*'", {}, True),
        ("user: allUsers", {}, True),
        ("names: [allUsers]", {}, True),
        ("user: allAuthenticatedUsers", {"user": "u"}, True),
        ("user: allAuthenticatedUsers", {}, False),
        ("names: ['*/sa/bar']", {"user": SPIFFE}, True),
        ("names: ['cluster.local/*']", {"user": SPIFFE}, True),
        ("names: [other]", {"user": SPIFFE}, False),
        ("user: allUsers, notNames: ['*/sa/bar']", {"user": SPIFFE}, False),
        ("user: allUsers, notNames: ['*/sa/bar']", {"user": "u"}, True),
        ("group: b", {"groups": "a, b"}, True),
        ("groups: [c, 'b*']", {"groups": "a,bb"}, True),
        ("groups: [b]", {"groups": ""}, False),
        ("user: '*', notGroups: [b]", {"groups": "a,b"}, False),
        ("user: '*', notGroups: [b]", {}, True),
        ("namespaces: [foo]", {"user": SPIFFE}, True),
        ("namespaces: [foo]", {"subject": {"source.namespace": "foo"}}, True),
        ("namespaces: [fo]", {"user": SPIFFE}, False),
        ("notNamespaces: [foo]", {"user": SPIFFE}, False),
        ("notNamespaces: [foo]", {"user": "x/ns/baz/sa/bar"}, True),
        ("ips: [10.0.0.0/8]", {"subject": {"source.ip": parse_ip("10.1.2.3")}}, True),
        ("ips: [10.0.0.0/8]", {"subject": {"source.ip": "11.1.2.3"}}, False),
        ("ips: [10.0.0.0/8]", {"subject": {"source.ip": parse_ip("::ffff:10.1.2.3")}}, True),
        ("ips: [10.0.0.0/8]", {}, False),
        ("ips: [10.0.0.0/8]", {"subject": {"source.ip": "nonsense"}}, False),
        ("ips: ['2001:db8::/32']", {"subject": {"source.ip": "2001:db8::1"}}, True),
        ("notIps: [10.0.0.1]", {"subject": {"source.ip": "10.0.0.1"}}, False),
        ("notIps: [10.0.0.1]", {"subject": {"source.ip": "10.0.0.2"}}, True),
        ("notIps: [10.0.0.1]", {}, False),
        ("properties: {source.ip: 10.0.0.0/8}", {"subject": {"source.ip": "10.9.9.9"}}, True),
        ("properties: {source.namespace: foo}", {"user": SPIFFE}, True),
        ("properties: {source.principal: '*/sa/bar'}", {"user": SPIFFE}, True),
        ("properties: {'request.auth.claims[groups]': b}", {"groups": "a,b"}, True),
        ("properties: {'request.auth.claims[iss]': 'https*'}", {"subject": {"request.auth.claims": {"iss": "https://i"}}}, True),
        ("properties: {'request.headers[x]': y}", {"action": {"request.headers[x]": "y"}}, True),
        ("properties: {custom: y}", {"subject": {"custom": "n"}}, False),
        ("user: u, properties: {custom: y}", {"user": "u", "subject": {"custom": "n"}}, False),
    ],
)  # fmt: skip
def test_subject(subject: str, asked: dict[str, Any], expected: bool) -> None:
    assert allowed(mesh(role() + binding(subject)), **asked) is expected


@pytest.mark.parametrize(
    ("rule", "asked", "expected"),
    [
        ("services: ['rev*']", {}, True),
        ("methods: [POST, GET]", {}, True),
        ("hosts: ['*.com']", {"action": {"request.host": "a.com"}}, True),
        ("hosts: ['*.com']", {}, False),
        ("services: ['*'], ports: [80, 81]", {"action": {"destination.port": 81}}, True),
        ("services: ['*'], ports: [80, 81]", {"action": {"destination.port": "80"}}, True),
        ("services: ['*'], ports: [80]", {}, False),
        ("services: ['*'], notPorts: [80]", {"action": {"destination.port": 81}}, True),
        ("services: ['*'], notPorts: [80]", {}, False),
        ("services: ['*'], constraints: [{key: destination.port, values: ['80']}]", {"action": {"destination.port": 80}}, True),
        ("services: ['*'], constraints: [{key: destination.ip, values: [10.0.0.0/8]}]", {"action": {"destination.ip": b"\n\0\0\1"}}, True),
        ("services: ['*'], constraints: [{key: destination.namespace, values: ['def*']}]", {}, True),
        ("services: ['*'], constraints: [{key: destination.user, values: [bar]}]", {"action": {"destination.user": SPIFFE}}, True),
        ("services: ['*'], constraints: [{key: 'destination.labels[v]', values: [v1]}]", {"action": {"destination.labels": {"v": "v1"}}}, True),
        ("services: ['*'], constraints: [{key: 'destination.labels[v]', values: [v1]}]", {"action": {"destination.labels": {}}}, False),
        ("services: ['*'], constraints: [{key: 'request.headers[x]', values: ['*']}]", {"action": {"request.headers[x]": "any"}}, True),
        ("services: ['*'], constraints: [{key: 'request.headers[x]', values: ['*']}]", {}, False),
    ],
)  # fmt: skip
def test_rule(rule: str, asked: dict[str, Any], expected: bool) -> None:
    assert allowed(mesh(role(rule) + binding()), **asked) is expected


def test_actions_of_a_binding_are_a_role_of_its_own() -> None:
    found = mesh(
        "kind: ServiceRoleBinding\nname: b\nsubjects: [{user: a}]\nactions: [{methods: [GET]}]\n---\n"
        + role() + "kind: ServiceRoleBinding\nname: c\nsubjects: [{user: c}]\nrole: r\n"
    )  # fmt: skip

    assert [allowed(found, user=u, method=m) for u in "ac" for m in ("GET", "POST")] == [True, False, True, True]
