"""What a scrape shows, to the character."""

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mixer.adapters.prometheus.exposition import format_bound
from mixer.templates.metric import MetricInstance


async def test_empty_params_serve_an_empty_page(process):
    """Source: spec adapters 4.1, scenario 1."""
    await process.build({"metrics": []})
    assert generate_latest(process.recording.scrape) == b""


async def test_counter_keeps_its_exact_name_and_adds_up(process):
    """Source: spec adapters 4.1, scenario 12."""
    handler = await process.build(
        {
            "metrics": [
                {
                    "name": "request_count",
                    "instance_name": "requestcount.metric.istio-system",
                    "kind": "COUNTER",
                    "label_names": ["response_code", "destination_service"],
                }
            ]
        }
    )
    for _ in range(2):
        dimensions = {"destination_service": "myservice", "response_code": 200}
        handler.handle_report([MetricInstance("requestcount.metric.istio-system", 1, dimensions)])
    assert process.page() == [
        "# HELP istio_request_count request_count",
        "# TYPE istio_request_count counter",
        'istio_request_count{destination_service="myservice",response_code="200"} 2.0',
    ]


async def test_name_and_help_fall_back_to_the_instance_name(process):
    """Source: spec adapters 4.1, scenario 2."""
    handler = await process.build({"metrics": [{"instance_name": "the.counter", "kind": "COUNTER"}]})
    handler.handle_report([MetricInstance("the.counter", 1)])
    assert process.page() == [
        "# HELP istio_the_counter the.counter",
        "# TYPE istio_the_counter counter",
        "istio_the_counter 1.0",
    ]


async def test_counter_of_openmetrics_name_is_the_same_series_in_both_formats(process):
    handler = await process.build({"metrics": [{"name": "requests_total", "instance_name": "r", "kind": "COUNTER"}]})
    handler.handle_report([MetricInstance("r", 3)])
    text, openmetrics = process.page(), process.page(generate_openmetrics)
    assert text[1:] == ["# TYPE istio_requests_total counter", "istio_requests_total 3.0"]
    assert openmetrics[1:] == ["# TYPE istio_requests counter", "istio_requests_total 3.0", "# EOF"]


async def test_counter_of_another_name_is_unknown_to_openmetrics_and_keeps_the_name(process):
    handler = await process.build({"metrics": [{"name": "request_count", "instance_name": "r", "kind": "COUNTER"}]})
    handler.handle_report([MetricInstance("r", 3)])
    assert process.page(generate_openmetrics)[1:] == [
        "# TYPE istio_request_count unknown",
        "istio_request_count 3.0",
        "# EOF",
    ]


async def test_distribution_is_cumulative_with_bounds_as_go_prints_them(process):
    handler = await process.build(
        {
            "metrics": [
                {
                    "name": "size",
                    "description": "How big.",
                    "instance_name": "s",
                    "kind": "DISTRIBUTION",
                    "label_names": ["app"],
                    "buckets": {"explicit_buckets": {"bounds": [0.005, 1, 10, 1e6, "Infinity"]}},
                }
            ]
        }
    )
    values = (0.005, 0.006, 10, 10.5, 2e6)
    handler.handle_report([MetricInstance("s", value, {"app": "a"}) for value in values])
    assert process.page() == [
        "# HELP istio_size How big.",
        "# TYPE istio_size histogram",
        'istio_size_bucket{app="a",le="0.005"} 1.0',
        'istio_size_bucket{app="a",le="1"} 2.0',
        'istio_size_bucket{app="a",le="10"} 3.0',
        'istio_size_bucket{app="a",le="1e+06"} 4.0',
        'istio_size_bucket{app="a",le="+Inf"} 5.0',
        'istio_size_sum{app="a"} 2.000020511e+06',
        'istio_size_count{app="a"} 5.0',
    ]


async def test_openmetrics_page_satisfies_a_strict_parser(process):
    handler = await process.build(
        {
            "metrics": [
                {"name": "a_total", "instance_name": "a", "kind": "COUNTER", "label_names": ["x"]},
                {"name": "b", "instance_name": "b", "kind": "COUNTER"},
                {"name": "c", "instance_name": "c", "kind": "GAUGE"},
                {"name": "d", "instance_name": "d", "kind": "DISTRIBUTION", "label_names": ["x"]},
            ]
        }
    )
    awkward = {"x": 'quote " backslash \\ newline \n umlaut ü'}
    handler.handle_report([MetricInstance(n, 1, awkward if n in "ad" else {}) for n in "abcd"])
    families = {
        f.name: f for f in text_string_to_metric_families(generate_openmetrics(process.recording.scrape).decode())
    }
    assert {n: f.type for n, f in families.items() if n.startswith("istio")} == {
        "istio_a": "counter",
        "istio_b": "unknown",
        "istio_c": "gauge",
        "istio_d": "histogram",
    }
    assert families["istio_a"].samples[0].labels == awkward


async def test_samples_carry_labels_in_the_order_of_the_configuration(process):
    handler = await process.build(
        {"metrics": [{"name": "a", "instance_name": "a", "kind": "GAUGE", "label_names": ["z", "b", "y"]}]}
    )
    handler.handle_report([MetricInstance("a", 1, {"b": "1", "y": "2", "z": "3"})])
    sample = next(f for f in process.recording.scrape.collect() if f.name == "istio_a").samples[0]
    assert list(sample.labels.items()) == [("z", "3"), ("b", "1"), ("y", "2")]


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (0.005, "0.005"),
        (1.0, "1"),
        (10.0, "10"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (999999.0, "999999"),
        (1e6, "1e+06"),
        (1234567.5, "1.2345675e+06"),
        (2.5e21, "2.5e+21"),
        (-3e7, "-3e+07"),
        (0.0, "0"),
    ],
)
def test_bounds_print_as_in_go(bound, text):
    assert format_bound(bound) == text
