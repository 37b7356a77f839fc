"""`mixc eval --jsonl`: whatever the lines hold, each has one line of answer, in order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from mixer.cli.mixc import main

_GOOD = b'{"id": "good", "expr": "true"}'


def _answers(batch: bytes) -> list[dict[str, Any]]:
    done = CliRunner().invoke(main, ["eval", "--jsonl", "-"], input=batch)
    assert done.exit_code == 0, done.exception
    return [json.loads(line) for line in done.stdout_bytes.decode().splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b"null",
        b"{}",
        b'{"id": 1}',
        b'{"id": "\xff", "expr": "true"}',
        b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b', "expr": "true"}',
        b'{"id": 1, "expr": "true", "vocab": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"id": 1, "expr": "true", "vocab": {"a": {}}}',
        b'{"id": ' + b"9" * 5000 + b', "expr": "true"}',
        b'{"id": 1, "expr": "a", "attrs": {"a": {"type": "INT64", "value": 9223372036854775808}}}',
        b'{"vocab": {"late": "STRING"}}',
    ],
)
def test_malformed_line_has_an_answer_and_harms_no_other(line: bytes) -> None:
    first, middle, last = _answers(b"\n".join([_GOOD, line, _GOOD]))
    assert first == last == {"id": "good", "type": "BOOL", "value": True, "referenced": []}
    assert "error" in middle


def test_half_a_character_comes_back_as_it_went_in() -> None:
    (answer,) = _answers(rb'{"id": "\ud800", "expr": "a", "attrs": {"a": {"type": "STRING", "value": "\udc00"}}}')
    assert answer == {"id": "\ud800", "type": "STRING", "value": "\ufffd", "referenced": ["EXACT a"]}


def test_blank_lines_line_ends_and_byte_order_mark_mean_nothing() -> None:
    assert [a["id"] for a in _answers(b"\xef\xbb\xbf" + _GOOD + b"\r\n\n  \r\n" + _GOOD)] == ["good", "good"]


def test_long_line_and_equal_ids_are_nothing_special() -> None:
    value = "x" * 1_000_000
    line = json.dumps({"id": 1, "expr": "size(a)", "attrs": {"a": {"type": "STRING", "value": value}}}).encode()
    assert [a["value"] for a in _answers(line + b"\n" + line)] == [1_000_000, 1_000_000]
