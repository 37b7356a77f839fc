"""Time per record of decoding a Report.

    python -m tests.bench.bench_decode [--records 100] [--seconds 2]

Each line is the best of several rounds, in microseconds for one record of a batch with a shared dictionary.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from mixer.api.careful import decode_carefully
from mixer.api.decode import _limit, _table, decode_report
from mixer.api.messages import INDEPENDENT_ENCODING, CompressedAttributes, ReportRequest
from mixer.api.words import GLOBAL_INDEX

_NAMES = [
    "source.ip",
    "source.uid",
    "source.namespace",
    "source.labels",
    "source.user",
    "destination.ip",
    "destination.port",
    "destination.uid",
    "destination.namespace",
    "request.headers",
    "request.id",
    "request.path",
    "request.host",
    "request.method",
    "request.scheme",
    "request.size",
    "request.time",
    "request.useragent",
    "response.headers",
    "response.size",
    "response.duration",
    "response.code",
    "context.protocol",
    "context.reporter.kind",
    "connection.mtls",
]
"""What a mesh's default metrics read, more or less."""

_STRINGS = [
    "source.uid",
    "source.namespace",
    "source.name",
    "source.user",
    "source.principal",
    "source.workload.name",
    "source.workload.namespace",
    "source.owner",
    "destination.uid",
    "destination.namespace",
    "destination.name",
    "destination.service.host",
    "destination.service.name",
    "destination.service.namespace",
    "destination.principal",
    "destination.workload.name",
    "destination.workload.namespace",
    "destination.owner",
    "request.id",
    "request.path",
    "request.host",
    "request.method",
    "request.scheme",
    "request.useragent",
    "context.protocol",
    "context.reporter.kind",
]
_HEADERS = [
    ":authority",
    ":method",
    ":path",
    "accept",
    "accept-encoding",
    "content-type",
    "user-agent",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
]
_RESPONSE_HEADERS = [":status", "content-length", "content-type", "date", "server", "x-envoy-upstream-service-time"]


def sample_request(records: int) -> ReportRequest:
    """A batch as an Envoy sends it: independent records of 40 attributes, two header maps and two label maps."""
    words: dict[str, int] = {}

    def index(word: str) -> int:
        return GLOBAL_INDEX.get(word, -words.setdefault(word, len(words) + 1))

    request = ReportRequest(repeated_attributes_semantics=INDEPENDENT_ENCODING, global_word_count=222)
    for number in range(records):
        message: CompressedAttributes = request.attributes.add()
        for name in _STRINGS:
            message.strings[index(name)] = index(f"{name}/{number}" if name == "request.id" else f"value of {name}")
        for name, value in (("destination.port", 8080), ("request.size", number), ("response.size", 3 * number)):
            message.int64s[index(name)] = value
        message.int64s[index("response.code")] = 200
        message.bools[index("connection.mtls")] = True
        for name in ("request.time", "response.time"):
            message.timestamps[index(name)].FromNanoseconds(1_700_000_000_000_000_000 + number)
        message.durations[index("response.duration")].FromNanoseconds(1_234_567)
        message.bytes[index("source.ip")] = b"\x0a\x00\x00\x01"
        message.bytes[index("destination.ip")] = b"\x0a\x00\x00\x02"
        for name, keys in (
            ("request.headers", _HEADERS),
            ("response.headers", _RESPONSE_HEADERS),
            ("source.labels", ("app", "version", "pod-template-hash")),
            ("destination.labels", ("app", "version", "pod-template-hash")),
        ):
            entries = message.string_maps[index(name)].entries
            for key in keys:
                entries[index(key)] = index(f"value of {key}")
    request.default_words.extend(words)
    return request


def microseconds(work: Callable[[], object], records: int, seconds: float) -> float:
    """The best time for one record."""
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best / records * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    args = parser.parse_args()

    request = sample_request(args.records)
    data = request.SerializeToString()
    table, limit = _table(request.default_words), _limit(222)
    bags = decode_report(request).bags

    def validate_only() -> None:
        valid = frozenset(table).issuperset
        for message in request.attributes:
            strings, maps = message.strings, message.string_maps
            assert valid(strings)
            assert valid([strings[name] for name in strings])
            for field in ("int64s", "doubles", "bools", "timestamps", "durations", "bytes", "string_maps"):
                assert valid(getattr(message, field))
            for name in maps:
                entries = maps[name].entries
                assert valid(entries)
                assert valid([entries[key] for key in entries])

    def careful() -> None:
        for message in request.attributes:
            decode_carefully(message, table, limit, delta=False)

    def read() -> None:
        for bag in bags:
            get = bag.get
            for name in _NAMES:
                get(name)

    lines: list[tuple[str, Callable[[], object]]] = [
        ("parse", lambda: ReportRequest.FromString(data)),
        ("indices checked, nothing decoded", validate_only),
        ("decode (checks on its way)", lambda: decode_report(request)),
        ("decode with the careful decoder", careful),
        (f"read {len(_NAMES)} attributes", read),
    ]
    attributes = len(list(bags[0].names()))
    print(f"{args.records} records, {attributes} attributes, {len(data) // args.records} bytes each")
    for label, work in lines:
        print(f"{microseconds(work, args.records, args.seconds):8.2f} us  {label}")


if __name__ == "__main__":
    main()
