"""Requests for property tests: messages that meet every rule, and bytes that no encoder would write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from mixer.api.messages import CheckRequest, CompressedAttributes, ReportRequest, StringMap, WireDuration, WireTimestamp
from mixer.api.wanted import Wanted

# Few indices, most of them near an edge, so that names meet and faults are common but not the rule.
own = st.sampled_from([-1, -2, -3])
near = st.sampled_from([0, 1, 2, 3])
indices = st.one_of(own, near, own, near, st.sampled_from([-4, 5, 221, 222, 224, 225, -(1 << 31), (1 << 31) - 1]))
words = st.lists(st.sampled_from(["source.ip", "source.name", "a", "b", "", "größe"]), max_size=3)
scalars = st.integers(-5, 5)
word_counts = st.sampled_from([0, 222, 225])
keys = st.frozensets(st.sampled_from(["source.ip", "source.port", "a", "größe"]), max_size=3)
wanted = st.none() | st.dictionaries(
    st.sampled_from(["source.ip", "source.port", "source.name", "source.uid", "a", "b", ""]), st.none() | keys
).map(Wanted)


@st.composite
def messages(draw: st.DrawFn, index: st.SearchStrategy[int] = indices) -> CompressedAttributes:
    def field(value: st.SearchStrategy[Any]) -> dict[int, Any]:
        return draw(st.dictionaries(index, value, max_size=2))

    return CompressedAttributes(
        words=draw(words),
        strings=field(index),
        int64s=field(scalars),
        doubles=field(scalars.map(float)),
        bools=field(st.booleans()),
        timestamps=field(scalars.map(lambda s: WireTimestamp(seconds=s))),
        durations=field(scalars.map(lambda s: WireDuration(seconds=s))),
        bytes=field(st.binary(max_size=2)),
        string_maps=field(st.dictionaries(index, index, max_size=2).map(lambda e: StringMap(entries=e))),
    )


# Ordinary requests: sound indices, and no name twice. In the others there is nearly always something to find.
WORDS = ["a", "b", "größe", "", "value", "a value that is longer"]
sound = st.one_of(st.integers(-len(WORDS), 5), st.just(221))


@st.composite
def ordinary_messages(draw: st.DrawFn, own_words: Sequence[str] = WORDS) -> CompressedAttributes:
    message = CompressedAttributes(words=own_words)
    for name in draw(st.lists(sound, unique=True, max_size=12)):
        match draw(st.integers(0, 7)):
            case 0:
                message.strings[name] = draw(sound)
            case 1:
                message.int64s[name] = draw(st.integers(-(1 << 63), (1 << 63) - 1) | scalars)
            case 2:
                message.doubles[name] = draw(st.floats(allow_nan=False))
            case 3:
                message.bools[name] = draw(st.booleans())
            case 4:
                message.timestamps[name].CopyFrom(WireTimestamp(seconds=draw(scalars), nanos=draw(scalars)))
            case 5:
                message.durations[name].CopyFrom(WireDuration(seconds=draw(scalars), nanos=draw(scalars)))
            case 6:
                message.bytes[name] = draw(st.binary(max_size=10))
            case _:
                message.string_maps[name].entries.update(draw(st.dictionaries(sound, sound, max_size=5)))
    return message


def reports() -> st.SearchStrategy[ReportRequest]:
    strange = st.builds(
        ReportRequest,
        attributes=st.lists(messages(), max_size=3),
        default_words=words,
        global_word_count=word_counts,
        repeated_attributes_semantics=st.sampled_from([0, 0, 1, 2]),
    )
    ordinary = st.builds(
        ReportRequest,
        attributes=st.lists(ordinary_messages() | ordinary_messages([]), max_size=4),
        default_words=st.just(WORDS),
        global_word_count=word_counts,
        repeated_attributes_semantics=st.sampled_from([0, 1]),
    )
    return ordinary | ordinary | strange


@st.composite
def checks(draw: st.DrawFn) -> CheckRequest:
    request = CheckRequest(
        attributes=draw(ordinary_messages() | messages()),
        global_word_count=draw(word_counts),
        deduplication_id=draw(st.text(max_size=3)),
    )
    for name in draw(words):
        request.quotas[name].amount = draw(scalars)
        request.quotas[name].best_effort = draw(st.booleans())
    return request


# Bytes.


def varint(value: int, padding: int = 0) -> bytes:
    """A varint; ``padding`` makes it longer than it needs to be."""
    value &= (1 << 64) - 1
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * padding
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def sized(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number_field(number: int, value: int, padding: int = 0) -> bytes:
    return varint(number << 3) + varint(value, padding)


_STRANGE = (
    varint(12 << 3) + b"\x05",
    sized(13, b"xyz"),
    varint(14 << 3 | 5) + b"1234",
    b"\x7b\x08\x01\x7c",  # a group
    b"\x09",
    b"\x00",
    b"\x08" + b"\xff" * 9 + b"\x7f",
)
_numbers = st.sampled_from(
    [0, 1, 2, 127, 128, -1, -5, 10**9, 1 << 31, (1 << 63) - 1, -(1 << 63), 9 * 10**9, 9 * 10**9 + 1]
)
_small = st.integers(-5, 300)
_text = st.sampled_from([b"source.ip", b"a", b"q", b"", "größe".encode(), b"a long word of ascii"])
_bad_text = st.sampled_from([b"bad\xff", b"\xed\xa0\x80", b"12345678\xc0\x80"])
_eight = st.sampled_from([bytes(8), b"\0\0\0\0\0\0\xf8\x7f", b"\0\0\0\0\0\0\xf0\xbf", bytes(7) + b"\x80"])


@st.composite
def report_bytes(draw: st.DrawFn) -> bytes:
    """A Report as another encoder might write it, or a broken one."""
    fields = [sized(1, _record_bytes(draw)) for _ in range(draw(st.integers(0, 3)))]
    fields += [sized(2, word.encode()) for word in WORDS]
    fields += [number_field(3, draw(_small)), number_field(4, draw(st.sampled_from([0, 1, 1, 1])))]
    return _message(draw, fields)


@st.composite
def check_bytes(draw: st.DrawFn) -> bytes:
    """A Check as another encoder might write it, or a broken one."""
    fields = [sized(1, _record_bytes(draw)), number_field(2, draw(_small | _numbers)), sized(3, draw(_text))]
    for _ in range(draw(st.integers(0, 2))):
        params = _message(draw, [number_field(1, draw(_small | _numbers)), number_field(2, draw(_small))])
        fields.append(sized(4, _message(draw, [sized(1, draw(_text)), sized(2, params)])))
    return _message(draw, fields)


def _record_bytes(draw: st.DrawFn) -> bytes:
    fields = []
    for name in draw(st.lists(sound, unique=True, max_size=6)):
        number = draw(st.integers(2, 9))
        value: bytes
        match number:
            case 2:
                value = number_field(2, zigzag(_index(draw)))
            case 3 | 5:
                value = number_field(2, draw(_numbers))
            case 4:
                value = b"\x11" + draw(_eight)
            case 6 | 7:
                value = sized(
                    2, _message(draw, [number_field(1, draw(_small | _numbers)), number_field(2, draw(_small))])
                )
            case 8:
                value = sized(2, draw(st.binary(max_size=3)))
            case _:
                entries = []
                for key in draw(st.lists(sound, unique=True, max_size=3)):
                    pair = [number_field(1, zigzag(key)), number_field(2, zigzag(_index(draw)))]
                    entries.append(sized(1, _message(draw, pair)))
                value = sized(2, _message(draw, entries))
        fields.append(sized(number, _message(draw, [number_field(1, zigzag(name)), value])))
    own_words = [sized(1, word.encode()) for word in WORDS] if draw(st.booleans()) else []
    if own_words and _rarely(draw):
        own_words.append(sized(1, draw(_bad_text)))
    return b"".join(own_words) + _message(draw, fields)


def _index(draw: st.DrawFn) -> int:
    return draw(st.sampled_from([222, -7, 1 << 31, 1 << 32]) if _rarely(draw) else sound)


def _message(draw: st.DrawFn, fields: list[bytes]) -> bytes:
    """The fields in some order; now and then one is missing, repeated, broken, or one that nobody knows."""
    fields = draw(st.permutations(fields)) if fields else []
    if _rarely(draw):
        fields = fields[1:]
    if _rarely(draw):
        fields = [*fields, *fields[:1]]
    if _rarely(draw):
        fields = [*fields, draw(st.sampled_from(_STRANGE))]
    return b"".join(fields)


def _rarely(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 40)) == 17
