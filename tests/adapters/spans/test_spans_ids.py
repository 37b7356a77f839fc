"""Which trace and which span a text names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.spans.ids import Header, read_header, read_span_id, read_trace_id
from tests.adapters.spans.kit import PARENT, SPAN, TRACE

T, S, P = int(TRACE, 16), int(SPAN, 16), int(PARENT, 16)


def w3c(sampled):
    return Header(T, S, 0, sampled, names_caller=True)


def b3(sampled, parent=0, trace=T):
    return Header(trace, S, parent, sampled, names_caller=False)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", w3c(True), id="traceparent, sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", w3c(False), id="traceparent, not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", w3c(True), id="traceparent with the random flag"),
        pytest.param(f"00-{TRACE}-{SPAN}-02", w3c(False), id="traceparent, random and not sampled"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01", w3c(True), id="traceparent of a later version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-what-ever", w3c(True), id="traceparent of a later version that is longer"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", None, id="traceparent 00 that is longer"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="traceparent of the forbidden version"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", None, id="traceparent in capital letters"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="traceparent without a trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="traceparent without a span"),
        pytest.param(f"{TRACE}-{SPAN}", b3(None), id="b3, undecided"),
        pytest.param(f"{TRACE}-{SPAN}-1", b3(True), id="b3, sampled"),
        pytest.param(f"{TRACE}-{SPAN}-0", b3(False), id="b3, not sampled"),
        pytest.param(f"{TRACE}-{SPAN}-d", b3(True), id="b3, debug"),
        pytest.param(f"{TRACE}-{SPAN}-true", b3(True), id="b3 put together from an old x-b3-sampled"),
        pytest.param(f"{TRACE}-{SPAN}-1-{PARENT}", b3(True, P), id="b3 with a parent"),
        pytest.param(f"{TRACE[16:]}-{SPAN}-1", b3(True, trace=T & (1 << 64) - 1), id="b3 with 64 bits"),
        pytest.param(f"{TRACE}-{SPAN}-x", None, id="b3 with another decision"),
        pytest.param(f"{TRACE}-{SPAN}-{PARENT}", None, id="b3 with a parent and no decision"),
        pytest.param("--1", None, id="put together from nothing"),
        pytest.param("0", None, id="b3 that only denies"),
        pytest.param("", None, id="nothing"),
        pytest.param(TRACE, None, id="a plain id"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", None, id="a line"),
        pytest.param(f"٠٠-{TRACE}-{SPAN}-01", None, id="digits of another script"),
    ],
)
def test_header_is_read(text, header):
    assert read_header(text) == header


@pytest.mark.parametrize(
    ("text", "trace", "span"),
    [
        pytest.param(TRACE, T, 0, id="16 bytes"),
        pytest.param(TRACE.upper(), T, 0, id="capital letters"),
        pytest.param(SPAN, S, S, id="8 bytes"),
        pytest.param("0a", 10, 10, id="1 byte"),
        pytest.param("a", 0, 0, id="odd length"),
        pytest.param("ab" * 17, 0, 0, id="17 bytes"),
        pytest.param("ab" * 9, int("ab" * 9, 16), 0, id="9 bytes"),
        pytest.param("xy", 0, 0, id="no hexadecimal"),
        pytest.param("0x12", 0, 0, id="a prefix"),
        pytest.param("1_00", 0, 0, id="a separator of Python's"),
        pytest.param(" 12 ", 0, 0, id="blanks"),
        pytest.param("00" * 8, 0, 0, id="zero"),
        pytest.param("", 0, 0, id="nothing"),
        pytest.param(f"00-{TRACE}-{SPAN}-01", 0, S, id="a whole traceparent"),
        pytest.param(f"{TRACE}-{SPAN}-1", 0, S, id="a whole b3"),
        pytest.param(f"{PARENT}-{SPAN}-1", 0, 0, id="a whole b3 of another trace"),
    ],
)
def test_plain_id_is_read(text, trace, span):
    assert (read_trace_id(text), read_span_id(text, T)) == (trace, span)


@given(st.text(max_size=80) | st.text("0123456789abcdef-", max_size=80))
def test_any_text_is_read_or_refused(text):
    header = read_header(text)
    assert header is None or (0 < header.trace_id < 1 << 128 and 0 < header.span_id < 1 << 64)
    assert 0 <= read_trace_id(text) < 1 << 128
    assert 0 <= read_span_id(text, T) < 1 << 64
