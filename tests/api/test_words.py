"""The global word list."""

from __future__ import annotations

import hashlib

import pytest

from mixer.api.words import GLOBAL_INDEX, GLOBAL_WORD_COUNT, GLOBAL_WORDS


def test_list_has_222_distinct_words() -> None:
    assert len(GLOBAL_WORDS) == GLOBAL_WORD_COUNT == len(set(GLOBAL_WORDS)) == 222


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (0, "source.ip"),
        (2, "source.name"),
        (15, "request.headers"),
        (59, "cookie"),
        (94, "'200'"),
        (108, "text/html; charset=utf-8"),
        (110, "text/plain; charset=utf-8"),
        (111, "'0'"),
        (112, "'1'"),
        (115, "gzip, deflate"),
        (136, "200"),
        (193, "destination.service.host"),
        (201, "context.reporter.kind"),
        (218, '"-"'),
        (221, "context.proxy_version"),
    ],
)
def test_words_have_their_index(index: int, word: str) -> None:
    assert GLOBAL_WORDS[index] == word
    assert GLOBAL_INDEX[word] == index


def test_list_is_unchanged() -> None:
    """A client resolves its indices against its own copy: any change breaks all of them."""
    digest = hashlib.sha256("\n".join(GLOBAL_WORDS).encode()).hexdigest()

    assert digest == "26fb30f3aa07715166c19d9e872569f4e420c80cc746a2e870b39f18fe9cd2cd"
