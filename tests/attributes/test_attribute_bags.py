"""Bags: what is visible, and what is recorded as looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.attributes import ABSENT, Condition, MappingBag, OverlayBag, TrackedMap, TrackingBag, ValueType, Vocabulary

NAMES = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.dictionaries(NAMES, st.integers() | st.text(), max_size=4)


def test_absent_is_false_and_only_itself() -> None:
    assert not ABSENT
    assert MappingBag({}).get("x") is ABSENT
    assert MappingBag({"x": ""}).get("x") == ""


@given(sent=VALUES, generated=st.lists(VALUES, max_size=4))
def test_overlay_never_hides_and_the_first_producer_wins(
    sent: dict[str, int | str], generated: list[dict[str, int | str]]
) -> None:
    bag = OverlayBag(MappingBag(sent))
    expected = dict(sent)
    for values in generated:
        bag.merge(values)
        expected = {**values, **expected}

    assert {name: bag.get(name) for name in bag.names()} == expected
    assert {name: bag.peek(name) for name in bag.names()} == expected
    assert bag.get("never") is ABSENT


@given(sent=VALUES, reads=st.lists(NAMES))
def test_tracking_records_exactly_what_is_read(sent: dict[str, int | str], reads: list[str]) -> None:
    bag = TrackingBag(MappingBag(sent))
    for name in reads:
        assert bag.get(name) == sent.get(name, ABSENT)

    assert bag.referenced == {(name, ""): Condition.EXACT if name in sent else Condition.ABSENCE for name in set(reads)}


class TestTracking:
    """Row by row. Source: spec language 6.1."""

    @pytest.fixture
    def bag(self) -> TrackingBag:
        return TrackingBag(MappingBag({"n": 1, "m": {"k": "v", "e": ""}, "empty": {}}))

    @staticmethod
    def map_of(bag: TrackingBag, name: str = "m") -> TrackedMap:
        value = bag.get(name)
        assert isinstance(value, TrackedMap)
        return value

    def test_absent_attribute(self, bag: TrackingBag) -> None:
        bag.get("x")
        assert bag.referenced == {("x", ""): Condition.ABSENCE}

    def test_present_attribute(self, bag: TrackingBag) -> None:
        bag.get("n")
        assert bag.referenced == {("n", ""): Condition.EXACT}

    def test_map_as_such(self, bag: TrackingBag) -> None:
        bag.get("m")
        bag.get("empty")
        assert bag.referenced == {}

    def test_keys_of_a_map(self, bag: TrackingBag) -> None:
        entries = self.map_of(bag)
        assert entries.get("k") == entries["k"] == "v"
        assert entries.get("e") == ""
        assert entries.get("x", "default") == "default"
        with pytest.raises(KeyError):
            entries["y"]
        assert "z" not in entries
        assert bag.referenced == {
            ("m", "k"): Condition.EXACT,
            ("m", "e"): Condition.EXACT,
            ("m", "x"): Condition.ABSENCE,
            ("m", "y"): Condition.ABSENCE,
            ("m", "z"): Condition.ABSENCE,
        }

    @pytest.mark.parametrize(
        "use",
        [dict, list, len, lambda m: m.whole(), lambda m: m == {}, lambda m: m.items(), lambda m: m.values()],
        ids=["dict", "iteration", "length", "whole", "comparison", "items", "values"],
    )
    def test_whole_map(self, bag: TrackingBag, use: object) -> None:
        """Other than the original, which records nothing and so lets caches reuse wrong answers."""
        use(self.map_of(bag))  # type: ignore[operator]
        assert bag.referenced[("m", "")] is Condition.EXACT
        assert bag.referenced.keys() <= {("m", ""), ("m", "k"), ("m", "e")}

    def test_unrecorded_ways(self, bag: TrackingBag) -> None:
        assert bag.peek("m") == {"k": "v", "e": ""}
        assert set(bag.names()) == {"n", "m", "empty"}
        entries = self.map_of(bag)
        assert entries.untracked() == {"k": "v", "e": ""}
        assert repr(entries) == "TrackedMap('m', {'k': 'v', 'e': ''})"
        assert bag.referenced == {}

    def test_reading_a_map_again_gives_the_same_record(self, bag: TrackingBag) -> None:
        assert bag.get("m") is bag.get("m")

    def test_generated_attributes_are_recorded_as_absent(self, bag: TrackingBag) -> None:
        overlay = OverlayBag(bag)
        assert overlay.merge({"made": "x", "made.map": {"k": "v"}, "n": 2}) == ["n"]
        assert bag.referenced == {}
        assert overlay.get("made") == "x"
        assert overlay.get("made.map")["k"] == "v"  # type: ignore[index]
        assert bag.referenced == {("made", ""): Condition.ABSENCE, ("made.map", ""): Condition.ABSENCE}
        assert overlay.get("n") == 1
        assert bag.referenced[("n", "")] is Condition.EXACT

    def test_empty_key_that_is_missing_does_not_say_that_the_map_is(self, bag: TrackingBag) -> None:
        entries = self.map_of(bag)
        entries.get("")
        entries.get("k")
        assert bag.record() == {("m", ""): Condition.EXACT, ("m", "k"): Condition.EXACT}

    @pytest.mark.parametrize(
        ("keys", "whole"),
        [
            pytest.param(["x"], True, id="a key that is missing"),
            pytest.param(["x", "k"], False, id="a key that is there says that the map is"),
            pytest.param([""], True, id="the empty key"),
            pytest.param([], False, id="no look at all"),
        ],
    )
    def test_map_that_hides_another_must_be_present(self, bag: TrackingBag, keys: list[str], whole: bool) -> None:
        bag.stands_in_for(["m", "n", "x"])
        for key in keys:
            self.map_of(bag).get(key)
        bag.get("n")

        assert (bag.record().get(("m", "")) is Condition.EXACT) is whole
        assert {**bag.referenced, **({("m", ""): Condition.EXACT} if whole else {})} == bag.record()


class TestVocabulary:
    def test_fingerprint_depends_on_content_only(self) -> None:
        one = Vocabulary({"a": ValueType.STRING, "b": ValueType.INT64})
        two = Vocabulary({"b": ValueType.INT64, "a": ValueType.STRING})
        assert one.fingerprint == two.fingerprint
        assert one.fingerprint != Vocabulary({"a": ValueType.STRING}).fingerprint
        assert one.fingerprint != Vocabulary({"a": ValueType.INT64, "b": ValueType.STRING}).fingerprint

    def test_extension_wins_and_leaves_the_original_alone(self) -> None:
        base = Vocabulary({"a": ValueType.STRING})
        more = base.extended({"a": ValueType.URI, "b": ValueType.BOOL})
        assert dict(base) == {"a": ValueType.STRING}
        assert dict(more) == {"a": ValueType.URI, "b": ValueType.BOOL}
