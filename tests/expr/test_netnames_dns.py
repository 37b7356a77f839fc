"""DNS names: construction, equality. Expected values were measured on the original's libraries."""

import pytest

from mixer.errors import EvalError
from mixer.expr.netnames import dns_name, dns_names_equal


def alabel(label: str) -> str:
    """The Punycode form of a label, valid or not."""
    return "xn--" + label.encode("punycode").decode()


UNCHANGED = [
    "a",
    "a.",
    "a..",  # accepted by accident
    "Api.Example.com",
    "a_b.c",
    "*.x.com",
    "a b",
    "a\nb",
    "a\x00b",
    "abc--d",
    "BÜCHER.de",
    "a。b",
    "≠",
    "\u00ad",
    "a.א",
    "א1",
    "א.",
    "א..",
    "a1.א",
    "a_b.א",
    "éé--a",  # the hyphens are not at bytes 3 and 4
    "aé--c",
    "क्\u200dष",
    "ꡲ\u200c\u0302a",  # what follows ZWNJ need not join
    "ب\u200cا",
    "a" * 70,
    ".".join(["a" * 60] * 10),
    "\u0345a",  # a mark that UTS 46 maps away is not seen as one
]


@pytest.mark.parametrize("name", UNCHANGED)
def test_dns_name_keeps(name):
    assert dns_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bu\u0308cher.de", "bücher.de"),
        ("xn--bcher-kva.de", "bücher.de"),
        ("xn--bcher-kvA", "bücher"),
        ("xn--fa-hia.de", "faß.de"),
        ("xn--3xa", "ς"),
        ("xn--a-", "a"),
        ("xn--ls8h.la", "💩.la"),
        ("a_b.xn--bcher-kva.", "a_b.bücher."),
    ],
)
def test_dns_name_normalises_and_decodes(name, expected):
    assert dns_name(name) == expected


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("", '""'),
        (".", '"."'),
        ("..", '".."'),
        (".a", '".a"'),
        ("a..b", '"a..b"'),
        ("a...", '"a..."'),
        ("xn--bcher-kva..", '"xn--bcher-kva.."'),  # the accident of "a.." needs that nothing was decoded
        ("-a", '"-a"'),
        ("a-", '"a-"'),
        ("a.-", '"-"'),
        ("-a..b", '"-a"'),
        ("ab--c", '"ab--c"'),
        ("ab--é", '"ab--é"'),
        ("XN--bcher-kva.de", '"XN--bcher-kva"'),
        ("xn--BCHER-KVA", '"BüCHER"'),
        ("xn--", '""'),
        ("a.xn--", '""'),
        ("xn---a", '"-a"'),
        ("xn--a", r'"\u0080"'),
        ("xn--0", '"0"'),
        ("xn--9999999999", '"9999999999"'),
        ("xn--a_b-", '"a_b"'),
        ("xn--ü", '"ü"'),
        (alabel("a\u0308"), '"a\u0308"'),
        (alabel("Ü"), '"Ü"'),
        (alabel("ﬁx"), '"ﬁx"'),
        (alabel("≠"), '"≠"'),
        (alabel("\u00ad"), r'"\u00ad"'),
        (alabel("xn--é"), '"xn--é"'),
        (alabel("-é"), '"-é"'),
        (alabel("a。é"), '"a。é"'),
        ("\u0301a", '"\u0301a"'),
        ("a.\u0301b", '"\u0301b"'),
        ("a\u200cb", r'"a\u200cb"'),
        ("ꡲ\u200c", r'"ꡲ\u200c"'),
        ("ꡲ\u200cꡲ", r'"ꡲ\u200cꡲ"'),
        ("k\u094d\u200c\u200c", '"k\u094d\\u200c\\u200c"'),
        ("अ\u200d", r'"अ\u200d"'),
        ("אa", '"אa"'),
        ("1.א", '"1.א"'),
        ("aא.b", '"aא.b"'),
        ("a b.א", '"a b.א"'),
        ("a." + alabel("אb"), '"a.xn--b-zhc"'),
        ('-"\\', r'"-\"\\"'),
        ("-\udcff", r'"-\xff"'),
        ("-\n\x7f", r'"-\n\x7f"'),
    ],
)
def test_dns_name_rejects(name, label):
    with pytest.raises(EvalError) as caught:
        dns_name(name)

    assert str(caught.value) == f"error converting '{name}' to dns name: 'idna: invalid label {label}'"


