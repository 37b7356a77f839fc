"""Header tables: the compiled one and the library's do the same, and both what RFC 7541 says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hpack import Encoder
from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from mixer.server.http2.header_table import COMPILED, HeaderTable, LibraryTable, NativeTable, new_table
from tests.server.fuzz_header_table import fuzz

LONGEST = 64 << 10
FIRST_BLOCK = "8386855f106170706c69636174696f6e2f67727063"  # POST, http, /index.html, content-type application/grpc
Make: TypeAlias = Callable[[int], HeaderTable]
compiled_only = pytest.mark.skipif(not COMPILED, reason="the compiled table was not built")
TABLES = [
    pytest.param(LibraryTable, id="library"),
    pytest.param(NativeTable, id="compiled", marks=compiled_only),
]

each_table = pytest.mark.parametrize("make", TABLES)


def test_connections_get_the_compiled_table_where_there_is_one() -> None:
    assert type(new_table(1)) is (NativeTable if COMPILED else LibraryTable)


# A None in sys.modules is what an import meets where the extension was not built.
WITHOUT = {
    "turned off": ("1", ""),
    "not built": ("", "import sys; sys.modules['mixer.server.http2._hpack'] = None"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("off", "prelude"), WITHOUT.values(), ids=WITHOUT)
def test_library_reads_headers_without_the_compiled_table(off: str, prelude: str) -> None:
    code = f"""
{prelude}
from mixer.server.http2.header_table import COMPILED
from mixer.server.http2.heads import HeadDecoder
decoder = HeadDecoder()
print(COMPILED, type(decoder._table).__name__, decoder.decode(bytes.fromhex("{FIRST_BLOCK}")).path)
"""
    env = {**os.environ, "MIXER_NO_NATIVE": off}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "LibraryTable", "/index.html"]


def outcome(table: HeaderTable, block: bytes) -> dict[bytes, bytes] | None:
    """The fields, None for a fault."""
    try:
        return table.decode(block)
    except ValueError:
        return None


# RFC 7541, appendix C.3 and C.4: three requests on one connection, without and with Huffman code.
FIRST = {b":method": b"GET", b":scheme": b"http", b":path": b"/", b":authority": b"www.example.com"}
SECOND = {**FIRST, b"cache-control": b"no-cache"}
THIRD = {
    b":method": b"GET",
    b":scheme": b"https",
    b":path": b"/index.html",
    b":authority": b"www.example.com",
    b"custom-key": b"custom-value",
}
PLAIN = (
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
)
HUFFMAN = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)


@each_table
@pytest.mark.parametrize("blocks", [PLAIN, HUFFMAN], ids=["plain", "huffman"])
def test_requests_of_the_specification(make: Make, blocks: tuple[str, ...]) -> None:
    table = make(LONGEST)
    assert [table.decode(bytes.fromhex(block)) for block in blocks] == [FIRST, SECOND, THIRD]


# Appendix C.6: responses with Huffman code and a table of 256 bytes, from which entries have to go.
RESPONSES = (
    "3fe101"  # the table's size, which the specification's example sets beforehand
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f"
    "3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
)


@each_table
def test_responses_of_the_specification_evict_entries(make: Make) -> None:
    table = make(LONGEST)
    found = [table.decode(bytes.fromhex(block)) for block in RESPONSES]
    assert [fields[b":status"] for fields in found] == [b"302", b"307", b"200"]
    assert found[1] == {**found[0], b":status": b"307"}
    assert found[2][b"location"] == b"https://www.example.com"
    assert found[2][b"content-encoding"] == b"gzip"
    assert found[2][b"set-cookie"] == b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"


FAULTS = {
    "index 0": "80",
    "an index of nothing": "be",
    "an index of nothing, as a name": "7e0161",
    "an integer that ends": "ff",
    "an integer that is too long": "ff8080808080808001",
    "a huge index": "ffffffffff7f",
    "no value": "4001",
    "a name that ends": "400561",
    "a value that ends": "0001610562",
    "a huge length": "00017f" + "ffffffff0f",
    "a text that ends within a symbol": "00016181" + "fe",
    "eight bits of padding": "00016182" + "f8ff",
    "eleven bits of padding": "00016182" + "1fff",
    "padding of zeros": "00016181" + "18",
    "the code for the end": "00016184" + "ffffffff",
    "a table that is too large": "3fe21f",
    "a size after a field": "8220",
}


@each_table
@pytest.mark.parametrize("block", FAULTS.values(), ids=FAULTS)
def test_faulty_block_is_refused(make: Make, block: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make(LONGEST).decode(bytes.fromhex(block))


@each_table
def test_fields_are_bounded_though_the_block_is_short(make: Make) -> None:
    table = make(1_000)
    long = b"\x40\x01a\x7f" + bytes((200 - 127 + 128, 0)) + b"x" * 200
    assert table.decode(long) == {b"a": b"x" * 200}
    with pytest.raises(ValueError, match="1000"):
        table.decode(b"\xbe" * 5)


@each_table
def test_changes_tell_whether_a_block_changed_the_table(make: Make) -> None:
    table = make(LONGEST)
    seen = []
    for block in (b"\x82", b"\x40\x01a\x01b", b"\xbe", b"\x20", b"\x00\x01a\x01b", b"\x3f\x21", b"\x40\x01a\x01b"):
        before = table.changes
        table.decode(block)
        seen.append(table.changes != before)
    assert seen == [False, True, False, True, False, True, True]


@each_table
def test_entry_larger_than_the_table_empties_it(make: Make) -> None:
    table = make(LONGEST)
    table.decode(b"\x3f\x21\x40\x01a\x01b")  # 64 bytes of table, an entry of 34
    assert table.decode(b"\xbe") == {b"a": b"b"}
    assert table.decode(b"\x40\x01a\x28" + b"x" * 40) == {b"a": b"x" * 40}
    with pytest.raises(ValueError, match=r"\w"):
        table.decode(b"\xbe")


@each_table
def test_entries_stay_while_they_just_fit(make: Make) -> None:
    table = make(LONGEST)
    table.decode(b"\x3f\x25\x40\x01a\x01b\x40\x01c\x01d")  # a table of 68 bytes, two entries of 34
    assert table.decode(b"\xbe\xbf") == {b"c": b"d", b"a": b"b"}
    table.decode(b"\x3f\x24")  # 67 bytes
    assert table.decode(b"\xbe") == {b"c": b"d"}
    with pytest.raises(ValueError, match=r"\w"):
        table.decode(b"\xbf")


@each_table
def test_entry_as_large_as_the_table_stays(make: Make) -> None:
    table = make(LONGEST)
    table.decode(b"\x3f\x03\x40\x01a\x01b")  # 34 bytes of table, an entry of 34
    assert table.decode(b"\xbe") == {b"a": b"b"}


@each_table
@pytest.mark.parametrize("size", [818, 819, 820, 821, 1_024, 1_638, 1_639, 60_000])
def test_text_of_the_shortest_codes_is_read_at_any_length(make: Make, size: int) -> None:
    code = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(b"a" * size)
    length = encode_integer(len(code), 7)
    length[0] |= 0x80
    assert make(LONGEST).decode(b"\x00\x01n" + bytes(length) + code) == {b"n": b"a" * size}


names = st.sampled_from([b":path", b":authority", b"x-request-id", b"content-type", b"a", b"cookie"])
fields = st.lists(st.tuples(names, st.binary(max_size=60), st.booleans()), max_size=8)


@compiled_only
@given(st.lists(st.tuples(fields, st.booleans(), st.none() | st.integers(0, 4096)), max_size=12))
def test_tables_agree_on_what_an_encoder_writes(
    calls: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]],
) -> None:
    encoder, compiled, library = Encoder(), NativeTable(LONGEST), LibraryTable(LONGEST)
    for sent, huffman, size in calls:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(sent, huffman=huffman)
        assert compiled.decode(block) == library.decode(block) == {name: value for name, value, _ in sent}


@compiled_only
@given(st.lists(st.binary(max_size=80), max_size=6))
def test_tables_agree_on_any_bytes(blocks: list[bytes]) -> None:
    compiled, library = NativeTable(LONGEST), LibraryTable(LONGEST)
    for block in blocks:
        found = outcome(compiled, block)
        assert found == outcome(library, block)
        if found is None:
            break


@compiled_only
@pytest.mark.slow
def test_tables_agree_on_fuzzed_blocks() -> None:
    findings = fuzz(7541, most=2_500)

    assert findings.finds == []
    assert findings.outcomes["refused"] > 500
    assert findings.outcomes["read, and changed the table"] > 5_000
