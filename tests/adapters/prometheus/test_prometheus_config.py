"""What params may say, and what is said about them."""

import pytest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.prometheus import INFO
from mixer.adapters.prometheus.definitions import DEFAULT_BOUNDS, define, sanitise
from mixer.adapters.prometheus.params import MetricInfo
from mixer.adapters.testing import assert_handler_lifecycle, parse_params
from mixer.attributes import ValueType
from mixer.store.problem import format_path
from mixer.store.protojson import decode
from mixer.templates import METRIC


def faults_of(params, *instances):
    model, faults = decode(INFO.params, params)
    return faults if model is None else list(INFO.validate(model, instances))


def paths_of(params, *instances):
    return [format_path(fault.path) for fault in faults_of(params, *instances)]


def metric(**fields):
    return {"name": "m", "instance_name": "m", "kind": "COUNTER", **fields}


def routed(name, *dimensions):
    return InstanceInfo(
        name, METRIC, {"value": ValueType.INT64, "dimensions": dict.fromkeys(dimensions, ValueType.STRING)}
    )


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("/funky::gauge", "funky::gauge"),
        ("not-istio", "notistio"),
        ("a.b/c d", "a_b_c_d"),
        ("//x", "_x"),
        ("grün", "grün"),
    ],
)
def test_sanitise_replaces_what_prometheus_forbids(given, clean):
    assert sanitise(given) == clean


@pytest.mark.parametrize(
    ("fields", "exposed"),
    [
        ({"name": "requests_total"}, "istio_requests_total"),
        ({"name": "/funky::gauge", "namespace": "not-istio"}, "notistio_funky::gauge"),
        ({"instanceName": "the.counter"}, "istio_the_counter"),
        ({"name": "x", "namespace": "/"}, "x"),
    ],
)
def test_exposed_name_joins_the_clean_parts(fields, exposed):
    assert define(MetricInfo.model_validate(fields)).name == exposed


@pytest.mark.parametrize(
    ("buckets", "bounds"),
    [
        (None, DEFAULT_BOUNDS),
        ({}, DEFAULT_BOUNDS),
        ({"explicit_buckets": {"bounds": []}}, DEFAULT_BOUNDS),
        ({"explicitBuckets": {"bounds": [6, 7]}}, (6, 7)),
        ({"explicitBuckets": {"bounds": [6, "Infinity"]}}, (6,)),
        ({"linear_buckets": {"offset": 4, "width": 1, "num_finite_buckets": 1}}, (4, 5)),
        ({"linear_buckets": {"width": 0.1, "num_finite_buckets": 3}}, (0, 0.1, 0.2, 0.1 + 0.1 + 0.1)),
        ({"exponential_buckets": {"scale": 4, "growth_factor": 3, "num_finite_buckets": 3}}, (4, 12, 36, 108)),
    ],
)
def test_bounds_follow_the_buckets(buckets, bounds):
    """Source: spec adapters 4.1, scenario 5; sums accumulate, so 0.1 * 3 is not among them."""
    params = {"metrics": [metric(kind="DISTRIBUTION", buckets=buckets)]}
    assert define(parse_params(INFO, params).metrics[0]).bounds == bounds


@pytest.mark.parametrize(
    ("buckets", "path"),
    [
        ({"linear_buckets": {"width": 1}}, "linearBuckets.numFiniteBuckets"),
        ({"linear_buckets": {"num_finite_buckets": 2}}, "linearBuckets.width"),
        ({"linear_buckets": {"num_finite_buckets": 2, "width": 1e-9, "offset": 1e9}}, "linearBuckets"),
        ({"linear_buckets": {"num_finite_buckets": 2_000_000_000, "width": 1}}, "linearBuckets.numFiniteBuckets"),
        ({"exponential_buckets": {"num_finite_buckets": 2, "growth_factor": 2}}, "exponentialBuckets.scale"),
        (
            {"exponential_buckets": {"num_finite_buckets": 2, "growth_factor": 1, "scale": 1}},
            "exponentialBuckets.growthFactor",
        ),
        ({"exponential_buckets": {"num_finite_buckets": 9, "growth_factor": 1e99, "scale": 1}}, "exponentialBuckets"),
        ({"explicit_buckets": {"bounds": [1, 1]}}, "explicitBuckets.bounds"),
        ({"explicit_buckets": {"bounds": [2, 1]}}, "explicitBuckets.bounds"),
        ({"explicit_buckets": {"bounds": ["NaN"]}}, "explicitBuckets.bounds"),
    ],
)
def test_bad_buckets_are_found_at_their_place(buckets, path):
    assert paths_of({"metrics": [metric(kind="DISTRIBUTION", buckets=buckets)]}) == [f"metrics[0].buckets.{path}"]


