"""The sidecar agent: Envoy's services in front, the sidecar client behind them, a Mixer somewhere else.

It answers from its caches while Mixer is away, and by the fail policy where they do not know; reports wait in a
bounded buffer. Spec: proxy 1, design.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mixer import __version__, tallies
from mixer.api.rpc import Methods
from mixer.server.guard import guarded
from mixer.server.methods import Health, Transport, with_health_and_reflection
from mixer.server.pages import Pages, monitoring_app
from mixer.server.transport import TransportKind, new_transport
from mixer.store import Problem, Store, StoreContents
from mixer.tls import ServerCertificates, ServerTls
from mixer.tls.metrics import TlsCollector
from proxy.client import HttpClientConfig, LocalNode, SidecarClient, SpecBuilder, TcpClientConfig
from proxy.client.remote import RemoteMixer, RemoteOptions
from proxy.envoy.access_log import AccessLog, AccessLogMetrics
from proxy.envoy.ext_authz import Authorization, Decider
from proxy.envoy.ext_authz_http import HttpAuthorization
from proxy.envoy.metrics import PolicyMetrics
from proxy.envoy.otlp import OtlpMetrics, Traces
from proxy.envoy.rate_limit import RateLimits
from proxy.envoy.recent import RecentChecks

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.cli.agent")

HTTP_PORT: Final = "ext-authz-http-port"
WATCH_AGAIN_S: Final = 1.0
"""After a watch of the specs that failed."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How an agent runs; port 0 picks a free one.

    Attributes:
        remote: The Mixer behind.
        http: What holds for requests.
        tcp: What holds for connections.
        node: Who the proxy is; None when its Envoys say so themselves.
        host: Interface of every port.
        port: gRPC, for Envoy.
        address: ``host:port`` or ``unix:///path`` of it instead.
        transport: What carries gRPC.
        tls: Serve gRPC and the HTTP form over TLS; None for cleartext, which a socket file has in any case.
        ext_authz_http_port: External authorization in its HTTP form; None for none.
        monitoring_port: ``/metrics``, ``/healthz``, ``/readyz``.
        report_headers: Request headers that reports shall have though Envoy's log does not list them.
        drain_s: How long calls in progress, and then the delivery of reports, may take after the order to stop.
        max_message_bytes: Largest message from an Envoy.
    """

    remote: RemoteOptions
    http: HttpClientConfig
    tcp: TcpClientConfig
    node: LocalNode | None = None
    host: str = "127.0.0.1"
    port: int = 9092
    address: str = ""
    transport: TransportKind = TransportKind.GRPC
    ext_authz_http_port: int | None = None
    monitoring_port: int = 15090
    report_headers: tuple[str, ...] = ()
    drain_s: float = 10.0
    max_message_bytes: int = 4 << 20
    tls: ServerTls | None = None


@dataclass(slots=True)
class _State:
    """What ``/readyz`` tells."""

    serving: bool = False
    draining: bool = field(default=False)

    @property
    def why_not_ready(self) -> str:
        if self.draining:
            return "draining"
        return "" if self.serving else "starting"


class _Rpcs:
    """See `mixer.server.guard.RpcMetrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rpcs = tallies.Counter(
            "grpc_io_server_completed_rpcs",
            "RPCs answered.",
            ("grpc_server_method", "grpc_server_status"),
            registry=registry,
        )
        self.rpc_seconds = tallies.Histogram(
            "grpc_io_server_latency_seconds",
            "Time from an RPC's arrival to its answer.",
            ("grpc_server_method",),
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
            registry=registry,
        )


class RemoteCollector(Collector):
    """What became of calls to Mixer and of the records that were to be delivered, read when it is scraped."""

    def __init__(self, remote: RemoteMixer) -> None:
        self._remote = remote

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families()

    def _families(self) -> Iterator[Metric]:
        remote, books = self._remote, self._remote.delivery.books
        for name, text, count in (
            ("accepted", "Records given to the delivery.", books.accepted),
            ("delivered", "Records that Mixer took.", books.delivered),
            ("refused", "Records that Mixer answered with an error that no repeat would cure.", books.refused),
        ):
            yield CounterMetricFamily(f"mixer_proxy_records_{name}", text, count)
        dropped = CounterMetricFamily(
            "mixer_proxy_records_dropped", "Records that never reached Mixer.", labels=("reason",)
        )
        for reason, count in sorted(books.dropped.items()):
            dropped.add_metric((reason,), count)
        yield dropped
        yield GaugeMetricFamily("mixer_proxy_records_pending", "Records in the buffer.", remote.delivery.pending)
        attempts = CounterMetricFamily("mixer_proxy_attempts", "Calls to Mixer.", labels=("method", "code"))
        for method, codes in (("Check", remote.check_attempts), ("Report", books.attempts)):
            for code, count in sorted(codes.items()):
                attempts.add_metric((method, code.name), count)
        yield attempts
        yield CounterMetricFamily(
            "mixer_proxy_tls_faults",
            "Times that TLS with Mixer was found to fail; the log says why.",
            remote.tls_faults,
        )
        yield GaugeMetricFamily(
            "mixer_proxy_dictionary_words", "Global words used towards Mixer.", remote.dictionary_words
        )


class Agent:
    """One agent in this process; ``ports`` are the bound ones by their flag once `start` returns.

    Args:
        options: How it runs.
        store: Where QuotaSpecs, HTTPAPISpecs and their bindings are; None for none.

    Raises:
        CertificateError: The files of ``options.tls`` are not fit for use.
    """

    def __init__(self, options: AgentOptions, store: Store | None = None) -> None:
        self._options = options
        self._store = store
        self._state = _State()
        self._draining = asyncio.Event()
        self._pages = Pages(options.host)
        self._watch: asyncio.Task[None] | None = None
        self._transport: Transport | None = None
        self._health = Health()
        self._http: HttpAuthorization | None = None
        self.registry: Final = CollectorRegistry()
        self.problems: tuple[Problem, ...] = ()
        self.ports: dict[str, int] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        Gauge("istio_build", "Constant 1.", ("component", "tag"), registry=self.registry).labels(
            "mixproxy", __version__
        ).set(1)
        self._certificates = ServerCertificates(options.tls) if options.tls is not None else None
        self._specs = SpecBuilder()
        self._problem_gauge = Gauge(
            "mixer_proxy_config_problems", "Problems of specs and bindings.", registry=self.registry
        )

    async def start(self) -> None:
        """Open every port; serves when this returns, whether Mixer is there or not.

        Raises:
            OSError: A port is taken.
            StoreUnavailableError: The configuration cannot be read.
            CertificateError: The files for calls to Mixer are not fit for use.
        """
        options = self._options
        self.remote = RemoteMixer(options.remote)
        self.registry.register(RemoteCollector(self.remote))
        sides = {"server": self._certificates, "client": self.remote.certificates}
        if certified := {side: each for side, each in sides.items() if each is not None}:
            self.registry.register(TlsCollector(**certified))
        self.client = SidecarClient(self.remote, options.http, options.tcp, node=options.node, registry=self.registry)
        try:
            if self._store is not None:
                self._configure(await self._store.load())
            metrics = PolicyMetrics(self.registry)
            recent = RecentChecks()
            decider = Decider(self.client, report_headers=options.report_headers, recent=recent)
            services: Methods = (
                Authorization(decider, metrics).methods
                | RateLimits(self.client, metrics).methods
                | AccessLog(self.client, AccessLogMetrics(self.registry), recent=recent).methods
                | Traces(self.client, OtlpMetrics(self.registry)).methods
            )
            methods = guarded(services, lambda: True, _Rpcs(self.registry), self._draining)
            self._health = Health(methods.services)
            self._transport = new_transport(
                options.transport,
                with_health_and_reflection(methods, self._health),
                max_message_bytes=options.max_message_bytes,
                certificates=self._certificates,
            )
            address = options.address.removeprefix("tcp://") or f"{options.host}:{options.port}"
            self.ports["port"] = await self._transport.bind(address)
            self.ports["monitoring-port"] = await self._pages.serve(
                options.monitoring_port, monitoring_app(self._state, self.registry)
            )
            if options.ext_authz_http_port is not None:
                self._http = HttpAuthorization(decider, metrics, lambda: True)
                self._http.server.certificates = self._certificates
                self.ports[HTTP_PORT] = await self._http.server.listen(options.host, options.ext_authz_http_port)
            await self._transport.start()
        except BaseException:
            await self.stop()
            raise
        if self._store is not None:
            self._watch = asyncio.get_running_loop().create_task(self._follow(self._store), name="follow specs")
        self._health.set_serving(True)
        self._state.serving = True

    async def stop(self) -> None:
        """Drain: take nothing new, finish calls in progress, deliver what reports there are; safe after a failed start."""
        self._state.draining = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._health.end()
        self._draining.set()
        if self._transport is not None:
            await self._transport.stop(self._options.drain_s)
        if self._http is not None:
            await self._http.server.stop(self._options.drain_s)
        await self.client.aclose(self._options.drain_s)
        await self.remote.aclose(self._options.drain_s)
        await self._pages.close()

    async def _follow(self, store: Store) -> None:
        while True:
            try:
                async for contents in store.watch():
                    self._configure_guarded(contents)
                return
            except Exception as exc:
                log.error("store_watch_failed", exc_info=exc, retry_in_s=WATCH_AGAIN_S)
            await asyncio.sleep(WATCH_AGAIN_S)

    def _configure_guarded(self, contents: StoreContents) -> None:
        try:
            self._configure(contents)
        except Exception as exc:
            log.error("specs_not_applied", exc_info=exc)

    def _configure(self, contents: StoreContents) -> None:
        specs, problems = self._specs.build(contents.resources.values())
        self.problems = (*contents.problems, *problems)
        self._problem_gauge.set(len(self.problems))
        for problem in self.problems:
            log.warning("config_problem", problem=str(problem))
        self.client.use_specs(specs)
        log.info("specs_read", problems=len(self.problems))
