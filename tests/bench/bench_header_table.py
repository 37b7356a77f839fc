"""CPU of reading a header block as Envoy writes it when it asks about a request, by each header table.

The blocks have the form of recorded ones (Envoy 1.39): the first fills the table, the path is never put into it, the
stream's id and the connection's number are new each time, and the rest are references. None repeats, so that the
memory for blocks (`mixer.server.http2.heads`) does not help. Each line is the best of several rounds.

    python -m tests.bench.bench_header_table [--blocks 5000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import random
import time
import uuid
from collections.abc import Callable, Sequence

from hpack import Encoder, HeaderTuple, NeverIndexedHeaderTuple

from mixer.server.http2.header_table import HeaderTable, LibraryTable, NativeTable
from mixer.server.http2.heads import MAX_HEADER_BYTES


def envoy_blocks(count: int) -> list[bytes]:
    """Those of one connection, from its first on."""
    rng, encoder = random.Random(1), Encoder()
    return [
        encoder.encode(
            [
                HeaderTuple(":method", "POST"),
                NeverIndexedHeaderTuple(":path", "/envoy.service.auth.v3.Authorization/Check"),
                HeaderTuple(":authority", "mixer"),
                HeaderTuple(":scheme", "http"),
                HeaderTuple("te", "trailers"),
                HeaderTuple("grpc-timeout", "1000m"),
                HeaderTuple("content-type", "application/grpc"),
                HeaderTuple("x-mixer-stream", str(uuid.UUID(int=rng.getrandbits(128), version=4))),
                HeaderTuple("x-mixer-conn", str(number)),
                HeaderTuple("x-envoy-internal", "true"),
                HeaderTuple("x-forwarded-for", "192.0.2.2"),
                HeaderTuple("x-envoy-expected-rq-timeout-ms", "1000"),
            ]
        )
        for number in range(count)
    ]


def microseconds(make: Callable[[int], HeaderTable], blocks: Sequence[bytes]) -> float:
    """For one block."""
    table = make(MAX_HEADER_BYTES)
    start = time.process_time()
    for block in blocks:
        table.decode(block)
    return (time.process_time() - start) * 1e6 / len(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    blocks = envoy_blocks(args.blocks)
    print(f"{sum(map(len, blocks)) / len(blocks):.0f} bytes a block")
    tables: dict[str, Callable[[int], HeaderTable]] = {"library": LibraryTable}
    if NativeTable is not None:
        tables["compiled"] = NativeTable
    for name, make in tables.items():
        print(f"{name:10}{min(microseconds(make, blocks) for _ in range(args.rounds)):6.2f} us")


if __name__ == "__main__":
    main()
