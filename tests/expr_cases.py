"""The expression corpus: what each expression is, gives, refuses and looks at.

One table, read by the tests of the parser, the checker and the generated code, and by the benchmarks. All cases
share one vocabulary and one bag, `VOCABULARY` and `ATTRIBUTES`. ``references`` is written as in the specification:
``+name`` for EXACT, ``-name`` for ABSENCE, ``name[key]`` for one key of a map. A case whose outcome differs from
the original's on purpose says so in ``deviates``.

Source: spec language 8.1, and 9 for the deviations.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mixer.attributes import AttributeValue, Duration, Timestamp, ValueType, Vocabulary
from mixer.attributes.values import parse_ip

STRING, INT64, DOUBLE, BOOL = ValueType.STRING, ValueType.INT64, ValueType.DOUBLE, ValueType.BOOL
TIMESTAMP, DURATION, IP_ADDRESS = ValueType.TIMESTAMP, ValueType.DURATION, ValueType.IP_ADDRESS
DNS_NAME, EMAIL_ADDRESS, URI = ValueType.DNS_NAME, ValueType.EMAIL_ADDRESS, ValueType.URI
STRING_MAP = ValueType.STRING_MAP

VOCABULARY = Vocabulary(
    {
        f"shop.{name}": kind
        for kind, names in {
            STRING: "tenant region tier note odd",
            INT64: "items limit span",
            DOUBLE: "ratio floor",
            BOOL: "open vip",
            TIMESTAMP: "since until never",
            DURATION: "latency budget ticks",
            IP_ADDRESS: "peer gateway v6",
            DNS_NAME: "host alias",
            EMAIL_ADDRESS: "owner contact",
            URI: "link mirror",
            STRING_MAP: "tags meta twin flat",
            ValueType.VALUE_TYPE_UNSPECIFIED: "vague",
        }.items()
        for name in names.split()
    }
)

ATTRIBUTES: dict[str, AttributeValue] = {
    "shop.tenant": "acme",
    "shop.region": "eu-west",
    "shop.items": 7,
    "shop.ratio": 2.5,
    "shop.open": True,
    "shop.since": Timestamp.parse("2020-03-01T12:00:00Z"),
    "shop.latency": Duration.parse("250ms"),
    "shop.peer": bytes((10, 1, 2, 3)),
    "shop.host": "Api.Example.com",
    "shop.owner": "Ops@Example.com",
    "shop.link": "HTTPS://Example.com:8443/v1",
    "shop.tags": {"app": "cart", "blank": "", "eu-west": "yes"},
    # Beyond the specification's bag: maps of equal content, and values of another kind than declared.
    "shop.v6": parse_ip("2001:db8::1"),
    "shop.twin": {"eu-west": "yes", "blank": "", "app": "cart"},
    "shop.odd": 42,
    "shop.span": Duration(1500),
    "shop.ticks": 3_000_000,
    "shop.never": "not a time",
    "shop.flat": "not a map",
}


class Stage(enum.Enum):
    """Where an expression fails."""

    PARSE = "parse"
    TYPE = "type"
    EVAL = "eval"


@dataclass(frozen=True, slots=True)
class Case:
    """One expression; ``error`` is exact, except that for PARSE it is what the message starts with."""

    expr: str
    type: ValueType | None = None
    value: AttributeValue | None = None
    stage: Stage | None = None
    error: str = ""
    references: str = ""
    deviates: str = ""


def gives(expr: str, kind: ValueType, value: AttributeValue, references: str = "", deviates: str = "") -> Case:
    return Case(expr, kind, value, references=references, deviates=deviates)


def fails(expr: str, kind: ValueType, error: str, references: str = "", deviates: str = "") -> Case:
    return Case(expr, kind, stage=Stage.EVAL, error=error, references=references, deviates=deviates)


def senseless(expr: str, error: str, deviates: str = "") -> Case:
    return Case(expr, stage=Stage.TYPE, error=error, deviates=deviates)


def refused(expr: str, error: str) -> Case:
    return Case(expr, stage=Stage.PARSE, error=error)


FROM_THE_SPECIFICATION = (
    gives("shop.tenant", STRING, "acme", "+shop.tenant"),
    fails("shop.tier", STRING, "lookup failed: 'shop.tier'", "-shop.tier"),
    senseless('shop.nope == "x"', "unknown attribute shop.nope"),
    gives("shop.latency", DURATION, Duration.parse("250ms"), "+shop.latency"),
    gives('shop.tags["app"]', STRING, "cart", "+shop.tags[app]"),
    gives('shop.tags["zone"]', STRING, "", "-shop.tags[zone]"),
    fails('shop.meta["zone"]', STRING, "lookup failed: 'shop.meta'", "-shop.meta"),
    gives("shop.tags[shop.region]", STRING, "yes", "+shop.region +shop.tags[eu-west]"),
    fails("shop.tags[shop.tier]", STRING, "lookup failed: 'shop.tier'", "-shop.tier"),
    gives('shop.tier | "basic"', STRING, "basic", "-shop.tier"),
    gives("shop.tier | shop.note | shop.region", STRING, "eu-west", "-shop.note +shop.region -shop.tier"),
    fails("shop.tier | shop.note", STRING, "lookup failed: 'shop.note'", "-shop.note -shop.tier"),
    gives('shop.tags["zone"] | "nowhere"', STRING, "nowhere", "-shop.tags[zone]"),
    gives('shop.tags["blank"] | "filled"', STRING, "", "+shop.tags[blank]"),
    gives(
        'shop.meta["zone"] | shop.tags["zone"] | shop.tags["app"] | "none"',
        STRING,
        "cart",
        "-shop.meta +shop.tags[app] -shop.tags[zone]",
    ),
    gives('shop.tags["zone"] | shop.tags["rack"]', STRING, "", "-shop.tags[rack] -shop.tags[zone]"),
    gives('shop.tags[shop.tier] | "fallback"', STRING, "fallback", "-shop.tier"),
    gives('shop.tags[shop.tier | "app"]', STRING, "cart", "+shop.tags[app] -shop.tier"),
    gives('(shop.meta | shop.tags)["app"]', STRING, "cart", "-shop.meta +shop.tags[app]"),
    gives('(shop.meta | emptyStringMap())["app"] | "n/a"', STRING, "n/a", "-shop.meta"),
    gives('shop.tier | (shop.note | "deep")', STRING, "deep", "-shop.note -shop.tier"),
    gives('shop.tier | (shop.note | shop.tags["zone"])', STRING, "", "-shop.note -shop.tags[zone] -shop.tier", "Q-2"),
    fails('toLower(shop.tier) | "x"', STRING, "lookup failed: 'shop.tier'", "-shop.tier"),
    gives('toLower(shop.tier | "GOLD")', STRING, "gold", "-shop.tier"),
    gives('(shop.tenant == "acme") | false', BOOL, True, "+shop.tenant", "Q-1: not false"),
    fails('(shop.tier == "gold") | true', BOOL, "lookup failed: 'shop.tier'", "-shop.tier"),
    gives("shop.vip | (shop.items > 5)", BOOL, True, "+shop.items -shop.vip"),
    gives("shop.items + 1 | 50", INT64, 8, "+shop.items", "Q-1: not 50"),
    gives("shop.limit | 50 + 1", INT64, 51, "-shop.limit"),
    gives('shop.tags["ap" + "p"] | "lost"', STRING, "cart", "+shop.tags[app]", "Q-1: not lost"),
    fails("shop.vip && shop.open", BOOL, "lookup failed: 'shop.vip'", "-shop.vip"),
    gives("shop.open || shop.vip", BOOL, True, "+shop.open"),
    gives("(shop.vip | false) || shop.open", BOOL, True, "+shop.open -shop.vip"),
    fails(
        'shop.tenant == "acme" && shop.tier == "gold"', BOOL, "lookup failed: 'shop.tier'", "+shop.tenant -shop.tier"
    ),
    gives('shop.tenant == "zeta" && shop.tier == "gold"', BOOL, False, "+shop.tenant"),
    senseless("shop.items == 7.0", "EQ($shop.items, 7.0) arg 2 (7.0) typeError got DOUBLE, expected INT64"),
    senseless("shop.ratio == 2", "EQ($shop.ratio, 2) arg 2 (2) typeError got INT64, expected DOUBLE"),
    gives("shop.ratio + 0.25", DOUBLE, 2.75, "+shop.ratio"),
    gives("shop.items < 007", BOOL, False, "+shop.items"),
    senseless('shop.tenant == "7s"', 'EQ($shop.tenant, "7s") arg 2 ("7s") typeError got DURATION, expected STRING'),
    senseless('shop.tenant == "0"', 'EQ($shop.tenant, "0") arg 2 ("0") typeError got DURATION, expected STRING'),
    gives('shop.latency == "250ms"', BOOL, True, "+shop.latency", "Q-10: no compile error"),
    gives('shop.latency | "1s"', DURATION, Duration.parse("250ms"), "+shop.latency"),
    gives('shop.budget | "1m30s"', DURATION, Duration.parse("1m30s"), "-shop.budget"),
    senseless(
        'shop.limit | "1m30s"', 'OR($shop.limit, "1m30s") arg 2 ("1m30s") typeError got DURATION, expected INT64'
    ),
    gives('shop.since > timestamp("2020-03-01T11:59:59.5Z")', BOOL, True, "+shop.since"),
    gives('shop.since == timestamp("2020-03-01T14:00:00+02:00")', BOOL, True, "+shop.since"),
    gives('shop.since >= timestamp("2020-03-01T14:00:00+02:00")', BOOL, True, "+shop.since", "Q-6: not false"),
    gives(
        'shop.until | timestamp("2021-01-01T00:00:00Z")',
        TIMESTAMP,
        Timestamp.parse("2021-01-01T00:00:00Z"),
        "-shop.until",
    ),
    fails(
        "timestamp(shop.region)",
        TIMESTAMP,
        "could not convert 'eu-west' to TIMESTAMP. expected format: '2006-01-02T15:04:05Z07:00'",
        "+shop.region",
    ),
    gives('shop.peer == ip("10.1.2.3")', BOOL, True, "+shop.peer"),
    gives('shop.gateway | ip("0.0.0.0")', IP_ADDRESS, parse_ip("::ffff:0.0.0.0"), "-shop.gateway"),
    senseless(
        'shop.peer == "10.1.2.3"',
        'EQ($shop.peer, "10.1.2.3") arg 2 ("10.1.2.3") typeError got STRING, expected IP_ADDRESS',
    ),
    fails("ip(shop.tenant)", IP_ADDRESS, "could not convert acme to IP_ADDRESS", "+shop.tenant"),
    gives('shop.host == dnsName("API.example.com.")', BOOL, True, "+shop.host"),
    senseless(
        'shop.host == "api.example.com"',
        'EQ($shop.host, "api.example.com") arg 2 ("api.example.com") typeError got STRING, expected DNS_NAME',
    ),
    fails('shop.host == dnsName("api_v2.example.com")', BOOL, "idna: disallowed rune U+005F", "+shop.host"),
    gives('shop.owner == email("Ops@EXAMPLE.COM")', BOOL, True, "+shop.owner"),
    gives('shop.owner == email("ops@example.com")', BOOL, False, "+shop.owner"),
    fails(
        'shop.contact | email("Nobody <n@example.com>")',
        EMAIL_ADDRESS,
        "error converting 'Nobody <n@example.com>' to e-mail: display names are not allowed",
        "-shop.contact",
    ),
    gives('shop.link == uri("https://example.COM:8443/v1")', BOOL, True, "+shop.link"),
    gives('shop.link == uri("https://example.com:8443/v1/")', BOOL, False, "+shop.link"),
    gives('match(shop.region, "eu-*")', BOOL, True, "+shop.region"),
    gives('match(shop.region, "*-*")', BOOL, False, "+shop.region"),
    gives('"^eu-[a-z]+$".matches(shop.region)', BOOL, True, "+shop.region"),
    gives('shop.region.matches("eu-west-1")', BOOL, True, "+shop.region"),
    fails('"(".matches(shop.region)', BOOL, "error parsing regexp: missing closing ): `(`", "+shop.region"),
    gives('(shop.tags["app"]).endsWith("rt")', BOOL, True, "+shop.tags[app]"),
    refused('shop.tags["app"].endsWith("rt")', "unexpected expression: "),
    gives('size(shop.region + "é")', INT64, 9, "+shop.region"),
    gives("conditional(shop.open, shop.tenant, shop.tier)", STRING, "acme", "+shop.open +shop.tenant"),
    senseless(
        'conditional(shop.open, "yes", 0)',
        'conditional($shop.open, "yes", 0) arg 3 (0) typeError got INT64, expected STRING',
    ),
    gives('conditionalString(shop.open || shop.vip, "a", "b")', STRING, "a", "+shop.open", "Q-4: no error"),
    fails(
        "conditionalString(shop.open, shop.tenant, shop.tier)",
        STRING,
        "lookup failed: 'shop.tier'",
        "+shop.open +shop.tenant -shop.tier",
    ),
    gives('shop.tenant + "/" + shop.region', STRING, "acme/eu-west", "+shop.region +shop.tenant"),
    senseless("!shop.open", "unknown function: NOT"),
    senseless("shop.tenant.toLower()", "invoking regular function on instance method: toLower"),
    senseless('startsWith(shop.tenant, "a")', "invoking instance method without an instance: startsWith"),
    senseless("match(shop.tenant)", "match($shop.tenant) arity mismatch. Got 1 arg(s), expected 2 arg(s)"),
    senseless(
        'toLower("X", shop.tenant)', 'toLower("X", $shop.tenant) arity mismatch. Got 2 arg(s), expected 1 arg(s)', "Q-7"
    ),
    senseless("shop.tags.app", "unknown attribute shop.tags.app"),
    refused('shop.type == "x"', """unable to parse expression 'shop.type == "x"': 1:6: """),
    refused(
        'shop.tenant = "acme"', """unable to parse expression 'shop.tenant = "acme"': 1:13: expected '==', found '='"""
    ),
    gives('shop.region == "eu-west" == shop.open', BOOL, True, "+shop.open +shop.region"),
    gives('shop.peer < ip("10.1.2.4")', BOOL, True, "+shop.peer", "hole filled: order of IP_ADDRESS"),
    senseless("toString(shop.items)", "unknown function: toString"),
)

PRECEDENCE = (
    gives('shop.tier | "x" == "x"', BOOL, True, "-shop.tier"),
    gives("shop.limit | 9 + 1", INT64, 10, "-shop.limit"),
    fails("1 + shop.limit | 9", INT64, "lookup failed: 'shop.limit'", "-shop.limit"),
    gives("1 + (shop.limit | 9)", INT64, 10, "-shop.limit"),
    gives("false || shop.vip | true", BOOL, True, "-shop.vip"),
    gives("shop.vip | true && false", BOOL, False, "-shop.vip"),
    gives("true || false && false", BOOL, True),
    gives("(true || false) && false", BOOL, False),
    gives("1 + 1 == 2 && 2 < 3", BOOL, True),
    gives("1 < 2 == true", BOOL, True),
    senseless("true == 1 < 2", "EQ(true, 1) arg 2 (1) typeError got INT64, expected BOOL"),
    gives('"a" + "b" + "c"', STRING, "abc"),
    gives("EQ(shop.items, 7)", BOOL, True, "+shop.items"),
    gives("LAND(true, OR(shop.vip, true))", BOOL, True, "-shop.vip"),
    gives("LOR(false, NEQ(1, 2))", BOOL, True),
    gives('INDEX(shop.tags, "app")', STRING, "cart", "+shop.tags[app]"),
    gives('OR(INDEX(shop.tags, "no"), "d")', STRING, "d", "-shop.tags[no]"),
    gives("ADD(1, 2)", INT64, 3),
    gives("LEQ(1, 2) && GEQ(2, 1) && LT(1, 2) && GT(2, 1)", BOOL, True),
    senseless("LE(1, 2)", "unknown function: LE"),
    senseless("AND(true, true)", "unknown function: AND"),
    senseless("lor(true, true)", "unknown function: lor"),
    senseless("1 - 1", "unknown function: SUB"),
    senseless("-1", "unknown function: SUB"),
    senseless("1 * 2", "unknown function: MUL"),
    senseless("1 / 2", "unknown function: QUO"),
    senseless("1 % 2", "unknown function: REM"),
    senseless("1 & 2", "unknown function: AND"),
    senseless("1 ^ 2", "unknown function: XOR"),
    senseless("1 << 2", "unknown function: "),
    senseless("1 >> 2", "unknown function: "),
    senseless("1 &^ 2", "unknown function: "),
    senseless("<-shop.open", "unknown function: "),
    senseless("^1", "unknown function: XOR"),
    senseless("&shop.open", "unknown function: AND"),
    senseless("!nope", "unknown function: NOT"),
    senseless("+1", "ADD(1) arity mismatch. Got 1 arg(s), expected 2 arg(s)"),
    senseless("1 + 2 * 3", "unknown function: MUL"),
)

LITERALS = (
    gives("010", INT64, 10),
    gives("0", INT64, 0),
    gives("0007", INT64, 7),
    gives("9223372036854775807", INT64, (1 << 63) - 1),
    refused("9223372036854775808", 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
    refused("0x10", 'strconv.ParseInt: parsing "0x10": invalid syntax'),
    refused("0b1", 'strconv.ParseInt: parsing "0b1": invalid syntax'),
    refused("0o7", 'strconv.ParseInt: parsing "0o7": invalid syntax'),
    refused("1_000", 'strconv.ParseInt: parsing "1_000": invalid syntax'),
    refused("08", "unable to parse expression '08': 1:2: invalid digit '8' in octal literal"),
    refused('"é" == 0079', "unable to parse expression '\"é\" == 0079': 1:12: invalid digit '9' in octal literal"),
    refused("1_", "unable to parse expression '1_': 1:2: '_' must separate successive digits"),
    refused("1__0", "unable to parse expression '1__0': 1:3: '_' must separate successive digits"),
    refused("0x_1_", "unable to parse expression '0x_1_': 1:5: '_' must separate successive digits"),
    refused("0x_1", 'strconv.ParseInt: parsing "0x_1": invalid syntax'),
    refused("1_.5", "unable to parse expression '1_.5': 1:2: '_' must separate successive digits"),
    refused("(08", "unable to parse expression '(08': 1:3: invalid digit '8' in octal literal"),
    refused("08i", "invalid syntax"),
    refused("0129", ""),
    refused("2i", "invalid syntax"),
    refused("1.5i", "invalid syntax"),
    gives("1.5", DOUBLE, 1.5),
    gives(".5", DOUBLE, 0.5),
    gives("1.", DOUBLE, 1.0),
    gives("1e3", DOUBLE, 1000.0),
    gives("1E+2", DOUBLE, 100.0),
    gives("09.5", DOUBLE, 9.5),
    gives("00.5", DOUBLE, 0.5),
    gives("1_0.5", DOUBLE, 10.5),
    gives("0x1p-2", DOUBLE, 0.25),
    gives("0X1.8P+1", DOUBLE, 3.0),
    gives("0x_1p1", DOUBLE, 2.0),
    gives("1e-400", DOUBLE, 0.0),
    refused("1e400", 'strconv.ParseFloat: parsing "1e400": value out of range'),
    refused("1__0.5", ""),
    refused("1_e00", ""),
    refused("1._5", ""),
    refused("1e", "unable to parse expression '1e': 1:2: "),
    refused("1x", "unable to parse expression"),
    gives('"a\\n\\t\\\\\\"b"', STRING, 'a\n\t\\"b'),
    gives('"\\a\\b\\f\\v\\r"', STRING, "\a\b\f\v\r"),
    gives('"\\101\\x42\\u00e9\\U0001F600"', STRING, "ABé😀"),
    gives('"\\u00e9101"', STRING, "é101"),
    gives('"\\xc3\\xa9"', STRING, "é"),
    gives('"\\xff"', STRING, "\udcff"),
    gives('"\\377"', STRING, "\udcff"),
    refused('"\\400"', "unable to parse expression"),
    refused('"\\\'"', "unable to parse expression"),
    refused('"\\q"', "unable to parse expression"),
    refused('"\\ud800"', "unable to parse expression"),
    refused('"\\U00110000"', "unable to parse expression"),
    refused('"a\nb"', "unable to parse expression"),
    refused('"open', "unable to parse expression '\"open': 1:1: string literal not terminated"),
    gives('`a\\n"b`', STRING, 'a\\n"b'),
    gives("`a\nb`", STRING, "a\nb"),
    gives("`a\r\nb`", STRING, "a\nb"),
    refused("`open", "unable to parse expression '`open': 1:1: raw string literal not terminated"),
    gives("'x'", STRING, "x"),
    gives("'\\n'", STRING, "\n"),
    gives("'\\''", STRING, "'"),
    gives("'\\u00e9'", STRING, "é"),
    gives("'\\xff'", STRING, "\udcff"),
    gives("'\"'", STRING, '"'),
    refused("''", "unable to parse expression"),
    refused("'ab'", "unable to parse expression"),
    refused("'\\\"'", "unable to parse expression"),
    gives("TRUE", BOOL, True),
    gives("False", BOOL, False),
    gives("/* c */ true // end", BOOL, True),
    gives("'0'", DURATION, Duration(0)),
    gives("`1h`", DURATION, Duration.parse("1h")),
    gives('"1h30m"', DURATION, Duration(5_400_000_000_000)),
    gives('"-1.5h"', DURATION, Duration(-5_400_000_000_000)),
    gives('"+.5s"', DURATION, Duration(500_000_000)),
    gives('"1.s"', DURATION, Duration(1_000_000_000)),
    gives('"1µs"', DURATION, Duration(1000)),
    gives('"1μs"', DURATION, Duration(1000)),
    gives('"0.1ns"', DURATION, Duration(0)),
    gives('"-0"', DURATION, Duration(0)),
    gives('"\\x31s"', DURATION, Duration(1_000_000_000)),
    gives('"0.3333333333333333333h"', DURATION, Duration(1_200_000_000_000)),
    *(
        gives(f'"{text}"', STRING, text)
        for text in ("", ".", "00", "0.0", "1", "1d", "1S", "1 s", " 1s", "1m1", "1e3s", "3000000h", "٣s", "s", "+")
    ),
)

SHAPES = (
    refused("", "unable to parse expression '': 1:1: "),
    refused("  ", "unable to parse expression '  ': 1:3: "),
    refused("a b", "unable to parse expression 'a b': 1:3: expected an operator or the end, found 'b'"),
    refused("é b", "unable to parse expression 'é b': 1:4: "),
    refused("a &&\n&& b", "unable to parse expression 'a &&\n&& b': 2:1: "),
    refused("a\n == b", "unable to parse expression"),
    refused("f(a\n)", "unable to parse expression"),
    refused("(a\n)", "unable to parse expression"),
    refused('m["k"\n]', "unable to parse expression"),
    refused("a\n.b", "unable to parse expression"),
    refused("a /*\n*/ | b", "unable to parse expression"),
    refused("a // c\n | b", "unable to parse expression"),
    gives("\n\n true || \n false /* c */ && \n true \n // end", BOOL, True),
    gives("shop.\ntenant", STRING, "acme", "+shop.tenant"),
    gives("shop . /* c */ tenant", STRING, "acme", "+shop.tenant"),
    gives("size(\nshop.tenant)", INT64, 4, "+shop.tenant"),
    gives("conditional(true,\n 1,\n 2,)", INT64, 1),
    gives("size(shop.tenant...)", INT64, 4, "+shop.tenant"),
    gives("size(shop.tenant...,)", INT64, 4, "+shop.tenant"),
    refused("size(,)", "unable to parse expression"),
    refused("size(...)", "unable to parse expression"),
    refused("a;", "unable to parse expression"),
    *(refused(f"a {char} b", "unable to parse expression") for char in "$@#?~\\"),
    *(
        refused(f"shop.{word}", f"unable to parse expression 'shop.{word}': 1:6: expected a name after '.'")
        for word in [
            "break",
            "case",
            "chan",
            "const",
            "continue",
            "default",
            "defer",
            "else",
            "fallthrough",
            "for",
            "func",
            "go",
            "goto",
            "if",
            "import",
            "interface",
            "map",
            "package",
            "range",
            "return",
            "select",
            "struct",
            "switch",
            "type",
            "var",
        ]
    ),
    refused("range", "unable to parse expression"),
    refused("a ? b : c", "unable to parse expression"),
    refused("a := b", "unable to parse expression 'a := b': 1:3: expected an operator or the end, found ':='"),
    refused("a++", "unable to parse expression"),
    refused("a++b", "unable to parse expression"),
    refused("a<-b", "unable to parse expression"),
    refused("a ||| b", "unable to parse expression"),
    refused("a === b", "unable to parse expression"),
    refused("a and b", "unable to parse expression 'a and b': 1:3: expected an operator or the end, found 'and'"),
    refused("not a", "unable to parse expression"),
    refused("a² == b", "unable to parse expression"),
    refused("a\x00", "unable to parse expression 'a\x00': 1:2: illegal character NUL"),
    refused("a\ufeff", "unable to parse expression"),
    gives("\ufefftrue", BOOL, True),
    refused("\udc80", "unable to parse expression"),
    refused("a == \u00a0b", "unable to parse expression"),
    refused("(a", "unable to parse expression '(a': 1:3: expected an operator or ')', found end of expression"),
    refused("f(a", "unable to parse expression 'f(a': 1:4: expected an operator, ',' or ')', found end"),
    refused("m[a", "unable to parse expression 'm[a': 1:4: expected an operator"),
    refused("*a", "unexpected expression: "),
    refused("m[a:b]", "unexpected expression: "),
    refused("m[:]", "unexpected expression: "),
    refused("m[a, b]", "unexpected expression: "),
    refused("m[]", "unable to parse expression"),
    refused("x.(T)", "unexpected expression: "),
    refused('"a".b', "unexpected expression: "),
    refused("(a).b", "unexpected expression: "),
    refused("f().b", "unexpected expression: "),
    refused("(a).b.c()", "unexpected expression: "),
    refused('m["k"].f()', "unexpected expression: "),
    refused("(f)(x)", "unexpected expression: "),
    refused("f()()", "unexpected expression: "),
    refused('m["k"]("x")', "unexpected expression: "),
    refused('"a"("b")', "unexpected expression: "),
    refused("1()", "unexpected expression: "),
    refused("*a +", "unable to parse expression"),
    senseless("labels.app", "unknown attribute labels.app"),
    senseless("true.foo", "unknown attribute true.foo"),
    senseless("true()", "unknown function: true"),
    senseless("nil", "unknown attribute nil"),
    senseless('"10.1.2.3".matches("x").y(1)', "unknown function: y"),
    gives('(shop.tenant).startsWith("a")', BOOL, True, "+shop.tenant"),
    gives('"acme".startsWith("a")', BOOL, True),
    gives('toLower("ACME").startsWith("a")', BOOL, True),
    gives('(shop.tenant + "x").endsWith("ex")', BOOL, True, "+shop.tenant"),
    senseless("1..startsWith(`a`)", "1.:startsWith(`a`) target typeError got DOUBLE, expected STRING"),
    senseless("shop.items.startsWith(`a`)", "$shop.items:startsWith(`a`) target typeError got INT64, expected STRING"),
)

TYPES = (
    senseless("nope", "unknown attribute nope"),
    senseless("nope()", "unknown function: nope"),
    senseless("nope(also.nope)", "unknown function: nope"),
    senseless("size(also.nope, 1)", "size($also.nope, 1) arity mismatch. Got 2 arg(s), expected 1 arg(s)", "Q-7"),
    senseless("size()", "size() arity mismatch. Got 0 arg(s), expected 1 arg(s)"),
    senseless("emptyStringMap(1)", "emptyStringMap(1) arity mismatch. Got 1 arg(s), expected 0 arg(s)", "Q-7"),
    senseless(
        "LAND(true, true, true)", "LAND(true, true, true) arity mismatch. Got 3 arg(s), expected 2 arg(s)", "Q-7"
    ),
    senseless(
        '"a".startsWith("a", "b")', '"a":startsWith("a", "b") arity mismatch. Got 2 arg(s), expected 1 arg(s)', "Q-7"
    ),
    senseless("EQ(3, shop.tenant)", "EQ(3, $shop.tenant) arg 2 ($shop.tenant) typeError got STRING, expected INT64"),
    senseless("size(shop.tags)", "size($shop.tags) arg 1 ($shop.tags) typeError got STRING_MAP, expected STRING"),
    senseless("true && 1", "LAND(true, 1) arg 2 (1) typeError got INT64, expected BOOL"),
    senseless("1 && true", "LAND(1, true) arg 1 (1) typeError got INT64, expected BOOL"),
    senseless("true && true && 1", "LAND(LAND(true, true), 1) arg 2 (1) typeError got INT64, expected BOOL"),
    senseless("true || 1 || nope", "LOR(true, 1) arg 2 (1) typeError got INT64, expected BOOL"),
    senseless(
        'shop.tenant["a"]', 'INDEX($shop.tenant, "a") arg 1 ($shop.tenant) typeError got STRING, expected STRING_MAP'
    ),
    senseless("shop.tags[1]", "INDEX($shop.tags, 1) arg 2 (1) typeError got INT64, expected STRING"),
    senseless('shop.tags["10s"]', 'INDEX($shop.tags, "10s") arg 2 ("10s") typeError got DURATION, expected STRING'),
    senseless('shop.host | "x"', 'OR($shop.host, "x") arg 2 ("x") typeError got STRING, expected DNS_NAME'),
    senseless("shop.items + 1.0", "ADD($shop.items, 1.0) arg 2 (1.0) typeError got DOUBLE, expected INT64"),
    senseless("conditional(1, 2, 3)", "conditional(1, 2, 3) arg 1 (1) typeError got INT64, expected BOOL"),
    senseless("conditional(true, 1)", "conditional(true, 1) arity mismatch. Got 2 arg(s), expected 3 arg(s)"),
    senseless(
        'conditional(true, 1, conditional(true, "a", 2))',
        'conditional(true, "a", 2) arg 3 (2) typeError got INT64, expected STRING',
    ),
    senseless(
        'conditional(true, 1, conditional(true, "a", "b"))',
        'conditional(true, 1, conditional(true, "a", "b")) arg 3 (conditional(true, "a", "b")) typeError got STRING, '
        "expected INT64",
    ),
    senseless("shop.tenant.size()", "invoking regular function on instance method: size"),
    senseless('shop.tenant.EQ("a")', "invoking regular function on instance method: EQ"),
    senseless('matches("a", "b")', "invoking instance method without an instance: matches"),
    senseless("nope.matches(1)", "unknown attribute nope"),
    senseless("shop.tenant.matches(1)", "$shop.tenant:matches(1) arg 1 (1) typeError got INT64, expected STRING"),
    *(
        senseless(f"{name}(shop.tenant)", f"unknown function: {name}")
        for name in ("reverse", "substring", "len", "string", "int", "duration", "has", "ip_equal", "timestamp_lt")
    ),
    senseless("true + false", "internal compiler error -- Add for type not yet implemented: bool"),
    senseless("shop.since + shop.until", "internal compiler error -- Add for type not yet implemented: interface"),
    senseless("shop.peer + shop.peer", "internal compiler error -- Add for type not yet implemented: interface"),
    senseless("shop.tags + shop.tags", "internal compiler error -- Add for type not yet implemented: interface"),
    senseless("shop.tags < shop.tags", "internal compiler error -- less than for type not yet implemented: interface"),
    senseless(
        "shop.tags <= shop.tags", "internal compiler error -- less or equal for type not yet implemented: interface"
    ),
    senseless(
        "shop.tags > shop.tags", "internal compiler error -- greater than for type not yet implemented: interface"
    ),
    senseless(
        "shop.tags >= shop.tags", "internal compiler error -- greater or equal for type not yet implemented: interface"
    ),
    senseless("shop.vague", "internal compiler error -- unhandled expression type: 'VALUE_TYPE_UNSPECIFIED'"),
    senseless(
        'shop.vague | "x"', 'OR($shop.vague, "x") arg 2 ("x") typeError got STRING, expected VALUE_TYPE_UNSPECIFIED'
    ),
    senseless(
        "conditional(true, shop.vague, 1)",
        "conditional(true, $shop.vague, 1) arg 3 (1) typeError got INT64, expected VALUE_TYPE_UNSPECIFIED",
    ),
    senseless(
        "shop.vague == shop.vague", "internal compiler error -- unhandled expression type: 'VALUE_TYPE_UNSPECIFIED'"
    ),
    senseless(
        "(true + false) && shop.vague",
        "LAND(ADD(true, false), $shop.vague) arg 2 ($shop.vague) typeError got VALUE_TYPE_UNSPECIFIED, expected BOOL",
    ),
)

COMPARISON = (
    gives("shop.tenant == shop.region", BOOL, False, "+shop.region +shop.tenant"),
    gives("shop.tenant != shop.region", BOOL, True, "+shop.region +shop.tenant"),
    fails("shop.tier == shop.note", BOOL, "lookup failed: 'shop.tier'", "-shop.tier"),
    fails("shop.tenant == shop.note", BOOL, "lookup failed: 'shop.note'", "-shop.note +shop.tenant"),
    gives('"a" < "b" && "B" < "a" && "a" < "aa"', BOOL, True),
    gives('"\\uffff" < "\\U00010000"', BOOL, True),
    gives('"\\xff" > "\\U00010000"', BOOL, True),
    gives('"\\xc3" + "\\xa9" == "é"', BOOL, True),
    gives('"é".startsWith("\\xc3")', BOOL, True),
    gives('"é".endsWith("\\xa9")', BOOL, True),
    gives('match("é", "\\xc3*")', BOOL, True),
    gives("7 == 7 && 7 != 8 && 7 < 8 && 7 <= 7 && 8 > 7 && 8 >= 8", BOOL, True),
    gives("2.5 == shop.ratio && shop.ratio >= 2.5", BOOL, True, "+shop.ratio"),
    gives("shop.ratio < 2.4 || shop.ratio > 2.6", BOOL, False, "+shop.ratio"),
    gives("false < true", BOOL, True, deviates="hole filled: order of BOOL"),
    gives("true >= true && true <= true && true > false", BOOL, True, deviates="hole filled: order of BOOL"),
    gives("shop.open == true", BOOL, True, "+shop.open"),
    gives('"1s" == "1000ms"', BOOL, True, deviates="Q-10"),
    gives('shop.latency != "250ms"', BOOL, False, "+shop.latency", deviates="Q-10"),
    gives('shop.latency < "1s" && shop.latency <= "250ms"', BOOL, True, "+shop.latency", deviates="Q-10"),
    gives('shop.latency > "1s" || shop.latency >= "1h"', BOOL, False, "+shop.latency", deviates="Q-10"),
    gives('shop.latency + "1s"', DURATION, Duration.parse("1.25s"), "+shop.latency", deviates="Q-10"),
    gives('"2562047h" + "2562047h"', DURATION, Duration(2562047 * 2 * 3_600 * 10**9 - (1 << 64)), deviates="Q-10"),
    gives('shop.peer == ip("::ffff:10.1.2.3")', BOOL, True, "+shop.peer"),
    gives('shop.peer != ip("10.1.2.4")', BOOL, True, "+shop.peer"),
    gives(
        'shop.peer <= ip("10.1.2.3") && shop.peer >= ip("10.1.2.3")',
        BOOL,
        True,
        "+shop.peer",
        deviates="hole filled: order of IP_ADDRESS",
    ),
    gives("shop.peer < shop.v6", BOOL, True, "+shop.peer +shop.v6", deviates="hole filled: order of IP_ADDRESS"),
    gives(
        "shop.v6 > shop.peer && shop.v6 != shop.peer",
        BOOL,
        True,
        "+shop.peer +shop.v6",
        deviates="hole filled: order of IP_ADDRESS",
    ),
    gives(
        "shop.tags == shop.twin", BOOL, True, "+shop.tags +shop.twin", deviates="hole filled: equality of STRING_MAP"
    ),
    gives("shop.tags != emptyStringMap()", BOOL, True, "+shop.tags", deviates="hole filled: equality of STRING_MAP"),
    gives("emptyStringMap() == emptyStringMap()", BOOL, True, deviates="hole filled: equality of STRING_MAP"),
    fails("shop.tags == shop.meta", BOOL, "lookup failed: 'shop.meta'", "-shop.meta"),
    gives('shop.since < timestamp("2020-03-01T12:00:00.000000001Z")', BOOL, True, "+shop.since"),
    gives('shop.since <= timestamp("2020-03-01T14:00:00+02:00")', BOOL, True, "+shop.since", deviates="Q-6"),
    gives('shop.since != timestamp("2020-03-01T12:00:00Z")', BOOL, False, "+shop.since"),
    gives('shop.host != dnsName("other.example.com")', BOOL, True, "+shop.host"),
    gives('shop.host < dnsName("a")', BOOL, True, "+shop.host"),
    gives('shop.link != uri("https://example.com")', BOOL, True, "+shop.link"),
    gives('shop.owner != email("x@example.com")', BOOL, True, "+shop.owner"),
    gives('dnsName("a.b") + dnsName("c.d")', DNS_NAME, "a.bc.d"),
    gives('uri("http://a") + uri("/b")', URI, "http://a/b"),
    gives('email("a@b") + email("c@d")', EMAIL_ADDRESS, "a@bc@d"),
)

ABSENCE = (
    gives("shop.tier | shop.tenant | shop.note", STRING, "acme", "+shop.tenant -shop.tier"),
    gives('shop.tier | "x" | shop.note', STRING, "x", "-shop.tier"),
    gives('"x" | shop.note', STRING, "x"),
    gives("(shop.items == 7) | shop.vip", BOOL, True, "+shop.items", deviates="Q-1"),
    gives("(shop.open && true) | false", BOOL, True, "+shop.open", deviates="Q-1"),
    gives("size(shop.tenant) | 9", INT64, 4, "+shop.tenant", deviates="Q-1"),
    gives('"p" + ((shop.tenant + "x") | "y")', STRING, "pacmex", "+shop.tenant", deviates="Q-1"),
    gives("7 + ((3 + 1) | 5)", INT64, 11, deviates="Q-1"),
    gives('"p" + (shop.tags[shop.tier] | "y")', STRING, "py", "-shop.tier", deviates="Q-2b"),
    gives('shop.tier | (shop.note | (shop.tags["no"] | "z"))', STRING, "z", "-shop.note -shop.tags[no] -shop.tier"),
    fails(
        "shop.tier | (shop.note | shop.tier)",
        STRING,
        "lookup failed: 'shop.tier'",
        "-shop.note -shop.tier",
        deviates="Q-2",
    ),
    gives("(shop.tier | shop.note) | shop.tenant", STRING, "acme", "-shop.note +shop.tenant -shop.tier"),
    gives('(shop.meta | shop.tags)["no"] | "d"', STRING, "d", "-shop.meta -shop.tags[no]"),
    gives('(shop.meta | shop.tags)["no"]', STRING, "", "-shop.meta -shop.tags[no]"),
    fails('(shop.meta | shop.meta)["no"] ', STRING, "lookup failed: 'shop.meta'", "-shop.meta"),
    gives('shop.meta["no"] | shop.tags["no"]', STRING, "", "-shop.meta -shop.tags[no]"),
    fails('shop.tags["no"] | shop.meta["no"]', STRING, "lookup failed: 'shop.meta'", "-shop.meta -shop.tags[no]"),
    gives('shop.tags[shop.tags["no"] | "app"]', STRING, "cart", "+shop.tags[app] -shop.tags[no]"),
    gives('shop.tags[shop.tags["no"]] | "d"', STRING, "d", "-shop.tags[no]"),
    gives('shop.tags[shop.tags["no"]]', STRING, "", "-shop.tags -shop.tags[no]"),
    gives('conditional(shop.open, shop.tags, shop.meta)["app"]', STRING, "cart", "+shop.open +shop.tags[app]"),
    gives('conditional(shop.open, shop.tags, shop.meta)["no"] | "d"', STRING, "d", "+shop.open -shop.tags[no]"),
    fails('conditional(false, shop.tags, shop.meta)["no"] | "d"', STRING, "lookup failed: 'shop.meta'", "-shop.meta"),
    fails("conditional(shop.vip, 1, 2) | 3", INT64, "lookup failed: 'shop.vip'", "-shop.vip"),
    gives("conditional(shop.vip | false, 1, shop.limit | 2)", INT64, 2, "-shop.limit -shop.vip"),
    gives("shop.budget | shop.latency", DURATION, Duration.parse("250ms"), "-shop.budget +shop.latency"),
    gives("shop.gateway | shop.peer", IP_ADDRESS, bytes((10, 1, 2, 3)), "-shop.gateway +shop.peer"),
    gives("shop.floor | shop.ratio", DOUBLE, 2.5, "-shop.floor +shop.ratio"),
    gives("shop.alias | shop.host", DNS_NAME, "Api.Example.com", "-shop.alias +shop.host"),
    gives("(shop.limit | shop.items) + (shop.limit | 1)", INT64, 8, "+shop.items -shop.limit"),
    gives("shop.meta | shop.tags", STRING_MAP, {"app": "cart", "blank": "", "eu-west": "yes"}, "-shop.meta"),
    gives("shop.tags", STRING_MAP, {"app": "cart", "blank": "", "eu-west": "yes"}),
    fails("shop.meta", STRING_MAP, "lookup failed: 'shop.meta'", "-shop.meta"),
    gives("emptyStringMap()", STRING_MAP, {}),
    gives('emptyStringMap()["x"]', STRING, ""),
    fails("shop.vip || true", BOOL, "lookup failed: 'shop.vip'", "-shop.vip"),
    gives("true || shop.vip", BOOL, True),
    gives("false && shop.vip", BOOL, False),
    fails("true && shop.vip", BOOL, "lookup failed: 'shop.vip'", "-shop.vip"),
    gives("shop.open || shop.vip | true", BOOL, True, "+shop.open"),
    gives("conditional(shop.open || shop.vip, 1, 2)", INT64, 1, "+shop.open"),
)

KINDS = (
    fails("shop.odd", STRING, "error converting value to string: '42'", "+shop.odd"),
    fails('shop.odd | "x"', STRING, "error converting value to string: '42'", "+shop.odd"),
    gives("shop.span", INT64, 1500, "+shop.span"),
    gives("shop.span + 1", INT64, 1501, "+shop.span"),
    gives("shop.limit | shop.span", INT64, 1500, "-shop.limit +shop.span"),
    gives("shop.span | 0", INT64, 1500, "+shop.span"),
    gives("shop.ticks", DURATION, Duration.parse("3ms"), "+shop.ticks"),
    gives('shop.ticks | "1s"', DURATION, Duration.parse("3ms"), "+shop.ticks"),
    gives('shop.ticks == "3ms"', BOOL, True, "+shop.ticks", deviates="Q-10"),
    gives("shop.never", TIMESTAMP, "not a time", "+shop.never"),
    fails(
        "shop.never == shop.since", BOOL, "error converting value to timestamp: 'not a time'", "+shop.never +shop.since"
    ),
    fails("shop.never < shop.until", BOOL, "lookup failed: 'shop.until'", "+shop.never -shop.until"),
    gives("shop.flat", STRING_MAP, "not a map", "+shop.flat"),
    fails('shop.flat["a"]', STRING, "error converting value to string map: 'not a map'", "+shop.flat"),
    fails('shop.flat["a"] | "b"', STRING, "error converting value to string map: 'not a map'", "+shop.flat"),
    gives('shop.flat[shop.tier] | "b"', STRING, "b", "+shop.flat -shop.tier"),
    fails("shop.flat == shop.tags", BOOL, "error converting value to string map: 'not a map'", "+shop.flat"),
    gives("9223372036854775807 + 1", INT64, -(1 << 63)),
    gives("1 + 9223372036854775807 + 9223372036854775807 + 9223372036854775807", INT64, 9223372036854775806),
    gives("1e308 + 1e308 == 1e308 + 1e308", BOOL, True),
    gives("0.1 + 0.2", DOUBLE, 0.1 + 0.2),
)

FUNCTIONS = (
    gives('size("añb")', INT64, 4),
    gives('size("")', INT64, 0),
    gives('size("\\xff\\xfe")', INT64, 2),
    gives('match("foobar", "foo*")', BOOL, True),
    gives('match("foobar", "*bar")', BOOL, True),
    gives('match("foobar", "foobar")', BOOL, True),
    gives('match("*foox", "*foo*")', BOOL, True),
    gives('match("xfoox", "*foo*")', BOOL, False),
    gives('match("foobar", "foo*bar")', BOOL, False),
    gives('match(shop.region, "*")', BOOL, True, "+shop.region"),
    gives('match("", "")', BOOL, True),
    gives('match(shop.region, "")', BOOL, False, "+shop.region"),
    gives('match(shop.region, shop.tier | "eu*")', BOOL, True, "+shop.region -shop.tier"),
    gives('match(shop.region, shop.tier | "*west")', BOOL, True, "+shop.region -shop.tier"),
    gives('match("**", "**")', BOOL, True),
    gives('"b+".matches("abbc")', BOOL, True),
    gives('"^b+$".matches("abbc")', BOOL, False),
    gives('"(?i)ACME".matches(shop.tenant)', BOOL, True, "+shop.tenant"),
    gives('"é.".matches("xéy")', BOOL, True),
    gives('"^.$".matches("\\xff")', BOOL, True),
    fails('"\\xff".matches("a")', BOOL, "error parsing regexp: invalid UTF-8: `\udcff`"),
    fails('"[a".matches(shop.tenant)', BOOL, "error parsing regexp: missing closing ]: `[a`", "+shop.tenant"),
    fails('"(".matches(shop.tier)', BOOL, "lookup failed: 'shop.tier'", "-shop.tier"),
    fails('"*".matches("a")', BOOL, "error parsing regexp: missing argument to repetition operator: `*`"),
    fails('"a**".matches("a")', BOOL, "error parsing regexp: invalid nested repetition operator: `**`"),
    fails('")".matches("a")', BOOL, "error parsing regexp: unexpected ): `)`"),
    fails('"a{1001}".matches("a")', BOOL, "error parsing regexp: invalid repeat count: `{1001}`"),
    fails('"[z-a]".matches("a")', BOOL, "error parsing regexp: invalid character class range: `z-a`"),
    fails("`\\8`.matches(`a`)", BOOL, "error parsing regexp: invalid escape sequence: `\\8`"),
    fails("`\\C`.matches(`a`)", BOOL, "error parsing regexp: invalid escape sequence: `\\C`"),
    fails("`\\p`.matches(`a`)", BOOL, "error parsing regexp: invalid character class range: `\\p`"),
    fails("`a\\`.matches(`a`)", BOOL, "error parsing regexp: trailing backslash at end of expression: ``"),
    fails('"(?=a)".matches("a")', BOOL, "error parsing regexp: invalid or unsupported Perl syntax: `(?=`"),
    fails('"(?<!a)".matches("a")', BOOL, "error parsing regexp: invalid or unsupported Perl syntax: `(?<`"),
    gives('(shop.tier | "^a").matches(shop.tenant)', BOOL, True, "+shop.tenant -shop.tier"),
    fails(
        '(shop.tier | "(").matches(shop.tenant)',
        BOOL,
        "error parsing regexp: missing closing ): `(`",
        "+shop.tenant -shop.tier",
    ),
    gives('shop.tenant.startsWith("") && shop.tenant.endsWith("")', BOOL, True, "+shop.tenant"),
    gives('shop.tenant.startsWith("Ac")', BOOL, False, "+shop.tenant"),
    fails("shop.tier.startsWith(shop.note)", BOOL, "lookup failed: 'shop.tier'", "-shop.tier"),
    gives('toLower("ΑΣ")', STRING, "ασ"),
    gives('toLower("İ")', STRING, "i"),
    gives('toLower("ÀB1_")', STRING, "àb1_"),
    gives("conditional(true, 1, conditional(false, 2, 3))", INT64, 1),
    gives("conditional(false, 1, conditional(false, 2, 3))", INT64, 3),
    gives("conditional(true, shop.peer, shop.gateway) == shop.peer", BOOL, True, "+shop.peer"),
    gives('conditionalString(true, "a", "b")', STRING, "a"),
    gives('conditionalString(false, "a", "b")', STRING, "b"),
    fails('conditionalString(true, "a", shop.tier)', STRING, "lookup failed: 'shop.tier'", "-shop.tier"),
    gives('ip("::1")', IP_ADDRESS, parse_ip("::1")),
    gives('ip(shop.tier | "10.0.0.1")', IP_ADDRESS, bytes(10) + b"\xff\xff\x0a\0\0\x01", "-shop.tier"),
    fails('ip("10.1.2")', IP_ADDRESS, "could not convert 10.1.2 to IP_ADDRESS"),
    fails('ip("10.1.2") | shop.peer', IP_ADDRESS, "could not convert 10.1.2 to IP_ADDRESS"),
    gives('timestamp("2020-01-01T00:00:00+02:00")', TIMESTAMP, Timestamp.parse("2019-12-31T22:00:00Z")),
    fails(
        'timestamp("x")', TIMESTAMP, "could not convert 'x' to TIMESTAMP. expected format: '2006-01-02T15:04:05Z07:00'"
    ),
    gives('dnsName("Ex.com")', DNS_NAME, "Ex.com"),
    gives('email("a@b.c")', EMAIL_ADDRESS, "a@b.c"),
    gives('uri("/x")', URI, "/x"),
    fails('uri("")', URI, "error converting string to uri: empty string"),
    gives('shop.mirror | uri("/x")', URI, "/x", "-shop.mirror"),
)

CASES = (
    *FROM_THE_SPECIFICATION,
    *PRECEDENCE,
    *LITERALS,
    *SHAPES,
    *TYPES,
    *COMPARISON,
    *ABSENCE,
    *KINDS,
    *FUNCTIONS,
)

CANONICAL = (
    ('(m["k"] | "d").startsWith("x")', 'OR(INDEX($m, "k"), "d"):startsWith("x")'),
    ("a | b | c", "OR(OR($a, $b), $c)"),
    ("a | (b | c)", "OR($a, OR($b, $c))"),
    ('a | "x" == "y"', 'EQ(OR($a, "x"), "y")'),
    ("a + 1 | 9", "OR(ADD($a, 1), 9)"),
    ("p || q | TRUE", "LOR($p, OR($q, true))"),
    ("a | b && c", "LAND(OR($a, $b), $c)"),
    ("a == b == c", "EQ(EQ($a, $b), $c)"),
    ("a || b && c", "LOR($a, LAND($b, $c))"),
    ("a < b && c >= d", "LAND(LT($a, $b), GEQ($c, $d))"),
    ("a * b + c", "ADD(MUL($a, $b), $c)"),
    ("a - b ^ c", "XOR(SUB($a, $b), $c)"),
    ("a &^ b", "($a, $b)"),
    ("!a == b", "EQ(NOT($a), $b)"),
    ("- - a", "SUB(SUB($a))"),
    ("a & -b", "AND($a, SUB($b))"),
    ("x.y.startsWith(`a`)", "$x.y:startsWith(`a`)"),
    ("true.f()", "$true:f()"),
    ("(true).f()", "true:f()"),
    ("a.b", "$a.b"),
    ("f().g().h(1)", "f():g():h(1)"),
    ('m["a"]["b"]', 'INDEX(INDEX($m, "a"), "b")'),
    ('f()["k"]', 'INDEX(f(), "k")'),
    ("010 + 1e3", "ADD(010, 1e3)"),
    ("conditional(a, b, conditional(c, d, e))", "conditional($a, $b, conditional($c, $d, $e))"),
    ("conditional(a, conditional(c, d, e), b)", "conditional($a, conditional($c, $d, $e), $b)"),
    ("x.conditional(a, b, conditional(c, d, e))", "$x:conditional($a, $b, conditional($c, $d, $e))"),
    ("OR(a) | b", "OR(OR($a), $b)"),
    ("x.OR(a, b) | c", "OR($x:OR($a, $b), $c)"),
    ("f(g(a...), b,)", "f(g($a), $b)"),
    ("`a\rb`", "`ab`"),
    ("é.ß", "$é.ß"),
    ("x٣", "$x٣"),
)
"""Source and canonical text; agreed by Go's own parser and the shape rules."""
