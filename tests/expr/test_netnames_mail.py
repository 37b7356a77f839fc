"""E-mail addresses: construction, equality. Expected values were measured on the original's libraries."""

import pytest

from mixer.errors import EvalError
from mixer.expr.netnames import email, emails_equal


@pytest.mark.parametrize(
    "text",
    [
        "ops@example.com",
        "<a@b>",
        "  < a@b>\t",
        "a@ b",
        "a@b ()",  # an empty comment is an empty name
        "a@b ( ) (x)",
        "<a@b> (comment)",
        '"" <a@b>',
        '"a b"@c.d',
        r'"a\"b\\"@c',
        '"é"@c',
        "é@ü.de",
        "a.b+c_d'{}!#$%&*/=?^`|~@b",
        "a@xn--bcher-kva.de",
        "a@b_c.d",
        "team: a@b;",
        "=?utf-8?q??= <a@b>",
    ],
)
def test_email_keeps(text):
    assert email(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Nobody <n@example.com>",
        "a@b (c)",
        '"x" <a@b>',
        "a b <c@d>",
        "=?utf-8?q?x?= <a@b>",
        'A "B" <c@d>',
        "A (x) <c@d>",
    ],
)
def test_email_refuses_display_names(text):
    with pytest.raises(EvalError) as caught:
        email(text)

    assert str(caught.value) == f"error converting '{text}' to e-mail: display names are not allowed"


UNPARSABLE = [
    ("", "mail: no address"),
    (" \t", "mail: no address"),
    ("abc", "mail: missing '@' or angle-addr"),
    ("a.b.c", "mail: missing '@' or angle-addr"),
    ("a b", "mail: no angle-addr"),
    ("a @b", "mail: missing '@' or angle-addr"),
    ("a@[1.2.3.4]", "mail: missing '@' or angle-addr"),
    ("a@", "mail: missing '@' or angle-addr"),
    ("a@.b", "mail: missing '@' or angle-addr"),
    ("a@b.", "mail: missing '@' or angle-addr"),
    ("a..b@c", "mail: missing '@' or angle-addr"),
    (".a@b", "mail: missing '@' or angle-addr"),
    ('"a b"', "mail: no angle-addr"),
    ("@", "mail: missing word in phrase: mail: invalid string"),
    ("(x) a@b", "mail: missing word in phrase: mail: invalid string"),
    ("a@b, c@d", 'mail: expected single address, got ", c@d"'),
    ("a@b c", 'mail: expected single address, got "c"'),
    ('<a@b> é\x7f"', r'mail: expected single address, got "é\x7f\""'),
    ("<a@b", "mail: unclosed angle-addr"),
    ("<>", "mail: invalid string"),
    ("<", "mail: no addr-spec"),
    ("<a>", "mail: missing @ in addr-spec"),
    ("<a@", "mail: no domain in addr-spec"),
    ("<a..b@c>", "mail: double dot in atom"),
    ("<.a@c>", "mail: leading dot in atom"),
    ("<a.@c>", "mail: trailing dot in atom"),
    ('<"@b>', "mail: empty quoted string in addr-spec"),
    ('<""@b>', "mail: empty quoted string in addr-spec"),
    ('"a', "mail: missing word in phrase: mail: unclosed quoted-string"),
    ('"a\n"@b', r"mail: missing word in phrase: mail: bad character in quoted-string: '\n'"),
    ('"\udcff"@b', r'mail: missing word in phrase: mail: invalid utf-8 in quoted-string: "\"\xff\"@b"'),
    ("\udcff@b", r'mail: missing word in phrase: mail: invalid utf-8 in address: "\xff@b"'),
    ("a@b (x", "mail: misformatted parenthetical comment"),
    ("<a@b> (x", "mail: misformatted parenthetical comment"),
    ("g:;", "mail: empty group"),
    ("g: a@b, c@d;", "mail: group with multiple addresses"),
    ("g: a@b c@d;", "mail: expected comma"),
    ("g: a@b", "mail: expected comma"),
]


@pytest.mark.parametrize(("text", "cause"), UNPARSABLE)
def test_email_rejects(text, cause):
    with pytest.raises(EvalError) as caught:
        email(text)

    assert str(caught.value) == f"error converting '{text}' to e-mail: '{cause}'"


@pytest.mark.parametrize(("text", "cause"), UNPARSABLE)
def test_emails_equal_raises_the_bare_text(text, cause):
    with pytest.raises(EvalError) as caught:
        emails_equal("a@b", text)

    assert str(caught.value) == cause


def test_email_rejects_what_is_no_dns_name():
    with pytest.raises(EvalError) as caught:
        email("a@-b")

    assert str(caught.value) == (
        "error converting 'a@-b' to e-mail: 'error converting '-b' to dns name: 'idna: invalid label \"-b\"''"
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Ops@Example.com", "Ops@EXAMPLE.COM"),
        ("<a@b.com>", " a@B.com "),
        ('"a"@b', "a@b"),
        (r'"\a"@b', "a@b"),
        ("a@bücher.de", "a@xn--bcher-kva.de"),
        ("Bob <a@b>", "a@b (alice)"),
    ],
)
def test_emails_are_equal(a, b):
    assert emails_equal(a, b) is True


def test_domain_starts_at_the_first_at_sign_even_a_quoted_one():
    with pytest.raises(EvalError, match=r": idna: disallowed rune U\+0040$"):
        emails_equal('"x@b"@c', '"x@b"@c')


@pytest.mark.parametrize(("a", "b"), [("Ops@e.com", "ops@e.com"), ("a@b", "a@c"), ('"a b"@c', "ab@c")])
def test_emails_are_unequal(a, b):
    assert emails_equal(a, b) is False


def test_emails_equal_names_both_addresses_when_a_domain_cannot_be_compared():
    with pytest.raises(EvalError) as caught:
        emails_equal("a@b_c", "a@b")

    assert str(caught.value) == "error comparing e-mails 'a@b_c' and 'a@b': idna: disallowed rune U+005F"
