"""What a plain scalar means, row by row."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.store.yamlscalar import TAG_PREFIX, UnknownTagError, resolve, resolve_plain


@pytest.mark.parametrize("text", ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"])
def test_words_that_are_true(text: str) -> None:
    assert resolve_plain(text) is True


@pytest.mark.parametrize("text", ["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"])
def test_words_that_are_false(text: str) -> None:
    assert resolve_plain(text) is False


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_words_that_are_null(text: str) -> None:
    assert resolve_plain(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("1_000", 1000),
        ("0755", 493),
        ("-017", -15),
        ("0x1F", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("9223372036854775807", (1 << 63) - 1),
        ("18446744073709551615", (1 << 64) - 1),
        ("18446744073709551616", 18446744073709551616.0),
        ("-9223372036854775809", -9223372036854775809.0),
        ("089", 89.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-2.5E-3", -0.0025),
        (".inf", math.inf),
        ("+.Inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_numbers(text: str, value: float) -> None:
    found = resolve_plain(text)

    assert (type(found), found) == (type(value), value)


def test_not_a_number() -> None:
    assert math.isnan(resolve_plain(".nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "2001-12-14",
        "2001-12-14T21:59:43.10-05:00",
        "2001-12-14 21:59:43",
        "12:30:45",
        "190:20:30",
        "1h30m",
        "10s",
        "1.2.3.4",
        "-",
        "+",
        ".",
        "..",
        "0x",
        "1e400",
        "tRUE",
        "yEs",
        "nan",
        "inf",
        "Infinity",
        "١٢",
        "9" * 5_000,
    ],
    ids=lambda text: text[:20],
)
def test_everything_else_stays_text(text: str) -> None:
    assert resolve_plain(text) == text


def test_quotes_make_text() -> None:
    assert resolve("yes", None, plain=False) == "yes"


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [
        ("str", "1", "1"),
        ("int", "1", 1),
        ("float", "1", 1.0),
        ("bool", "yes", True),
        ("null", "", None),
        ("timestamp", "2001-12-14", "2001-12-14"),
    ],
)
def test_tags_of_plain_data(tag: str, text: str, value: object) -> None:
    found = resolve(text, TAG_PREFIX + tag, plain=True)

    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("tag", [TAG_PREFIX + "python/object:os.system", "!local", TAG_PREFIX + "binary", "x"])
def test_other_tags_are_refused(tag: str) -> None:
    with pytest.raises(UnknownTagError):
        resolve("x", tag, plain=True)


@pytest.mark.parametrize(("tag", "text"), [("int", "x"), ("int", "true"), ("bool", "1"), ("float", "y"), ("null", "0")])
def test_tag_that_does_not_fit_is_a_fault(tag: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"is no !!{tag}"):
        resolve(text, TAG_PREFIX + tag, plain=True)


@given(st.text())
def test_any_text_has_a_value(text: str) -> None:
    resolve_plain(text)


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_integers_read_back(number: int) -> None:
    assert resolve_plain(str(number)) == number
