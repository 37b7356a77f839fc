"""Roles in Mixer's configuration: their problems, their way to the handler, and folders of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mixer.adapters import rbac
from mixer.adapters.base import Code
from mixer.adapters.loading import by_name
from mixer.adapters.rbac import INFO
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.attributes import MappingBag
from mixer.errors import BackendUnavailableError
from mixer.rules.build import SnapshotBuilder
from mixer.rules.snapshot import Snapshot
from mixer.store import FileStore
from mixer.templates.authorization import Action, AuthorizationInstance, Subject
from tests.runtime.fakes import Bench

ROLE = """
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRole
metadata: {name: reader, namespace: default}
spec:
  rules:
  - services: [s]
    methods: [GET]
"""
BINDING = """
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRoleBinding
metadata: {name: readers, namespace: default}
spec:
  subjects:
  - user: alice
  roleRef: {kind: ServiceRole, name: reader}
"""


async def built(folder: Path, builder: SnapshotBuilder | None = None, **files: str) -> Snapshot:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return (builder or SnapshotBuilder(by_name([rbac.INFO]))).build(await FileStore(folder).load())


@pytest.mark.parametrize(
    ("kind", "spec", "problem"),
    [
        ("ServiceRole", "{}", "4 error spec.rules: a role without rules permits nothing"),
        ("ServiceRole", "{rules: [{service: [a]}]}", '4 error spec.rules[0].service: unknown field "service" in AccessRule'),
        ("ServiceRole", "{rules: [{services: a}]}", "4 error spec.rules[0].services: a string cannot be read here"),
        ("ServiceRole", "{rules: [{constraints: [{values: [a]}]}]}", "4 error spec.rules[0].constraints[0].key: required"),
        ("ServiceRole", "{rules: [{constraints: [{key: a}]}]}", "4 error spec.rules[0].constraints[0].values: required"),
        ("ServiceRole", "{rules: [{methods: [a], notMethods: [b]}]}", "4 error spec.rules[0].notMethods: stands beside methods"),
        ("ServiceRole", "{rules: [{ports: [1], not_ports: [2]}]}", "4 error spec.rules[0].notPorts: stands beside ports"),
        ("ServiceRole", "{rules: [{ports: [65536]}]}", "4 error spec.rules[0].ports[0]: 65536 is no port"),
        (
            "ServiceRole",
            "{rules: [{ports: [1], constraints: [{key: destination.port, values: ['1']}]}]}",
            "4 error spec.rules[0].constraints[0].key: destination.port stands beside ports",
        ),
        ("ServiceRoleBinding", "{role: reader}", "4 error spec.subjects: a binding without subjects binds nobody"),
        ("ServiceRoleBinding", "{role: reader, subjects: [{}]}", "4 error spec.subjects[0]: a subject without any field is nobody"),
        (
            "ServiceRoleBinding",
            "{role: reader, subjects: [{names: [a], properties: {source.principal: b}}]}",
            '4 error spec.subjects[0].properties["source.principal"]: stands beside names',
        ),
        ("ServiceRoleBinding", "{role: reader, subjects: [{names: ['*']}]}", "4 error spec.subjects[0].names[0]: '*' is no name"),
        ("ServiceRoleBinding", "{role: reader, subjects: [{not_ips: [a]}]}", "4 error spec.subjects[0].notIps[0]: 'a' is no address"),
        ("ServiceRoleBinding", "{subjects: [{user: a}]}", "4 error spec.roleRef: no role is given"),
        (
            "ServiceRoleBinding",
            "{subjects: [{user: a}], role: a, roleRef: {kind: ServiceRole, name: b}}",
            "4 error spec.role: roleRef and role are given",
        ),
        (
            "ServiceRoleBinding",
            "{subjects: [{user: a}], roleRef: {kind: Role, name: reader}}",
            "4 error spec.roleRef.kind: 'Role' cannot be bound",
        ),
        ("ServiceRoleBinding", "{subjects: [{user: a}], roleRef: {kind: ServiceRole}}", "4 error spec.roleRef.name: required"),
        (
            "ServiceRoleBinding",
            "{subjects: [{user: a}], roleRef: {kind: ServiceRole, name: nobody}}",
            "4 warning spec.roleRef.name: role 'nobody' not found in namespace default, so this binding has no effect",
        ),
        (
            "ServiceRoleBinding",
            "{subjects: [{user: a}], mode: PERMISIVE, role: reader}",
            '4 error spec.mode: unknown value "PERMISIVE" for enum EnforcementMode',
        ),
        ("ClusterRbacConfig", "{mode: ON_WITH_INCLUSION}", "4 error spec.inclusion: required with mode ON_WITH_INCLUSION"),
        ("RbacConfig", "{mode: ON_WITH_EXCLUSION}", "4 error spec.exclusion: required with mode ON_WITH_EXCLUSION"),
    ],
)  # fmt: skip
async def test_fault_of_an_object_is_a_problem(tmp_path: Path, kind: str, spec: str, problem: str) -> None:
    text = f"apiVersion: rbac.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{name: default}}\nspec: {spec}\n"

    snapshot = await built(tmp_path, a=ROLE, b=text)

    (found,) = snapshot.problems
    told = f"{found.origin.line} {found.severity.value} {found.field}: {found.message}"
    assert told.startswith(problem)
    assert found.origin.file.endswith("b.yaml")


async def test_name_of_a_configuration_is_default(tmp_path: Path) -> None:
    text = "kind: ClusterRbacConfig\nmetadata:\n  name: mine\nspec: {}\n"

    (found,) = (await built(tmp_path, a=text)).problems

    assert (found.origin.line, found.field) == (3, "metadata.name")


async def test_one_configuration_counts(tmp_path: Path) -> None:
    old = "kind: RbacConfig\nmetadata: {name: default}\nspec: {}\n"

    (found,) = (await built(tmp_path, a=old, b=old.replace("Rbac", "ClusterRbac"))).problems

    assert found.origin.file.endswith("a.yaml")
    assert found.message == "default.ClusterRbacConfig.default counts, so this one has no effect"


async def test_role_of_another_namespace_is_told(tmp_path: Path) -> None:
    (found,) = (await built(tmp_path, a=ROLE, b=BINDING.replace("default", "other"))).problems

    assert "namespace default has one, but roles are bound in their own namespace" in found.message


async def test_sound_objects_are_counted_and_no_problem(tmp_path: Path) -> None:
    snapshot = await built(tmp_path, a=ROLE, b=BINDING)

    assert not snapshot.problems
    assert {kind: n for kind, n in snapshot.counts.items() if n} == {"ServiceRole": 1, "ServiceRoleBinding": 1}


async def test_objects_mean_nothing_without_the_adapter(tmp_path: Path) -> None:
    snapshot = await built(tmp_path, SnapshotBuilder({}), a=ROLE, b=BINDING)

    assert not snapshot.problems


SERVED = """
kind: handler
metadata: {name: roles, namespace: istio-system}
spec: {compiledAdapter: rbac}
---
kind: attributemanifest
metadata: {name: words, namespace: istio-system}
spec: {attributes: {source.user: {valueType: STRING}, request.method: {valueType: STRING}}}
---
kind: instance
metadata: {name: who, namespace: istio-system}
spec:
  compiledTemplate: authorization
  params:
    subject: {user: source.user}
    action: {namespace: '"default"', service: '"s"', path: '"/"', method: request.method}
