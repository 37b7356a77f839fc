"""Values, label values, faults and the cap."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.prometheus.definitions import Definition
from mixer.adapters.prometheus.params import MetricKind
from mixer.adapters.prometheus.series import new_series
from mixer.attributes import Duration, Timestamp
from mixer.errors import AdapterError
from mixer.templates.metric import MetricInstance

KINDS = ["GAUGE", "COUNTER", "DISTRIBUTION"]


def params(kind="GAUGE", labels=(), **fields):
    return {"metrics": [{"name": "m", "instance_name": "m", "kind": kind, "label_names": list(labels)}], **fields}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (8, 8),
        (8.5, 8.5),
        (Duration.parse("386ms"), 0.386),
        ("8.243543", 8.243543),
        ("-1e3", -1000),
        (math.inf, math.inf),
        ("+Inf", math.inf),
    ],
)
async def test_gauge_takes_numbers_of_every_form(process, value, number):
    """Source: spec adapters 4.1, scenario 9."""
    handler = await process.build(params())
    handler.handle_report([MetricInstance("m", value)])
    assert process.sample("istio_m") == number


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value",
    [True, "not a value", "", " 1", "1_000", None, Timestamp(5), b"\x01\x02\x03\x04", {"a": "b"}],
    ids=repr,
)
async def test_other_values_are_errors(process, kind, value):
    """Source: spec adapters 4.1, scenario 10."""
    handler = await process.build(params(kind))
    with pytest.raises(AdapterError, match="1 of 1 instances not recorded: m: "):
        handler.handle_report([MetricInstance("m", value)])
    assert process.samples() == {}


@pytest.mark.parametrize("kind", ["COUNTER", "DISTRIBUTION"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_sums_refuse_what_would_spoil_them(process, kind, value):
    handler = await process.build(params(kind))
    with pytest.raises(AdapterError, match=r"cannot (add|hold)"):
        handler.handle_report([MetricInstance("m", value)])


async def test_counter_refuses_to_go_back(process):
    handler = await process.build(params("COUNTER"))
    with pytest.raises(AdapterError, match="a counter cannot add -1"):
        handler.handle_report([MetricInstance("m", 5), MetricInstance("m", -1), MetricInstance("m", 2)])
    assert process.sample("istio_m") == 7


async def test_unknown_instance_costs_only_itself(process):
    """Source: spec adapters 4.1, scenario 11."""
    handler = await process.build(params("COUNTER"))
    with pytest.raises(AdapterError, match=r"1 of 3 .* other: could not find metric info"):
        handler.handle_report([MetricInstance("m", 1), MetricInstance("other", 1), MetricInstance("m", 1)])
    assert process.sample("istio_m") == 2


async def test_error_lists_the_first_faults_and_counts_the_rest(process):
    handler = await process.build(params())
    with pytest.raises(AdapterError) as caught:
        handler.handle_report([MetricInstance(f"x{i}", 1) for i in range(10)])
    assert "10 of 10" in str(caught.value)
    assert "x2" in str(caught.value)
    assert "x3" not in str(caught.value)
    assert str(caught.value).endswith("and 7 more")


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({"a": "1"}, "no dimension for the labels b"),
        ({"a": "1", "b": "2", "c": "3"}, "no label for the dimensions c"),
        ({"a": "1", "c": "3"}, "no dimension for the labels b; no label for the dimensions c"),
        ({"a": "1", "b": "\udc80"}, "not valid UTF-8"),
    ],
)
async def test_dimensions_that_are_not_the_labels_cost_only_their_instance(process, dimensions, message):
    handler = await process.build(params(labels=["a", "b"]))
    good = MetricInstance("m", 1, {"a": "x", "b": "y"})
    with pytest.raises(AdapterError, match=message):
        handler.handle_report([MetricInstance("m", 1, dimensions), good])
    assert process.samples() == {'istio_m{a="x",b="y"}': 1}


@pytest.mark.parametrize("known", [{"m": ("a.b", "c/d")}, None], ids=["types known", "types unknown"])
async def test_dimension_names_are_cleaned_like_labels(process, known):
    handler = await process.build(params(labels=["a.b", "c_d"]), dimensions=known)
    handler.handle_report([MetricInstance("m", 1, {"c/d": "2", "a.b": "1"})])
    assert process.samples() == {'istio_m{a_b="1",c_d="2"}': 1}


async def test_values_that_python_holds_equal_are_different_labels(process):
    handler = await process.build(params("COUNTER", ["x"]))
    values = (1, True, 1.5, Duration(1), Timestamp(1), "true", 0, 0.0, -0.0, False)
    handler.handle_report([MetricInstance("m", 1, {"x": value}) for value in values])
    assert process.samples() == {
        'istio_m{x="1"}': 1,
        'istio_m{x="true"}': 2,
        'istio_m{x="1.5"}': 1,
        'istio_m{x="1ns"}': 1,
        'istio_m{x="1970-01-01T00:00:00.000000Z"}': 1,
        'istio_m{x="0"}': 2,
        'istio_m{x="-0"}': 1,
        'istio_m{x="false"}': 1,
    }


async def test_labels_are_the_text_of_the_dimensions(process):
    handler = await process.build(params(labels=["ip", "map"]))
    handler.handle_report(
        [MetricInstance("m", 1, {"ip": bytes(10) + b"\xff\xff\x0a\x00\x00\x01", "map": {"b": "2", "a": "1"}})]
    )
    assert process.samples() == {'istio_m{ip="10.0.0.1",map="a=1&b=2"}': 1}


async def test_label_sets_beyond_the_cap_share_one_series(process):
    handler = await process.build(params("COUNTER", ["x", "y"], max_series_per_metric=2))
    handler.handle_report([MetricInstance("m", 1, {"x": str(i), "y": "-"}) for i in (1, 2, 3, 4, 1, 3)])
    assert process.samples() == {
        'istio_m{x="1",y="-"}': 2,
        'istio_m{x="2",y="-"}': 1,
        'istio_m{x="overflow",y="overflow"}': 3,
    }
    assert process.sample("mixer_prometheus_series_overflow_total", metric="istio_m") == 3
    assert process.sample("mixer_prometheus_series", metric="istio_m") == 3


@pytest.mark.slow
async def test_no_cap_keeps_every_label_set_apart(process):
    handler = await process.build(params("COUNTER", ["x"], max_series_per_metric=0))
    handler.handle_report([MetricInstance("m", 1, {"x": i}) for i in range(60_000)])
    assert process.sample("mixer_prometheus_series", metric="istio_m") == 60_000


keys = st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "1", "overflow"]))
BOUNDS = (-1.0, 0.0, 0.5, 8.0)


@given(
    updates=st.lists(st.tuples(keys, st.integers(0, 1000))),
    cap=st.integers(0, 8),
    kind=st.sampled_from([MetricKind.COUNTER, MetricKind.DISTRIBUTION]),
)
def test_nothing_is_lost_and_the_cap_holds(updates, cap, kind):
    """All values are in some series, whatever the cap, and series never exceed it by more than the overflow's."""
    series = new_series(Definition("m", "", kind, ("x", "y"), BOUNDS))
    for key, value in updates:
        series.update(key, value, 0.0, cap)
        assert not cap or len(series) <= cap + 1
    cells = [cell for _, cell in series.snapshot()]
    if kind is MetricKind.COUNTER:
        assert sum(cell.value for cell in cells) == sum(value for _, value in updates)
    else:
        assert sum(cell.sum for cell in cells) == sum(value for _, value in updates)
        assert sum(sum(cell.counts) for cell in cells) == len(updates)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_value_is_counted_where_the_first_bound_holds_it(value):
    series = new_series(Definition("m", "", MetricKind.DISTRIBUTION, (), BOUNDS))
    series.update((), value, 0.0, 0)
    ((_, cell),) = series.snapshot()
    fits = [value <= bound for bound in (*BOUNDS, math.inf)]
    assert cell.counts.index(1) == fits.index(True)
