"""Damages valid requests and decodes them with the decoders that there are.

Anything but a result or a WireError is a find, and so are two decoders that disagree.

    python -m tests.api.fuzz_decode --seconds 60 [--seed N]

Prints what it did, and each find as the bytes that show it; exits 1 when there is one.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from mixer.api.decode import DECODER
from mixer.api.encode import encode_check, encode_report
from mixer.api.messages import CheckRequest, ReportRequest
from mixer.api.wanted import Wanted
from mixer.attributes import AttributeValue, Duration, Timestamp
from tests.api.agreement import check_outcome, python_check_outcome, python_report_outcome, report_outcome

SAMPLE: dict[str, AttributeValue] = {
    "source.ip": b"\x0a\x00\x00\x01",
    "source.name": "client",
    "source.labels": {"app": "client", "version": "v1"},
    "destination.service.host": "reviews.default.svc.cluster.local",
    "request.headers": {"cookie": "a=b", ":path": "/", "x-request-id": "4f1c"},
    "request.size": 17,
    "request.time": Timestamp(1_700_000_000_123_456_789),
    "response.duration": Duration(-1_500_000),
    "connection.mtls": True,
    "my.ratio": 0.5,
}
_WANTED = (
    None,
    Wanted({}),
    Wanted({"source.name": None, "my.ratio": None, "source.labels": None}),
    Wanted({"request.headers": frozenset({"cookie", "own"}), "own": None, "source.ip": frozenset()}),
)
_INDICES = (-(1 << 31), -40, -9, -3, -2, -1, 0, 1, 2, 15, 59, 221, 222, 223, (1 << 31) - 1)
_INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0xFF, 0x08, 0x0A, 0x12, 0x4A)


@dataclass
class Findings:
    """How many requests were refused and taken, and the inputs that are finds, each with what is wrong."""

    outcomes: Counter[str] = field(default_factory=Counter)
    finds: list[tuple[bytes, str]] = field(default_factory=list)


def seeds() -> list[CheckRequest | ReportRequest]:
    """Valid requests of both kinds, in all encodings."""
    grown = [SAMPLE, {**SAMPLE, "request.size": 18}, {**SAMPLE, "request.size": 19, "response.code": 200}]
    return [
        encode_report([SAMPLE]),
        encode_report(grown),
        encode_report(grown, delta=True),
        encode_report(grown, delta=True, global_word_count=0),
        encode_check(SAMPLE, deduplication_id="id"),
        encode_check(SAMPLE, global_word_count=0),
    ]


def bent(seed: CheckRequest | ReportRequest, rng: random.Random) -> bytes:
    """A request that still parses, with some indices, words or announcements that may be wrong."""
    request = copy.deepcopy(seed)
    if isinstance(request, ReportRequest):
        records = list(request.attributes)
        request.repeated_attributes_semantics = rng.choice((0, 0, 1, 1, 2))  # type: ignore[assignment]
        if rng.random() < 0.1:
            del request.default_words[rng.randrange(len(request.default_words)) :]
    else:
        records = [request.attributes]
    if rng.random() < 0.5:
        request.global_word_count = rng.choice((0, 222, 223, 1 << 31))
    for _ in range(rng.randint(1, 3)):
        record = rng.choice(records)
        index, other = rng.choice(_INDICES), rng.choice(_INDICES)
        match rng.randrange(8):
            case 0:
                record.strings[index] = other
            case 1:
                record.string_maps[index].entries[other] = index
            case 2:
                record.int64s[index] = other
            case 3:
                record.timestamps[index].seconds = rng.choice((0, 1 << 62, -(1 << 63)))
                record.timestamps[index].nanos = rng.choice(_INDICES)
            case 4:
                record.durations[index].seconds = rng.choice((0, 1 << 62, -(1 << 63)))
                record.durations[index].nanos = rng.choice(_INDICES)
            case 5:
                record.bytes[index] = rng.randbytes(rng.randrange(20))
            case 6:
                record.doubles[index] = rng.choice((0.0, float("nan"), float("-inf")))
            case _:
                record.words.extend(rng.choices(("", "source.ip", "own"), k=rng.randint(1, 3)))
    return request.SerializeToString()


def damaged(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A copy with some bytes changed, removed, repeated, or replaced by a piece of another request."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(result) + 1)
        to = min(len(result), at + rng.randint(0, 8))
        match rng.randrange(6):
            case 0:
                result[at:to] = bytes(rng.choice(_INTERESTING) for _ in range(at, to))
            case 1:
                result[at:to] = rng.randbytes(to - at)
            case 2:
                del result[at:to]
            case 3:
                result[at:at] = result[at:to]
            case 4 if at < len(result):
                result[at] ^= 1 << rng.randrange(8)
            case _:
                start = rng.randrange(len(other))
                result[at:to] = other[start : start + rng.randint(1, 32)]
    return bytes(result)


def fuzz(seconds: float, seed: int) -> Findings:
    """Fuzz for that long."""
    rng = random.Random(seed)
    corpus = seeds()
    findings = Findings()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seed_request = rng.choice(corpus)
        data = bent(seed_request, rng)
        if rng.random() < 0.5:
            data = damaged(data, rng.choice(corpus).SerializeToString(), rng)
        wanted = rng.choice(_WANTED)
        try:
            if isinstance(seed_request, ReportRequest):
                outcome, other = report_outcome(data, wanted), python_report_outcome(data, wanted)
            else:
                outcome, other = check_outcome(data, wanted), python_check_outcome(data, wanted)
        except Exception as exc:  # noqa: BLE001  these are what we look for
            findings.finds.append((data, repr(exc)))
            continue
        findings.outcomes["refused" if outcome[0] == "refused" else "taken"] += 1
        if outcome != other:
            findings.finds.append((data, f"with {wanted}: {outcome}, but in Python {other}"))
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    args = parser.parse_args()
    print(f"seed {args.seed}, decoder {DECODER}")
    findings = fuzz(args.seconds, args.seed)
    for outcome, count in findings.outcomes.most_common():
        print(f"{count:10d}  {outcome}")
    for data, what in findings.finds:
        print(f"{what}\n  {data.hex()}")
    return 1 if findings.finds else 0


if __name__ == "__main__":
    sys.exit(main())
