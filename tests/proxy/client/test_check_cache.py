from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from mixer.api.answer import CheckAnswer, RouteDirective
from mixer.api.codes import Code
from mixer.api.messages import CheckResponse
from mixer.api.wire_answer import decode_answer
from mixer.attributes import Condition, Duration, MappingBag, Timestamp
from proxy.client.checkcache import CheckCache
from proxy.client.shapes import Shape, ShapeList
from tests.proxy.client.fakes import absent, answer, exact


def hit(cache: CheckCache, bag: Mapping[str, Any], now: float = 0.0) -> int | None:
    """The code that the cache gives, None for a miss."""
    verdict, _ = cache.find(MappingBag(bag), now)
    return None if verdict is None else verdict.code


def store(cache: CheckCache, bag: Mapping[str, Any], kept: CheckAnswer, now: float = 0.0) -> bool:
    return cache.store(MappingBag(bag), kept, now)


def test_decision_is_used_as_often_as_allowed() -> None:
    """Scenario 14."""
    cache = CheckCache()
    store(cache, {"a": "x"}, answer(exact("a"), uses=3))
    assert [hit(cache, {"a": "x"}) for _ in range(4)] == [0, 0, 0, None]
    assert len(cache) == 0


def test_decision_is_used_as_long_as_allowed() -> None:
    """Scenario 15."""
    cache = CheckCache()
    store(cache, {"a": "x"}, answer(exact("a"), valid_s=0.01), now=0.0)
    assert hit(cache, {"a": "x"}, 0.001) == 0
    assert hit(cache, {"a": "x"}, 0.011) is None


def test_shapes_stand_side_by_side() -> None:
    """Scenario 16."""
    cache = CheckCache()
    one = {"target.service": "s", "target.name": "x"}
    other = {"target.name": "n"}
    store(cache, one, answer(exact("target.service"), Code.OK))
    store(cache, other, answer(exact("target.name"), Code.NOT_FOUND))
    assert (hit(cache, one), hit(cache, other)) == (Code.OK, Code.NOT_FOUND)
    assert cache.shapes == 2


def test_map_key_tells_requests_apart() -> None:
    """Scenario 17."""
    cache = CheckCache()
    bags = {text: {"request.headers": {"k": text, "x": "y"}} for text in ("baz", "bar")}
    store(cache, bags["baz"], answer(exact("request.headers[k]"), Code.PERMISSION_DENIED))
    store(cache, bags["bar"], answer(exact("request.headers[k]")))
    assert [hit(cache, bags[text]) for text in ("baz", "bar")] == [Code.PERMISSION_DENIED, Code.OK]
    assert hit(cache, {"request.headers": {"k": "other"}}) is None
    assert hit(cache, {"request.headers": {}}) is None
    assert hit(cache, {"request.headers": "text"}) is None


@pytest.mark.parametrize(
    ("kept", "rejected"),
    [
        (answer(None), 0),
        (answer(absent("a")), 1),
        (answer(exact("b")), 1),
        (answer(absent("m[k]")), 1),
        (answer(exact("m[other]")), 1),
        (answer(absent("no[k]")), 1),
        (answer(exact("a"), uses=0), 0),
        (answer(exact("a"), valid_s=0), 0),
        (answer(exact("a"), valid_s=-1), 0),
        (CheckAnswer(), 0),
    ],
    ids=[
        "no usable reference",
        "absence of what is there",
        "value of what is not there",
        "absence of a key that is there",
        "value of a key that is not there",
        "absence of a key of no map",
        "no uses",
        "no time",
        "negative time",
        "no limits at all",
    ],
)
def test_answer_is_used_once_when(kept: CheckAnswer, rejected: int) -> None:
    """Scenario 18."""
    cache = CheckCache()
    bag = {"a": "x", "m": {"k": "v"}}
    assert not store(cache, bag, kept)
    assert hit(cache, bag) is None
    assert (len(cache), cache.shapes, cache.rejected) == (0, 0, rejected)


def test_reference_to_an_unknown_word_is_not_kept() -> None:
    """Scenario 18, on the wire: index 10000."""
    response = CheckResponse()
    response.precondition.valid_use_count = 100
    response.precondition.referenced_attributes.attribute_matches.add(name=10_000, condition=2)
    assert not store(CheckCache(), {"a": "x"}, decode_answer(response))


