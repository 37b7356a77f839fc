"""The slow decoder: every rule of the wire encoding, one index at a time.

`mixer.api.decode` comes here for the rare record that its one pass cannot settle. For all others both give the
same values, which a property test holds them to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mixer.api.messages import CompressedAttributes, WireDuration, WireTimestamp
from mixer.api.words import GLOBAL_WORD_COUNT
from mixer.attributes import AttributeValue, Duration, Timestamp
from mixer.errors import WireError

_SECOND: Final = 1_000_000_000
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


def timestamp_of(wire: WireTimestamp) -> Timestamp:
    """The instant, whatever the two fields hold: sums are not limited to the years that protobuf allows."""
    return Timestamp(wire.seconds * _SECOND + wire.nanos)


def duration_of(wire: WireDuration) -> Duration:
    """The span, held within the 64 bits of nanoseconds that a `Duration` has."""
    nanoseconds = wire.seconds * _SECOND + wire.nanos
    if not _INT64_MIN <= nanoseconds <= _INT64_MAX:
        nanoseconds = _INT64_MIN if nanoseconds < 0 else _INT64_MAX
    return Duration(nanoseconds)


class CarefulRecord(NamedTuple):
    """What a record says.

    ``lost`` are the attributes that it sets to a word that only the client knows: absent, and in delta encoding
    no longer what an earlier record said.
    """

    values: dict[str, AttributeValue]
    lost: frozenset[str]
    unknown_words: int


@dataclass(slots=True)
class _Dictionary:
    """The words of one record, and a count of the uses of words that only the client knows."""

    table: Mapping[int, str]
    limit: int
    unknown: int = 0

    def word(self, index: int, field: str, role: str) -> str | None:
        """The word, or None when only the client knows it.

        Raises:
            WireError: Neither side can know it.
        """
        word = self.table.get(index)
        if word is None:
            if not GLOBAL_WORD_COUNT <= index < self.limit:
                own = len(self.table) - GLOBAL_WORD_COUNT
                raise WireError(
                    f"{field}: {role} index {index} is not defined; "
                    f"the message has {own} words, the global list {self.limit}"
                )
            self.unknown += 1
        return word


_Read = Callable[[Any, int, _Dictionary], "AttributeValue | None"]


def _read_string(strings: Mapping[int, int], name: int, words: _Dictionary) -> str | None:
    return words.word(strings[name], "strings", "value")


def _read_map(maps: Mapping[int, Any], name: int, words: _Dictionary) -> dict[str, str]:
    entries: Mapping[int, int] = maps[name].entries
    texts: dict[str, str] = {}
    # Descending, so that of a key's spellings the last slot of the message is written last.
    for key in sorted(entries, reverse=True):
        key_word = words.word(key, "string_maps", "key")
        value_word = words.word(entries[key], "string_maps", "value")
        if key_word is not None and value_word is not None:
            texts[key_word] = value_word
    return texts


def _read_plain(values: Mapping[int, Any], name: int, _: _Dictionary) -> AttributeValue:
    value: AttributeValue = values[name]
    return value


def _read_timestamp(values: Mapping[int, WireTimestamp], name: int, _: _Dictionary) -> Timestamp:
    return timestamp_of(values[name])


def _read_duration(values: Mapping[int, WireDuration], name: int, _: _Dictionary) -> Duration:
    return duration_of(values[name])


# In the order in which one name is looked for.
_FIELDS: Final[Mapping[str, _Read]] = {
    "strings": _read_string,
    "string_maps": _read_map,
    "int64s": _read_plain,
    "doubles": _read_plain,
    "bools": _read_plain,
    "timestamps": _read_timestamp,
    "durations": _read_duration,
    "bytes": _read_plain,
}

# In the order in which the original decodes a delta, with the type names that its message has.
_DELTA_TYPES: Final[Mapping[str, str]] = {
    "strings": "string",
    "int64s": "int64",
    "doubles": "float64",
    "bools": "bool",
    "timestamps": "time.Time",
    "durations": "time.Duration",
    "bytes": "[]uint8",
    "string_maps": "attribute.StringMap",
}


def decode_carefully(
    message: CompressedAttributes, table: Mapping[int, str], limit: int, *, delta: bool
) -> CarefulRecord:
    """Decode one record.

    An attribute counts under each spelling of its name: the slots of the message dictionary from the last to the
    first, then the global word; the first spelling that has an entry decides, and of its entries the first in the
    order of `_FIELDS`.

    Args:
        message: The record; its own words are not looked at.
        table: The word of each index: the global list and the dictionary that holds for the record.
        limit: How many global words there are, on the side that knows more of them.
        delta: A later record of a delta; there a name may occur in one field only.

    Raises:
        WireError: An index that nobody can know, or a name in two fields of a delta.
    Source: spec language 7.3 and 7.5.
    """
    words = _Dictionary(table, limit)
    winners: dict[str, tuple[int, AttributeValue | None]] = {}
    names_of: dict[str, list[str]] = {}
    for field, read in _FIELDS.items():
        entries: Mapping[int, Any] = getattr(message, field)
        names_of[field] = []
        for index in sorted(entries):
            name = words.word(index, field, "name")
            value = read(entries, index, words)
            if name is None:
                continue
            names_of[field].append(name)
            rank = min(index, 0)
            if name not in winners or rank < winners[name][0]:
                winners[name] = rank, value
    if delta:
        _refuse_duplicates(names_of)
    return CarefulRecord(
        {name: value for name, (_, value) in winners.items() if value is not None},
        frozenset(name for name, (_, value) in winners.items() if value is None),
        words.unknown,
    )


def _refuse_duplicates(names_of: Mapping[str, Iterable[str]]) -> None:
    seen: set[str] = set()
    for field, type_name in _DELTA_TYPES.items():
        for name in names_of[field]:
            if name in seen:
                raise WireError(f"duplicate attribute {name} (type {type_name})")
        seen.update(names_of[field])
