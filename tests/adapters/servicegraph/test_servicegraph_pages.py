"""The pages, over HTTP. Source: spec adapters 4.13, scenarios 1 to 8."""

import asyncio
import html
import re
import socket

import aiohttp
import pytest

from mixer.adapters.servicegraph import INFO
from mixer.adapters.testing import FakeClock, RecordingEnv, assert_handler_lifecycle, parse_params
from mixer.attributes import Timestamp
from mixer.errors import AdapterError
from mixer.templates.edge import EdgeInstance


def call(source, destination, protocol="http", **more):
    return EdgeInstance(
        "e", source_workload_namespace="ns", source_workload_name=source, destination_workload_namespace="ns",
        destination_workload_name=destination, context_protocol=protocol, **more,
    )  # fmt: skip


class Bench:
    def __init__(self, session):
        self.clock = FakeClock()
        self.recording = RecordingEnv(self.clock)
        self.session = session
        self.handlers = []

    async def build(self, name="test", **params):
        handler = await INFO.build(parse_params(INFO, {"port": 0, **params}), (), self.recording.env(name))
        self.handlers.append(handler)
        return handler

    async def request(self, handler, path, method="GET"):
        async with self.session.request(method, f"http://127.0.0.1:{handler.port}{path}") as response:
            return response.status, await response.text()

    async def json(self, handler, path):
        async with self.session.get(f"http://127.0.0.1:{handler.port}{path}") as response:
            assert response.status == 200
            assert response.content_type == "application/json"
            return await response.json()

    def sample(self, name, **labels):
        return self.recording.metrics.get_sample_value(f"mixer_servicegraph_{name}", {"handler": "test", **labels})


@pytest.fixture
async def bench():
    async with aiohttp.ClientSession() as session:
        bench = Bench(session)
        yield bench
        for handler in bench.handlers:
            await handler.aclose()
        assert bench.recording.shared.get("sites", {}) == {}
        await bench.recording.aclose()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_lifecycle():
    await assert_handler_lifecycle(INFO, {"port": 0})


async def test_one_http_call_makes_two_nodes_and_one_edge(bench):
    handler = await bench.build()
    handler.handle_report([call("a", "b")] * 150)
    assert await bench.json(handler, "/graph") == {
        "nodes": {"a (ns)": {}, "b (ns)": {}},
        "edges": [{"source": "a (ns)", "target": "b (ns)", "labels": {"reqs/sec": "0.500000"}}],
    }
    assert bench.sample("calls_recorded_total") == 150
    assert bench.sample("edges") == 1


async def test_http_and_tcp_between_a_pair_make_two_edges_http_first(bench):
    handler = await bench.build()
    handler.handle_report([call("a", "b", "tcp"), call("a", "b", "http")])
    graph = await bench.json(handler, "/graph")
    assert [list(edge["labels"]) for edge in graph["edges"]] == [["reqs/sec"], ["reports/sec"]]
    assert len(graph["nodes"]) == 2


@pytest.mark.parametrize("page", ["/graph", "/d3graph", "/dotgraph", "/dotviz"])
async def test_bad_horizon_is_500_with_the_reason(bench, page):
    handler = await bench.build()
    status, text = await bench.request(handler, f"{page}?time_horizon=abc")
    assert status == 500
    assert "not a valid duration string" in text


@pytest.mark.parametrize(("value", "edges"), [("true", 0), ("TRUE", 1), ("1", 1)])
async def test_filter_empty_leaves_out_edges_without_calls(bench, value, edges):
    handler = await bench.build()
    handler.handle_report([call("a", "b")])
    await bench.clock.advance(600)
    assert len((await bench.json(handler, f"/graph?filter_empty={value}"))["edges"]) == edges


