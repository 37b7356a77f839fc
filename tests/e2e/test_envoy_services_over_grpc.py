"""Envoy's services of ``mixs server``, as a gRPC and an HTTP client see them: real processes, every transport."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from mixer.cli.ports import read_ready_line
from proxy.envoy import paths
from proxy.envoy.gen.accesslog_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from proxy.envoy.gen.auth_pb2 import CheckRequest, CheckResponse
from proxy.envoy.gen.ratelimit_pb2 import RateLimitRequest, RateLimitResponse

ROOT = Path(__file__).parents[2]
ATTRIBUTES = (ROOT / "config/mesh/attributes.yaml").read_text()
PORTS = (
    "--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0", "--ext-authz-http-port", "0",
)  # fmt: skip

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RULES = """
kind: handler
metadata: {name: deny, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: shish}}}
---
kind: instance
metadata: {name: nothing, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: istio-system}
spec:
  match: (request.headers["x-user"] | "") == "bad" || (connection.requested_server_name | "") == "bad"
  actions: [{handler: deny, instances: [nothing]}]
---
kind: rule
metadata: {name: tell, namespace: istio-system}
spec:
  match: request.headers["x-user"] == "told"
  requestHeaderOperations: [{name: x-seen-path, values: [request.path], operation: REPLACE}]
---
kind: handler
metadata: {name: mq, namespace: istio-system}
spec:
  compiledAdapter: memquota
  params: {quotas: [{name: requests.instance.istio-system, maxAmount: 3, validDuration: 60s}]}
---
kind: instance
metadata: {name: requests, namespace: istio-system}
spec: {compiledTemplate: quota, params: {dimensions: {user: 'request.headers["x-user"] | "nobody"'}}}
---
kind: rule
metadata: {name: count, namespace: istio-system}
spec: {actions: [{handler: mq, instances: [requests]}]}
"""

SPECS = """
kind: QuotaSpec
metadata: {name: requests, namespace: istio-system}
spec: {rules: [{quotas: [{quota: requests, charge: 1}]}]}
---
kind: QuotaSpecBinding
metadata: {name: requests, namespace: istio-system}
spec: {services: [{service: limited.default.svc.cluster.local}], quotaSpecs: [{name: requests}]}
"""


class Server:
    """``mixs server`` with its clients."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{folder}", *PORTS, *flags]
        self.errors = (folder.parent / "stderr.txt").open("wb")
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT)
        assert self.popen.stdout is not None
        ports = read_ready_line(self.popen.stdout.readline())
        assert ports is not None, (folder.parent / "stderr.txt").read_text()
        self.ports = ports
        self.channel = grpc.insecure_channel(f"127.0.0.1:{ports['port']}", [("grpc.use_local_subchannel_pool", 1)])

    def call(self, path: str, request: Any, answer: Any, *metadata: tuple[str, str]) -> Any:
        method = self.channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        return method(request, metadata=metadata, timeout=10)

    def check(self, *, service_host: str = "", **headers: str) -> CheckResponse:
        request = CheckRequest()
        http = request.attributes.request.http
        http.method, http.path, http.host = "GET", "/a?x=1", "reviews"
        for name, value in headers.items():
            http.headers[name.replace("_", "-")] = value
        if service_host:
            request.attributes.context_extensions["destination.service.host"] = service_host
        answer: CheckResponse = self.call(paths.CHECK, request, CheckResponse)
        return answer

    def limit(self, user: str, hits: int = 1) -> RateLimitResponse:
        request = RateLimitRequest(domain="d", hits_addend=hits)
        descriptor = request.descriptors.add()
        descriptor.entries.add(key="quota", value="requests")
        descriptor.entries.add(key="request.headers[x-user]", value=user)
        answer: RateLimitResponse = self.call(paths.SHOULD_RATE_LIMIT, request, RateLimitResponse)
        return answer

    def check_http(self, **headers: str) -> tuple[int, dict[str, str], str]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.ports['ext-authz-http-port']}/check/a?x=1"
        try:
            with urlopen(Request(url, headers=names), timeout=10) as page:
                return page.status, dict(page.headers), page.read().decode()
        except HTTPError as exc:
            with exc:
                return exc.code, dict(exc.headers), exc.read().decode()

    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.ports['monitoring-port']}/metrics") as page:
            return str(page.read().decode())

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        self.popen.communicate(timeout=30)
        return self.popen.returncode

    def close(self) -> None:
        self.channel.close()
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.communicate()
        self.errors.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("envoy") / "config"
    folder.mkdir()
    (folder / "attributes.yaml").write_text(ATTRIBUTES)
    (folder / "rules.yaml").write_text(RULES)
    (folder / "specs.yaml").write_text(SPECS)
    return folder


@pytest.fixture(
    scope="module",
    params=[("--transport", "grpc"), ("--transport", "http2"), ("--transport", "http2", "--workers", "2")],
    ids=["grpc", "http2", "two workers"],
)
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    running = Server(folder, *request.param)
    yield running
    running.close()


def test_requests_are_allowed_denied_and_changed(server: Server) -> None:
    allowed, denied, changed = server.check(x_user="good"), server.check(x_user="bad"), server.check(x_user="told")

    assert (allowed.status.code, allowed.WhichOneof("http_response")) == (0, "ok_response")
    assert (denied.status.code, denied.denied_response.status.code) == (7, 403)
    assert denied.denied_response.body == "PERMISSION_DENIED:deny.istio-system:shish"
    assert [(o.header.key, o.header.value) for o in changed.ok_response.headers] == [("x-seen-path", "/a?x=1")]


