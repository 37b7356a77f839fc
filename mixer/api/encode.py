"""From attributes to requests, for clients: ``mixc``, load generators, proxies, tests.

The wire field of a value follows from its Python type: ``str``, ``bool``, ``int``, ``float``, ``bytes``,
`Timestamp`, `Duration`, or a mapping from str to str.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mixer.api.messages import (
    DELTA_ENCODING,
    INDEPENDENT_ENCODING,
    CheckRequest,
    CompressedAttributes,
    QuotaParams,
    ReportRequest,
)
from mixer.api.words import GLOBAL_INDEX, GLOBAL_WORD_COUNT
from mixer.attributes import AttributeValue, Duration, Timestamp

_SECOND: Final = 1_000_000_000
_INT64: Final = range(-(1 << 63), 1 << 63)


class WordAllocator:
    """Gives each string its index, and grows the message dictionary ``words`` where it must.

    ``limit`` is how many global words the reader may be expected to know.
    Source: spec language 7.2.
    """

    __slots__ = ("_limit", "_own", "words")

    def __init__(self, limit: int = GLOBAL_WORD_COUNT) -> None:
        self._limit = limit
        self._own: dict[str, int] = {}
        self.words: list[str] = []

    def index(self, word: str) -> int:
        """The index of a word: its global one when the reader knows it, else one of the message's."""
        position = GLOBAL_INDEX.get(word)
        return position if position is not None and position < self._limit else self.own_index(word)

    def own_index(self, word: str) -> int:
        """The index of a word in the message dictionary, always negative."""
        index = self._own.get(word)
        if index is None:
            self.words.append(word)
            index = self._own[word] = -len(self.words)
        return index


class AttributeEncoder:
    """Encodes records that share one message dictionary; its ``words`` go where the request keeps them."""

    __slots__ = ("_allocator",)

    def __init__(self, global_word_count: int = GLOBAL_WORD_COUNT) -> None:
        self._allocator = WordAllocator(global_word_count)

    @property
    def words(self) -> list[str]:
        """The message dictionary so far."""
        return self._allocator.words

    def encode(self, values: Mapping[str, AttributeValue], into: CompressedAttributes) -> None:
        """Write attributes into a message, except for the dictionary.

        Raises:
            ValueError: A number, a time or a text that the wire cannot carry; the message names the attribute.
            TypeError: A value of none of the types above.
        """
        index = self._allocator.index
        for name, value in values.items():
            slot = index(name)
            if isinstance(value, str):
                into.strings[slot] = index(value)
            elif isinstance(value, bool):
                into.bools[slot] = value
            elif isinstance(value, Timestamp):
                seconds, nanos = divmod(int(value), _SECOND)
                _require_int64(name, "timestamp", seconds)
                into.timestamps[slot].seconds = seconds
                into.timestamps[slot].nanos = nanos
            elif isinstance(value, Duration):
                _require_int64(name, "duration", value)
                # The two parts of a negative span are both negative.
                seconds, nanos = divmod(abs(int(value)), _SECOND)
                sign = -1 if value < 0 else 1
                into.durations[slot].seconds = sign * seconds
                into.durations[slot].nanos = sign * nanos
            elif isinstance(value, int):
                _require_int64(name, "integer", value)
                into.int64s[slot] = value
            elif isinstance(value, float):
                into.doubles[slot] = value
            elif isinstance(value, bytes):
                into.bytes[slot] = value
            elif isinstance(value, Mapping):
                entries = into.string_maps[slot].entries
                for key, text in value.items():
                    key_slot = index(key)  # before the value's: an assignment evaluates its right side first
                    entries[key_slot] = index(text)
            else:
                raise TypeError(f"attribute {name}: {type(value).__name__} has no wire form")


def encode_check(
    values: Mapping[str, AttributeValue],
    *,
    quotas: Mapping[str, QuotaParams] | None = None,
    deduplication_id: str = "",
    quotas_only: bool = False,
    global_word_count: int = GLOBAL_WORD_COUNT,
) -> CheckRequest:
    """A Check of these attributes; the errors are those of `AttributeEncoder.encode`.

    ``global_word_count`` 0 spells everything out, which lets any server answer in words that the caller knows.
    """
    encoder = AttributeEncoder(global_word_count)
    request = CheckRequest(
        global_word_count=global_word_count, deduplication_id=deduplication_id, quotas_only=quotas_only
    )
    encoder.encode(values, request.attributes)
    request.attributes.words.extend(encoder.words)
    for name, params in (quotas or {}).items():
        request.quotas[name].CopyFrom(params)
    return request


def encode_report(
    records: Iterable[Mapping[str, AttributeValue]],
    *,
    delta: bool = False,
    global_word_count: int = GLOBAL_WORD_COUNT,
) -> ReportRequest:
    """A Report of these records, each given whole; they share one dictionary.

    Args:
        records: The attributes of each record.
        delta: Send of each record only what differs from the one before it.
        global_word_count: How many global words to use.

    Raises:
        ValueError: In a delta, a record lacks an attribute that the one before it has: nothing on the wire can
            say so. Else as `AttributeEncoder.encode`.
    """
    encoder = AttributeEncoder(global_word_count)
    request = ReportRequest(
        global_word_count=global_word_count,
        repeated_attributes_semantics=DELTA_ENCODING if delta else INDEPENDENT_ENCODING,
    )
    before: Mapping[str, AttributeValue] = {}
    for number, record in enumerate(records):
        encoder.encode(_difference(before, record, number) if delta else record, request.attributes.add())
        before = record
    request.default_words.extend(encoder.words)
    return request


def _difference(
    before: Mapping[str, AttributeValue], after: Mapping[str, AttributeValue], number: int
) -> dict[str, AttributeValue]:
    if missing := sorted(before.keys() - after.keys()):
        raise ValueError(f"record {number} has no {missing[0]}, and a delta cannot take an attribute away")
    return {name: value for name, value in after.items() if name not in before or not _is_same(before[name], value)}


def _is_same(left: AttributeValue, right: AttributeValue) -> bool:
    # Types count, because True == 1 == Duration(1); of doubles, equal ones may still differ (0.0 and -0.0).
    return type(left) is type(right) and left == right and not isinstance(left, float)


def _require_int64(name: str, what: str, value: int) -> None:
    if int(value) not in _INT64:
        raise ValueError(f"attribute {name}: the {what} does not fit 64 bits")
