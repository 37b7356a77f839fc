"""``mixs adapters``: what is installed, and where it comes from."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, version

import pytest
from click.testing import CliRunner

from mixer.adapters import loading
from mixer.cli.mixs import main


def test_adapters_are_listed_with_their_package() -> None:
    done = CliRunner().invoke(main, ["adapters", "-o", "json"])

    rows = {row["name"]: row for row in json.loads(done.output)}
    assert done.exit_code == 0
    assert list(rows) == sorted(rows)
    assert (rows["denier"]["package"], rows["denier"]["version"]) == ("mixer", version("mixer"))
    assert rows["denier"]["templates"] == ["checknothing", "listentry", "quota"]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("no_such_module:INFO", "adapter 'x' (no_such_module:INFO) does not load: No module named 'no_such_module'"),
        ("mixer.adapters.denier:build", "adapter 'x': mixer.adapters.denier:build is a function, not an AdapterInfo"),
        ("mixer.adapters.denier:INFO", "two adapters are named 'denier'"),
    ],
    ids=["missing", "no-adapter", "taken"],
)
def test_an_adapter_that_cannot_be_used_is_named(value: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint(n, v, loading.GROUP) for n, v in (("denier", "mixer.adapters.denier:INFO"), ("x", value))]
    monkeypatch.setattr(loading, "entry_points", lambda group: found)

    done = CliRunner().invoke(main, ["adapters"])

    assert done.exit_code == 1
    assert complaint in done.output