async def test_added_node_is_in_every_answer_without_edges(bench):
    handler = await bench.build()
    assert (await bench.request(handler, "/node?name=X", "POST"))[0] == 200
    assert await bench.json(handler, "/graph") == {"nodes": {"X": {}}, "edges": []}
    assert await bench.json(handler, "/d3graph") == {"nodes": [{"name": "X"}], "links": []}
    assert '"X" [label="X"];' in (await bench.request(handler, "/dotgraph"))[1]
    assert (await bench.request(handler, "/graph?time_horizon=abc"))[0] == 500


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/node?name=X", 501),
        ("PUT", "/node?name=X", 501),
        ("DELETE", "/node", 501),
        ("POST", "/node", 400),
        ("POST", "/node?name=", 400),
        ("POST", "/node?name=" + "x" * 257, 400),
        ("GET", "/force/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/graph", 405),
    ],
)
async def test_request_is_refused(bench, method, path, status):
    handler = await bench.build()
    assert (await bench.request(handler, path, method))[0] == status


async def test_too_many_added_nodes_are_refused(bench, monkeypatch):
    monkeypatch.setattr("mixer.adapters.servicegraph.graph.MOST_STATIC_NODES", 1)
    handler = await bench.build()
    assert (await bench.request(handler, "/node?name=X", "POST"))[0] == 200
    assert (await bench.request(handler, "/node?name=Y", "POST"))[0] == 507


async def test_pages_for_people_need_nothing_from_elsewhere_and_escape_names(bench):
    handler = await bench.build()
    handler.handle_report([call("<script>alert(1)</script>", "b")])
    for path in ("/", "/force/forcegraph.html", "/dotviz"):
        status, text = await bench.request(handler, path)
        assert status == 200
        assert not re.search(r"(?:src|href)=['\"]?(?:https?:)?//", text)
        assert "alert(1)</script>" not in text
    _, text = await bench.request(handler, "/dotviz")
    shown = re.search(r"<pre id=dot>(.*)</pre>", text, re.DOTALL)
    assert html.unescape(shown[1]) == (await bench.request(handler, "/dotgraph"))[1]


async def test_calls_that_find_no_place_are_counted(bench):
    handler = await bench.build(maxEdges=1)
    long_ago = Timestamp(int(bench.clock.now()) - 7200 * 10**9)
    handler.handle_report([call("a", "b"), call("a", "c"), call("a", "b", timestamp=long_ago)])
    assert bench.sample("calls_dropped_total", reason="no_room") == 1
    assert bench.sample("calls_dropped_total", reason="too_old") == 1
    assert bench.sample("calls_recorded_total") == 1


async def test_graph_and_port_outlive_a_reload(bench):
    port = free_port()
    old = await bench.build(port=port)
    old.handle_report([call("a", "b")])
    await bench.request(old, "/node?name=X", "POST")
    new = await bench.build(port=port, retention="2h")
    await old.aclose()
    new.handle_report([call("b", "c")])
    graph = await bench.json(new, "/graph?time_horizon=90m")
    assert set(graph["nodes"]) == {"a (ns)", "b (ns)", "c (ns)", "X"}
    assert bench.sample("edges") == 2


async def test_handlers_built_at_once_share_a_port(bench):
    port = free_port()
    one, two = await asyncio.gather(bench.build("one", port=port), bench.build("two", port=port))
    one.handle_report([call("a", "b")])
    two.handle_report([call("b", "c")])
    assert len((await bench.json(one, "/graph"))["edges"]) == 2
    await one.aclose()
    assert len((await bench.json(two, "/graph"))["edges"]) == 2


async def test_port_that_is_taken_is_an_error_and_free_again_later(bench):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        results = await asyncio.gather(
            bench.build("one", port=port), bench.build("two", port=port), return_exceptions=True
        )
        assert [type(result) for result in results] == [AdapterError, AdapterError]
        assert str(results[0]).startswith(f"cannot serve the graph on 127.0.0.1:{port}")
    handler = await bench.build(port=port)
    assert await bench.json(handler, "/graph") == {"nodes": {}, "edges": []}


def test_there_is_one_graph_for_all_workers():
    assert INFO.shared(parse_params(INFO, {}))
