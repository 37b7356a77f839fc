"""Answers survive the wire, and what cannot be a cache key is said to be none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mixer.api.answer import AppliedHeader, CheckAnswer, QuotaAnswer, QuotaLevel, RouteDirective
from mixer.api.codes import Code
from mixer.api.messages import CheckResponse, ReferencedAttributes
from mixer.api.wire_answer import NO_PRECONDITION, decode_answer, encode_answer
from mixer.api.words import GLOBAL_WORD_COUNT
from mixer.attributes import Condition, Duration

texts = st.text(max_size=8)
spans = st.integers(-(10**18), 10**18).map(Duration)
referenced = st.dictionaries(
    st.tuples(st.sampled_from(["source.name", "request.headers", "x"]), st.sampled_from(["", "source.ip", "k"])),
    st.sampled_from([Condition.EXACT, Condition.ABSENCE]),
    max_size=4,
)
headers = st.lists(st.builds(AppliedHeader, texts, texts, st.sampled_from([0, 1, 2])), max_size=3).map(tuple)
directives = st.builds(RouteDirective, headers, headers, st.integers(0, 599), texts)
levels = st.builds(QuotaLevel, st.integers(0, 10**12), st.integers(0, 10**12), spans, spans)
quotas = st.builds(
    QuotaAnswer, st.integers(-5, 10**12), st.none() | spans, st.integers(0, 16), texts, referenced, st.none() | levels
)
answers = st.builds(
    CheckAnswer,
    st.integers(0, 16),
    texts,
    st.none() | spans,
    st.integers(-1, 2**31 - 1),
    referenced,
    st.none() | directives,
    st.dictionaries(texts, quotas, max_size=3),
)


@given(answers, st.sampled_from([0, 111, GLOBAL_WORD_COUNT]))
def test_answers_come_back_as_they_were(answer: CheckAnswer, words: int) -> None:
    data = encode_answer(answer, words).SerializeToString()

    assert decode_answer(CheckResponse.FromString(data)) == answer


def test_answer_without_precondition_denies() -> None:
    answer = decode_answer(CheckResponse())

    assert (answer.code, answer.message) == (Code.INVALID_ARGUMENT, NO_PRECONDITION)


def test_references_that_are_no_key_are_none() -> None:
    beyond, regex, unspecified = CheckResponse(), CheckResponse(), CheckResponse()
    beyond.precondition.referenced_attributes.attribute_matches.add(name=10_000, condition=ReferencedAttributes.EXACT)
    regex.precondition.referenced_attributes.attribute_matches.add(name=1, condition=ReferencedAttributes.REGEX)
    unspecified.precondition.referenced_attributes.attribute_matches.add(name=1)

    assert decode_answer(beyond).referenced is None
    assert decode_answer(regex).referenced is None
    assert decode_answer(unspecified).referenced == {}


def test_texts_that_are_no_unicode_are_sent_with_a_question_mark() -> None:
    assert decode_answer(encode_answer(CheckAnswer(7, "a\udc80b"), 0)).message == "a?b"
