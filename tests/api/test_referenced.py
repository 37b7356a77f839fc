"""Referenced attributes on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.decode import decode_check
from mixer.api.encode import encode_check
from mixer.api.messages import AttributeMatch, ReferencedAttributes
from mixer.api.referenced import decode_referenced, encode_referenced
from mixer.api.words import GLOBAL_WORDS
from mixer.attributes import Condition, TrackingBag
from mixer.errors import WireError

ABSENCE, EXACT = Condition.ABSENCE, Condition.EXACT


@pytest.fixture
def referenced() -> TrackingBag:
    """The reads of the worked examples W15 to W17 of spec language 8.2."""
    bag = TrackingBag(
        decode_check(encode_check({"source.ip": b"\x01", "request.headers": {"cookie": "c"}, "my.attr": "x"}))
    )
    bag.get("source.ip")
    headers = bag.get("request.headers")
    assert hasattr(headers, "get")
    headers.get("cookie")
    headers.get("nope")
    for name in ("my.attr", "absent.attr", "destination.service.host", "source.labels"):
        bag.get(name)
    return bag


def matches_of(message: ReferencedAttributes) -> list[tuple[int, int, int]]:
    return [(match.name, match.condition, match.map_key) for match in message.attribute_matches]


# The original leaves the order open; ours is by name and key.
@pytest.mark.parametrize(
    ("global_word_count", "words", "matches"),
    [
        pytest.param(
            222,
            ["absent.attr", "my.attr", "nope"],
            [
                (-1, ABSENCE, 0),
                (193, ABSENCE, 0),
                (-2, EXACT, 0),
                (15, EXACT, 59),
                (15, ABSENCE, -3),
                (0, EXACT, 0),
                (5, ABSENCE, 0),
            ],
            id="W15",
        ),
        pytest.param(
            16,
            ["absent.attr", "destination.service.host", "my.attr", "cookie", "nope"],
            [
                (-1, ABSENCE, 0),
                (-2, ABSENCE, 0),
                (-3, EXACT, 0),
                (15, EXACT, -4),
                (15, ABSENCE, -5),
                (0, EXACT, 0),
                (5, ABSENCE, 0),
            ],
            id="W16",
        ),
        pytest.param(
            0,
            [
                "absent.attr",
                "destination.service.host",
                "my.attr",
                "cookie",
                "request.headers",
                "nope",
                "source.ip",
                "source.labels",
            ],
            [
                (-1, ABSENCE, 0),
                (-2, ABSENCE, 0),
                (-3, EXACT, 0),
                (-5, EXACT, -4),
                (-5, ABSENCE, -6),
                (-7, EXACT, 0),
                (-8, ABSENCE, 0),
            ],
            id="W17",
        ),
    ],
)
def test_references_are_encoded_in_words_that_the_client_knows(
    referenced: TrackingBag, global_word_count: int, words: list[str], matches: list[tuple[int, int, int]]
) -> None:
    message = encode_referenced(referenced.referenced, global_word_count)

    assert list(message.words) == words
    assert matches_of(message) == matches


def test_client_that_knows_more_words_gets_only_ours(referenced: TrackingBag) -> None:
    assert encode_referenced(referenced.referenced, 5000) == encode_referenced(referenced.referenced, 222)


def test_key_with_index_0_is_spelled_out() -> None:
    """Index 0 would read as "no key" (quirk Q-3); the name may use it all the same."""
    message = encode_referenced({("source.ip", "source.ip"): EXACT, ("source.ip", ""): ABSENCE}, 222)

    assert matches_of(message) == [(0, ABSENCE, 0), (0, EXACT, -1)]
    assert list(message.words) == ["source.ip"]
    assert decode_referenced(message) == {("source.ip", ""): ABSENCE, ("source.ip", "source.ip"): EXACT}


texts = st.sampled_from(GLOBAL_WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(
    referenced=st.dictionaries(st.tuples(texts, texts), st.sampled_from(Condition), max_size=8),
    global_word_count=st.sampled_from([0, 1, 111, 222, 300]),
)
def test_references_decode_to_what_was_encoded(
    referenced: dict[tuple[str, str], Condition], global_word_count: int
) -> None:
    message = encode_referenced(referenced, global_word_count)

    assert decode_referenced(ReferencedAttributes.FromString(message.SerializeToString())) == referenced


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (
            AttributeMatch(name=-2, condition=ReferencedAttributes.EXACT),
            "name index -2 is not defined; the message has 1 words",
        ),
        (AttributeMatch(name=222, condition=ReferencedAttributes.EXACT), "name index 222"),
        (AttributeMatch(name=1, condition=ReferencedAttributes.EXACT, map_key=-7), "map_key index -7"),
        (AttributeMatch(name=1, condition=9), "source.port has the unknown condition 9"),  # type: ignore[arg-type]
    ],
    ids=["own", "global", "key", "condition"],
)
def test_client_refuses_an_answer_with_faults(match: AttributeMatch, text: str) -> None:
    with pytest.raises(WireError, match=text):
        decode_referenced(ReferencedAttributes(words=["w"], attribute_matches=[match]))
