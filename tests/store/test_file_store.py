"""The file store: what is read, in which order, and what survives when it breaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mixer.errors import StoreUnavailableError
from mixer.store import FileStore, ResourceKey, Severity, StoreContents
from mixer.store import scan as scan_module


def obj(name: str, match: str = "x", kind: str = "rule", namespace: str = "ns") -> str:
    return f"kind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  match: {match}\n"


def docs(*texts: str) -> str:
    return "---\n".join(texts)


def broken(name: str, kind: str = "rule") -> str:
    return f"kind: {kind}\nmetadata:\n  name: {name}\nspec:\n  match: [x\n"


def key(name: str, kind: str = "rule", namespace: str = "ns") -> ResourceKey:
    return ResourceKey(kind, namespace, name)


def names(contents: StoreContents) -> list[str]:
    return [resource_key.name for resource_key in contents.resources]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "config"
    root.mkdir()
    return root


@pytest.fixture
def store(folder: Path) -> FileStore:
    return FileStore(folder)


async def test_folder_is_read_recursively_in_lexical_order(folder: Path, store: FileStore) -> None:
    (folder / "b.yaml").write_text(docs(obj("b1"), obj("b2")))
    (folder / "a").mkdir()
    (folder / "a" / "z.yml").write_text(obj("az"))
    (folder / "a.yaml").write_text(obj("a"))
    (folder / "c.YAML").write_text(obj("upper"))
    (folder / "d.json").write_text("{}")
    (folder / "e.yaml.bak").write_text(obj("backup"))

    contents = await store.load()

    assert names(contents) == ["az", "a", "b1", "b2"]
    assert contents.problems == ()


async def test_symbolic_links_to_files_are_read_and_to_folders_are_not(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "linked.yaml").write_text(obj("linked"))
    (outside / "hidden.yaml").write_text(obj("hidden"))
    (folder / "link.yaml").symlink_to(outside / "linked.yaml")
    (folder / "folder").symlink_to(outside)
    (folder / "folder.yaml").symlink_to(outside)

    assert names(await FileStore(folder).load()) == ["linked"]


async def test_configmap_mount_is_read_once(folder: Path, store: FileStore) -> None:
    (folder / "..2024_01").mkdir()
    (folder / "..2024_01" / "a.yaml").write_text(obj("a"))
    (folder / "..data").symlink_to("..2024_01")
    (folder / "a.yaml").symlink_to("..data/a.yaml")

    contents = await store.load()

    assert names(contents) == ["a"]
    assert contents.problems == ()


async def test_single_file_of_any_name_can_be_the_root(tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text(obj("a"))

    assert names(await FileStore(tmp_path / "config.txt").load()) == ["a"]


async def test_missing_root_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="no such file"):
        await FileStore(tmp_path / "none").load()


async def test_fifo_and_editor_lock_are_left_alone(folder: Path, store: FileStore) -> None:
    os.mkfifo(folder / "pipe.yaml")
    (folder / ".#a.yaml").symlink_to("somebody@host.1234")

    contents = await store.load()

    assert (names(contents), contents.problems) == ([], ())


async def test_broken_document_hides_neither_its_neighbours_nor_its_place(folder: Path, store: FileStore) -> None:
    (folder / "a.yaml").write_text(docs(obj("one"), 'kind: rule\nspec:\n  value: "a" | "b"\n', obj("three")))

    contents = await store.load()

    assert names(contents) == ["one", "three"]
    (problem,) = contents.problems
    assert (problem.origin.line, problem.origin.column, problem.origin.document) == (10, 16, 1)
    assert 'near "value: "a" | "b""' in problem.message
    assert str(problem).startswith(f"{folder / 'a.yaml'}:10:16: error: did not find expected")
    assert contents.resources[key("three")].origin.line == 12


async def test_same_key_twice_gives_the_later_and_a_warning_with_both_places(folder: Path, store: FileStore) -> None:
    (folder / "a.yaml").write_text(docs(obj("x", "first"), obj("other")))
    (folder / "b.yaml").write_text(obj("x", "second"))

    contents = await store.load()

    assert names(contents) == ["other", "x"]
    assert contents.resources[key("x")].spec == {"match": "second"}
    (problem,) = contents.problems
    assert problem.severity is Severity.WARNING
    assert problem.origin.file == str(folder / "b.yaml")
    assert f"{folder / 'a.yaml'}:1" in problem.message


async def test_missing_namespace_is_the_default_one(folder: Path) -> None:
    (folder / "a.yaml").write_text("kind: rule\nmetadata: {name: a}\n")

    assert list((await FileStore(folder).load()).resources) == [key("a", namespace="default")]
    other = FileStore(folder, default_namespace="istio-system")
    assert list((await other.load()).resources) == [key("a", namespace="istio-system")]


class TestLastGood:
    async def test_broken_document_keeps_its_resource_until_repaired(self, folder: Path, store: FileStore) -> None:
        file = folder / "a.yaml"
        file.write_text(docs(obj("a"), obj("b", "old"), obj("c")))
        await store.load()
        file.write_text(docs(obj("a"), broken("b"), obj("c", "new")))

        for _ in range(2):  # a second look changes nothing
            contents = await store.load()
            assert names(contents) == ["a", "b", "c"]
            assert contents.resources[key("b")].spec == {"match": "old"}
            assert contents.resources[key("c")].spec == {"match": "new"}
            (problem,) = contents.problems
            assert problem.resource == key("b")
            assert "the last readable version of b.rule.ns stays in force" in problem.message

        file.write_text(docs(obj("a"), obj("b", "repaired"), obj("c")))
        contents = await store.load()
        assert contents.resources[key("b")].spec == {"match": "repaired"}
        assert contents.problems == ()

    async def test_broken_document_survives_edits_of_the_still_broken_text(
        self, folder: Path, store: FileStore
    ) -> None:
        file = folder / "a.yaml"
        file.write_text(obj("a"))
        await store.load()
        file.write_text(broken("a"))
        await store.load()
        file.write_text(broken("a") + "# more\n")
        assert names(await store.load()) == ["a"]

    async def test_deleted_document_is_gone_although_another_is_broken(self, folder: Path, store: FileStore) -> None:
        file = folder / "a.yaml"
        file.write_text(docs(obj("a"), obj("b"), obj("c")))
        await store.load()
        file.write_text(docs(obj("a"), broken("c")))

        assert names(await store.load()) == ["a", "c"]

    async def test_position_tells_when_the_name_cannot_be_made_out(self, folder: Path, store: FileStore) -> None:
        file = folder / "a.yaml"
        file.write_text(docs(obj("a"), obj("b")))
        await store.load()
        file.write_text(docs(obj("renamed"), "][\n"))

        assert names(await store.load()) == ["renamed", "b"]

    async def test_nothing_unaccounted_is_lost_when_neither_name_nor_position_tells(
        self, folder: Path, store: FileStore
    ) -> None:
        file = folder / "a.yaml"
        file.write_text(docs(obj("a"), obj("b"), obj("c")))
        await store.load()
        file.write_text(docs(obj("c"), "][\n"))

        assert names(await store.load()) == ["c", "a", "b"]

    async def test_document_without_a_name_keeps_it_too(self, folder: Path, store: FileStore) -> None:
        file = folder / "a.yaml"
        file.write_text(obj("a"))
        await store.load()
        file.write_text("kind: rule\nmetadata: {}\nspec: {}\n")

        contents = await store.load()

        assert names(contents) == ["a"]
        assert contents.problems[0].field == "metadata.name"

    async def test_readable_copy_elsewhere_wins_over_the_kept_one(self, folder: Path, store: FileStore) -> None:
        (folder / "z.yaml").write_text(obj("a", "old"))
        await store.load()
        (folder / "z.yaml").write_text(broken("a"))
        (folder / "b.yaml").write_text(obj("a", "moved"))

        contents = await store.load()

        assert contents.resources[key("a")].spec == {"match": "moved"}
        assert [p.severity for p in contents.problems] == [Severity.ERROR]

    async def test_deleted_file_is_gone(self, folder: Path, store: FileStore) -> None:
        (folder / "a.yaml").write_text(obj("a"))
        await store.load()
        (folder / "a.yaml").unlink()

        assert names(await store.load()) == []

    async def test_dangling_link_keeps_what_was_read(self, folder: Path, tmp_path: Path, store: FileStore) -> None:
        (tmp_path / "target").write_text(obj("a"))
        (folder / "a.yaml").symlink_to(tmp_path / "target")
        (folder / "b.yaml").write_text(obj("b"))
        await store.load()
        (tmp_path / "target").unlink()

        contents = await store.load()

        assert names(contents) == ["a", "b"]
        (problem,) = contents.problems
        assert "which does not exist; what was last read from it stays in force" in problem.message
        (folder / "a.yaml").unlink()
        assert names(await store.load()) == ["b"]

    async def test_unreadable_file_and_folder_keep_what_was_read(
        self, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.yaml").write_text(obj("a"))
        (folder / "b.yaml").write_text(obj("b"))
        await store.load()
        real = os.scandir

        def scandir(path: str) -> object:
            if str(path).endswith("sub"):
                raise PermissionError(13, "Permission denied")
            return real(path)

        with monkeypatch.context() as patched:
            patched.setattr(scan_module.os, "scandir", scandir)
            contents = await store.load()
            assert names(contents) == ["b", "a"]
            assert "cannot be read: permission denied" in str(contents.problems[0])
        assert (await store.load()).problems == ()

    async def test_huge_file_is_refused(self, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "a.yaml").write_text(obj("a"))
        await store.load()
        monkeypatch.setattr(scan_module, "MAX_FILE_BYTES", 10)

        contents = await store.load()

        assert names(contents) == ["a"]
        assert "larger than 10 bytes" in contents.problems[0].message


async def test_problems_are_logged_once(folder: Path, store: FileStore) -> None:
    (folder / "a.yaml").write_text("][\n")
    with structlog.testing.capture_logs() as logs:
        await store.load()
        await store.load()

    assert [entry["event"] for entry in logs] == ["config_problem", "config_read"]


@given(
    data=st.binary(max_size=200)
    | st.text(alphabet="kind:metadt{}[]-&*!|'\"\n \tanmes#%\0é", max_size=200).map(str.encode)
)
async def test_nothing_that_a_file_holds_is_raised(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "a.yaml"
    file.write_bytes(data)

    contents = await FileStore(file).load()

    assert all(str(problem) for problem in contents.problems)
