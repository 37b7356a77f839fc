"""``mixproxy``: what its commands write, accept and refuse."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from loadtest.envoy import envoy_binary
from mixer.cli.mixproxy import main

ROOT = Path(__file__).parents[2]
UPSTREAM = ("--upstream", "127.0.0.1:9080")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def envoy_config(*arguments: str) -> Any:
    done = run("envoy-config", *UPSTREAM, *arguments)
    assert done.exit_code == 0, done.output
    return yaml.safe_load(done.stdout)


def manager(config: Any) -> Any:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def test_envoy_config_is_whole_with_an_upstream_alone() -> None:
    config = envoy_config()

    assert config["node"] == {"id": "service", "cluster": "service"}
    names = [filter["name"].rpartition(".")[2] for filter in manager(config)["http_filters"]]
    assert names == ["lua", "ext_authz", "router"]
    clusters = {c["name"]: c for c in config["static_resources"]["clusters"]}
    endpoint = clusters["service"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 9080}}


def test_envoy_config_says_who_and_what_it_stands_before() -> None:
    config = envoy_config(
        "--service", "reviews.ns2.svc.cluster.local", "--uid", "kubernetes://reviews-v1.ns2", "-a", "x.y=a=b",
        "--failure-mode", "open", "--timeout", "250ms",
    )  # fmt: skip

    (route,) = manager(config)["route_config"]["virtual_hosts"][0]["routes"]
    extensions = route["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"][
        "context_extensions"
    ]
    assert extensions == {
        "service_config": "reviews.ns2.svc.cluster.local",
        "destination.service.host": "reviews.ns2.svc.cluster.local",
        "destination.uid": "kubernetes://reviews-v1.ns2",
        "destination.namespace": "ns2",
        "context.reporter.uid": "kubernetes://reviews-v1.ns2",
        "context.reporter.kind": "inbound",
        "x.y": "a=b",
    }
    authz = manager(config)["http_filters"][1]["typed_config"]
    assert (authz["failure_mode_allow"], authz["grpc_service"]["timeout"]) == (True, "0.25s")


def test_headers_that_the_configuration_reads_are_logged() -> None:
    config = envoy_config("--config-store", f"fs://{ROOT}/config/mesh", "--log-header", "X-Mine")

    logged = manager(config)["access_log"][0]["typed_config"]["additional_request_headers_to_log"]
    assert {"x-mine", "x-api-key", "x-client-trace-id", "traceparent"} <= set(logged)
    assert len(logged) == len(set(logged))


def test_charge_of_a_header_comes_with_a_warning() -> None:
    """Scenario 18 of spec envoy 10."""
    done = run("envoy-config", *UPSTREAM, "--rate-limit", "rq;request.headers[X-User]", "--rate-limit", "all")

    (route,) = manager(yaml.safe_load(done.stdout))["route_config"]["virtual_hosts"][0]["routes"]
    limits = route["typed_per_filter_config"]["envoy.filters.http.ratelimit"]["rate_limits"]
    assert limits[0]["actions"][1]["request_headers"] == {
        "header_name": "x-user", "descriptor_key": "request.headers[x-user]",
    }  # fmt: skip
    assert limits[1]["actions"] == [{"generic_key": {"descriptor_key": "quota", "descriptor_value": "all"}}]
    assert done.stderr.count("is not charged to rq") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mixer-http", "127.0.0.1:1", "--protocol", "tcp"], "connections are checked over gRPC"),
        (["--rate-limit", "rq", "--protocol", "tcp"], "charge connections with a QuotaSpec"),
        (["--rate-limit", "rq;headers[x]"], "expected QUOTA or QUOTA;request.headers[NAME]"),
        (["--otlp", "127.0.0.1:1", "--zipkin", "127.0.0.1:2"], "to one of them"),
        (["--tls-cert", "c.pem"], "belong together"),
        (["-a", "x"], "expected NAME=VALUE"),
        (["--mixer", "9091"], "expected host:port or unix:///path"),
        (["--config-store", "fs:///does/not/exist"], "that exists"),
        (["--timeout", "1"], "not a duration"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    done = run("envoy-config", *UPSTREAM, *arguments)

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


@pytest.mark.e2e
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--protocol", "tcp", "--mixer", "unix:///run/mixproxy.sock"),
        ("--mixer-http", "127.0.0.1:9093", "--edge", "--body-bytes", "1000", "--upstream-http2"),
        ("--direction", "outbound", "--no-check", "--zipkin", "127.0.0.1:9411", "--sampling", "1"),
        ("--otlp", "localhost:4317", "--rate-limit", "rq;request.headers[x-user]"),
    ],
    ids=" ".join,
)
def test_envoy_accepts_what_is_written(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    assert run("envoy-config", *UPSTREAM, *arguments, "-o", str(path)).exit_code == 0

    command = [str(envoy_binary()), "--mode", "validate", "-c", str(path), "-l", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "list; expected the keys http and tcp"),
        ("htp: {}", "unknown key 'htp'"),
        ("http: {transport: {disableCheckCash: true}}", "disableCheckCash"),
        ("tcp: {reportInterval: 10}", "reportInterval"),
        ("{", "--client-config"),
    ],
)
def test_faulty_client_configuration_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    path.write_text(text)

    done = run("run", "--client-config", str(path))

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_help_teaches() -> None:
    assert "mixproxy envoy-config --upstream" in run("--help").stdout
    assert "--fail-policy" in run("run", "--help").stdout
