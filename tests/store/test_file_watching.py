"""Watching a folder: every way in which files change is noticed, and nothing else is."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from mixer.store import FileStore, StoreContents

pytestmark = pytest.mark.slow


def obj(name: str) -> str:
    return f"kind: rule\nmetadata:\n  name: {name}\n"


class Watched:
    """What a watch has given so far."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[StoreContents] = asyncio.Queue()

    async def names(self) -> list[str]:
        async with asyncio.timeout(5):
            contents = await self.given.get()
        return [key.name for key in contents.resources]

    async def names_become(self, *expected: str) -> None:
        while (found := await self.names()) != list(expected):
            assert found is not None


@asynccontextmanager
async def watching(store: FileStore) -> AsyncIterator[Watched]:
    watched = Watched()

    async def run() -> None:
        async with aclosing(store.watch()) as contents:  # type: ignore[type-var]
            async for one in contents:
                watched.given.put_nowait(one)

    task = asyncio.create_task(run())
    await asyncio.sleep(0.05)  # the watch is set up
    try:
        yield watched
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "config"
    root.mkdir()
    (root / "a.yaml").write_text(obj("a"))
    return root


def write(folder: Path) -> None:
    (folder / "a.yaml").write_text(obj("b"))


def rename_over(folder: Path) -> None:
    (folder / "a.tmp").write_text(obj("b"))
    os.replace(folder / "a.tmp", folder / "a.yaml")


def delete_and_write(folder: Path) -> None:
    (folder / "a.yaml").unlink()
    (folder / "a.yaml").write_text(obj("b"))


def replace_root(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "a.yaml").write_text(obj("b"))


def move_to_new_subfolder(folder: Path) -> None:
    (folder / "x" / "y").mkdir(parents=True)
    (folder / "x" / "y" / "b.yaml").write_text(obj("b"))
    (folder / "a.yaml").unlink()


@pytest.mark.parametrize("poll", [False, True], ids=["notified", "polling"])
@pytest.mark.parametrize("change", [write, rename_over, delete_and_write, replace_root, move_to_new_subfolder])
async def test_changes_are_noticed(folder: Path, poll: bool, change: Callable[[Path], None]) -> None:
    store = FileStore(folder, poll=poll, rescan_s=1)
    await store.load()
    async with watching(store) as watched:
        change(folder)
        await watched.names_become("b")


async def test_configmap_swap_is_noticed(folder: Path) -> None:
    (folder / "a.yaml").unlink()
    (folder / "..1").mkdir()
    (folder / "..1" / "a.yaml").write_text(obj("a"))
    (folder / "..data").symlink_to("..1")
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    store = FileStore(folder, rescan_s=60)
    await store.load()
    async with watching(store) as watched:
        (folder / "..2").mkdir()
        (folder / "..2" / "a.yaml").write_text(obj("b"))
        (folder / "..tmp").symlink_to("..2")
        os.replace(folder / "..tmp", folder / "..data")
        shutil.rmtree(folder / "..1")

        assert await watched.names() == ["b"]


async def test_single_file_that_is_replaced_is_noticed_again_and_again(folder: Path) -> None:
    store = FileStore(folder / "a.yaml", rescan_s=60)
    await store.load()
    async with watching(store) as watched:
        for name in ("b", "c"):
            (folder / "tmp").write_text(obj(name))
            os.replace(folder / "tmp", folder / "a.yaml")
            assert await watched.names() == [name]


async def test_link_to_elsewhere_is_noticed_by_the_rescan(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text(obj("a"))
    (folder / "a.yaml").unlink()
    (folder / "a.yaml").symlink_to(tmp_path / "target")
    store = FileStore(folder, rescan_s=0.2)
    await store.load()
    async with watching(store) as watched:
        (tmp_path / "target").write_text(obj("other"))
        assert await watched.names() == ["other"]


async def test_burst_is_given_once(folder: Path) -> None:
    store = FileStore(folder, rescan_s=60)
    await store.load()
    async with watching(store) as watched:
        for i in range(50):
            (folder / f"b{i:02}.yaml").write_text(obj(f"b{i:02}"))

        assert len(await watched.names()) == 51
        assert watched.given.empty()


async def test_what_changes_nothing_is_not_given(folder: Path) -> None:
    store = FileStore(folder, rescan_s=0.1)
    await store.load()
    async with watching(store) as watched:
        (folder / "a.yaml").write_text("# a comment\n" + obj("a"))
        (folder / "README").write_text("not read")
        os.utime(folder / "a.yaml")
        await asyncio.sleep(0.5)
        assert watched.given.empty()
        (folder / "a.yaml").write_text("][")
        assert await watched.names() == ["a"]  # kept, and the problem is new


async def test_number_that_becomes_a_boolean_is_a_change(folder: Path) -> None:
    (folder / "a.yaml").write_text(obj("a") + "spec: {x: 1}\n")
    store = FileStore(folder, rescan_s=60)
    await store.load()
    async with watching(store) as watched:
        (folder / "a.yaml").write_text(obj("a") + "spec: {x: true}\n")
        assert await watched.names() == ["a"]


async def test_missing_root_keeps_what_was_given_until_it_is_back(folder: Path) -> None:
    store = FileStore(folder, rescan_s=60)
    await store.load()
    async with watching(store) as watched:
        os.rename(folder, folder.with_suffix(".away"))
        await asyncio.sleep(0.4)
        assert watched.given.empty()
        (folder.with_suffix(".away") / "a.yaml").write_text(obj("b"))
        os.rename(folder.with_suffix(".away"), folder)
        assert await watched.names() == ["b"]
        write_again = obj("c")
        (folder / "a.yaml").write_text(write_again)
        assert await watched.names() == ["c"]


async def test_watch_without_load_gives_the_present_contents_first(folder: Path) -> None:
    async with watching(FileStore(folder)) as watched:
        assert await watched.names() == ["a"]


async def test_change_between_load_and_watch_is_given(folder: Path) -> None:
    store = FileStore(folder)
    await store.load()
    (folder / "a.yaml").write_text(obj("b"))
    async with watching(store) as watched:
        assert await watched.names() == ["b"]


async def test_cancelling_ends_the_thread_promptly(folder: Path) -> None:
    store = FileStore(folder, rescan_s=60)
    await store.load()
    async with watching(store):
        pass
    started = time.monotonic()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert time.monotonic() - started < 1
    assert not [t for t in threading.enumerate() if t.name.startswith("asyncio_")]
