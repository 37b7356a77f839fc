"""A model of params as a protobuf message: what goes in comes out, and what has no form is refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mixer.adapters.base import Params
from mixer.adapters.remote.descriptors import read_params
from mixer.attributes import Duration
from mixer.rules.literals import encode_params
from mixer.sdk.params import ParamsCodec, ParamsModelError
from mixer.store.protojson import Double, DurationField, Int64, ProtoEnum, ProtoModel, decode, enum_field


class Mode(ProtoEnum):
    """A choice."""

    FAST = 3
    SAFE = 0


class Limit(ProtoModel):
    """A model within."""

    name: str = ""
    most: Int64 = 0


class AllKinds(Params):
    """One field of each kind."""

    text: str = "default"
    flag: bool = True
    number: Int64 = 7
    ratio: Double = 0.5
    wait: DurationField = Duration.parse("5s")
    maybe: DurationField | None = None
    mode: enum_field(Mode) = Mode.FAST  # type: ignore[valid-type]
    names: list[str] = []
    limits: list[Limit] = []
    by_name: dict[str, Limit] = {}
    counts: dict[str, int] = {}
    nested: Limit = Limit()
    secret: SecretStr | None = None


CODEC = ParamsCodec("all-kinds", AllKinds)


def over_the_wire(params: Any) -> tuple[AllKinds | None, list[Any]]:
    """What the adapter gets of what an operator writes."""
    data, faults = encode_params(read_params(CODEC.descriptor), params)
    if faults:
        return None, faults
    return decode(AllKinds, CODEC.decode(data))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"text": "", "flag": False, "number": 0, "ratio": 0, "mode": "SAFE", "wait": "0"},
        {"text": "x", "number": -(1 << 63), "ratio": 1e300, "mode": "FAST", "maybe": "1h2m3.5s"},
        {
            "names": ["a", ""],
            "limits": [{"name": "n", "most": 3}, {}],
            "byName": {"k": {"most": 1}},
            "counts": {"a": 0},
        },
        {"nested": {"name": "in"}, "secret": "hush"},
    ],
    ids=["defaults", "zeros", "far", "many", "nested"],
)
def test_params_arrive_as_they_would_in_process(params: Any) -> None:
    expected, _ = decode(AllKinds, params)

    found, faults = over_the_wire(params)

    assert faults == []
    assert found == expected


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "text": st.text(st.characters(exclude_categories=["Cs"])),
            "flag": st.booleans(),
            "number": st.integers(-(1 << 63), (1 << 63) - 1),
            "ratio": st.floats(allow_nan=False),
            "names": st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
            "counts": st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers(0, 9)),
        },
    )
)
def test_any_params_arrive(params: Any) -> None:
    expected, faults = decode(AllKinds, params)
    assert faults == []

    assert over_the_wire(params) == (expected, [])


def test_faults_of_params_show_before_they_are_sent() -> None:
    _, faults = over_the_wire({"nmaes": [], "mode": "SLOW", "limits": [{"most": "many"}], "wait": "5 parsecs"})

    assert [fault.path for fault in faults] == [("nmaes",), ("mode",), ("limits", 0, "most"), ("wait",)]


def test_bytes_that_are_no_params_are_refused() -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(b"\xff\xff")


def test_a_field_without_a_form_is_an_error_of_the_author() -> None:
    class Odd(Params):
        """Params that nobody can send."""

        anything: Any = None

    with pytest.raises(ParamsModelError, match=r"Odd\.anything: typing\.Any has no form as protobuf"):
        ParamsCodec("odd", Odd)
