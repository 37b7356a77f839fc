"""Time per record of decoding a Report, and per Check.

    python -m tests.bench.bench_decode [--records 100] [--seconds 2]

Each line is the best of several rounds, in microseconds for one record of a batch with a shared dictionary, or for
one Check. "Mesh" is what the metrics of ``config/mesh`` read.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from mixer.api import decode
from mixer.api.careful import decode_carefully
from mixer.api.decode import DECODER, decode_check_bytes, decode_report, decode_report_bytes
from mixer.api.messages import INDEPENDENT_ENCODING, CheckRequest, CompressedAttributes, ReportRequest
from mixer.api.wanted import Wanted
from mixer.api.words import GLOBAL_INDEX, GLOBAL_WORD_COUNT
from mixer.errors import ExprError
from mixer.expr import Attribute, Call, Constant, Node, parse
from mixer.expr.tree import children

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


def sample_check() -> CheckRequest:
    """A Check of one such record, with its own dictionary and a quota."""
    report = sample_request(1)
    request = CheckRequest(attributes=report.attributes[0], global_word_count=222, deduplication_id="4f1c")
    request.attributes.words.extend(report.default_words)
    request.quotas["requestcount"].amount = 1
    return request


def mesh_wanted() -> Wanted:
    """What the metrics of the mesh configuration and their rules read."""
    wanted = Wanted({})
    for path in sorted(Path("config/mesh").glob("metrics-*.yaml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            for text in _texts(document["spec"]):
                try:
                    node = parse(text)
                except ExprError:
                    continue  # a name or a type
                for read in _reads(node):
                    wanted |= read
    # Names of instances and handlers are expressions too, of attributes that nobody sends.
    return Wanted({name: keys for name, keys in wanted.attributes.items() if "." in name})


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _reads(node: Node) -> Iterator[Wanted]:
    if isinstance(node, Attribute):
        yield Wanted({node.name: None})
    elif isinstance(node, Call) and node.name == "INDEX":
        of, key = node.args
        assert isinstance(of, Attribute)
        assert isinstance(key, Constant)
        yield Wanted({of.name: frozenset({str(key.value)})})
    else:
        for child in children(node):
            yield from _reads(child)


def in_python(work: Callable[[], object]) -> Callable[[], object]:
    """The same without the native decoder."""

    def run() -> object:
        native, decode._native = decode._native, None
        try:
            return work()
        finally:
            decode._native = native

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    args = parser.parse_args()

    request = sample_request(args.records)
    data = request.SerializeToString()
    check_data = sample_check().SerializeToString()
    table = decode._table(request.default_words)
    bags = decode_report(request).bags
    mesh = mesh_wanted()

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
            decode_carefully(message, table, GLOBAL_WORD_COUNT, delta=False)

    def read() -> None:
        for bag in bags:
            get = bag.get
            for name in _NAMES:
                get(name)

    lines: list[tuple[str, int, Callable[[], object]]] = [
        ("parse", args.records, lambda: ReportRequest.FromString(data)),
        ("indices checked, nothing decoded", args.records, validate_only),
        ("decode messages with the careful decoder", args.records, careful),
        (f"read {len(_NAMES)} attributes", args.records, read),
    ]
    for label, wanted in (("everything", None), ("mesh", mesh)):

        def report(wanted: Wanted | None = wanted) -> object:
            return decode_report_bytes(data, wanted)

        def check(wanted: Wanted | None = wanted) -> object:
            return decode_check_bytes(check_data, wanted)

        for what, count, work in (("Report", args.records, report), ("Check", 1, check)):
            lines.append((f"{what}, {label}, python", count, in_python(work)))
            if DECODER == "native":
                lines.append((f"{what}, {label}, native", count, work))

    attributes = len(list(bags[0].names()))
    print(f"{args.records} records, {attributes} attributes, {len(data) // args.records} bytes each")
    print(f"a Check of {len(check_data)} bytes; the mesh wants {len(mesh.attributes)} names")
    for label, count, work in lines:
        print(f"{microseconds(work, count, args.seconds):8.2f} us  {label}")


if __name__ == "__main__":
    main()
