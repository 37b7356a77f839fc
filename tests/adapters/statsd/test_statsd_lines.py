"""Lines and names, without a network. Source: spec adapters 4.12 and 5, "dogstatsd"."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.statsd.lines import LineError, dogstatsd_encoder, statsd_encoder
from mixer.adapters.statsd.nametemplate import NameTemplateError, parse_template
from mixer.adapters.statsd.packets import Packets
from mixer.adapters.statsd.params import MetricType
from mixer.attributes import Duration, Timestamp
from mixer.templates.metric import MetricInstance

C, G, D, U = MetricType.COUNTER, MetricType.GAUGE, MetricType.DISTRIBUTION, MetricType.UNKNOWN
MS146 = Duration.parse("146ms")


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        pytest.param(C, 456, b"n:456|c", id="counter"),
        pytest.param(C, -1, b"n:-1|c", id="counter-down"),
        pytest.param(G, 123, b"n:123|g", id="gauge"),
        pytest.param(G, -5, b"n:0|g\nn:-5|g", id="gauge-below-0"),
        pytest.param(D, MS146, b"n:146|ms", id="timer"),
        pytest.param(D, Duration(1_500_000), b"n:1.5|ms", id="timer-fraction"),
        pytest.param(D, Duration(1), b"n:0.000001|ms", id="timer-ns"),
        pytest.param(D, Duration(0), b"n:0|ms", id="timer-0"),
        pytest.param(D, Duration.parse("100s"), b"n:100000|ms", id="timer-keeps-zeros"),
        pytest.param(D, Duration(-1), b"n:0|ms", id="timer-negative"),
        pytest.param(D, 3459, b"n:3459|c", id="distribution-of-int-is-a-counter"),
    ],
)
def test_statsd_line_is(kind, value, line):
    assert statsd_encoder(kind, None, "n", "", 1.0)(MetricInstance("i", value)) == line


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        pytest.param(C, 456, b"p.n:456|c", id="counter"),
        pytest.param(G, 123, b"p.n:123.000000|g", id="gauge"),
        pytest.param(G, -5, b"p.n:-5.000000|g", id="gauge-below-0"),
        pytest.param(D, MS146, b"p.n:146.000000|ms", id="duration"),
        pytest.param(D, 3459, b"p.n:3459.000000|h", id="int-distribution"),
    ],
)
def test_dogstatsd_line_is(kind, value, line):
    assert dogstatsd_encoder(kind, "p.n", {}, 1.0)(MetricInstance("i", value)) == line


@pytest.mark.parametrize("encoder", ["statsd", "dogstatsd"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(C, 1.0, id="counter-double"),
        pytest.param(G, "bar", id="gauge-text"),
        pytest.param(D, "not good", id="distribution-text"),
        pytest.param(C, True, id="counter-bool"),
        pytest.param(C, MS146, id="counter-duration"),
        pytest.param(D, Timestamp(5), id="distribution-time"),
        pytest.param(C, None, id="no-value"),
        pytest.param(U, 1, id="unknown-type"),
    ],
)
def test_value_of_another_type_is_an_error(encoder, kind, value):
    made = statsd_encoder(kind, None, "n", "", 1.0) if encoder == "statsd" else dogstatsd_encoder(kind, "n", {}, 1.0)
    with pytest.raises(LineError, match="could not record"):
        made(MetricInstance("i", value))


def test_rate_is_told_with_six_decimals():
    assert statsd_encoder(C, None, "n", "", 0.25)(MetricInstance("i", 1)) == b"n:1|c|@0.250000"
    assert dogstatsd_encoder(C, "n", {"a": "b"}, 0.25)(MetricInstance("i", 1)) == b"n:1|c|@0.250000|#a:b"


def test_tags_are_overlaid_by_dimensions():
    encode = dogstatsd_encoder(C, "n", {"global": "1", "own": "2"}, 1.0)
    line = encode(MetricInstance("i", 1, {"own": 3, "more": Duration.parse("2s")}))
    assert line == b"n:1|c|#global:1,own:3,more:2s"


@given(text=st.text(max_size=40), key=st.text(min_size=1, max_size=10))
def test_no_text_of_a_request_forges_a_line_or_tag(text, key):
    line = statsd_encoder(C, parse_template("a-{{.x}}"), "i", "", 1.0)(MetricInstance("i", 1, {"x": text})).decode()
    assert re.fullmatch(r"a-[^:|@#\s]*:1\|c", line)

    tagged = dogstatsd_encoder(C, "n", {}, 1.0)(MetricInstance("i", 1, {key: text})).decode()
    assert re.fullmatch(r"n:1\|c\|#[^:|,\n]*:[^|,\n\r]*", tagged)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{.apiMethod}}-{{.responseCode}}", "methodName-500"),
        ("plain", "plain"),
        ("{{ .apiMethod }}", "methodName"),
        ('{{or .empty "none"}}', "none"),
        ("{{or .empty .apiMethod}}", "methodName"),
        ('{{printf "%s_%v" .apiMethod .responseCode}}', "methodName_500"),
        ('{{printf "%5s|%-5s|%.3s%%" .responseCode .responseCode .apiMethod}}', "  500|500  |met%"),
        ('{{.apiMethod | printf "x%s"}}', "xmethodName"),
        ('{{or .empty (printf "%s" .apiMethod)}}', "methodName"),
        ("{{`raw`}}{{7}}", "raw7"),
        ('{{"a\\"b\\\\"}}', 'a"b\\'),
        ('{{printf "%q" .apiMethod}}', '"methodName"'),
        ("a}}b", "a}}b"),
    ],
)
def test_template_renders(source, name):
    template = parse_template(source)
    assert template.trial(("apiMethod", "responseCode", "empty")) == ""
    assert template.render({"apiMethod": "methodName", "responseCode": "500", "empty": ""}) == name


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{if 1}}", "'if' is not understood"),
        ("{{if 1", "'if' is not understood"),
        ("{{.a", "unclosed action"),
        ("{{", "unclosed action"),
        ("{{}}", "missing value"),
        ("{{.a .b}}", "expected one value"),
        ("{{html .a}}", "'html' is not understood"),
        ("{{.a | .b}}", "a pipe must lead into"),
        ("{{(.a}}", "out of place"),
        ("{{.}}", "not understood"),
        ('{{printf "%d" .a}}', "verbs other than"),
        ("{{printf .a}}", "must be a quoted text"),
        ("{{/* comment */}}", "not understood"),
    ],
)
def test_template_that_is_not_understood_is_an_error(source, message):
    with pytest.raises(NameTemplateError, match=re.escape(message)):
        parse_template(source)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{{printf}}", "printf lacks an argument"),
        ("{{or}}", "or lacks an argument"),
        ('{{printf "%s"}}', "printf has 1 verbs and 0 values"),
        ("{{.a}}{{.c}}", "no dimension c"),
    ],
)
def test_template_that_will_fail_is_found_by_a_trial(source, fault):
    assert parse_template(source).trial(("a", "b")) == fault


@given(source=st.text(alphabet='{}.ab|"`% ()orpintf5\\', max_size=40))
def test_any_template_parses_or_is_refused(source):
    try:
        template = parse_template(source)
    except NameTemplateError:
        return
    if not template.trial(template.fields):
        assert isinstance(template.render(dict.fromkeys(template.fields, "x")), str)


@given(
    sizes=st.lists(st.integers(1, 40), max_size=60),
    limit=st.integers(10, 60),
    lines=st.one_of(st.none(), st.integers(1, 5)),
)
def test_packets_keep_every_line_within_their_limits(sizes, limit, lines):
    packets = Packets(packet_bytes=limit, packet_lines=lines, buffer_bytes=1000)
    written = [bytes([65 + i % 26]) * size for i, size in enumerate(sizes)]
    taken = [line for line in written if packets.add(line)]
    packets.close_open()
    sent = []
    while packets.first is not None:
        packet = packets.pop()
        inside = packet.data.split(b"\n")
        assert len(inside) == packet.instances
        assert lines is None or len(inside) <= lines
        assert len(packet.data) <= limit or len(inside) == 1
        sent += inside
    assert sent == taken
    assert packets.clear() == 0
    assert sum(map(len, taken)) + len(taken) <= 1000
