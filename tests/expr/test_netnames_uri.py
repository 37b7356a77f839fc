"""URIs: construction, equality. Expected values were measured on the original's libraries."""

import pytest

from mixer.errors import EvalError
from mixer.expr.netnames import uri, uris_equal


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com:8443/v1?a=b#c",
        "HTTP://h",
        "http://h:",
        "http://u:p@h/",
        "http://u@v@h/",
        "http://[::1]:80/",
        "http://[fe80::1%25en%20]/",
        "http://%e9/",
        'http://a"<>b/',
        "//host/p",
        "///p",
        "/a b",
        "a/b:c",
        "./a:b",
        "?q",
        "#",
        "#\x00\n",
        "?%zz",
        "*",
        "mailto:x@y",
        "a:b:c d",
        "a:%zz",
        "http:",
        "file:///x",
        "1a",
        "é",
        "a\udcff",
    ],
)
def test_uri_keeps(text):
    assert uri(text) == text


def test_uri_rejects_the_empty_string():
    with pytest.raises(EvalError, match=r"^error converting string to uri: empty string$"):
        uri("")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("%zz", 'parse %zz: invalid URL escape "%zz"'),
        ("%", 'parse %: invalid URL escape "%"'),
        ("/a%4", 'parse /a%4: invalid URL escape "%4"'),
        ("/a#b%é", 'parse /a#b%é: invalid URL escape "%é"'),
        ("%zz#f", 'parse %zz: invalid URL escape "%zz"'),
        (":a", "parse :a: missing protocol scheme"),
        (":", "parse :: missing protocol scheme"),
        ("1a:b", "parse 1a:b: first path segment in URL cannot contain colon"),
        ("a_b:c", "parse a_b:c: first path segment in URL cannot contain colon"),
        ("a\x7f", "parse a\x7f: net/url: invalid control character in URL"),
        ("a\nb", "parse a\nb: net/url: invalid control character in URL"),
        ("http://a b/", 'parse http://a b/: invalid character " " in host name'),
        ("http://a\\b/", r'parse http://a\b/: invalid character "\\" in host name'),
        ("http://a%41/", 'parse http://a%41/: invalid URL escape "%41"'),
        ("http://a%zz/", 'parse http://a%zz/: invalid URL escape "%zz"'),
        ("http://h:x/", 'parse http://h:x/: invalid port ":x" after host'),
        ("http://[::1]x/", 'parse http://[::1]x/: invalid port "x" after host'),
        ("http://[::1/", "parse http://[::1/: missing ']' in host"),
        ("http://u v@h/", "parse http://u v@h/: net/url: invalid userinfo"),
        ("http://%zz@h/", 'parse http://%zz@h/: invalid URL escape "%zz"'),
        ("//h:x", 'parse //h:x: invalid port ":x" after host'),
    ],
)
def test_uri_rejects(text, cause):
    for call in (lambda: uri(text), lambda: uris_equal(text, "a"), lambda: uris_equal("a", text)):
        with pytest.raises(EvalError) as caught:
            call()

        assert str(caught.value) == f"error converting string to uri '{text}': '{cause}'"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("HTTPS://Example.com:8443/v1", "https://example.COM:8443/v1"),
        ("http://bücher.de/", "http://xn--bcher-kva.de/"),
        ("http://a.com./", "http://a.com/"),
        ("http://h:/", "http://h/"),
        ("HTTP:opaque", "http:opaque"),
        ("/b c", "/b%20c"),
        ("/é", "/%C3%A9"),
        ("/a\\", "/a%5C"),
        ("/a b%2f", "/a%20b/"),  # a path that must be escaped anew loses how it was escaped
        ("/a#", "/a"),
        ("/#é", "/#%C3%A9"),
        ("http://%41@h/", "http://A@h/"),
        ("a://h:80/", "A://h:80/"),
        ("", ""),
        ("%3Aa", "%3Aa"),
    ],
)
def test_uris_are_equal(a, b):
    assert uris_equal(a, b) is True
    assert uris_equal(b, a) is True


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("https://example.com:8443/v1", "https://example.com:8443/v1/"),
        ("http://a", "http://a/"),
        ("http://a", "https://a"),
        ("http://a:80", "http://a"),
        ("http://a/B", "http://a/b"),
        ("http://u@a/", "http://U@a/"),
        ("http://u:@a/", "http://u@a/"),
        ("ftp://H/", "ftp://h/"),
        ("ftp://h:/", "ftp://h/"),
        ("/a?", "/a"),
        ("/?a&b", "/?b&a"),
        ("/?%41", "/?A"),
        ("/%41", "/A"),
        ("/%2f", "/%2F"),
        ("/%7E", "/~"),
        ("#%41", "#A"),
        ("a:/b", "a:///b"),
        ("", "?"),
    ],
)
def test_uris_are_unequal(a, b):
    assert uris_equal(a, b) is False
    assert uris_equal(b, a) is False


@pytest.mark.parametrize(
    ("text", "rune"), [("http://[::1]/", "U+003A"), ("http://a_b/", "U+005F"), ("https://u@*/", "U+002A")]
)
def test_uris_equal_raises_when_an_http_host_cannot_be_compared(text, rune):
    with pytest.raises(EvalError) as caught:
        uris_equal(text, text)

    assert str(caught.value) == f"idna: disallowed rune {rune}"
    assert uris_equal(text, "ftp://x/") is False
