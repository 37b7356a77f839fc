"""Broken configurations, one fault each: exactly the problems that each file announces, and the rest works.

A file begins with what is expected of it: ``# problem: LINE | FIELD | PART OF THE MESSAGE`` (or ``# warning:``)
for each problem, and ``# works: NAME`` for each of its rules that must work, if in part, all the same.
Source: spec runtime 1.2 and 3.7.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mixer.adapters import denier, listchecker, memquota, noop, prometheus, stdio
from mixer.adapters.loading import by_name
from mixer.rules.build import SnapshotBuilder
from mixer.store import FileStore, Severity

HERE = Path(__file__).parent
FILES = sorted((HERE / "broken").glob("*.yaml"))
ADAPTERS = by_name([denier.INFO, noop.INFO, memquota.INFO, listchecker.INFO, prometheus.INFO, stdio.INFO])
EXPECTATION = re.compile(r"# (problem|warning): (\d+) \| (.*?) \| (.*)")


def expectations(path: Path) -> list[tuple[str, ...]]:
    """What a file announces: severity, line, field and a part of the message of each problem."""
    return [found.groups() for line in path.read_text().splitlines() if (found := EXPECTATION.fullmatch(line))]


def still_working(path: Path) -> list[str]:
    """The rules that a file announces to work."""
    return [line.removeprefix("# works: ") for line in path.read_text().splitlines() if line.startswith("# works: ")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_broken_configuration_is_reported_and_the_rest_works(path: Path, tmp_path: Path) -> None:
    shutil.copy(HERE / "sound.yaml", tmp_path / "a-sound.yaml")
    shutil.copy(path, tmp_path / path.name)
    expected = expectations(path)

    contents = await FileStore(tmp_path, default_namespace="istio-system").load()
    snapshot = SnapshotBuilder(ADAPTERS).build(contents)

    found = [
        ("problem" if p.severity is Severity.ERROR else "warning", str(p.origin.line), p.field, p.message)
        for p in snapshot.problems
    ]
    assert [entry[:3] for entry in found] == [entry[:3] for entry in expected]
    assert [part in message for (*_, message), (*_, part) in zip(found, expected, strict=True)] == [True] * len(found)
    assert {p.origin.file for p in snapshot.problems} == {str(tmp_path / path.name)}
    assert {"sound", *still_working(path)} <= {rule.key.name for rule in snapshot.rules}


def test_each_broken_configuration_has_one_fault() -> None:
    """Warnings of what refers to the broken object aside."""
    assert len(FILES) >= 60
    for path in FILES:
        severities = [entry[0] for entry in expectations(path)]
        assert severities.count("problem") == 1 or (severities == ["warning"]), path.name
