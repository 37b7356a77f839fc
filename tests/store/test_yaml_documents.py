"""YAML text to documents: separators, lines, keys, aliases, and everything hostile."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixer.store.yamldoc import Document, read_documents
from mixer.store.yamltree import MAX_DEPTH


def read(text: str | bytes) -> list[Document]:
    return read_documents(text.encode() if isinstance(text, str) else text)


def value_of(text: str) -> Any:
    (document,) = read(text)
    assert document.faults == ()
    return document.value


def fault_of(text: str | bytes) -> str:
    (document,) = read(text)
    assert document.value is None
    return document.faults[0].message


class TestSeparators:
    def test_documents_are_numbered_without_the_empty_ones(self) -> None:
        text = "# head\n---\na: 1\n---\n# only a comment\n---\n\n--- # empty\n~\n---\nb: 2\n...\n# tail\n"

        documents = read(text)

        assert [(d.index, d.line, d.value) for d in documents] == [(0, 3, {"a": 1}), (1, 11, {"b": 2})]

    def test_content_may_follow_the_dashes(self) -> None:
        assert [d.value for d in read("--- {a: 1}\n---\t[2]\n--- x\n")] == [{"a": 1}, [2], "x"]

    def test_carriage_returns_and_byte_order_marks_do_not_matter(self) -> None:
        text = "a: 1\r\n---\r\nb: |\r\n  x\r\n  y\r\n"
        for data in (
            text.encode(),
            text.encode("utf-8-sig"),
            text.encode("utf-16"),
            text.replace("\r\n", "\r").encode(),
        ):
            documents = read(data)
            assert [d.value for d in documents] == [{"a": 1}, {"b": "x\ny\n"}]
            assert documents[1].lines == {("b",): 3}

    def test_dashes_inside_of_a_line_or_a_block_are_content(self) -> None:
        assert value_of("a: x---\nb: |\n  ---\n  y\nc: ----\n---x: 1\n") == {
            "a": "x---",
            "b": "---\ny\n",
            "c": "----",
            "---x": 1,
        }

    def test_directives_belong_to_the_document_after_them(self) -> None:
        text = "# head\n%YAML 1.1\n%TAG !e! tag:example.com,2000:\n---\na: 1\n...\n%YAML 1.1\n---\nb: 2\n"

        assert [(d.value, d.line) for d in read(text)] == [({"a": 1}, 5), ({"b": 2}, 9)]

    def test_nothing_gives_nothing(self) -> None:
        assert read("") == read("\n\n") == read("# x\n") == read("---\n---\n...\n") == read("\ufeff") == []

    def test_broken_documents_keep_their_neighbours(self) -> None:
        documents = read('a: 1\n---\nb: "open\n---\nc: 3\n---\n\td: 4\n---\ne: 5')

        assert [d.value for d in documents] == [{"a": 1}, None, {"c": 3}, None, {"e": 5}]
        assert [d.faults[0].line for d in documents if d.faults] == [4, 7]
        assert documents[4].lines == {("e",): 9}


class TestLines:
    def test_every_key_and_item_has_its_line(self) -> None:
        (document,) = read(
            "# comment\nkind: rule\nspec:\n  match: a ||\n    b\n  actions:\n  - handler: h\n    instances:\n"
            "    - one\n    - two\n  -\n    handler: g\n  more: {x: 1,\n    y: [2,\n  3]}\n"
        )

        assert document.lines == {
            ("kind",): 2,
            ("spec",): 3,
            ("spec", "match"): 4,
            ("spec", "actions"): 6,
            ("spec", "actions", 0): 7,
            ("spec", "actions", 0, "handler"): 7,
            ("spec", "actions", 0, "instances"): 8,
            ("spec", "actions", 0, "instances", 0): 9,
            ("spec", "actions", 0, "instances", 1): 10,
            ("spec", "actions", 1): 12,
            ("spec", "actions", 1, "handler"): 12,
            ("spec", "more"): 13,
            ("spec", "more", "x"): 13,
            ("spec", "more", "y"): 14,
            ("spec", "more", "y", 0): 14,
            ("spec", "more", "y", 1): 15,
        }

    def test_lines_of_aliased_and_merged_content_are_where_it_is_written(self) -> None:
        (document,) = read("base: &b\n  x: 1\n  y: 2\nuse:\n  <<: *b\n  y: 3\nsame: *b\n")

        assert document.value["use"] == {"x": 1, "y": 3}
        assert document.lines["use", "x"] == 2
        assert document.lines["use", "y"] == 6
        assert document.lines["same",] == 7
        assert document.lines["same", "x"] == 2


class TestKeys:
    @pytest.mark.parametrize("key", ["n", "yes", "on", "1", "1.50", "0x10", "null", "~", "2001-01-01", "true", ".inf"])
    def test_keys_stay_as_written(self, key: str) -> None:
        assert list(value_of(f"{key}: 1")) == [key]

    def test_quotes_around_a_key_are_not_part_of_it(self) -> None:
        assert value_of("'n': 1\n\"a\\tb\": 2\n? c\n: 3\n") == {"n": 1, "a\tb": 2, "c": 3}

    def test_empty_key(self) -> None:
        assert value_of("?\n: 1") == {"": 1}

    def test_duplicate_keys_are_all_told(self) -> None:
        (document,) = read("a: 1\nb:\n  c: 1\n  'c': 2\na: 3\n")

        assert [(f.message, f.line, f.column) for f in document.faults] == [
            ('duplicate key "c", first on line 3', 4, 3),
            ('duplicate key "a", first on line 1', 5, 1),
        ]

    def test_keys_that_differ_as_text_are_no_duplicates(self) -> None:
        assert value_of("1: a\n1.0: b\ntrue: c\nyes: d\n") == {"1": "a", "1.0": "b", "true": "c", "yes": "d"}

    @pytest.mark.parametrize("text", ["? [a]\n: 1\n", "{{a: 1}: 2}", "a: &x [1]\n*x : 2\n"])
    def test_key_that_is_no_text_is_refused(self, text: str) -> None:
        assert fault_of(text) == "a mapping or list cannot be a key"


class TestAliases:
    def test_aliases_give_equal_but_separate_values(self) -> None:
        value = value_of("a: &x {k: [1]}\nb: *x\nc: &s text\nd: *s\n*s : e\n")

        assert value == {"a": {"k": [1]}, "b": {"k": [1]}, "c": "text", "d": "text", "text": "e"}
        assert value["a"] is not value["b"]

    def test_anchor_may_be_named_again(self) -> None:
        assert value_of("[&a 1, *a, &a 2, *a]") == [1, 1, 2, 2]

    def test_merge_prefers_own_keys_and_earlier_sources(self) -> None:
        text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}\nd: {'<<': 1}\n"

        value = value_of(text)

        assert value["c"] == {"z": 3, "x": 1, "y": 1}
        assert value["d"] == {"<<": 1}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: *x", "the alias *x has no anchor &x before it"),
            ("a: &x [*x]", "the alias *x stands inside of what it names"),
            ("a: &x {b: {c: *x}}", "the alias *x stands inside of what it names"),
            ("<<: 1", "<< takes a mapping or a list of mappings"),
            ("a: &x 1\n<<: [*x]", "<< takes a mapping or a list of mappings"),
        ],
    )
    def test_bad_aliases(self, text: str, message: str) -> None:
        assert fault_of(text) == message

    def test_laughs_are_refused_at_once(self) -> None:
        rows = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
        rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
        started = time.process_time()

        assert "too large" in fault_of("\n".join(rows))

        assert time.process_time() - started < 1

    def test_laughs_by_merging_and_by_long_text_are_refused(self) -> None:
        rows = ["a0: &a0 {k: v}"] + [f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 40)]
        assert "too large" in fault_of("\n".join(rows))
        assert "too large" in fault_of(f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 100)}]")

    def test_depth_made_of_aliases_is_refused(self) -> None:
        nest = MAX_DEPTH // 2
        rows = ["a0: &a0 1"]
        rows += [f"a{i}: &a{i} {'[' * nest}*a{i - 1}{']' * nest}" for i in range(1, 100)]

        assert fault_of("\n".join(rows)) == f"nested deeper than {MAX_DEPTH} levels"


class TestHostile:
    @pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "{", "&a [", "!!seq ["])
    def test_deep_nesting_is_refused(self, opening: str) -> None:
        assert read(opening * 100_000)[0].faults

    def test_allowed_depth_is_allowed(self) -> None:
        assert value_of("[" * MAX_DEPTH + "]" * MAX_DEPTH)
        assert "nested deeper" in fault_of("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))

    @pytest.mark.parametrize(
        "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!x", "!!binary", "!!set"]
    )
    @pytest.mark.parametrize("content", ["[ls]", "x", "{a: null}"])
    def test_tags_are_refused(self, tag: str, content: str) -> None:
        assert fault_of(f"a: {tag} {content}").startswith(f"the tag {tag} is not known here")

    def test_many_values_are_refused(self) -> None:
        assert "too large" in fault_of("[" + "1," * 300_000 + "]")

    def test_bytes_that_are_no_text(self) -> None:
        (first, second) = read(b"ok: 1\n---\nx: 1\ny: \xff\n")

        assert first.value == {"ok": 1}
        assert second.faults == (("byte 0xff is not UTF-8", 4, 0, "a file saved as UTF-8"),)

    def test_control_characters(self) -> None:
        (document,) = read(b"a: 1\nb: x\0y\n")

        (fault,) = document.faults
        assert (fault.line, fault.message) == (2, "control characters are not allowed")

    @pytest.mark.parametrize(
        ("text", "line", "column", "expected"),
        [
            ("a:\n\tb: 1\n", 2, 1, "blanks instead of tabs"),
            ("a: b: c\n", 1, 5, 'quotes around a value that holds ": "'),
            ("a: @x\n", 1, 4, "quotes around a value that starts with this character"),
            ('a: "x" | "y"\n', 1, 10, "single quotes around the whole value"),
            ('a: "x" || b\n', 1, 9, "single quotes around the whole value"),
            ("a:\n  - b\n c: 1\n", 3, 2, "the indentation of the keys around it"),
            ("a: 'x\n", 2, 1, "a closing quote"),
            ("a: !nope!x y\n", 1, 4, "quotes around a value that starts with !"),
        ],
    )
    def test_syntax_errors_say_where_and_what_to_do(self, text: str, line: int, column: int, expected: str) -> None:
        (document,) = read(text)

        (fault,) = document.faults
        assert (fault.line, fault.column, fault.expected) == (line, column, expected), fault

    @given(st.binary(max_size=300))
    @example(b"\xff\xfea")
    @example(b"\xfe\xff\xd8\x00")
    @example(b'"\\ud800"')
    @example(b"---\n%")
    @example(b"a: !<tag:yaml.org,2002:int> x")
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        read(data)

    @given(st.text(alphabet="ab:-[]{}&*!|>#%@`\"'\n\t ,?~0<.\\\r\0é\u2028\ufeff", max_size=200))
    @settings(max_examples=400)
    def test_any_soup_of_signs_is_read_or_refused(self, text: str) -> None:
        for document in read(text):
            assert document.faults or document.value is not None
            assert all(line >= 1 for line in document.lines.values())


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(
    value=st.dictionaries(st.text(min_size=1), _PLAIN, min_size=1, max_size=5),
    flow=st.sampled_from([None, True, False]),
)
def test_what_a_writer_writes_is_read_back(value: dict[str, object], flow: bool | None) -> None:
    # Everything quoted and tagged: the writer takes "N" and "1e3" for texts that need no quotes.
    text = yaml.safe_dump(value, default_flow_style=flow, default_style='"')

    assert value_of(text) == value
