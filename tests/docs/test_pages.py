"""The pages tell the truth: each is followed to the letter, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate_reference import adapters
from tests.docs.transcript import ROOT, Reader, blocks, commands, matches

TASKS = sorted((ROOT / "docs" / "tasks").glob("*.md"))
FOLLOWED = [ROOT / "README.md", *TASKS, ROOT / "docs/reference/mixc-eval.md"]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "config").rglob("*.md")])

_LINK = re.compile(r"(?<!!)\[[^]\n]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("page", FOLLOWED, ids=name)
def test_page_works_as_written(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        reader.follow(page.read_text())
    finally:
        reader.close()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link.partition("#")[0] for link in _LINK.findall(page.read_text()) if "://" not in link]

    missing = [target for target in targets if target and not (page.parent / target).exists()]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_anchors_exist(page: Path) -> None:
    missing = []
    for link in _LINK.findall(page.read_text()):
        target, _, anchor = link.partition("#")
        if anchor and "://" not in link:
            there = page.parent / target if target else page
            if there.exists() and anchor not in _anchors(there.read_text()):
                missing.append(link)

    assert missing == []


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_console_block_is_commands_with_their_output() -> None:
    (block,) = blocks("text\n\n```console\n$ one \\\n    more\nout\n$ two\n```\n")

    assert [tuple(c) for c in commands(block.text)] == [("one more", ["out"]), ("two", [])]
    assert block.line == 3


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a"], "a\nb\n", False),
        (["a", "..."], "a\nb\nc\n", True),
        (["...", "c"], "a\nb\nc\n", True),
        (["in ... s"], "in 12 s\n", True),
        (["a.c"], "abc\n", False),
        ([], "", True),
        ([], "a\n", False),
    ],
)
def test_dots_stand_for_what_may_differ(expected: list[str], actual: str, same: bool) -> None:
    assert matches(expected, actual) is same


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()

    assert [p.name for p in folder.glob("[0-9]*.md") if f"({p.name})" not in index] == []


def test_every_task_is_in_the_index() -> None:
    index = (ROOT / "docs/tasks/README.md").read_text()

    assert [p.name for p in TASKS if p.name != "README.md" and f"({p.name})" not in index] == []


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_page_names_every_adapter(page: str) -> None:
    text = (ROOT / page).read_text()

    assert [info.name for info in adapters() if f"`{info.name}`" not in text] == []