---
kind: rule
metadata: {name: roles, namespace: istio-system}
spec: {actions: [{handler: roles, instances: [who]}]}
"""


async def answer(bench: Bench, user: str, method: str = "GET") -> int:
    outcome = await bench.controller.dispatcher.check(MappingBag({"source.user": user, "request.method": method}))
    return outcome.result.status.code


async def test_roles_reach_the_handler_and_their_changes_too(tmp_path: Path) -> None:
    bench = Bench([rbac.INFO])
    store = FileStore(tmp_path)

    async def serve(**files: str) -> Snapshot:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return await bench.controller.apply(await store.load())

    await serve(config=SERVED, role=ROLE, binding=BINDING)
    handler = next(iter(bench.controller.dispatcher.binding.live.values()))
    assert [await answer(bench, user) for user in ("alice", "bob")] == [0, 7]

    await serve(extra=SERVED.replace("roles", "others").replace("spec: {actions", "spec: {match: 'false', actions"))
    assert bench.controller.dispatcher.binding.live["roles.handler.istio-system"] is handler

    await serve(binding=BINDING.replace("alice", "bob"))
    assert [await answer(bench, user) for user in ("alice", "bob")] == [7, 0]

    broken = await serve(binding=BINDING.replace("subjects", "subject"))
    assert [str(key) for key in broken.stale] == ["readers.ServiceRoleBinding.default"]
    assert [await answer(bench, user) for user in ("alice", "bob")] == [7, 0], "the last good version goes on"

    (tmp_path / "binding.yaml").unlink()
    await serve()
    assert [await answer(bench, user) for user in ("alice", "bob")] == [7, 7]
    await bench.controller.aclose()


def asked(user: str) -> AuthorizationInstance:
    return AuthorizationInstance("a", Subject(user=user), Action("default", "s", "GET", "/"))


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


@pytest.mark.slow
async def test_folder_of_roles_is_followed(tmp_path: Path) -> None:
    """Scenario 11 of spec adapters 4.9, and what comes after it."""
    folder = tmp_path / "roles"
    env = RecordingEnv()
    handler = await build_handler(INFO, {"configStoreUrl": f"fs://{folder}"}, env=env)

    def code(user: str = "alice") -> int | None:
        try:
            return handler.handle_check(asked(user)).status.code  # type: ignore[union-attr]
        except BackendUnavailableError:
            return None

    assert code() is None
    assert [line["event"] for line in env.logged] == ["roles_not_read"]
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "role.yaml").write_text(ROLE)
    (staged / "binding.yaml").write_text(BINDING)
    staged.rename(folder)
    await until(lambda: code() == Code.OK)
    labels = {"handler": "test.istio-system"}
    assert [env.metrics.get_sample_value(f"mixer_rbac_{name}", labels) for name in ("roles", "bindings")] == [1, 1]

    (folder / "binding.yaml").write_text(BINDING.replace("subjects", "subject"))
    problems = {"handler": "test.istio-system"}
    await until(lambda: env.metrics.get_sample_value("mixer_rbac_problems", problems))
    assert code() == Code.OK, "the last good version goes on"
    assert 'unknown field "subject" in ServiceRoleBinding' in env.logged[-1]["problem"]

    (folder / "binding.yaml").write_text(BINDING.replace("alice", "bob"))
    await until(lambda: code("bob") == Code.OK)
    assert code() == Code.PERMISSION_DENIED
    await handler.aclose()
    assert (env.running, env.crashes) == (0, [])
