"""From requests to attribute bags.

Every string on the wire is an index into a dictionary, and a faulty index must be found even in an attribute
that nobody reads. Looking at all of them costs about as much as turning them into words, so a record is decoded
whole, in one pass, into a plain dict: the pass that decodes is the check, and reading is a dict lookup
(``tests/bench/bench_decode.py`` has the numbers). Whatever that pass cannot settle (an index without a word, a
name that occurs twice) goes to `mixer.api.careful`, which is slow and knows all the rules.

`decode_report_bytes` and `decode_check_bytes` first ask the compiled decoder, where it was built (`DECODER` says
so). That one settles ordinary requests several times as fast and declines all others; setting MIXER_NO_NATIVE
leaves it alone. A `Wanted` makes either decoder leave out what nobody reads. Faults are found and unknown words are
counted everywhere all the same.

How we differ from the original: a faulty index is an error of its record; words that only the client knows cost
the attributes that use them and nothing else; an attribute is found under all spellings of its name; a record that
fails leaves no trace in the records after it.
Source: spec language 7.3 to 7.5, spec runtime 5.3.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from mixer.api.careful import CarefulRecord, decode_carefully, duration_of, timestamp_of
from mixer.api.messages import DELTA_ENCODING, INDEPENDENT_ENCODING, CheckRequest, CompressedAttributes, ReportRequest
from mixer.api.wanted import Wanted
from mixer.api.words import GLOBAL_WORD_COUNT, GLOBAL_WORDS
from mixer.attributes import AttributeValue, MappingBag
from mixer.errors import WireError

try:
    if os.environ.get("MIXER_NO_NATIVE"):
        raise ImportError
    from mixer.api import _native
except ImportError:
    _native = None  # type: ignore[assignment]

DECODER: Final = "python" if _native is None else "native"
"""Which decoder requests meet first: ``native`` or ``python``."""

_GLOBAL_TABLE: Final = dict(enumerate(GLOBAL_WORDS))


class WireBag(MappingBag):
    """The attributes of one record; ``unknown_words`` counts the uses of words that only the client knows."""

    __slots__ = ("unknown_words",)

    def __init__(self, values: Mapping[str, AttributeValue], unknown_words: int = 0) -> None:
        # What MappingBag does, without the call: of a Report's time this is a good part.
        self._values = values
        self.lookup = values.get
        self.unknown_words = unknown_words


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """The records of a Report in their order, each a bag or the error that takes its place.

    ``unknown_words`` is the sum over the bags. ``deduplication_id`` is the same for each attempt to deliver the
    batch; empty when the caller has none.
    """

    records: tuple[WireBag | WireError, ...]
    unknown_words: int
    deduplication_id: str = ""

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[WireBag | WireError]:
        return iter(self.records)

    @property
    def bags(self) -> list[WireBag]:
        """The records that could be decoded."""
        return [record for record in self.records if isinstance(record, WireBag)]

    @property
    def faults(self) -> list[WireError]:
        """The errors of the others; each message begins with the number of its record, from 0."""
        return [record for record in self.records if isinstance(record, WireError)]


class QuotaDemand(NamedTuple):
    """How much of a quota a Check wants, and whether it takes less."""

    amount: int
    best_effort: bool


class CheckEnvelope(NamedTuple):
    """What a CheckRequest has besides attributes."""

    global_word_count: int
    deduplication_id: str
    quotas: Mapping[str, QuotaDemand]
    quotas_only: bool = False


def parse_check(data: bytes) -> CheckRequest:
    """Read a CheckRequest; raises WireError when the bytes are none."""
    try:
        return CheckRequest.FromString(data)
    except DecodeError as exc:
        raise WireError(f"not a CheckRequest: {exc}") from exc


def parse_report(data: bytes) -> ReportRequest:
    """Read a ReportRequest; raises WireError when the bytes are none."""
    try:
        return ReportRequest.FromString(data)
    except DecodeError as exc:
        raise WireError(f"not a ReportRequest: {exc}") from exc


def decode_check_bytes(data: bytes, wanted: Wanted | None = None) -> tuple[WireBag, CheckEnvelope]:
    """A serialized CheckRequest: its attributes and the rest.

    Args:
        data: The request.
        wanted: What the bag must have; it has nothing else. None is everything.

    Raises:
        WireError: The bytes are no CheckRequest, or as `decode_check`.
    """
    if _native is not None and (found := _native.read_check(data, wanted)) is not None:
        values, global_word_count, deduplication_id, demands, quotas_only = found
        quotas = {name: QuotaDemand(*demand) for name, demand in demands.items()} if demands else {}
        return WireBag(values), CheckEnvelope(global_word_count, deduplication_id, quotas, quotas_only)
    request = parse_check(data)
    quotas = {name: QuotaDemand(params.amount, params.best_effort) for name, params in request.quotas.items()}
    return (
        decode_check(request, wanted),
        CheckEnvelope(request.global_word_count, request.deduplication_id, quotas, request.quotas_only),
    )


def decode_check(request: CheckRequest, wanted: Wanted | None = None) -> WireBag:
    """The attributes of a Check, or those of them that are wanted.

    Raises:
        WireError: An index that neither side can know; the message names it, its field and its role.
    """
    message = request.attributes
    record = _decode(message, _table(message.words), _limit(request.global_word_count), wanted, delta=False)
    return WireBag(record.values, record.unknown_words)


def decode_report_bytes(data: bytes, wanted: Wanted | None = None) -> ReportBatch:
    """`decode_report` of a serialized request; raises WireError when the bytes are none."""
    if _native is not None and (found := _native.read_report(data, wanted)) is not None:
        is_delta, records, deduplication_id = found
        bags = tuple(map(WireBag, _accumulated(records, wanted) if is_delta else records))
        return ReportBatch(bags, 0, deduplication_id)
    return decode_report(parse_report(data), wanted)


def _accumulated(
    records: Iterable[Mapping[str, AttributeValue]], wanted: Wanted | None
) -> Iterator[dict[str, AttributeValue]]:
    state: dict[str, AttributeValue] = {}
    for values in records:
        state = {**state, **(values if wanted is None else wanted.of(values))}
        yield state


def decode_report(request: ReportRequest, wanted: Wanted | None = None) -> ReportBatch:
    """The records of a Report; faults of single records are in the batch and are not raised.

    A semantics value that we do not know gives an empty batch.

    Args:
        request: The Report.
        wanted: What the bags must have; they have nothing else. None is everything.
    """
    if request.repeated_attributes_semantics not in (DELTA_ENCODING, INDEPENDENT_ENCODING):
        return ReportBatch((), 0, request.deduplication_id)
    is_delta = request.repeated_attributes_semantics == DELTA_ENCODING
    limit = _limit(request.global_word_count)
    default_table = _table(request.default_words)
    tables: dict[tuple[str, ...], dict[int, str]] = {}
    records: list[WireBag | WireError] = []
    state: Mapping[str, AttributeValue] = {}
    unknown_words = 0
    for number, message in enumerate(request.attributes):
        table = default_table
        if message.words:
            words = tuple(message.words)
            table = tables.get(words) or tables.setdefault(words, _table(words))
        try:
            record = _decode(message, table, limit, wanted, delta=is_delta and number > 0)
        except WireError as exc:
            records.append(WireError(f"record {number}: {exc}"))
            continue
        values = record.values
        if is_delta:
            state = values = _changed(state, record) if state else values
        records.append(WireBag(values, record.unknown_words))
        unknown_words += record.unknown_words
    return ReportBatch(tuple(records), unknown_words, request.deduplication_id)


def _limit(global_word_count: int) -> int:
    return max(GLOBAL_WORD_COUNT, global_word_count)


def _table(words: Iterable[str]) -> dict[int, str]:
    """The word of each index that a record with this dictionary can use."""
    table = _GLOBAL_TABLE.copy()
    own = list(words)
    table.update(zip(range(-1, -len(own) - 1, -1), own, strict=True))
    return table


def _changed(state: Mapping[str, AttributeValue], record: CarefulRecord) -> dict[str, AttributeValue]:
    """The state after a record, flat; the bag of the record before it keeps its own."""
    values = {**state, **record.values}
    for name in record.lost:
        values.pop(name, None)
    return values


_NOTHING_LOST: Final[frozenset[str]] = frozenset()


def _decode(
    message: CompressedAttributes, table: Mapping[int, str], limit: int, wanted: Wanted | None, *, delta: bool
) -> CarefulRecord:
    # Leaving out what is not wanted before it is decoded would gain nothing: its indices must be looked up anyway.
    values = _decode_at_once(message, table)
    if values is not None:
        return CarefulRecord(values if wanted is None else wanted.of(values), _NOTHING_LOST, 0)
    record = decode_carefully(message, table, limit, delta=delta)
    return record if wanted is None else record._replace(values=wanted.of(record.values))


def _decode_at_once(message: CompressedAttributes, table: Mapping[int, str]) -> dict[str, AttributeValue] | None:
    """The values, or None when it takes more care."""
    # Iterating over a map's keys and fetching each value beats its items() (they go through Python).
    strings, maps, int64s, doubles = message.strings, message.string_maps, message.int64s, message.doubles
    bools, timestamps, durations, octets = message.bools, message.timestamps, message.durations, message.bytes
    size = len(strings) + len(maps) + len(int64s) + len(doubles)
    size += len(bools) + len(timestamps) + len(durations) + len(octets)
    values: dict[str, AttributeValue]
    try:
        values = {table[name]: table[strings[name]] for name in strings}
        for name in int64s:
            values[table[name]] = int64s[name]
        for name in doubles:
            values[table[name]] = doubles[name]
        for name in bools:
            values[table[name]] = bools[name]
        for name in timestamps:
            values[table[name]] = timestamp_of(timestamps[name])
        for name in durations:
            values[table[name]] = duration_of(durations[name])
        for name in octets:
            values[table[name]] = octets[name]
        for name in maps:
            entries = maps[name].entries
            texts = {table[key]: table[entries[key]] for key in entries}
            size += len(entries) - len(texts)  # a key that occurs twice must not go unnoticed either
            values[table[name]] = texts
    except KeyError:
        return None
    return values if len(values) == size else None
