"""The objects that ship in ``config/``: complete, readable, and not in each other's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixer.attributes import ValueType
from mixer.store import FileStore, Resource, ResourceKey

CONFIG = Path(__file__).parents[2] / "config"
SAMPLES = sorted(path.name for path in (CONFIG / "samples").iterdir())
ROLES = ("ServiceRole", "ServiceRoleBinding")
"""Kinds that stand in the namespace of the service they are about."""
COMMON = [
    "reporter",
    "source_app",
    "source_principal",
    "source_workload",
    "source_workload_namespace",
    "source_version",
    "destination_app",
    "destination_principal",
    "destination_workload",
    "destination_workload_namespace",
    "destination_version",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
]
HTTP = [
    *COMMON,
    "request_protocol",
    "response_code",
    "response_flags",
    "permissive_response_code",
    "permissive_response_policyid",
    "connection_security_policy",
]
TCP = [*COMMON, "connection_security_policy", "response_flags"]


@pytest.fixture
async def mesh() -> dict[str, Resource]:
    contents = await FileStore(CONFIG / "mesh").load()
    assert contents.problems == ()
    return {str(key): resource for key, resource in contents.resources.items()}


async def test_everything_together_has_no_problem_and_one_namespace() -> None:
    contents = await FileStore(CONFIG).load()

    assert contents.problems == ()
    ours = [key for key in contents.resources if key.kind not in ROLES]
    assert {key.namespace for key in ours} == {"istio-system"}
    assert {key.kind for key in ours} >= {"attributemanifest", "instance", "handler", "rule"}
    assert {"mesh", "samples", "templates"} == {
        Path(r.origin.file).relative_to(CONFIG).parts[0] for r in contents.resources.values()
    }


def test_manifests_declare_known_types_only(mesh: dict[str, Resource]) -> None:
    attributes = {
        name: ValueType[info["valueType"]]
        for manifest in ("istioproxy", "kubernetes")
        for name, info in mesh[f"{manifest}.attributemanifest.istio-system"].spec["attributes"].items()
    }

    assert len(mesh["istioproxy.attributemanifest.istio-system"].spec["attributes"]) == 64
    assert len(mesh["kubernetes.attributemanifest.istio-system"].spec["attributes"]) == 26
    assert len(attributes) == 64 + 26
    assert attributes["response.duration"] is ValueType.DURATION
    assert attributes["source.labels"] is ValueType.STRING_MAP
    assert attributes["origin.ip"] is ValueType.IP_ADDRESS


@pytest.mark.parametrize(
    ("instance", "metric", "kind", "labels"),
    [
        ("requestcount", "requests_total", "COUNTER", HTTP),
        ("requestduration", "request_duration_seconds", "DISTRIBUTION", HTTP),
        ("requestsize", "request_bytes", "DISTRIBUTION", HTTP),
        ("responsesize", "response_bytes", "DISTRIBUTION", HTTP),
        ("tcpbytesent", "tcp_sent_bytes_total", "COUNTER", TCP),
        ("tcpbytereceived", "tcp_received_bytes_total", "COUNTER", TCP),
        ("tcpconnectionsopened", "tcp_connections_opened_total", "COUNTER", TCP),
        ("tcpconnectionsclosed", "tcp_connections_closed_total", "COUNTER", TCP),
    ],
)
def test_each_metric_exports_the_dimensions_of_its_instance_in_order(
    mesh: dict[str, Resource], instance: str, metric: str, kind: str, labels: list[str]
) -> None:
    exported = {m["name"]: m for m in mesh["prometheus.handler.istio-system"].spec["params"]["metrics"]}[metric]
    params = mesh[f"{instance}.instance.istio-system"].spec["params"]

    assert exported["instanceName"] == f"{instance}.instance.istio-system"
    assert exported["kind"] == kind
    assert exported["labelNames"] == labels
    assert list(params["dimensions"]) == labels
    assert params["monitored_resource_type"] == '"UNSPECIFIED"'
    assert ("buckets" in exported) == (kind == "DISTRIBUTION")


def test_every_leaf_of_an_instance_is_text(mesh: dict[str, Resource]) -> None:
    """An unquoted number or boolean would not be an expression."""

    def leaves(value: object) -> list[object]:
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        return [value]

    for resource in mesh.values():
        if resource.key.kind == "instance":
            assert all(isinstance(leaf, str) for leaf in leaves(resource.spec)), resource.key


async def test_rules_refer_to_what_is_there_and_nothing_is_left_over() -> None:
    resources = (await FileStore(CONFIG).load()).resources
    used: set[ResourceKey] = set()
    for key, rule in resources.items():
        if key.kind == "rule":
            for action in rule.spec["actions"]:
                used.add(ResourceKey("handler", key.namespace, action["handler"]))
                used |= {ResourceKey("instance", key.namespace, name) for name in action["instances"]}

    assert used == {key for key in resources if key.kind in ("handler", "instance")}


@pytest.mark.parametrize("sample", SAMPLES)
def test_sample_says_in_its_first_line_what_it_shows(sample: str) -> None:
    readme = (CONFIG / "samples" / sample / "README.md").read_text()

    assert readme.startswith("Shows how to ")
    assert "mixc check" in readme
    assert f"`samples/{sample}/`" in (CONFIG / "README.md").read_text()
