"""Decoding against a slow, obvious model, and against garbage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mixer.api import decode
from mixer.api.careful import decode_carefully
from mixer.api.decode import WireBag, decode_check, decode_report, decode_report_bytes, parse_check
from mixer.api.messages import CheckRequest, CompressedAttributes, ReportRequest
from mixer.api.words import GLOBAL_WORDS
from mixer.attributes import ABSENT, Duration, Timestamp
from mixer.errors import WireError
from tests.api import fuzz_decode
from tests.api.wire_strategies import WORDS, messages, near, own, reports

_MISSING = object()


class Model:
    """A record as the rules read: one name at a time, one index at a time."""

    def __init__(self, message: CompressedAttributes, own_words: list[str], limit: int) -> None:
        self.message, self.words, self.limit = message, own_words, limit

    def word(self, index: int) -> str | None:
        if index < 0:
            return self.words[-index - 1]
        return GLOBAL_WORDS[index] if index < 222 else None

    def is_sound(self) -> bool:
        m = self.message
        used = [*m.strings, *m.strings.values(), *m.int64s, *m.doubles, *m.bools]
        used += [*m.timestamps, *m.durations, *m.bytes, *m.string_maps]
        for string_map in m.string_maps.values():
            used += [*string_map.entries, *string_map.entries.values()]
        return all(-len(self.words) <= index < max(222, self.limit) for index in used)

    def read(self, index: int) -> Any:
        m = self.message
        if index in m.strings:
            return self.word(m.strings[index])
        if index in m.string_maps:
            return self.read_map(m.string_maps[index].entries)
        for field in (m.int64s, m.doubles, m.bools):
            if index in field:
                return field[index]
        if index in m.timestamps:
            return Timestamp(m.timestamps[index].seconds * 10**9 + m.timestamps[index].nanos)
        if index in m.durations:
            return Duration(m.durations[index].seconds * 10**9 + m.durations[index].nanos)
        return m.bytes.get(index, _MISSING)

    def read_map(self, entries: Mapping[int, int]) -> dict[str, str]:
        texts: dict[str, str] = {}
        for key in [*sorted(k for k in entries if k >= 0), *sorted((k for k in entries if k < 0), reverse=True)]:
            key_word, value_word = self.word(key), self.word(entries[key])
            if key_word is not None and value_word is not None:
                texts[key_word] = value_word
        return texts

    def get(self, name: str) -> Any:
        """The value; None when it is lost, `_MISSING` when the record does not speak of it."""
        slots = [-slot - 1 for slot, word in enumerate(self.words) if word == name][::-1]
        for index in [*slots, *(i for i, word in enumerate(GLOBAL_WORDS) if word == name)]:
            value = self.read(index)
            if value is not _MISSING:
                return value
        return _MISSING


NAMES = (
    *WORDS,
    "source.ip",
    "source.port",
    "source.name",
    "source.uid",
    "source.namespace",
    "source.labels",
    "context.proxy_version",
)


@given(message=messages(), limit=st.sampled_from([0, 222, 225]))
def test_check_agrees_with_the_model(message: CompressedAttributes, limit: int) -> None:
    model = Model(message, list(message.words), limit)
    try:
        bag = decode_check(CheckRequest(attributes=message, global_word_count=limit))
    except WireError:
        assert not model.is_sound()
        return

    assert model.is_sound()
    expected = {name: value for name in NAMES if (value := model.get(name)) is not _MISSING and value is not None}
    assert {name: bag.get(name) for name in bag.names()} == expected
    assert {name: type(bag.get(name)) for name in bag.names()} == {n: type(v) for n, v in expected.items()}


@given(message=messages(own | near), delta=st.booleans())
def test_both_decoders_agree(message: CompressedAttributes, delta: bool) -> None:
    table = decode._table(message.words)

    def decode_(*args: Any) -> object:
        return decode._decode(*args, None, delta=delta)

    def careful(*args: Any) -> object:
        return decode_carefully(*args, delta=delta)

    assert outcome(decode_, message, table, 222) == outcome(careful, message, table, 222)


def outcome(decoder: Callable[..., object], *args: Any) -> object:
    try:
        return decoder(*args)
    except WireError as exc:
        return str(exc)


@given(request=reports())
def test_report_gives_one_outcome_per_record(request: ReportRequest) -> None:
    batch = decode_report(request)

    known = request.repeated_attributes_semantics in (0, 1)
    assert len(batch) == (len(request.attributes) if known else 0)
    assert batch.unknown_words == sum(bag.unknown_words for bag in batch.bags)
    assert len(batch.bags) + len(batch.faults) == len(batch)


@given(request=reports())
def test_delta_agrees_with_the_model(request: ReportRequest) -> None:
    request.repeated_attributes_semantics = ReportRequest.DELTA_ENCODING
    state: dict[str, Any] = {}
    for message, record in zip(request.attributes, decode_report(request), strict=True):
        if not isinstance(record, WireBag):
            continue
        model = Model(message, list(message.words or request.default_words), request.global_word_count)
        assert model.is_sound()
        for name in NAMES:
            value = model.get(name)
            if value is not _MISSING:
                state[name] = value
        assert {name: record.get(name) for name in record.names()} == {n: v for n, v in state.items() if v is not None}
        assert record.peek("never") is ABSENT


@given(data=st.binary(max_size=64))
def test_random_bytes_give_an_outcome_or_a_wire_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_report_bytes(data)
    with contextlib.suppress(WireError):
        decode_check(parse_check(data))


@given(request=reports(), data=st.data())
def test_damaged_requests_give_an_outcome_or_a_wire_error(request: ReportRequest, data: st.DataObject) -> None:
    damaged = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = decode_report_bytes(bytes(damaged))
    except WireError:
        return
    for record in batch:
        assert isinstance(record, WireBag | WireError)


def test_fuzzer_finds_nothing_in_a_moment() -> None:
    assert fuzz_decode.fuzz(seconds=0.1, seed=1).finds == []