@pytest.mark.parametrize(
    ("learned", "referenced", "same", "other"),
    [
        ({"a": "x"}, exact("a"), [{"a": "x", "b": 1}], [{"a": "y"}, {}, {"a": b"x"}]),
        ({"a": 1}, exact("a"), [{"a": 1}], [{"a": True}, {"a": 1.0}, {"a": Duration(1)}, {"a": Timestamp(1)}, {"a": "1"}]),
        ({"a": 0.0}, exact("a"), [{"a": 0.0}], [{"a": -0.0}, {"a": 0}]),
        ({"a": math.nan}, exact("a"), [{"a": math.nan}], [{"a": 1.0}]),
        ({"a": b"x"}, exact("a"), [{"a": b"x"}], [{"a": "x"}]),
        ({"m": {"k": "v", "l": "w"}}, exact("m"), [{"m": {"l": "w", "k": "v"}}], [{"m": {"k": "v"}}, {"m": {}}, {}]),
        ({}, absent("m"), [{}], [{"m": {}}, {"m": {"k": "v"}}, {"m": "x"}]),
        ({"m": {}}, absent("m[k]"), [{"m": {"l": "w"}}], [{"m": {"k": "v"}}, {}, {"m": "k"}]),
        ({"m": {"k": ""}}, exact("m[k]"), [{"m": {"k": "", "l": "w"}}], [{"m": {}}, {"m": {"k": "x"}}]),
        ({}, {}, [{}, {"a": "x"}], []),
        ({}, {("a", ""): Condition.CONDITION_UNSPECIFIED}, [{}, {"a": "x"}], []),
    ],
    ids=[
        "text", "number", "float", "not a number", "bytes", "whole map", "absence of a map", "absence of a key",
        "empty text", "nothing", "unspecified",
    ],
)  # fmt: skip
def test_shape_tells_bags_apart(
    learned: Mapping[str, Any], referenced: Any, same: list[Mapping[str, Any]], other: list[Mapping[str, Any]]
) -> None:
    cache = CheckCache()
    assert store(cache, learned, answer(referenced))
    assert [hit(cache, bag) for bag in same] == [0] * len(same)
    assert [hit(cache, bag) for bag in other] == [None] * len(other)


def test_absence_of_a_key_does_not_hold_where_there_is_no_map() -> None:
    """``(request.headers | source.labels)["x"]`` looks elsewhere then, and refers to the absence of the map."""
    cache = CheckCache()
    store(cache, {"request.headers": {}}, answer(absent("request.headers[x]")))
    assert hit(cache, {"source.labels": {"x": "v"}}) is None


def test_unlimited_use_and_time() -> None:
    cache = CheckCache()
    store(cache, {"a": "x"}, answer(exact("a"), valid_s=None, uses=-1))
    assert {hit(cache, {"a": "x"}, 1e12) for _ in range(20)} == {0}


def test_expired_entry_does_not_hide_one_of_another_shape() -> None:
    cache = CheckCache()
    bag = {"a": "x", "b": "y"}
    store(cache, bag, answer(exact("b"), Code.NOT_FOUND, valid_s=100))
    store(cache, bag, answer(exact("a"), valid_s=1))
    assert hit(cache, bag, 0.5) == Code.OK
    assert hit(cache, bag, 2.0) == Code.NOT_FOUND
    assert len(cache) == 1


def test_newer_answer_replaces_the_older() -> None:
    cache = CheckCache()
    store(cache, {"a": "x"}, answer(exact("a"), Code.NOT_FOUND, uses=1))
    store(cache, {"a": "x"}, answer(exact("a"), Code.OK))
    assert (hit(cache, {"a": "x"}), len(cache), cache.shapes) == (0, 1, 1)


def test_least_recently_used_decision_goes_first() -> None:
    cache = CheckCache(capacity=3)
    for text in "abc":
        store(cache, {"a": text}, answer(exact("a")))
    hit(cache, {"a": "a"})
    store(cache, {"a": "d"}, answer(exact("a")))
    assert [hit(cache, {"a": text}) for text in "abcd"] == [0, None, 0, 0]


def test_cache_without_capacity_keeps_nothing() -> None:
    cache = CheckCache(capacity=0)
    assert not store(cache, {"a": "x"}, answer(exact("a")))
    assert hit(cache, {"a": "x"}) is None


def test_shapes_are_bounded_and_the_least_useful_goes() -> None:
    cache = CheckCache(shapes=3)
    bag = dict.fromkeys("abcde", "x")
    for name in "abc":
        store(cache, bag, answer(exact(name)))
    hit(cache, {"a": "x"})
    store(cache, bag, answer(exact("d")))
    assert cache.shapes == 3
    assert [hit(cache, {name: "x"}) for name in "abcd"] == [0, None, 0, 0]


def test_shape_that_hit_comes_first() -> None:
    shapes = ShapeList(10)
    bag = MappingBag({"a": "x", "b": "y"})
    shapes.learn(exact("a"), bag)
    shapes.learn(exact("b"), bag)
    assert shapes.shapes[0] == Shape(exact("b"))
    shapes.useful(1)
    assert shapes.shapes[0] == Shape(exact("a"))


def test_misses_of_alike_requests_have_the_same_signatures() -> None:
    cache = CheckCache()
    assert cache.find(MappingBag({"a": "x"}), 0) == (None, ())
    store(cache, {"a": "x"}, answer(exact("a")))
    one, two, three = (cache.find(MappingBag(bag), 0)[1] for bag in ({"a": "y", "n": 1}, {"a": "y"}, {"a": "z"}))
    assert one == two != three
    assert one


def test_decision_keeps_message_and_directive() -> None:
    cache = CheckCache()
    directive = RouteDirective(direct_response_code=301)
    store(cache, {}, answer({}, Code.ABORTED, "why", directive=directive))
    verdict, _ = cache.find(MappingBag({}), 0)
    assert verdict is not None
    assert (verdict.message, verdict.directive, verdict.check_cache_hit) == ("why", directive, True)
