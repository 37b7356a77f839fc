"""Files of pods: what can be read, what cannot, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.adapters.kubernetesenv import INFO, FilePods, KubernetesEnvHandler
from mixer.adapters.kubernetesenv.index import PodIndex
from mixer.adapters.kubernetesenv.objects import ObjectFault, items_of, read_object
from mixer.adapters.testing import RecordingEnv, build_handler
from mixer.templates.kubernetes import KubernetesInstance

POD: dict[str, Any] = {"kind": "Pod", "metadata": {"name": "a", "namespace": "ns", "labels": {"v": "1"}}}
YAML = """
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: ns, labels: {v: "1"}}
"""


def names(source: FilePods) -> set[str]:
    return {name for _, name in source.pods._by_name}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps(POD), id="JSON object"),
        pytest.param(json.dumps({"kind": "List", "items": [POD]}), id="JSON list"),
        pytest.param(
            json.dumps({"kind": "PodList", "items": [{"metadata": POD["metadata"]}]}), id="list of a kind, as the API has it"
        ),
        pytest.param(YAML, id="YAML"),
        pytest.param(f"---\nkind: Namespace\n---{YAML}---\n", id="YAML documents"),
        pytest.param("kind: List\nitems:\n- kind: Pod\n  metadata: {name: a, namespace: ns}\n", id="YAML list"),
        pytest.param("{kind: Pod, metadata: {name: a}}", id="YAML that begins like JSON"),
    ],
)  # fmt: skip
async def test_forms_that_kubectl_prints_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pods"
    path.write_text(text)
    source = FilePods(str(path))

    assert await source.refresh() == []
    assert names(source) == {"a"}


async def test_folder_is_read_with_all_below(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "..data").mkdir()
    for name, place in {"a": "a.json", "b": "sub/b.yaml", "c": "notes.txt", "d": "..data/d.json"}.items():
        (tmp_path / place).write_text(json.dumps({**POD, "metadata": {"name": name}}))
    source = FilePods(str(tmp_path))

    assert await source.refresh() == []
    assert names(source) == {"a", "b"}


@pytest.mark.parametrize(
    ("pod", "fault"),
    [
        ({"metadata": {}}, "metadata.name: required field is missing"),
        ({"metadata": {"name": 5}}, "metadata.name: the number 5 cannot be read here, expected a string"),
        ({"metadata": "a"}, "metadata: a string cannot be read here, expected a mapping"),
        ({"metadata": {"name": "b", "labels": {"on": True}}}, "metadata.labels.on: the boolean true cannot be read here"),
        ({"metadata": {"name": "b"}, "status": {"podIP": "1.2.3"}}, "status.podIP: '1.2.3' is not an IP address"),
        ({"metadata": {"name": "b"}, "spec": {"containers": [1]}}, "spec.containers: a list cannot be read here"),
        ({"metadata": {"name": "b"}, "status": {"phase": []}}, "status.phase: a list cannot be read here"),
    ],
)  # fmt: skip
async def test_object_that_cannot_be_read_is_left_out(tmp_path: Path, pod: dict[str, Any], fault: str) -> None:
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"kind": "List", "items": [{"kind": "Pod", **pod}, POD]}))
    source = FilePods(str(path))

    (told,) = await source.refresh()

    assert "is left out" in told
    assert fault in told
    assert names(source) == {"a"}


@pytest.mark.parametrize("entry", [None, 5, "Pod", [], {"metadata": {}}, {"kind": 5}], ids=repr)
async def test_entry_of_a_list_that_is_no_object_is_left_out(tmp_path: Path, entry: Any) -> None:
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"kind": "List", "items": [entry, POD]}))
    source = FilePods(str(path))

    (told,) = await source.refresh()

    assert "is left out" in told
    assert names(source) == {"a"}


async def test_many_faults_are_told_briefly(tmp_path: Path) -> None:
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"kind": "List", "items": [{"kind": "Pod"}] * 1000}))

    faults = await FilePods(str(path)).refresh()

    assert len(faults) == 4
    assert faults[-1].endswith("and 997 more objects are left out")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param('{"kind": "Pod", ', "did not find expected", id="cut off"),
        pytest.param("kind: Pod\n kind: [", "line 2", id="no YAML"),
        pytest.param("- 1\n- 2\n", "a list is no Kubernetes object", id="no object"),
        pytest.param("just words", "a string is no Kubernetes object", id="words"),
        pytest.param("metadata: {name: a}", "a mapping is no Kubernetes object", id="no kind"),
        pytest.param('{"kind": "List", "items": [7]}', "the number 7 is no Kubernetes object", id="list of numbers"),
    ],
)
async def test_broken_file_keeps_what_it_held(tmp_path: Path, text: str, fault: str) -> None:
    path, other = tmp_path / "pods.yaml", tmp_path / "z.yaml"
    path.write_text(YAML)
    source = FilePods(str(tmp_path))
    await source.refresh()
    path.write_text(text)
    other.write_text(YAML.replace("name: a", "name: b"))

    (told,) = await source.refresh()

    assert told.startswith(f"{path}: ")
    assert fault in told
    assert told.endswith("; what it held before stays")
    assert names(source) == {"a", "b"}
    assert await source.refresh() == [told]
    path.write_text(YAML.replace("name: a", "name: c"))
    assert await source.refresh() == []
    assert names(source) == {"b", "c"}


async def test_deleted_file_takes_its_pods_along_and_a_root_that_is_gone_does_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.yaml").write_text(YAML)
    (root / "b.yaml").write_text(YAML.replace("name: a", "name: b"))
    source = FilePods(str(root))
    await source.refresh()
    (root / "a.yaml").unlink()
    assert await source.refresh() == []
    assert names(source) == {"b"}

    root.rename(tmp_path / "elsewhere")

    assert await source.refresh() == [
        f"{root}: no such file or directory; the pods that were read from it stay"
    ]  # fmt: skip
    assert names(source) == {"b"}


async def test_dangling_link_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "nowhere")

    (told,) = await FilePods(str(tmp_path)).refresh()

    assert told == f"{tmp_path}/a.yaml: cannot be read: no such file or directory"


async def test_unchanged_state_keeps_its_index(tmp_path: Path) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text(YAML)
    source = FilePods(str(path))
    await source.refresh()
    before = source.pods
    path.write_text(YAML + "\n")

    await source.refresh()

    assert source.pods is before


class PlayedSource:
    """A source that the test plays: shows that others than files can join."""

    def __init__(self) -> None:
        self.name, self.faults = "played", [["down"], ["down"], [], ["down"]]
        self.pods = FilePods("").pods

    async def refresh(self) -> list[str]:
        return self.faults.pop(0)

    async def watch(self) -> AsyncIterator[None]:
        while self.faults:
            yield


async def test_faults_are_told_once_and_counted() -> None:
    env = RecordingEnv()
    handler = KubernetesEnvHandler(env.env("h"), [])

    await handler.follow(PlayedSource())  # type: ignore[arg-type]

    assert [line["event"] for line in env.logged] == ["pods_not_readable", "pods_readable_again", "pods_not_readable"]
    labels = {"handler": "h", "source": "played"}
    assert env.metrics.get_sample_value("mixer_kubernetesenv_failures_total", labels) == 2
    assert env.metrics.get_sample_value("mixer_kubernetesenv_pods", labels) == 0


@pytest.mark.slow
async def test_change_of_a_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "later" / "pods.json"
    env = RecordingEnv()
    handler = await build_handler(INFO, {"objectPaths": [str(path.parent)]}, env=env)
    asked = KubernetesInstance("k8s", source_uid="kubernetes://a.ns")
    assert handler.generate_attributes(asked) == {}
    path.parent.mkdir()
    path.write_text(json.dumps(POD))

    for _ in range(500):
        if handler.generate_attributes(asked):
            break
        await asyncio.sleep(0.02)

    await handler.aclose()
    assert (env.running, env.crashes) == (0, [])
    sample = env.metrics.get_sample_value
    assert sample("mixer_kubernetesenv_pods_total", {}) is None
    assert sample("mixer_kubernetesenv_pods", {"handler": "test.istio-system", "source": str(path.parent)}) == 1
    assert sample("mixer_kubernetesenv_lookups_total", {"handler": "test.istio-system", "outcome": "found"}) == 1


FIELDS = st.sampled_from(
    ["kind", "metadata", "spec", "status", "items", "name", "namespace", "labels", "ownerReferences", "controller", "ports",
     "containers", "containerPort", "podIP", "podIPs", "ip", "hostIP", "phase", "selfLink", "hostNetwork", "apiVersion"]
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.sampled_from(["Pod", "List", "PodList", "ReplicaSet", "::1"]))  # fmt: skip
DATA = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(FIELDS, st.integers()), inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(metadata=DATA, spec=DATA, status=DATA, kind=st.sampled_from(["Pod", "ReplicaSet", "List"]), items=DATA)
def test_whatever_stands_in_an_object_is_read_or_is_a_fault(**fields: Any) -> None:
    try:
        found = [read_object(item) for item in items_of(fields) if not isinstance(item, ObjectFault)]
    except ObjectFault:
        return

    assert len(PodIndex(known for known in found if known is not None)) <= len(found)


async def test_lists_within_lists_are_a_fault_when_they_are_too_deep(tmp_path: Path) -> None:
    path = tmp_path / "pods.json"
    path.write_text('{"kind": "List", "items": [' * 5000 + "]}" * 5000)

    assert len(await FilePods(str(path)).refresh()) == 1