def test_two_ways_to_give_buckets_are_one_too_many():
    buckets = {"explicit_buckets": {}, "linear_buckets": {}}
    assert paths_of({"metrics": [metric(kind="DISTRIBUTION", buckets=buckets)]}) == ["metrics[0].buckets"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"kind": "UNSPECIFIED"}, "kind"),
        ({"name": "ümlaut"}, "name"),
        ({"name": "-"}, "name"),
        ({"name": "", "instance_name": "x*"}, "instanceName"),
        ({"name": "", "instance_name": ""}, "name"),
        ({"namespace": "1a"}, "namespace"),
        ({"label_names": ["ok", "a:b"]}, "labelNames[1]"),
        ({"label_names": ["__reserved"]}, "labelNames[0]"),
        ({"label_names": [""]}, "labelNames[0]"),
        ({"label_names": ["a.b", "c", "a_b"]}, "labelNames[2]"),
        ({"label_names": ["a", "le"], "kind": "DISTRIBUTION"}, "labelNames[1]"),
        ({"namespace": "mixer", "name": "prometheus_series"}, "name"),
    ],
)
def test_fault_of_one_metric_is_found_at_its_place(fields, path):
    """Source: spec adapters 4.1, "Names" and scenario 4."""
    assert paths_of({"metrics": [metric(name="fine", instance_name="fine"), metric(**fields)]})[-1:] == [
        f"metrics[1].{path}"
    ]


def test_all_faults_are_reported_at_once():
    params = {
        "metrics": [metric(kind=0, label_names=["a-b", "ab", "ü"]), metric(name="ß")],
        "metrics_expiration_policy": {},
        "max_series_per_metric": -1,
    }
    assert paths_of(params) == [
        "metrics[0].kind",
        "metrics[0].labelNames[1]",
        "metrics[0].labelNames[2]",
        "metrics[1].name",
        "metricsExpirationPolicy.metricsExpiryDuration",
        "maxSeriesPerMetric",
    ]


@pytest.mark.parametrize("kind", ["GAUGE", "COUNTER", "DISTRIBUTION"])
def test_one_metric_with_two_sets_of_labels_is_a_fault(kind):
    """Source: spec adapters 4.1, scenario 6."""
    (fault,) = faults_of({"metrics": [metric(kind=kind), metric(kind=kind, label_names=["test"])]})
    assert format_path(fault.path) == "metrics[1]"
    assert "labels" in fault.message


@pytest.mark.parametrize(
    ("change", "word"),
    [({"kind": "GAUGE"}, "kind"), ({"description": "other"}, "description")],
)
def test_one_metric_with_two_definitions_is_a_fault(change, word):
    (fault,) = faults_of({"metrics": [metric(), metric(**change)]})
    assert word in fault.message


def test_same_metric_twice_is_no_fault():
    """Source: spec adapters 4.1, scenario 19."""
    params = {"metrics": [metric(label_names=["a", "b"]), metric(label_names=["b", "a"], instance_name="other")]}
    assert paths_of(params) == []


def test_counter_must_not_take_a_name_of_a_distribution():
    params = {"metrics": [metric(kind="DISTRIBUTION"), metric(name="m_count", instance_name="n")]}
    assert paths_of(params) == ["metrics[1].name"]


def test_instance_feeds_one_metric_only():
    assert paths_of({"metrics": [metric(), metric(name="other")]}) == ["metrics[1].instanceName"]


def test_name_without_instance_is_no_fault():
    """Source: spec adapters 4.1, scenario 3."""
    assert paths_of({"metrics": [{"name": "a", "kind": "COUNTER"}, {"name": "b", "kind": "COUNTER"}]}) == []


def test_dimensions_that_are_not_the_labels_are_named():
    params = {"metrics": [metric(label_names=["a", "b", "c"])]}
    (fault,) = faults_of(params, routed("m", "b", "x", "y"))
    assert format_path(fault.path) == "metrics[0].labelNames"
    assert "instance m" in fault.message
    assert "no dimension for the labels a, c" in fault.message
    assert "no label for the dimensions x, y" in fault.message


@pytest.mark.parametrize("dimensions", [("a.b",), ("a_b",), ("/a.b",)])
def test_dimensions_match_labels_once_both_are_clean(dimensions):
    assert paths_of({"metrics": [metric(label_names=["a.b"])]}, routed("m", *dimensions)) == []


def test_dimensions_that_become_one_label_are_a_fault():
    (fault,) = faults_of({"metrics": [metric(label_names=["a_b"])]}, routed("m", "a.b", "a_b"))
    assert "more than one dimension" in fault.message


def test_instances_of_other_names_do_not_matter():
    assert paths_of({"metrics": [metric(label_names=["a"])]}, routed("else", "b")) == []


@pytest.mark.parametrize(
    ("policy", "paths"),
    [
        ({"metrics_expiry_duration": "1m"}, []),
        ({"metricsExpiryDuration": "1m", "expiryCheckIntervalDuration": "5s"}, []),
        ({"expiry_check_interval_duration": "1m"}, ["metricsExpirationPolicy.metricsExpiryDuration"]),
        (
            {"metrics_expiry_duration": "1m", "expiry_check_interval_duration": "-1s"},
            ["metricsExpirationPolicy.expiryCheckIntervalDuration"],
        ),
        (None, []),
    ],
)
def test_policy_needs_an_expiry(policy, paths):
    """Source: spec adapters 4.1, scenario 13."""
    assert paths_of({"metrics_expiration_policy": policy}) == paths


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(None, id="defaults"),
        pytest.param(
            {"metrics": [metric()], "metrics_expiration_policy": {"metrics_expiry_duration": "1m"}}, id="policy"
        ),
    ],
)
async def test_lifecycle(params):
    await assert_handler_lifecycle(INFO, params)