EQUAL = [
    ("Api.Example.com", "API.example.com."),
    ("a.com.", "a.com"),
    ("", "."),
    ("a..b", "A..B"),
    ("Bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.example", "XN--bcher-kva.example"),
    ("bu\u0308cher", "bücher"),
    ("a。b", "a.b"),
    ("a．b｡c", "a.b.c"),
    ("ⓧn--bcher-kva", "bücher"),
    ("x\u00adn--bcher-kva", "bücher"),
    ("ﬁx", "fix"),
    ("℡", "tel"),
    ("\u212a.com", "k.com"),
    ("xn--fa-hia.de", "faß.de"),
    ("ẞ", "ss"),
    ("xn--", ""),
    ("א", "xn--4db"),
    ("a.\u00ad", "a"),
    ("a\u200bb", "ab"),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_dns_names_are_equal(a, b):
    assert dns_names_equal(a, b) is True
    assert dns_names_equal(b, a) is True


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("faß.de", "fass.de"),
        ("ς", "σ"),
        ("a.com..", "a.com"),
        ("a.com..", "a.com."),
        ("a.com", "b.com"),
        ("bücher", "bucher"),
        ("a", ""),
    ],
)
def test_dns_names_are_unequal(a, b):
    assert dns_names_equal(a, b) is False


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("api_v2.example.com", "disallowed rune U+005F"),
        ("*.x.com", "disallowed rune U+002A"),
        ("a:b/c", "disallowed rune U+003A"),
        ("a b", "disallowed rune U+0020"),
        ("a\x00b", "disallowed rune U+0000"),
        ("a[b", "disallowed rune U+005B"),
        ("a\u0080b", "disallowed rune U+0080"),
        ("≠", "disallowed rune U+2260"),
        ("=\u0338", "disallowed rune U+003D"),  # mapped before it is composed
        ("⑴", "disallowed rune U+2474"),  # would become "(1)"
        ("Ⴀ", "disallowed rune U+10A0"),
        ("ꙩ\U0002f868", "disallowed rune U+2F868"),
        ("\U0010ffff", "disallowed rune U+10FFFF"),
        ("xn--a_b-", "disallowed rune U+005F"),
        ("-a._", "disallowed rune U+005F"),  # mapping comes before the labels
        ("a\udcff", "disallowed rune U+FFFD"),
        ("-a", 'invalid label "-a"'),
        ("a.-", 'invalid label "-"'),
        ("ab--c", 'invalid label "ab--c"'),
        ("XN--a", r'invalid label "\u0080"'),
        ("xn--" + "a" * 600, f'invalid label "{"a" * 600}"'),
        ("a..\u0301", 'invalid label "\u0301"'),
        ("א.1", 'invalid label "א.1"'),
        ("xn--4db.1", 'invalid label "xn--4db.1"'),
        ("a..אa", 'invalid label "a..אa"'),
    ],
)
def test_dns_names_equal_raises(name, cause):
    """The text is bare, and the same whichever side is at fault."""
    for pair in ((name, "a"), ("a", name)):
        with pytest.raises(EvalError) as caught:
            dns_names_equal(*pair)

        assert str(caught.value) == f"idna: {cause}"


def test_dns_names_equal_tells_the_fault_of_the_left_side_first():
    with pytest.raises(EvalError, match=r"^idna: disallowed rune U\+002A$"):
        dns_names_equal("*", "_")


def test_dns_name_that_was_constructed_may_not_be_comparable():
    name = dns_name("a_b.c")

    with pytest.raises(EvalError, match=r"^idna: disallowed rune U\+005F$"):
        dns_names_equal(name, name)
