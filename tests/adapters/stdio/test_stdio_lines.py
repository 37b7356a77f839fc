"""What a line looks like, to the character."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.stdio.lines import quote, to_json
from mixer.attributes import Duration, Timestamp, ValueType
from mixer.templates.logentry import LogEntryInstance
from mixer.templates.metric import MetricInstance

NAME = "log.instance.istio-system"
VARIABLES = {
    "String": "a string",
    "Int64": -3,
    "Double": 1.5,
    "Bool": True,
    "Time": Timestamp.parse("2017-02-01T00:00:00.123456789Z"),
    "Duration": Duration.parse("1s"),
    "IP": b"\x01\x02\x03\x04",
    "Email": "a@b",
    "URI": "http://x/?a&b<c>",
    "DNS": "x.y",
    "Map": {"B": "2", "A": "1"},
    "Bytes": b"b",
}
TYPES = {
    "String": ValueType.STRING,
    "Int64": ValueType.INT64,
    "Double": ValueType.DOUBLE,
    "Bool": ValueType.BOOL,
    "Time": ValueType.TIMESTAMP,
    "Duration": ValueType.DURATION,
    "IP": ValueType.IP_ADDRESS,
    "Email": ValueType.EMAIL_ADDRESS,
    "URI": ValueType.URI,
    "DNS": ValueType.DNS_NAME,
    "Map": ValueType.STRING_MAP,
    "Bytes": ValueType.VALUE_TYPE_UNSPECIFIED,
}
FIELDS = [
    ("Bool", "true"),
    ("Bytes", '"Yg=="'),
    ("DNS", '"x.y"'),
    ("Double", "1.5"),
    ("Duration", '"1s"'),
    ("Email", '"a@b"'),
    ("IP", '"1.2.3.4"'),
    ("Int64", "-3"),
    ("Map", '{"A":"1","B":"2"}'),
    ("String", '"a string"'),
    ("Time", '"2017-02-01T00:00:00.123456Z"'),
    ("URI", '"http://x/?a&b<c>"'),
]


async def test_log_entry_is_one_json_line_in_fixed_order(bench, infos):
    """Source: spec adapters 4.3, scenarios 4 and 7."""
    handler = await bench.build([infos[0](NAME, TYPES)])
    handler.handle_report([LogEntryInstance(NAME, VARIABLES, severity="WARNING")])
    body = ",".join(f'"{name}":{value}' for name, value in FIELDS)
    head = f'"level":"warn","time":"0001-01-01T00:00:00.000000Z","instance":"{NAME}"'
    assert bench.out() == [f"{{{head},{body}}}"]


async def test_console_mode_puts_columns_before_an_airy_body(bench, infos):
    """Source: spec adapters 4.3, scenario 5."""
    handler = await bench.build([infos[0](NAME, TYPES)], output_as_json=False)
    handler.handle_report([LogEntryInstance(NAME, VARIABLES, severity="WARNING")])
    body = ", ".join(f'"{name}": {value}' for name, value in FIELDS)
    assert bench.out() == [f"0001-01-01T00:00:00.000000Z\twarn\t{NAME}\t{{{body}}}"]


async def test_console_mode_has_no_body_without_fields(bench):
    handler = await bench.build(output_as_json=False)
    handler.handle_report([LogEntryInstance(NAME), LogEntryInstance("")])
    time = "0001-01-01T00:00:00.000000Z"
    assert bench.out() == [f"{time}\tinfo\t{NAME}", f"{time}\tinfo"]


async def test_metric_has_its_value_before_its_dimensions_and_the_time_of_the_clock(bench, infos):
    """Source: spec adapters 4.3, scenario 8; addresses are texts in metrics too."""
    name = "m.instance.ns"
    types = {"b": ValueType.IP_ADDRESS, "a": ValueType.STRING, "lost": ValueType.STRING}
    handler = await bench.build([infos[1](name, ValueType.INT64, types)], metric_level="WARNING")
    handler.handle_report([MetricInstance(name, 123, {"b": b"\x0a\x00\x00\x7f", "a": "x", "unknown": 1})])
    assert bench.out() == [
        '{"level":"warn","time":"2001-09-09T01:46:40.000000Z","instance":"m.instance.ns",'
        '"value":123,"a":"x","b":"10.0.0.127","lost":null}'
    ]


async def test_address_as_the_value_of_a_metric_is_text(bench, infos):
    handler = await bench.build([infos[1]("m", ValueType.IP_ADDRESS, {})])
    handler.handle_report([MetricInstance("m", bytes(15) + b"\x01"), MetricInstance("m")])
    assert [line["value"] for line in bench.objects()] == ["::1", None]


async def test_log_variables_that_are_missing_or_unknown_are_left_out(bench, infos):
    handler = await bench.build([infos[0](NAME, {"a": ValueType.STRING, "b": ValueType.STRING})])
    handler.handle_report([LogEntryInstance(NAME, {"b": "1", "c": "2"})])
    (line,) = bench.objects()
    assert {key for key in line if len(key) == 1} == {"b"}


async def test_instance_that_nothing_is_known_of_shows_all_it_has(bench):
    handler = await bench.build()
    handler.handle_report([LogEntryInstance("x", {"b": "1", "a": 2})])
    assert bench.out() == ['{"level":"info","time":"0001-01-01T00:00:00.000000Z","instance":"x","a":2,"b":"1"}']


async def test_unnamed_instance_has_no_instance_key(bench):
    handler = await bench.build()
    handler.handle_report([LogEntryInstance("")])
    assert bench.out() == ['{"level":"info","time":"0001-01-01T00:00:00.000000Z"}']


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e21, "1000000000000000000000"),
        (0.1, "0.1"),
        (2.0, "2"),
        (math.nan, '"NaN"'),
        (math.inf, '"+Inf"'),
        (-math.inf, '"-Inf"'),
        (False, "false"),
        (None, "null"),
        ('tab\t \x01 "q" \\ <&> ü 漢', '"tab\\t \\u0001 \\"q\\" \\\\ <&> ü 漢"'),
        ("bad \udcff byte", '"bad \ufffd byte"'),
        ({"k\n": "\ud800"}, '{"k\\n":"\ufffd"}'),
    ],
    ids=ascii,
)
def test_value_is_encoded(value, text):
    assert to_json(value, ValueType.VALUE_TYPE_UNSPECIFIED) == text


@given(text=st.text(st.characters(exclude_categories=())))
def test_quoted_text_is_json_that_utf8_can_hold(text):
    """Halves of surrogate pairs are replaced, everything else reads back."""
    quoted = quote(text)
    assert "\n" not in quoted
    readable = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    assert json.loads(quoted.encode().decode()) == readable
