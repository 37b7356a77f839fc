"""What a configuration can read, as a value."""

from __future__ import annotations

import pytest

from mixer.api.wanted import Wanted


def test_equal_wants_are_interchangeable() -> None:
    one = Wanted({"a": None, "b": frozenset({"x"})})
    other = Wanted({"b": frozenset({"x"}), "a": None})

    assert one == other
    assert hash(one) == hash(other)
    assert one != Wanted({"a": None, "b": None})
    assert one != "a"


def test_attributes_cannot_change() -> None:
    given: dict[str, frozenset[str] | None] = {"a": None}
    wanted = Wanted(given)
    given["b"] = None

    assert dict(wanted.attributes) == {"a": None}
    with pytest.raises(TypeError):
        wanted.attributes["b"] = None  # type: ignore[index]


def test_union_wants_what_either_wants() -> None:
    left = Wanted({"a": None, "b": frozenset({"x"}), "c": frozenset({"x"}), "e": None})
    right = Wanted({"a": frozenset({"x"}), "b": frozenset({"y"}), "c": None, "d": frozenset()})

    assert left | right == right | left
    assert left | right == Wanted({"a": None, "b": frozenset({"x", "y"}), "c": None, "d": frozenset(), "e": None})


def test_values_are_cut_to_what_is_wanted() -> None:
    wanted = Wanted({"a": None, "b": frozenset({"x"}), "c": frozenset({"x"})})

    assert wanted.of({"a": {"k": "v"}, "b": {"x": "1", "y": "2"}, "c": 3, "d": 4}) == {
        "a": {"k": "v"},
        "b": {"x": "1"},
        "c": 3,
    }
