"""kubernetesenv through its handler, row by row. Source: spec adapters 4.8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mixer.adapters.kubernetesenv import INFO
from mixer.adapters.testing import RecordingEnv, assert_handler_lifecycle, build_handler, parse_params
from mixer.attributes.values import parse_ip
from mixer.store.protojson import decode
from mixer.templates.kubernetes import KubernetesInstance

APPS, TESTNS = "apps/v1", "testns"


def owned_by(kind: str, name: str, version: str = APPS, *, controller: bool | None = True) -> dict[str, Any]:
    reference: dict[str, Any] = {"apiVersion": version, "kind": kind, "name": name}
    return reference if controller is None else {**reference, "controller": controller}


def thing(kind: str, name: str, *owners: dict[str, Any], **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": TESTNS, "ownerReferences": list(owners), **more.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata, **more}


def ports(*numbers: int) -> list[dict[str, int]]:
    return [{"containerPort": number} for number in numbers]


CLUSTER = [
    thing(
        "Pod",
        "test-pod",
        owned_by("ReplicaSet", "test-replicaset"),
        metadata={"labels": {"app": "test", "something": ""}},
        spec={"serviceAccountName": "test"},
        status={"hostIP": "10.1.1.10", "podIP": "10.10.10.1"},
    ),
    thing("ReplicaSet", "test-replicaset", owned_by("Deployment", "test-deployment")),
    thing("Pod", "no-controller-pod", metadata={"labels": {"app": "some-app"}}),
    thing("Pod", "linked-pod", metadata={"selfLink": "/api/v1/namespaces/testns/pods/linked-pod"}),
    thing("Pod", "two-owners-pod", owned_by("ReplicaSet", "two-owners")),
    thing("ReplicaSet", "two-owners", owned_by("A", "not-it", controller=False), owned_by("Deployment", "it")),
    thing("Pod", "unflagged-pod", owned_by("ReplicaSet", "unflagged", controller=None)),
    thing("Pod", "unknown-replicaset-pod", owned_by("ReplicaSet", "not-found-replicaset")),
    thing("Pod", "bare-replicaset-pod", owned_by("ReplicaSet", "bare-replicaset")),
    thing("ReplicaSet", "bare-replicaset"),
    thing("Pod", "daemonset-pod", owned_by("DaemonSet", "test-daemonset")),
    thing("Pod", "job-pod", owned_by("Job", "test-job", "batch/v1")),
    thing("Pod", "rc-pod", owned_by("ReplicationController", "test-rc", "core/v1")),
    thing("Pod", "config-pod", owned_by("ReplicationController", "config-rc", "core/v1")),
    thing(
        "ReplicationController",
        "config-rc",
        owned_by("DeploymentConfig", "test-config", "apps.openshift.io/v1"),
    ),
    thing("Pod", "circle-pod", owned_by("ReplicaSet", "circle")),
    thing("ReplicaSet", "circle", owned_by("ReplicaSet", "circle")),
    thing(
        "Pod",
        "container-pod",
        spec={
            "containers": [
                {"name": "container1", "ports": ports(123, 234)},
                {"name": "container2", "ports": ports(80, 234)},
                {"name": "container3"},
            ]
        },
    ),
    thing("Pod", "pod-with-dot.in-name"),
    thing("Service", "left-aside", spec={"ports": "anything"}),
]  # fmt: skip

TEST_POD = {
    "labels": {"app": "test", "something": ""},
    "pod_name": "test-pod",
    "namespace": TESTNS,
    "pod_uid": "kubernetes://test-pod.testns",
    "service_account_name": "test",
    "pod_ip": parse_ip("10.10.10.1"),
    "host_ip": parse_ip("10.1.1.10"),
    "workload_name": "test-deployment",
    "workload_namespace": TESTNS,
    "workload_uid": "istio://testns/workloads/test-deployment",
    "owner": "kubernetes://apis/apps/v1/namespaces/testns/deployments/test-deployment",
}
NO_CONTROLLER = {
    "labels": {"app": "some-app"},
    "pod_name": "no-controller-pod",
    "namespace": TESTNS,
    "pod_uid": "kubernetes://no-controller-pod.testns",
    "workload_name": "no-controller-pod",
    "workload_namespace": TESTNS,
    "workload_uid": "istio://testns/workloads/no-controller-pod",
}


def of(side: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{side}_{name}": value for name, value in outputs.items()}


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"kind": "List", "items": CLUSTER}))
    return path


async def generated(path: Path | list[Path], **given: Any) -> Mapping[str, Any]:
    env = RecordingEnv()
    paths = [str(p) for p in path] if isinstance(path, list) else [str(path)]
    handler = await build_handler(INFO, {"objectPaths": paths}, env=env)
    try:
        answer = handler.generate_attributes(KubernetesInstance("k8s", **given))
        assert isinstance(answer, Mapping)
        return answer
    finally:
        await handler.aclose()
        await env.aclose()


def uid(name: str) -> str:
    return f"kubernetes://{name}.{TESTNS}"


async def test_both_sides_are_generated(pods: Path) -> None:
    """Scenarios 1 and 17."""
    outputs = await generated(pods, source_uid=uid("test-pod"), destination_uid=uid("no-controller-pod"))

    assert outputs == {**of("source", TEST_POD), **of("destination", NO_CONTROLLER)}


@pytest.mark.parametrize(
    ("pod", "workload", "owner"),
    [
        pytest.param("two-owners-pod", "it", "apis/apps/v1/namespaces/testns/deployments/it", id="2: two owners"),
        pytest.param(
            "unknown-replicaset-pod",
            "not-found-replicaset",
            "apis/apps/v1/namespaces/testns/replicasets/not-found-replicaset",
            id="3: unknown replica set",
        ),
        pytest.param(
            "bare-replicaset-pod",
            "bare-replicaset",
            "apis/apps/v1/namespaces/testns/replicasets/bare-replicaset",
            id="4: replica set without owner",
        ),
        pytest.param(
            "daemonset-pod", "test-daemonset", "apis/apps/v1/namespaces/testns/daemonsets/test-daemonset", id="5: daemon set"
        ),
        pytest.param("job-pod", "test-job", "apis/batch/v1/namespaces/testns/jobs/test-job", id="5: job"),
        pytest.param(
            "rc-pod", "test-rc", "apis/core/v1/namespaces/testns/replicationcontrollers/test-rc", id="5: replication controller"
        ),
        pytest.param(
            "config-pod",
            "test-config",
            "apis/apps.openshift.io/v1/namespaces/testns/deploymentconfigs/test-config",
            id="6: deployment config",
        ),
        pytest.param("circle-pod", "circle", "apis/apps/v1/namespaces/testns/replicasets/circle", id="owners in a circle"),
    ],
)  # fmt: skip
async def test_workload_is_the_uppermost_owner(pods: Path, pod: str, workload: str, owner: str) -> None:
    outputs = await generated(pods, source_uid=uid(pod))

    assert outputs["source_workload_name"] == workload
    assert outputs["source_workload_uid"] == f"istio://testns/workloads/{workload}"
    assert outputs["source_owner"] == f"kubernetes://{owner}"


async def test_owner_without_the_flag_controls_nothing(pods: Path) -> None:
    outputs = await generated(pods, source_uid=uid("unflagged-pod"))

    assert outputs["source_workload_name"] == "unflagged-pod"
    assert "source_owner" not in outputs


async def test_pod_without_controller_owns_itself(pods: Path) -> None:
    outputs = await generated(pods, source_uid=uid("linked-pod"))

    assert outputs["source_owner"] == "/api/v1/namespaces/testns/pods/linked-pod"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param(
            {"source_uid": uid("nobody"), "destination_uid": uid("test-pod")}, of("destination", TEST_POD), id="7: unknown source"
        ),
        pytest.param({"source_uid": "something-else://other-scheme"}, {}, id="8: another scheme"),
        pytest.param({"source_ip": parse_ip("10.10.10.1")}, of("source", TEST_POD), id="9: source by address"),
        pytest.param({"destination_ip": parse_ip("10.10.10.1")}, of("destination", TEST_POD), id="10: destination by address"),
        pytest.param({"source_ip": parse_ip("::ffff:10.10.10.1")}, of("source", TEST_POD), id="mapped address"),
        pytest.param({"source_uid": "10.10.10.1"}, of("source", TEST_POD), id="address as a uid"),
        pytest.param({"source_uid": "testns/test-pod"}, of("source", TEST_POD), id="name as a uid"),
        pytest.param({"source_ip": bytes(4), "destination_ip": bytes(16)}, {}, id="unspecified addresses"),
        pytest.param({"source_ip": parse_ip("10.9.9.9")}, {}, id="unknown address"),
        pytest.param(
            {"source_uid": uid("nobody"), "source_ip": parse_ip("10.10.10.1")}, {}, id="uid wins though it finds nothing"
        ),
        pytest.param({}, {}, id="nothing given"),
    ],
)  # fmt: skip
async def test_lookup(pods: Path, given: dict[str, Any], found: dict[str, Any]) -> None:
    assert await generated(pods, **given) == found


@pytest.mark.parametrize(
    ("port", "container"),
    [
        pytest.param(234, "container1", id="11: first that exposes it"),
        pytest.param(80, "container2", id="second"),
        pytest.param(0, None, id="11: no port"),
        pytest.param(-1, None, id="negative"),
        pytest.param(5, None, id="nobody's"),
    ],
)
async def test_container_is_found_by_its_port(pods: Path, port: int, container: str | None) -> None:
    outputs = await generated(pods, destination_uid=uid("container-pod"), destination_port=port)

    assert outputs.get("destination_container_name") == container


async def test_name_with_dots_is_cut_at_the_last(pods: Path) -> None:
    """Scenario 12."""
    outputs = await generated(pods, source_uid="kubernetes://pod-with-dot.in-name.testns")

    assert (outputs["source_pod_name"], outputs["source_namespace"]) == ("pod-with-dot.in-name", TESTNS)


async def test_handlers_share_what_is_read(pods: Path) -> None:
    """Scenario 13, with files in place of controllers: one reading, also for a handler after the last was closed."""
    shared: dict[str, Any] = {}
    for _ in range(3):
        env = RecordingEnv(shared=shared)
        handlers = [await build_handler(INFO, {"objectPaths": [str(pods)]}, env=env) for _ in range(2)]
        for handler in handlers:
            await handler.aclose()
        await env.aclose()

    sources = {id(value) for key, value in shared.items() if key.startswith("pods ")}
    assert len(sources) == 1


async def test_first_cluster_that_has_a_pod_counts(pods: Path, tmp_path: Path) -> None:
    """Scenario 16: a second cluster, here another path."""
    other = tmp_path / "other.json"
    elsewhere = [
        thing("Pod", "test-pod", metadata={"labels": {"app": "other"}}),
        thing("Pod", "other-pod", metadata={"labels": {"app": "other"}}),
    ]
    other.write_text(json.dumps({"kind": "List", "items": elsewhere}))

    outputs = await generated([pods, other], source_uid=uid("test-pod"), destination_uid=uid("other-pod"))

    assert (outputs["source_labels"]["app"], outputs["destination_labels"]["app"]) == ("test", "other")


@pytest.mark.parametrize("finished_first", [True, False])
async def test_running_pod_has_the_address_that_a_finished_one_had(tmp_path: Path, finished_first: bool) -> None:
    items = [
        thing("Pod", "done", status={"podIP": "10.0.0.1", "phase": "Succeeded"}),
        thing("Pod", "host", spec={"hostNetwork": True}, status={"podIP": "10.0.0.1", "phase": "Running"}),
        thing("Pod", "runs", status={"podIP": "10.0.0.1", "phase": "Running"}),
    ]
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"kind": "List", "items": items if finished_first else items[::-1]}))

    assert (await generated(path, source_ip=parse_ip("10.0.0.1")))["source_pod_name"] == "runs"


async def test_every_output_is_one_of_the_template(pods: Path) -> None:
    (template,) = INFO.templates
    outputs = await generated(
        pods, source_uid=uid("test-pod"), destination_uid=uid("container-pod"), destination_port=80
    )

    assert outputs.keys() <= template.outputs.keys()


async def test_kubernetesenv_keeps_the_lifecycle(pods: Path) -> None:
    await assert_handler_lifecycle(INFO)
    await assert_handler_lifecycle(INFO, {"objectPaths": [str(pods)]})


async def test_handler_without_paths_knows_no_pod_and_says_so() -> None:
    env = RecordingEnv()
    handler = await build_handler(INFO, env=env)

    assert handler.generate_attributes(KubernetesInstance("k8s", source_uid=uid("test-pod"))) == {}
    assert [line["event"] for line in env.logged] == ["no_pods"]


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"kubeconfigPath": "/kube/config"}, ("kubeconfigPath",), "clusters are not read by this version"),
        ({"objectPaths": [""]}, ("objectPaths", 0), "is empty"),
        ({"objectPaths": ["a", "b", "a"]}, ("objectPaths", 2), "stands here twice"),
    ],
)
def test_params_are_validated(params: dict[str, Any], field: tuple[Any, ...], message: str) -> None:
    model, _ = decode(INFO.params, params)

    assert [(fault.path, fault.message) for fault in INFO.validate(model, ())] == [(field, message)]


def test_params_of_the_original_are_accepted() -> None:
    parse_params(
        INFO, {"cacheRefreshDuration": "5m", "clusterRegistriesNamespace": "istio-system", "kubeconfigPath": ""}
    )
