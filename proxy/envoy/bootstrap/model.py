"""What there is to choose about an Envoy beside a service. Plain values; the rest of the package turns them into YAML."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Direction(enum.StrEnum):
    """Which way a listener's traffic goes; it becomes ``context.reporter.kind``."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Protocol(enum.StrEnum):
    """What a listener understands of its traffic."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A socket: ``host`` and ``port``, or ``path`` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """``host:port``, ``[v6]:port``, ``tcp://host:port`` or ``unix:///path``.

        Raises:
            ValueError: The text is none of these; the message says what was expected.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").removeprefix("//")
            if not path:
                raise ValueError(f"{text!r} has no path; expected unix:///path")
            return cls(path=path)
        host, colon, port = text.removeprefix("tcp://").rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is no address; expected host:port or unix:///path")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a workload's identity: certificate chain, its key, and the authority that peers are checked against.

    A peer without certificate is turned away unless ``require_peer`` is False.
    """

    certificate: str
    key: str
    authority: str
    require_peer: bool = True


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where traffic goes on: one cluster with one endpoint.

    Attributes:
        name: Of the cluster.
        endpoint: Where it is.
        http2: It speaks HTTP/2, as gRPC services and sidecars do.
        uid: ``kubernetes://pod.namespace``; becomes ``destination.uid`` of what is reported.
        tls: Present this identity to it.
        sni: Server name for TLS.
    """

    name: str
    endpoint: Endpoint
    http2: bool = False
    uid: str = ""
    tls: Tls | None = None
    sni: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Requests for some hosts, to an upstream.

    Attributes:
        upstream: Name of the cluster.
        domains: Values of ``:authority``, with ``*`` for any.
        service: Host name of the service, which selects its configuration in Mixer's client and becomes
            ``destination.service.host``.
        attributes: Static attributes of the route, as texts.
        rate_limits: ``RateLimitPerRoute.rate_limits`` for the rate limit filter.
    """

    upstream: str
    domains: tuple[str, ...] = ("*",)
    service: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    rate_limits: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that Envoy takes traffic on.

    Attributes:
        name: Also the log name of its reports, with the direction in front.
        endpoint: Where it listens.
        direction: Inbound to the service beside it, or outbound from it.
        protocol: HTTP is understood per request, TCP per connection.
        routes: HTTP: the first whose domain fits; TCP: the only one.
        check: Whether requests are checked; reports are made in any case.
        tls: Require this of the peer.
        attributes: Static attributes of all that goes through, as texts.
        access_log_interval_s: TCP: how often a connection in progress is reported.
        forward: Value of ``x-istio-attributes`` that the next hop is told; outbound.
    """

    name: str
    endpoint: Endpoint
    routes: tuple[Route, ...]
    direction: Direction = Direction.INBOUND
    protocol: Protocol = Protocol.HTTP
    check: bool = True
    tls: Tls | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    access_log_interval_s: int = 10
    forward: str = ""


@dataclass(frozen=True, slots=True)
class MixerTls:
    """How Envoy calls Mixer over TLS.

    Attributes:
        authority: File of the authorities that Mixer must be known by.
        certificate: File of the certificate chain to show; empty for none.
        key: File of its key.
        server_name: DNS name, IP address or URI that Mixer's certificate must have; empty for the host of the address.
    """

    authority: str
    certificate: str = ""
    key: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class MixerAddress:
    """Where Mixer's services are.

    Attributes:
        grpc: For all three.
        http: For external authorization in its HTTP form.
        tls: How both are called; None for cleartext, which a socket file has in any case.
    """

    grpc: Endpoint
    http: Endpoint | None = None
    tls: MixerTls | None = None


@dataclass(frozen=True, slots=True)
class ExtAuthz:
    """External authorization.

    Attributes:
        timeout_s: For one decision, all attempts together; exact.
        failure_mode_allow: Requests pass while nobody answers. Otherwise they get 503.
        retries: After a refused or broken connection.
        body_bytes: Of a request that the decision may see; 0 for none.
        request_headers: In the HTTP form: regular expression of the headers that are sent.
    """

    timeout_s: float = 1.0
    failure_mode_allow: bool = False
    retries: int = 1
    body_bytes: int = 0
    request_headers: str = ".*"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The rate limit filter, for descriptors that routes name; quotas of QuotaSpecs need none.

    Attributes:
        domain: Sent with each request.
        timeout_s: For one answer.
        failure_mode_deny: Requests get 503 while nobody answers.
    """

    domain: str = "mixer"
    timeout_s: float = 0.25
    failure_mode_deny: bool = False


class TracingKind(enum.StrEnum):
    """Who gets Envoy's own spans."""

    OTLP = "otlp"
    ZIPKIN = "zipkin"


@dataclass(frozen=True, slots=True)
class Tracing:
    """Trace context for every request, and spans to a collector. ``sampling_percent`` of new traces."""

    kind: TracingKind
    collector: Endpoint
    sampling_percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One Envoy.

    Attributes:
        node_id: ``sidecar~ip~pod.namespace~domain`` where Mixer shall know the pod; else any name.
        node_cluster: Name of the service.
        mixer: Where Mixer (or a mixproxy) is.
        listeners: Ports.
        upstreams: Clusters.
        admin: Address of the admin page; None for none.
        ext_authz: Settings of checks.
        rate_limit: Settings of the rate limit filter; None leaves it out.
        tracing: Spans; None leaves trace context alone.
        logged_request_headers: Request headers that reports need besides the usual ones, lower case.
        logged_response_headers: The same of responses.
        buffer_bytes: Reports are sent when so many bytes are there,
        flush_s: or so long after the first.
        edge: The listener faces clients that are not trusted: forwarding headers are written, not believed.
    """

    node_id: str
    node_cluster: str
    mixer: MixerAddress
    listeners: tuple[Listener, ...]
    upstreams: tuple[Upstream, ...]
    admin: Endpoint | None = None
    ext_authz: ExtAuthz = ExtAuthz()
    rate_limit: RateLimit | None = None
    tracing: Tracing | None = None
    logged_request_headers: tuple[str, ...] = ()
    logged_response_headers: tuple[str, ...] = ()
    buffer_bytes: int = 65536
    flush_s: float = 1.0
    edge: bool = False