def test_connections_are_allowed_and_denied(server: Server) -> None:
    request = CheckRequest()
    request.attributes.source.address.socket_address.address = "10.0.0.1"
    allowed = server.call(paths.CHECK, request, CheckResponse, ("x-mixer-stream", "id-9"))
    request.attributes.tls_session.sni = "bad"
    denied = server.call(paths.CHECK, request, CheckResponse)

    assert allowed.status.code == 0
    assert allowed.dynamic_metadata["mixer"]["id"] == "id-9"
    assert denied.status.code == 7


def test_both_doors_of_a_quota_count_in_one_counter_and_refuse_alike(server: Server) -> None:
    host = "limited.default.svc.cluster.local"
    user = f"user-{time.time_ns()}"

    first = server.check(service_host=host, x_user=user)
    second = server.limit(user)
    third = server.check(service_host=host, x_user=user)
    by_spec = server.check(service_host=host, x_user=user)
    by_descriptor = server.limit(user)

    assert [answer.status.code for answer in (first, third, by_spec)] == [0, 0, 8]
    assert (second.overall_code, by_descriptor.overall_code) == (RateLimitResponse.OK, RateLimitResponse.OVER_LIMIT)
    assert by_spec.denied_response.status.code == 429
    assert by_spec.denied_response.body == "RESOURCE_EXHAUSTED:Quota is exhausted for: requests"
    assert by_descriptor.raw_body.decode() == by_spec.denied_response.body
    told = {o.header.key: o.header.value for o in third.ok_response.response_headers_to_add}
    assert told["x-ratelimit-limit"] == '3, 3;w=60;name="requests"'
    assert told["x-ratelimit-remaining"] == "0"
    assert second.statuses[0].limit_remaining == 1
    assert server.check(service_host="other.default.svc.cluster.local", x_user=user).status.code == 0


def test_the_http_form_gives_the_same_verdicts(server: Server) -> None:
    allowed, denied, changed = (server.check_http(x_user=user) for user in ("good", "bad", "told"))

    assert allowed[0] == 200
    assert (denied[0], denied[2]) == (403, "PERMISSION_DENIED:deny.istio-system:shish")
    assert changed[1]["x-seen-path"] == "/a?x=1"
    assert json.loads(allowed[1]["x-mixer-md-mixer"])["attrs"]


def test_health_and_reflection_know_the_services(server: Server) -> None:
    names = {paths.AUTHORIZATION, paths.RATE_LIMIT, paths.ACCESS_LOG, "istio.mixer.v1.Mixer"}
    method = server.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="*")])
    [answer] = method(asked, timeout=10)

    assert names <= {service.name for service in answer.list_services_response.service}
    for name in names:
        request = health_pb2.HealthCheckRequest(service=name)
        health = server.call("/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("path", [paths.CHECK, paths.SHOULD_RATE_LIMIT])
def test_malformed_requests_are_refused(server: Server, path: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.channel.unary_unary(path)(b"\xff\xff", timeout=10)

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_calls_are_counted(server: Server) -> None:
    server.check(x_user="bad")
    text = server.metrics()

    assert (
        f'grpc_io_server_completed_rpcs_total{{grpc_server_method="{paths.CHECK[1:]}",grpc_server_status="OK"}}' in text
    )
    assert 'mixer_envoy_answers_total{by_policy="true",outcome="denied",service="ext_authz"}' in text


def test_an_access_log_stream_does_not_hold_up_the_end(folder: Path) -> None:
    running = Server(folder)
    try:
        stream = running.channel.stream_stream(
            paths.STREAM_ACCESS_LOGS,
            StreamAccessLogsMessage.SerializeToString,
            StreamAccessLogsResponse.FromString,
        )
        messages = _endless()
        answers = stream(messages)
        running.check(x_user="good")

        began = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began < 5  # the drain may take 10 s
        answers.cancel()
    finally:
        running.close()


def _endless() -> Iterator[StreamAccessLogsMessage]:
    yield StreamAccessLogsMessage()
    while True:
        time.sleep(0.05)
        yield StreamAccessLogsMessage()


def test_specs_follow_the_store(tmp_path: Path, wait_until: Callable[[Callable[[], bool]], None]) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "attributes.yaml").write_text(ATTRIBUTES)
    (folder / "rules.yaml").write_text(RULES.replace("maxAmount: 3", "maxAmount: 1"))
    running = Server(folder)
    try:
        for _ in range(3):
            assert running.check(service_host="limited.default.svc.cluster.local", x_user="bob").status.code == 0
        (folder / "specs.yaml").write_text(SPECS)
        wait_until(lambda: running.check(service_host="limited.default.svc.cluster.local").status.code == 8)
        (folder / "specs.yaml").write_text(SPECS.replace("charge: 1", "charge: -1"))
        wait_until(lambda: 'mixer_proxy_config_problems{kind="QuotaSpec",severity="error"} 1.0' in running.metrics())
        assert running.check(service_host="limited.default.svc.cluster.local").status.code == 8
        (folder / "specs.yaml").unlink()
        wait_until(lambda: running.check(service_host="limited.default.svc.cluster.local").status.code == 0)
    finally:
        running.close()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.05)

    return wait
