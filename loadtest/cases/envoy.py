"""Requests through a real Envoy that asks Mixer, against the same Envoy without asking: what each way costs.

The two listeners stand in one Envoy and are measured by turns, so that what is added shows although machines are
noisy. CPU is that of our own processes; Envoy's own stands in the notes.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from loadtest import osinfo
from loadtest.added import WITHOUT
from loadtest.cases.base import Tell
from loadtest.drivers import Samples, Window, closed_loop
from loadtest.encoded import QUOTA_NAME
from loadtest.envoy import EnvoyServer, free_ports
from loadtest.histogram import QUANTILES, Histogram, exact_quantile
from loadtest.http_client import HttpConnection, request_bytes
from loadtest.mesh import NAMESPACES
from loadtest.meshconfig import write_config
from loadtest.results import Measurement
from loadtest.results import Window as ResultWindow
from loadtest.scenario import Load, Mode, Scenario, to_json
from loadtest.servers import Server, ServerError
from loadtest.wire import WrongAnswerError
from proxy.client.forwarded import write_forwarded
from proxy.envoy.bootstrap import (
    Direction,
    Endpoint,
    Listener,
    MixerAddress,
    RateLimit,
    Route,
    Sidecar,
    Upstream,
    bootstrap,
)
from proxy.envoy.bootstrap.clusters import TYPE
from proxy.envoy.bootstrap.text import plain

_SERVICE: Final = "svc-0002.default.svc.cluster.local"
_MIXER_GRPC: Final = ("--transport", "http2")
_FREE: Final = tuple(p for name in ("", "monitoring-", "metrics-", "console-") for p in (f"--{name}port", "0"))
_DISTINCT: Final = 20
_HEADERS: Final = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36",
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "cookie": "session=0123456789abcdef0123456789abcdef",
    "end-user": "ann",
    "x-istio-attributes": write_forwarded(
        {"source.namespace": NAMESPACES[0], "source.uid": f"kubernetes://client.{NAMESPACES[0]}"}
    ),
}
"""A request as the sidecar of a caller sends it on."""


@dataclass(frozen=True)
class EnvoyCase:
    """One way from Envoy to Mixer.

    Attributes:
        agent: A mixproxy stands between the two; ``cached`` says whether it may remember.
        http: Checks go over HTTP/1.1.
        check: Whether requests are checked, ``limit`` whether the rate limit service is asked, ``log`` whether
            they are reported.
        grpcio: gRPC is carried by grpcio instead of by Mixer's own HTTP/2.
    """

    name: str
    summary: str
    agent: bool = False
    cached: bool = True
    http: bool = False
    check: bool = True
    limit: bool = False
    log: bool = False
    grpcio: bool = False
    modes: tuple[Mode, ...] = field(default=(Mode.WIRE,))

    def measure(self, mode: Mode, scenario: Scenario, load: Load, tell: Tell) -> list[Measurement]:
        """See `loadtest.cases.base.Case.measure`."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
            tell(f"{self.name}: starting Mixer and Envoy")
            servers = self._servers(stack, folder, scenario)
            asked, alone, app = free_ports(3)
            envoy = stack.enter_context(
                EnvoyServer(None, folder / "envoy", **self._envoy(servers[-1], asked, alone, app))
            )
            return uvloop.run(self._drive(scenario, load, servers, envoy, asked, alone, tell))

    def _servers(self, stack: ExitStack, folder: Path, scenario: Scenario) -> list[Server]:
        """Mixer, and the agent before it if there is one; the last is whom Envoy asks."""
        config = folder / "config"
        config.mkdir()
        write_config(scenario, config, policy=True)
        carried = () if self.grpcio else _MIXER_GRPC
        http = ("--ext-authz-http-port", "0") if self.http else ()
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{config}", *_FREE]
        command += [*carried, *scenario.server_flags, *(() if self.agent else http), "--log-level", "error"]
        servers = [stack.enter_context(Server(command, folder))]
        if self.agent:
            command = [sys.executable, "-m", "mixer.cli.mixproxy", "run", "--mixer", servers[0].target]
            command += ["--port", "0", "--monitoring-port", "0", *carried, *http, "--log-level", "error"]
            if not self.cached:
                off = folder / "client.yaml"
                off.write_text(
                    "http: {transport: {disableCheckCache: true}, serviceConfigs: {a: {}}, defaultDestinationService: a}\n"
                )
                command += ["--client-config", str(off)]
            (folder / "agent").mkdir()
            servers.append(stack.enter_context(Server(command, folder / "agent")))
        return servers

    def _envoy(self, server: Server, asked: int, alone: int, app: int) -> dict[str, Any]:
        """Arguments of `EnvoyServer`: two listeners, and a third one in place of a service."""
        limits = ({"actions": [{"generic_key": {"descriptor_key": "quota", "descriptor_value": QUOTA_NAME}}]},)
        route = Route(
            "app",
            service=_SERVICE,
            rate_limits=limits if self.limit else (),
        )
        grpc = Endpoint("127.0.0.1", server.ports["port"])
        http = Endpoint("127.0.0.1", server.ports["ext-authz-http-port"]) if self.http else None
        admin = free_ports(1)[0]
        sidecar = Sidecar(
            "loadtest",
            "loadtest",
            MixerAddress(grpc, http),
            (Listener("asked", Endpoint("127.0.0.1", asked), (route,), check=self.check),),
            (Upstream("app", Endpoint("127.0.0.1", app)),),
            admin=Endpoint("127.0.0.1", admin),
            rate_limit=RateLimit() if self.limit else None,
        )
        config = plain(bootstrap(sidecar))
        other = Sidecar(
            "loadtest",
            "loadtest",
            MixerAddress(grpc),
            (Listener("alone", Endpoint("127.0.0.1", alone), (Route("app"),), Direction.INBOUND, check=False),),
            sidecar.upstreams,
        )
        floor = plain(bootstrap(other))["static_resources"]["listeners"]
        config["static_resources"]["listeners"] += floor
        if not self.log:
            _manager(config["static_resources"]["listeners"][0]).pop("access_log")
        _manager(floor[0]).pop("access_log")
        config["static_resources"]["listeners"].append(_answering(app))
        return {"config": config, "admin_port": admin}

    async def _drive(
        self,
        scenario: Scenario,
        load: Load,
        servers: Sequence[Server],
        envoy: EnvoyServer,
        asked: int,
        alone: int,
        tell: Tell,
    ) -> list[Measurement]:
        requests = [request_bytes("svc-0002", f"/things/{n}?page={n}", _HEADERS) for n in range(_DISTINCT)]
        count = load.connections * load.in_flight
        text = "1 connection" if count == 1 else f"{count} connections"
        setting = {**to_json(scenario), "connections": count}
        made = [
            Measurement(name, Mode.WIRE, "request", setting, to_json(load), text, "closed")
            for name in (self.name, self.name + WITHOUT)
        ]
        for number in range(load.repetitions):
            for measurement, port in zip(made, (asked, alone), strict=True):
                tell(f"{measurement.title}: {number + 1} of {load.repetitions}")
                window, envoy_us = await _window(port, requests, count, load, servers, envoy)
                measurement.windows.append(window)
                measurement.notes[f"envoy_us_{number}"] = round(envoy_us, 1)
        return made


