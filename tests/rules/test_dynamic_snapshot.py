"""Out-of-process resources among the others: what is resolved, kept while broken, and what calls for a new handler."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mixer.adapters import noop
from mixer.adapters.base import AdapterInfo
from mixer.adapters.loading import by_name
from mixer.adapters.remote import RemoteParams
from mixer.rules.build import SnapshotBuilder
from mixer.rules.snapshot import Snapshot
from mixer.sdk.resources import adapter_resource, template_resources
from mixer.store import FileStore
from mixer.templates import LISTENTRY, METRIC, Variety
from tests.adapters.remote.remote_support import Seen, adapter

INFO = adapter(Seen(), (LISTENTRY, METRIC))
NAMES = {
    "kind": "attributemanifest",
    "metadata": {"name": "words"},
    "spec": {"attributes": {"s": {"valueType": "STRING"}}},
}
HANDLER = """
kind: handler
metadata: {name: h}
spec: {adapter: remembering, params: {greeting: hi}, connection: {address: "localhost:1"}}
"""
INSTANCE = """
kind: instance
metadata: {name: i}
spec: {template: listentry, params: {value: s}}
"""
RULE = """
kind: rule
metadata: {name: r}
spec: {actions: [{handler: h, instances: [i]}]}
"""


class Folder:
    """A configuration that a test edits, and the builder that follows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.builder = SnapshotBuilder(by_name([noop.INFO]))
        self.write("names", yaml.safe_dump(NAMES))
        self.write("templates", yaml.safe_dump_all(list(template_resources(INFO.templates))))
        self.adapter(INFO)
        self.write("handler", HANDLER)
        self.write("instance", INSTANCE)
        self.write("rule", RULE)

    def write(self, name: str, text: str) -> None:
        (self.path / f"{name}.yaml").write_text(text)

    def adapter(self, info: AdapterInfo, *, session_based: bool = True) -> None:
        self.write("adapter", yaml.safe_dump(adapter_resource(info, session_based=session_based)))

    async def snapshot(self) -> Snapshot:
        return self.builder.build(await FileStore(self.path, default_namespace="istio-system").load())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_a_handler_of_a_remote_adapter_is_a_handler_like_any_other(folder: Folder) -> None:
    snapshot = await folder.snapshot()

    config = snapshot.handlers["h.handler.istio-system"]
    assert snapshot.problems == ()
    assert config.name == "h.istio-system"
    assert config.info.name == "remembering.adapter.istio-system"
    assert [(info.name, info.template.name, info.template.variety) for info in config.instances] == [
        ("i.instance.istio-system", "listentry.template.istio-system", Variety.CHECK)
    ]
    assert isinstance(config.params, RemoteParams)
    assert config.params.session_based
    assert config.params.config is not None
    assert "hi" not in repr(config.params)
    assert snapshot.counts["adapter"] == 1
    assert snapshot.counts["template"] == 2


@pytest.mark.parametrize(
    ("file", "before", "after", "differs"),
    [
        ("handler", "greeting: hi", "greeting: ho", True),
        ("handler", "localhost:1", "localhost:2", True),
        ("instance", "value: s", "value: '\"x\"'", True),
        ("handler", "metadata: {name: h}", "metadata: {name: h, annotations: {a: b}}", False),
        ("rule", "spec: {", "spec: {match: s == 's', ", False),
    ],
)
async def test_a_handler_lives_on_while_nothing_it_depends_on_changes(
    folder: Folder, file: str, before: str, after: str, differs: bool
) -> None:
    first = await folder.snapshot()
    path = folder.path / f"{file}.yaml"
    path.write_text(path.read_text().replace(before, after))
    second = await folder.snapshot()

    assert second.problems == ()
    name = "h.handler.istio-system"
    assert (first.handlers[name].signature != second.handlers[name].signature) is differs


async def test_a_changed_adapter_or_template_calls_for_a_new_handler(folder: Folder) -> None:
    name = "h.handler.istio-system"
    signatures = [(await folder.snapshot()).handlers[name].signature]
    folder.adapter(INFO, session_based=False)
    signatures.append((await folder.snapshot()).handlers[name].signature)
    templates = list(template_resources(INFO.templates))
    from mixer.adapters.remote.standard import standard_descriptor

    templates[0]["spec"]["descriptor"] = standard_descriptor("checknothing")
    folder.write("templates", yaml.safe_dump_all(templates))
    folder.write("instance", INSTANCE.replace(", params: {value: s}", ""))
    signatures.append((await folder.snapshot()).handlers[name].signature)

    assert len(set(signatures)) == 3


@pytest.mark.parametrize("file", ["adapter", "templates"])
async def test_the_last_good_version_goes_on_while_a_resource_is_broken(folder: Folder, file: str) -> None:
    first = await folder.snapshot()
    path = folder.path / f"{file}.yaml"
    text = path.read_text()
    path.write_text(text.replace("descriptor: ", "descriptor: '?' # ").replace("config: ", "config: '?' # "))
    second = await folder.snapshot()

    assert second.problems
    assert second.stale
    name = "h.handler.istio-system"
    assert second.handlers[name].signature == first.handlers[name].signature


async def test_what_uses_a_broken_resource_is_told_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("templates", "kind: template\nmetadata: {name: listentry}\nspec: {descriptor: '?'}")
    folder.adapter(adapter(Seen(), (LISTENTRY,)))

    snapshot = await folder.snapshot()

    told = [(str(p.resource), p.severity.value, p.field) for p in snapshot.problems]
    assert told == [
        ("listentry.template.istio-system", "error", "spec.descriptor"),
        ("remembering.adapter.istio-system", "warning", "spec.templates[0]"),
        ("h.handler.istio-system", "warning", "spec.adapter"),
        ("i.instance.istio-system", "warning", "spec.template"),
        ("r.rule.istio-system", "warning", "spec.actions[0].handler"),
    ]


async def test_an_instance_of_a_template_that_the_adapter_does_not_take(folder: Folder) -> None:
    folder.adapter(adapter(Seen(), (METRIC,)))

    snapshot = await folder.snapshot()

    assert [p.message for p in snapshot.problems] == [
        "instance 'i.instance.istio-system' is of template 'listentry.template.istio-system' which is not supported "
        "by handler 'h.handler.istio-system'"
    ]
