"""What the decoders say of a request, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mixer.api.decode import (
    CheckEnvelope,
    QuotaDemand,
    ReportBatch,
    WireBag,
    decode_check,
    decode_check_bytes,
    decode_report,
    decode_report_bytes,
    parse_check,
    parse_report,
)
from mixer.api.wanted import Wanted
from mixer.errors import WireError

Outcome = tuple[object, ...]


def report_outcome(data: bytes, wanted: Wanted | None = None) -> Outcome:
    """As requests are decoded."""
    return _caught(lambda: _described_batch(decode_report_bytes(data, wanted)))


def python_report_outcome(data: bytes, wanted: Wanted | None = None) -> Outcome:
    """By protobuf and Python alone."""
    return _caught(lambda: _described_batch(decode_report(parse_report(data), wanted)))


def check_outcome(data: bytes, wanted: Wanted | None = None) -> Outcome:
    """As requests are decoded."""

    def decoded() -> Outcome:
        bag, envelope = decode_check_bytes(data, wanted)
        return _described(bag), envelope

    return _caught(decoded)


def python_check_outcome(data: bytes, wanted: Wanted | None = None) -> Outcome:
    """By protobuf and Python alone."""

    def decoded() -> Outcome:
        request = parse_check(data)
        quotas = {name: QuotaDemand(params.amount, params.best_effort) for name, params in request.quotas.items()}
        envelope = CheckEnvelope(request.global_word_count, request.deduplication_id, quotas, request.quotas_only)
        return _described(decode_check(request, wanted)), envelope

    return _caught(decoded)


def _caught(decoded: Callable[[], Outcome]) -> Outcome:
    try:
        return decoded()
    except WireError as exc:
        return "refused", str(exc)


def _described_batch(batch: ReportBatch) -> Outcome:
    return batch.unknown_words, [_described(r) if isinstance(r, WireBag) else str(r) for r in batch]


def _described(bag: WireBag) -> Outcome:
    # By repr, which tells True from 1, 0.0 from -0.0 and one integer class from another, and equals NaN to NaN.
    values = {name: bag.peek(name) for name in bag.names()}
    return bag.unknown_words, sorted(
        (name, repr(sorted(value.items()) if isinstance(value, Mapping) else value)) for name, value in values.items()
    )
