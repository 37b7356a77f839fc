"""How a server runs, whether in one process or in several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mixer.server.transport import TransportKind
from mixer.tls import ServerTls


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server runs; port 0 picks a free one.

    Attributes:
        address: ``host:port`` or ``unix:///path`` of the gRPC API; empty = ``host`` and ``port``.
        transport: What carries the gRPC API.
        handler_timeout_s: How long a handler may take over one call.
        drain_s: How long requests in progress may take to finish after the order to stop.
        strict: Refuse a configuration that has problems; the former one goes on serving.
        tls: Serve the gRPC port and those of guests over TLS; None for cleartext, which a socket file has in any case.
        guest_ports: Further ports by the name of their flag, which `mixer.server.guests` serve.
    """

    host: str = "127.0.0.1"
    port: int = 9091
    address: str = ""
    transport: TransportKind = TransportKind.GRPC
    monitoring_port: int = 15014
    metrics_port: int = 42422
    console_port: int = 9876
    max_message_bytes: int = 1 << 20
    max_concurrent_streams: int = 1024
    default_namespace: str = "istio-system"
    handler_timeout_s: float = 5.0
    drain_s: float = 10.0
    strict: bool = False
    tls: ServerTls | None = None
    guest_ports: Mapping[str, int] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def for_worker(self, port: int, guest_ports: Mapping[str, int]) -> ServerOptions:
        """The options of one worker of several, on the ports that they share."""
        return replace(self, port=port, guest_ports=guest_ports, arguments={})
