"""The graph, its queries and its forms, without a server. Source: spec adapters 4.13."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.servicegraph import INFO
from mixer.adapters.servicegraph.formats import as_d3, as_dot, as_graph
from mixer.adapters.servicegraph.graph import MOST_STATIC_NODES, Drop, Edge, End, Graph, Limits, Rate, edge_of
from mixer.adapters.servicegraph.query import GraphQuery, parse_prometheus_duration
from mixer.store.protojson import decode
from mixer.templates.edge import EdgeInstance

NOW = 1_000_000.0
LIMITS = Limits(retention_s=600, resolution_s=10, max_edges=3)
A, B, C = End("ns", "a"), End("ns", "b"), End("other", "c")
AB = Edge(A, B, "reqs/sec")


def everything(_):
    return True


async def rates_of(graph, horizon_s=300, now_s=NOW):
    return {rate.edge: rate.per_second for rate in await graph.rates(horizon_s, now_s, everything)}


async def test_rate_is_calls_over_the_horizon():
    graph = Graph(LIMITS)
    for ago in (1, 50, 120, 290, 400):
        assert graph.record(AB, NOW - ago, NOW) is None
    assert await rates_of(graph, 300) == {AB: 4 / 300}
    assert await rates_of(graph, 60) == {AB: 2 / 60}
    assert await rates_of(graph, 600) == {AB: 5 / 600}
    assert await rates_of(graph, 60, NOW + 200) == {AB: 0}


async def test_horizon_shorter_than_a_slot_is_a_slot():
    graph = Graph(LIMITS)
    graph.record(AB, NOW, NOW)
    assert await rates_of(graph, 0.5) == {AB: 1 / 10}


async def test_old_calls_and_edges_without_calls_are_forgotten():
    graph = Graph(LIMITS)
    assert graph.record(AB, NOW - 600, NOW) is Drop.TOO_OLD
    graph.record(AB, NOW, NOW)
    assert await rates_of(graph, 600, NOW + 599) != {}
    assert await rates_of(graph, 600, NOW + 630) == {}
    assert len(graph) == 0


async def test_call_of_the_future_is_one_of_now():
    graph = Graph(LIMITS)
    assert graph.record(AB, NOW + 1e6, NOW) is None
    assert await rates_of(graph, 20) == {AB: 1 / 20}


async def test_edges_beyond_the_limit_are_dropped_until_others_are_forgotten():
    graph = Graph(LIMITS)
    edges = [Edge(A, End("", str(n)), "reqs/sec") for n in range(4)]
    assert [graph.record(edge, NOW, NOW) for edge in edges] == [None, None, None, Drop.NO_ROOM]
    assert graph.record(edges[0], NOW, NOW) is None
    assert graph.record(edges[3], NOW + 700, NOW + 700) is None
    assert len(graph) == 1


async def test_other_slots_begin_anew_and_other_limits_do_not():
    graph = Graph(LIMITS)
    graph.record(AB, NOW, NOW)
    graph.configure(Limits(1200, 10, 3))
    assert len(graph) == 1
    graph.configure(Limits(1200, 20, 3))
    assert len(graph) == 0


@given(ages=st.lists(st.floats(0, 590), max_size=40), horizon_s=st.sampled_from((30, 60, 300, 600)))
async def test_no_call_within_is_lost_and_ends_are_blurred_by_one_slot_only(ages, horizon_s):
    graph = Graph(LIMITS)
    for age in ages:
        assert graph.record(AB, NOW - age, NOW) is None
    counted = round((await rates_of(graph, horizon_s)).get(AB, 0) * horizon_s)
    assert sum(age < horizon_s - 10 for age in ages) <= counted <= sum(age <= horizon_s for age in ages)


def test_static_nodes_are_bounded():
    graph = Graph(LIMITS)
    assert all(graph.add_static(str(n)) for n in range(MOST_STATIC_NODES))
    assert not graph.add_static("one more")
    assert graph.add_static("0")


@pytest.mark.parametrize(
    ("instance", "source", "destination", "unit"),
    [
        pytest.param(
            {"source_workload_namespace": "n", "source_workload_name": "a", "destination_workload_namespace": "m",
             "destination_workload_name": "b", "context_protocol": "http"}, "a (n)", "b (m)", "reqs/sec", id="http",
        ),
        pytest.param({"context_protocol": "grpc"}, "unknown", "unknown", "reqs/sec", id="grpc-unknown"),
        pytest.param({"context_protocol": "tcp", "source_workload_name": "a"}, "a", "unknown", "reports/sec", id="tcp"),
        pytest.param({"api_protocol": "tcp"}, "unknown", "unknown", "reports/sec", id="api-protocol"),
        pytest.param(
            {"destination_service_namespace": "m", "destination_service_name": "s"}, "unknown", "s (m)", "reqs/sec",
            id="service-instead-of-a-workload",
        ),
        pytest.param(
            {"source_workload_namespace": "unknown", "source_workload_name": "unknown"}, "unknown", "unknown",
            "reqs/sec", id="unknown-has-no-namespace",
        ),
    ],
)  # fmt: skip
def test_edge_of_an_instance(instance, source, destination, unit):
    edge = edge_of(EdgeInstance("e", **instance))
    assert (str(edge.source), str(edge.destination), edge.unit) == (source, destination, unit)


def test_names_of_requests_are_cut():
    edge = edge_of(EdgeInstance("e", source_workload_name="x" * 10_000))
    assert len(edge.source.workload) == 256


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("90s", 90), ("1h30m", 5400), ("1d", 86_400), ("1w", 604_800), ("1y", 31_536_000), ("250ms", 0.25)],
)
def test_prometheus_duration_is(text, seconds):
    assert parse_prometheus_duration(text) == seconds


@pytest.mark.parametrize("text", ["abc", "", "5", "m", "-5m", "5 m", "5m!", "1.5h", "٥m", "9" * 5000 + "s"])
def test_text_that_is_no_duration_is_an_error(text):
    with pytest.raises(ValueError, match="not a valid duration"):
        parse_prometheus_duration(text)


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({}, {"ab", "bc"}),
        ({"source_namespace": "ns"}, {"ab", "bc"}),
        ({"destination_namespace": "other"}, {"bc"}),
        ({"source_workload": "a"}, {"ab"}),
        ({"destination_workload": "c", "source_workload": "a"}, set()),
        ({"other": "x"}, {"ab", "bc"}),
    ],
)
def test_query_filters_by_equality(parameters, wanted):
    query = GraphQuery.parse(parameters, retention_s=600)
    edges = {"ab": AB, "bc": Edge(B, C, "reqs/sec")}
    assert {name for name, edge in edges.items() if query.wants(edge)} == wanted


@pytest.mark.parametrize(("value", "filters"), [("true", True), ("True", False), ("1", False), ("", False)])
def test_filter_empty_only_when_exactly_true(value, filters):
    assert GraphQuery.parse({"filter_empty": value}, retention_s=600).filter_empty is filters


@pytest.mark.parametrize("horizon", ["0s", "11m"])
def test_horizon_beyond_what_is_known_is_an_error(horizon):
    with pytest.raises(ValueError, match="not within the retention"):
        GraphQuery.parse({"time_horizon": horizon}, retention_s=600)


def test_default_horizon_is_five_minutes_or_all_that_is_known():
    assert GraphQuery.parse({}, retention_s=600).horizon_s == 300
    assert GraphQuery.parse({}, retention_s=60).horizon_s == 60


RATES = [Rate(AB, 0.5), Rate(Edge(B, C, "reqs/sec"), 2), Rate(Edge(A, B, "reports/sec"), 1 / 3)]


def test_graph_has_nodes_by_name_and_edges():
    assert as_graph(RATES, ["X"]) == {
        "nodes": {"a (ns)": {}, "b (ns)": {}, "c (other)": {}, "X": {}},
        "edges": [
            {"source": "a (ns)", "target": "b (ns)", "labels": {"reqs/sec": "0.500000"}},
            {"source": "b (ns)", "target": "c (other)", "labels": {"reqs/sec": "2.000000"}},
            {"source": "a (ns)", "target": "b (ns)", "labels": {"reports/sec": "0.333333"}},
        ],
    }


def test_d3_links_are_positions_in_the_nodes():
    d3 = as_d3(RATES, ["X", "b (ns)"])
    names = [node["name"] for node in d3["nodes"]]
    assert names == ["a (ns)", "b (ns)", "c (other)", "X"]
    assert [(names[link["source"]], names[link["target"]]) for link in d3["links"]] == [
        (str(rate.edge.source), str(rate.edge.destination)) for rate in RATES
    ]


def test_dot_ids_are_cleaned_and_labels_are_not():
    assert as_dot([Rate(Edge(End("n.s", "a/b"), B, "reqs/sec"), 0.5)], []).splitlines() == [
        "digraph istio_servicegraph {",
        '"a_b_(n_s)" [label="a/b (n.s)"];',
        '"b_(ns)" [label="b (ns)"];',
        '"a_b_(n_s)" -> "b_(ns)" [label="reqs/sec: 0.500000"];',
        "}",
    ]


@given(name=st.text(max_size=30))
def test_no_name_breaks_out_of_dot(name):
    dot = as_dot([], [name])
    assert re.fullmatch(r'digraph istio_servicegraph \{\n"(?:[^"\\\n]|\\.)*" \[label="(?:[^"\\\n]|\\.)*"\];\n\}\n', dot)


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({}, []),
        ({"port": 0}, []),
        ({"port": -1}, ["port"]),
        ({"port": 65_536}, ["port"]),
        ({"host": ""}, ["host"]),
        ({"resolution": "10ms"}, ["resolution"]),
        ({"retention": "1s"}, ["retention"]),
        ({"retention": "100h"}, ["retention"]),
        ({"maxEdges": 0}, ["maxEdges"]),
    ],
)
def test_fault_names_the_field(params, fields):
    model, found = decode(INFO.params, params)
    assert [".".join(map(str, fault.path)) for fault in found or INFO.validate(model, ())] == fields