async def _window(
    port: int, requests: Sequence[bytes], count: int, load: Load, servers: Sequence[Server], envoy: EnvoyServer
) -> tuple[ResultWindow, float]:
    connections = [await HttpConnection.open("127.0.0.1", port) for _ in range(count)]
    window = Window.starting(time.monotonic() + 0.05, load.warmup_s, load.seconds)
    seen: list[tuple[float, float, float, float, float]] = []

    async def watch() -> None:
        for moment in (window.opens, window.closes):
            await asyncio.sleep(max(moment - time.monotonic(), 0))
            ours = sum(server.usage().cpu_s for server in servers)
            seen.append((time.monotonic(), ours, envoy.usage().cpu_s, time.process_time(), osinfo.busy_s()))

    try:
        watching = asyncio.create_task(watch())
        samples: Samples = await closed_loop([c.call for c in connections], requests, window, 1)
        await watching
        wrong = {s: n for c in connections for s, n in c.statuses.items() if s != 200}
        if wrong:
            raise WrongAnswerError(f"statuses other than 200: {wrong}")
    finally:
        for connection in connections:
            connection.close()
    (began, ours, envoys, mine, busy), (ended, ours_after, envoys_after, mine_after, busy_after) = seen
    ordered = sorted(samples.latencies)
    cpu_s, client_s, envoy_s = ours_after - ours, mine_after - mine, envoys_after - envoys
    found = ResultWindow(
        seconds=ended - began,
        calls=samples.completed,
        units=samples.completed,
        cpu_s=cpu_s,
        client_cpu_s=client_s + envoy_s,
        others_cpu_s=max(busy_after - busy - cpu_s - client_s - envoy_s, 0.0),
        latency={name: exact_quantile(ordered, q) for name, q in QUANTILES.items()} if ordered else {},
        errors=dict(samples.errors),
        histogram=Histogram.of(ordered).to_json(),
        rss_bytes=sum(server.usage().rss_bytes for server in servers),
        peak_rss_bytes=sum(server.usage().peak_rss_bytes for server in servers),
    )
    return found, envoy_s / max(samples.completed, 1) * 1e6


def _manager(listener: Mapping[str, Any]) -> dict[str, Any]:
    found = listener["filter_chains"][0]["filters"][0]["typed_config"]
    if not isinstance(found, dict):
        raise ServerError("the listener has no connection manager")
    return found


def _answering(port: int) -> dict[str, Any]:
    """A listener that answers each request by itself, in place of a service."""
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "app",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "app",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 200, "body": {"inline_string": "fine"}},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "app",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


CASES: Final = (
    EnvoyCase("envoy-check", "Envoy asks mixs, over gRPC"),
    EnvoyCase("envoy-check-grpcio", "Envoy asks mixs, over gRPC carried by grpcio", grpcio=True),
    EnvoyCase("envoy-check-http", "Envoy asks mixs, over HTTP", http=True),
    EnvoyCase("envoy-cached", "Envoy asks a mixproxy that knows the answer, over gRPC", agent=True),
    EnvoyCase(
        "envoy-cached-grpcio",
        "Envoy asks a mixproxy that knows the answer, over gRPC carried by grpcio",
        agent=True,
        grpcio=True,
    ),
    EnvoyCase("envoy-cached-http", "Envoy asks a mixproxy that knows the answer, over HTTP", agent=True, http=True),
    EnvoyCase(
        "envoy-uncached",
        "Envoy asks a mixproxy that asks mixs, over HTTP and gRPC",
        agent=True,
        cached=False,
        http=True,
    ),
    EnvoyCase("envoy-ratelimit", "Envoy's rate limit filter asks mixs", check=False, limit=True),
    EnvoyCase("envoy-log", "Envoy sends its access log to mixs", check=False, log=True),
    EnvoyCase("envoy-all", "Envoy asks mixs over gRPC and sends it its access log", log=True),
)
