"""Writes header blocks in every way there is, spoils some, and reads them with both header tables.

Anything but fields or a ValueError is a find, and so are two tables that disagree: about the fields, their order, a
fault, or a change of the table that the compiled one does not tell.

    python -m tests.server.fuzz_header_table --seconds 60 [--seed N] [--sanitized]

Prints what it did, and each find as the blocks of its connection; exits 1 when there is one, 77 when there is no
compiled table. With --sanitized that is one built for the run with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from mixer.server.http2.header_table import HeaderTable, LibraryTable, NativeTable
from tests.api.fuzz_decode import damaged
from tests.api.fuzz_sanitized import FLAGS, ROOT, runtimes_of_sanitizers

BLOCKS = 12
"""Of a connection, if no fault ends it."""

_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_SIZES = (0, 31, 33, 64, 100, 1_000, 4_095, 4_096)
_LENGTHS = (126, 127, 128, 254, 255, 319, 511, 512, 513, 821, 1_025, 1_700, 4_064, 5_000)
_USUAL = b"abcdefghijklmnopqrstuvwxyz0123456789-/:."
# A package's folder comes first among those in which its modules are looked for, so the build is loaded before it.
_RUN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("mixer.server.http2._hpack", sys.argv.pop(1))
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
from mixer.server.http2 import header_table
from tests.server import fuzz_header_table
assert header_table.NativeTable is module.NativeTable
sys.exit(fuzz_header_table.main())
"""


@dataclass
class Findings:
    """How many blocks were refused and read, and the connections that are finds, each with what is wrong."""

    outcomes: Counter[str] = field(default_factory=Counter)
    finds: list[tuple[list[bytes], str]] = field(default_factory=list)


class Writer:
    """Blocks of one connection. It knows about how many entries the table has, so that most references hold."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._entries = 0

    def block(self) -> bytes:
        """Up to eight fields; seldom one that does not follow the rules."""
        rng, out = self._rng, b""
        while rng.random() < 0.05:
            size = rng.choice(_SIZES)
            self._entries = min(self._entries, size // 100)
            out += self._integer(size if rng.random() < 0.98 else 4_097, 5, 0x20)
        for _ in range(rng.randrange(9)):
            if rng.random() < 0.4:
                out += self._integer(self._index(), 7, 0x80)
                continue
            kind, bits = rng.choice(((0x40, 6), (0x00, 4), (0x10, 4)))
            if rng.random() < 0.5:
                out += self._integer(self._index(), bits, kind) + self._text()
            else:
                out += bytes((kind,)) + self._text() + self._text()
            self._entries = min(self._entries + (kind == 0x40), 20)
        return out

    def _index(self) -> int:
        rng = self._rng
        return rng.randrange(150) if rng.random() < 0.005 else rng.randint(1, 61 + self._entries)

    def _text(self) -> bytes:
        rng, chance = self._rng, self._rng.random()
        if chance < 0.03:
            length = rng.choice(_LENGTHS)
            text = rng.choice((rng.randbytes(length), b"a" * length))  # the longest codes, the shortest
        elif chance < 0.4:
            text = rng.randbytes(rng.randrange(40))
        else:
            text = bytes(rng.choices(_USUAL, k=rng.randrange(40)))
        if rng.random() < 0.4:
            return self._integer(len(text), 7, 0) + text
        code = _HUFFMAN.encode(text)
        return self._integer(len(code), 7, 0x80) + code

    def _integer(self, value: int, bits: int, kind: int) -> bytes:
        out = encode_integer(value, bits)
        if len(out) > 1 and self._rng.random() < 0.05:  # longer than needed, perhaps longer than allowed
            out[-1] |= 0x80
            out += b"\x80" * self._rng.randrange(4) + b"\0"
        out[0] |= kind
        return bytes(out)


def outcome(table: HeaderTable, block: bytes) -> list[tuple[bytes, bytes]] | None:
    """The fields, in order; None for a fault."""
    try:
        return list(table.decode(block).items())
    except ValueError:
        return None


def connection(rng: random.Random, findings: Findings) -> None:
    """Read the blocks of one connection with both tables, up to the first fault or find."""
    longest = rng.choice((64 << 10, 64 << 10, 1_000, 300))
    compiled, library = NativeTable(longest), LibraryTable(longest)
    writer, blocks = Writer(rng), list[bytes]()
    for _ in range(BLOCKS):
        block = writer.block()
        if block and rng.random() < 0.1:
            block = damaged(block, block, rng)
        blocks.append(block)
        before = compiled.changes, library.changes
        try:
            found, expected = outcome(compiled, block), outcome(library, block)
        except Exception as exc:  # noqa: BLE001  these are what we look for
            findings.finds.append((blocks, repr(exc)))
            return
        findings.outcomes["refused" if expected is None else "read"] += 1
        if found != expected:
            findings.finds.append((blocks, f"up to {longest} bytes: {found}, but by the library {expected}"))
            return
        if expected is None:
            return
        if library.changes != before[1]:
            findings.outcomes["read, and changed the table"] += 1
            if compiled.changes == before[0]:
                findings.finds.append((blocks, "the table changed, and does not say so"))
                return


def fuzz(seed: int, *, seconds: float = math.inf, most: float = math.inf) -> Findings:
    """Fuzz for that long, or for so many connections."""
    rng, findings, done = random.Random(seed), Findings(), 0
    end = time.monotonic() + seconds
    while done < most and time.monotonic() < end:
        connection(rng, findings)
        done += 1
    return findings


def _sanitized(options: list[str]) -> int:
    try:
        runtimes = runtimes_of_sanitizers()
        from hatch_build import HEADERS, compile_native
    except (ImportError, OSError, subprocess.CalledProcessError) as exc:
        print(f"the sanitizers or the build tools are missing: {exc}", file=sys.stderr)
        return 77
    with tempfile.TemporaryDirectory() as folder:
        library = compile_native(ROOT, HEADERS, Path(folder), FLAGS)
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(runtimes),
            "PYTHONMALLOC": "malloc",  # each object has its own memory, so that a read beyond a block's end is seen
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",  # Python keeps much until its end
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        }
        environment.pop("MIXER_NO_NATIVE", None)
        command = [sys.executable, "-c", _RUN, str(library), *options]
        return 1 if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--sanitized", action="store_true")
    args = parser.parse_args()
    if args.sanitized:
        return _sanitized(["--seconds", str(args.seconds), "--seed", str(args.seed)])
    if NativeTable is None:
        print("there is no compiled table", file=sys.stderr)
        return 77
    print(f"seed {args.seed}", flush=True)
    findings = fuzz(args.seed, seconds=args.seconds)
    for what, count in findings.outcomes.most_common():
        print(f"{count:10d}  {what}")
    for blocks, what in findings.finds:
        print(what, *(block.hex() for block in blocks), sep="\n  ")
    return 1 if findings.finds else 0


if __name__ == "__main__":
    sys.exit(main())
