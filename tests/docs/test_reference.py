"""The reference is what the code does: written anew, no page differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from docs.generate_reference import SECTIONS, adapters, generated, models, pages, table
from tests.docs.transcript import ROOT


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_reference_page_is_up_to_date(page: Path) -> None:
    text = page.read_text()

    assert text == generated(text), "out of date; run make docs"


def test_every_generated_section_is_on_some_page() -> None:
    texts = "".join(page.read_text() for page in pages())

    assert [name for name in SECTIONS if f"<!-- begin: {name} -->" not in texts] == []


def _params() -> list[tuple[str, type[BaseModel]]]:
    return [(f"{i.name}.{path}", model) for i in adapters() for path, model in models(i.params, "params")]


@pytest.mark.parametrize(("path", "model"), _params(), ids=[path for path, _ in _params()])
def test_every_param_says_what_it_does(path: str, model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_every_page_of_the_reference_is_in_its_index() -> None:
    index = (ROOT / "docs/reference/README.md").read_text()

    assert [page.name for page in pages() if page.name != "README.md" and f"({page.name})" not in index] == []


def test_table_escapes_what_would_end_a_cell() -> None:
    assert table(["a"], [["b | c"]]) == "| a |\n| --- |\n| b \\| c |"
