"""The parts of the demo that need no process: who is there, what they are told, and the books."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.demo.books import Books, agreements, longest_trace, one_sided, read_metrics
from loadtest.demo.configuration import write_client, write_mixer, write_policies
from loadtest.demo.sidecars import CALLS, Plan, Ports, envoy_config
from loadtest.demo.visitors import Diary, users
from loadtest.demo.workloads import (
    DETAILS,
    GATEWAY,
    HTTP_WORKLOADS,
    MONGODB,
    PRODUCTPAGE,
    RATINGS,
    REVIEWS,
    read_workloads,
)
from mixer.adapters.loading import load_adapters
from mixer.rules.build import SnapshotBuilder
from mixer.store import FileStore
from proxy.client import HttpClientConfig, SpecIndex, TcpClientConfig, read_config
from proxy.envoy.bootstrap import Endpoint, Tls

ROOT = Path(__file__).parents[2]
SHIPPED_PODS = "config/samples/bookinfo/pods.json"


def plan() -> Plan:
    workloads = read_workloads()
    ports = {name: Ports(*range(10 * n + 1000, 10 * n + 1005)) for n, name in enumerate(workloads)}
    identities = {name: Tls("cert", "key", "ca") for name in workloads}
    return Plan(workloads, ports, Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2), identities)


# Who is there


def test_every_workload_has_its_pod() -> None:
    workloads = read_workloads()

    assert set(workloads) == {GATEWAY, *HTTP_WORKLOADS, MONGODB}
    assert workloads[PRODUCTPAGE].uid == "kubernetes://productpage-v1-7f4cc988c6-qxqjs.bookinfo"
    assert workloads[PRODUCTPAGE].identity == "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage"
    assert workloads[DETAILS].authority == "details:9080"
    assert workloads[GATEWAY].namespace == "istio-system"


def test_pods_and_their_owners_belong_together() -> None:
    items = json.loads((ROOT / SHIPPED_PODS).read_text())["items"]
    owners = {item["metadata"]["name"] for item in items if item["kind"] == "ReplicaSet"}

    pods = [item for item in items if item["kind"] == "Pod"]

    assert {pod["metadata"]["ownerReferences"][0]["name"] for pod in pods} == owners
    assert len({pod["status"]["podIP"] for pod in pods}) == len(pods)


def test_users_are_the_same_for_the_same_seed() -> None:
    assert list(users(50, 3)) == list(users(50, 3)) != list(users(50, 4))


# What the parts are told


async def test_configuration_has_no_problems(tmp_path: Path) -> None:
    folder = write_mixer(tmp_path)
    contents = await FileStore(folder).load()

    snapshot = SnapshotBuilder(load_adapters()).build(contents)

    assert snapshot.problems == ()
    assert {key.name for key in contents.resources if key.kind == "handler"} >= {"kubernetesenv", "stdio", "prometheus"}


def test_pods_are_found_wherever_the_server_runs(tmp_path: Path) -> None:
    folder = write_mixer(tmp_path)
    (handler,) = [o for o in yaml.safe_load_all((folder / "kubernetesenv.yaml").read_text()) if o["kind"] == "handler"]

    (pods,) = handler["spec"]["params"]["objectPaths"]

    assert Path(pods).is_absolute()
    assert Path(pods).read_text() == (ROOT / SHIPPED_PODS).read_text()


def test_recorded_traffic_needs_no_pods(tmp_path: Path) -> None:
    folder = write_policies(tmp_path)

    assert {path.name for path in folder.iterdir()} == {"mesh", "deny", "whitelist", "blacklist", "ratelimit"}


async def test_client_charges_visits_of_the_product_page_and_nothing_else(tmp_path: Path) -> None:
    settings, specs = write_client(tmp_path)
    found = yaml.safe_load(settings.read_text())
    http, problems = read_config(HttpClientConfig, found["http"])
    index, more = SpecIndex.build((await FileStore(specs).load()).resources.values())

    assert (*problems, *more) == ()
    assert http is not None
    assert http.transport.disable_quota_cache
    workloads = read_workloads()
    charged = {name for name in HTTP_WORKLOADS if index.of(workloads[name].host).rules}
    assert charged == {PRODUCTPAGE}
    assert read_config(TcpClientConfig, {})[0] is not None


@pytest.mark.parametrize("name", [GATEWAY, *HTTP_WORKLOADS, MONGODB])
def test_envoy_leads_where_its_workload_may_go(name: str) -> None:
    config = envoy_config(plan(), name)
    resources = config["static_resources"]
    listeners = {each["name"] for each in resources["listeners"]}
    callees = {each["name"] for each in resources["clusters"]} - {"mixer_check", "mixer_report", "traces", "app"}

    apps = {plan().workloads[serving[0]].app for serving in CALLS.get(name, ())} | (
        {"mongodb"} if name == RATINGS else set()
    )
    assert callees == apps
    assert ("inbound_http" in listeners) == (name in HTTP_WORKLOADS)
    assert ("outbound_http" in listeners) == (name in CALLS)


def test_reviews_is_one_service_of_three_workloads() -> None:
    chosen = plan()
    (cluster,) = [
        c for c in envoy_config(chosen, PRODUCTPAGE)["static_resources"]["clusters"] if c["name"] == "reviews"
    ]
    (endpoints,) = cluster["load_assignment"]["endpoints"]

    found = [
        (
            each["endpoint"]["address"]["socket_address"]["port_value"],
            each["metadata"]["filter_metadata"]["istio"]["uid"],
        )
        for each in endpoints["lb_endpoints"]
    ]

    assert found == [(chosen.ports[name].inbound, chosen.workloads[name].uid) for name in REVIEWS]
    assert cluster["transport_socket"]["name"] == "envoy.transport_sockets.tls"


# The books


def hop(
    trace: str, source: str, destination: str, reporter: str = "source", *, time: str = "", code: int = 200
) -> dict[str, Any]:
    return {
        "traceId": trace, "source": source, "destination": destination, "reporter": reporter,
        "time": time or "2026-01-01T00:00:00Z", "code": code,
    }  # fmt: skip


def both(trace: str, source: str, destination: str, **more: Any) -> list[dict[str, Any]]:
    return [hop(trace, source, destination, reporter, **more) for reporter in ("source", "destination")]


@pytest.mark.parametrize(
    ("hops", "expected"),
    [
        ([], []),
        (both("t", "a", "b"), []),
        (both("t", "a", "b") * 2, []),
        ([hop("t", "a", "b")], [("t", "a", "b")]),
        ([hop("t", "a", "b", "destination")], [("t", "a", "b")]),
        ([hop("t", "a", "b"), hop("u", "a", "b", "destination")], [("t", "a", "b"), ("u", "a", "b")]),
    ],
    ids=["none", "both ends", "twice", "source alone", "destination alone", "of two traces"],
)
def test_hop_that_one_end_alone_told_is_found(hops: list[dict[str, Any]], expected: list[tuple[str, ...]]) -> None:
    assert one_sided(hops) == expected


def test_longest_trace_is_in_the_order_of_time_and_without_refusals() -> None:
    long = [
        *both("long", "a", "b", time="2026-01-01T00:00:01.2Z"),
        *both("long", "b", "c", time="2026-01-01T00:00:01.1Z"),
    ]
    refused = [*both("refused", "a", "b") * 3, hop("refused", "b", "c", code=403)]

    found = longest_trace([*both("short", "a", "b"), *long, *refused])

    assert [(each["traceId"], each["source"]) for each in found] == [
        ("long", "b"),
        ("long", "b"),
        ("long", "a"),
        ("long", "a"),
    ]


def test_no_trace_is_no_trace() -> None:
    assert longest_trace([]) == []


def page(*lines: str) -> str:
    return "# TYPE istio_requests_total counter\n" + "".join(f"istio_requests_total{{{line}\n" for line in lines)


def sound() -> tuple[Books, Diary]:
    """One visit, refused at the product page."""
    labels = f'source_workload="{GATEWAY}",destination_workload="{PRODUCTPAGE}",response_code="429"'
    metrics = read_metrics(page(f'reporter="source",{labels}}} 1', f'reporter="destination",{labels}}} 1'))
    completed = Counter({(GATEWAY, "outbound"): 1, (PRODUCTPAGE, "inbound"): 1})
    books = Books(metrics, both("t", GATEWAY, PRODUCTPAGE, code=429), 2, "", completed, Counter(), Counter())
    return books, Diary(asked=Counter({GATEWAY: 1}))


def test_everything_agrees() -> None:
    assert [found.what for found in agreements(*sound()) if not found.holds] == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"served": Counter({PRODUCTPAGE: 1})}, {f"to {PRODUCTPAGE}"}),
        ({"completed": Counter({(GATEWAY, "outbound"): 2, (PRODUCTPAGE, "inbound"): 1})}, {"visits"}),
        ({"completed": Counter({(GATEWAY, "outbound"): 1})}, {f"to {PRODUCTPAGE}"}),
        ({"lines": 1}, {"records of requests"}),
        ({"hops": []}, {"records of requests", "traces"}),
        ({"metrics": {}}, {"visits", f"to {PRODUCTPAGE}", "records of requests"}),
        ({"proxy": "mixer_proxy_records_pending 3"}, {"records that mixproxy lost or still has"}),
        ({"proxy": 'mixer_proxy_records_dropped_total{reason="buffer_full"} 1'}, {"records that mixproxy lost or still has"}),
        ({"mongodb": Counter(sent=7)}, {"bytes from mongodb"}),
        ({"mongodb": Counter(connections=1)}, {"connections to mongodb"}),
    ],
    ids=[
        "refused, yet served", "a visit not sent", "not seen by the callee", "a line missing", "no traces",
        "nothing counted", "not delivered", "dropped", "bytes missing", "connection missing",
    ],
)  # fmt: skip
def test_what_does_not_agree_is_named(change: dict[str, Any], expected: set[str]) -> None:
    books, diary = sound()

    wrong = {found.what for found in agreements(replace(books, **change), diary) if not found.holds}

    assert wrong == expected
