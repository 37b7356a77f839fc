"""The Envoys of the book shop: a gateway at the edge, and one beside each workload with a way in and a way out.

Between them is mutual TLS with SPIFFE identities. What leaves a workload goes through its Envoy's outbound port, which
reports as the source and tells the next Envoy who is calling; what comes in is checked, and reported as the
destination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.certificates import Authority
from loadtest.demo.workloads import (
    DETAILS,
    GATEWAY,
    HTTP_WORKLOADS,
    MONGODB,
    PRODUCTPAGE,
    RATINGS,
    REVIEWS,
    Workload,
)
from proxy.client.forwarded import write_forwarded
from proxy.envoy.bootstrap import (
    Direction,
    Endpoint,
    ExtAuthz,
    Listener,
    MixerAddress,
    Protocol,
    Route,
    Sidecar,
    Tls,
    Tracing,
    Upstream,
    bootstrap,
)
from proxy.envoy.bootstrap.model import TracingKind
from proxy.envoy.bootstrap.text import plain

CALLS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    GATEWAY: ((PRODUCTPAGE,),),
    PRODUCTPAGE: ((DETAILS,), REVIEWS),
    REVIEWS[0]: ((RATINGS,), (DETAILS,)),
    REVIEWS[1]: ((RATINGS,), (DETAILS,)),
    REVIEWS[2]: ((RATINGS,), (DETAILS,)),
}
"""Which services a workload can reach, each as the workloads that serve it; reviews never asks details unless told."""

CHECK_S = 5.0
"""A check may take so long: a machine that is busy with other things shall not refuse a visit for that."""

FLUSH_S = 0.2
"""Reports leave Envoy so long after the first: a demo shall not wait for them."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where one workload and its Envoy listen on this machine.

    Attributes:
        app: The service itself.
        inbound: Its Envoy, for other Envoys.
        outbound: Its Envoy, for the service.
        mongodb: The same, for connections to MongoDB.
        admin: Its Envoy's page of administration.
    """

    app: int
    inbound: int
    outbound: int
    mongodb: int
    admin: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is there and where; what the Envoys are made from.

    Attributes:
        workloads: By name.
        ports: By name of the workload.
        policy: Where Envoys ask and report: mixproxy.
        spans: Where they send their spans: Mixer.
        identities: By name of the workload.
    """

    workloads: Mapping[str, Workload]
    ports: Mapping[str, Ports]
    policy: Endpoint
    spans: Endpoint
    identities: Mapping[str, Tls]

    def for_services(self) -> dict[str, dict[str, int]]:
        """What the services need to know."""
        return {
            name: {"port": ports.app, "outbound": ports.outbound, "mongodb": ports.mongodb}
            for name, ports in self.ports.items()
        }


def issue_identities(workloads: Mapping[str, Workload], folder: Path) -> dict[str, Tls]:
    """A certificate for each workload, by an authority made for this run."""
    authority = Authority("book shop")
    return {name: authority.issue(folder / name, each.identity, each.host) for name, each in workloads.items()}


def envoy_config(plan: Plan, name: str) -> dict[str, Any]:
    """The whole configuration of the Envoy beside a workload."""
    workload, ports = plan.workloads[name], plan.ports[name]
    listeners: list[Listener] = []
    upstreams: list[Upstream] = []
    if name != GATEWAY:
        listeners.append(_inbound(plan, name))
        upstreams.append(Upstream("app", _here(ports.app), uid=workload.uid))
    if name in CALLS:
        listeners.append(_outbound(plan, name))
        upstreams += (_upstream(plan, name, serving[0]) for serving in CALLS[name])
    if name == RATINGS:
        listeners.append(_to_mongodb(plan))
        upstreams.append(_upstream(plan, name, MONGODB))
    sidecar = Sidecar(
        workload.node_id,
        workload.app,
        MixerAddress(plan.policy),
        tuple(listeners),
        tuple(upstreams),
        admin=_here(ports.admin),
        ext_authz=ExtAuthz(timeout_s=CHECK_S),
        tracing=Tracing(TracingKind.OTLP, plan.spans),
        flush_s=FLUSH_S,
        edge=name == GATEWAY,
    )
    config: dict[str, Any] = plain(bootstrap(sidecar))
    for serving in CALLS.get(name, ()):
        _spread(config, plan, serving)
    return config


def _here(port: int) -> Endpoint:
    return Endpoint("127.0.0.1", port)


def _inbound(plan: Plan, name: str) -> Listener:
    workload = plan.workloads[name]
    return Listener(
        "tcp" if name == MONGODB else "http",
        _here(plan.ports[name].inbound),
        (Route("app", service=workload.host, attributes=_service(workload)),),
        protocol=Protocol.TCP if name == MONGODB else Protocol.HTTP,
        tls=plan.identities[name],
        attributes={"destination.uid": workload.uid, "context.reporter.uid": workload.uid},
    )


def _outbound(plan: Plan, name: str) -> Listener:
    workload = plan.workloads[name]
    routes = []
    for serving in CALLS[name]:
        callee = plan.workloads[serving[0]]
        domains = ("*",) if name == GATEWAY else (callee.authority, callee.host)
        routes.append(Route(callee.app, domains, callee.host, _service(callee)))
    return Listener(
        "http",
        _here(plan.ports[name].outbound),
        tuple(routes),
        Direction.OUTBOUND,
        check=False,
        attributes={"source.uid": workload.uid, "context.reporter.uid": workload.uid},
        forward=write_forwarded({"source.uid": workload.uid}),
    )


def _to_mongodb(plan: Plan) -> Listener:
    workload, callee = plan.workloads[RATINGS], plan.workloads[MONGODB]
    return Listener(
        "tcp",
        _here(plan.ports[RATINGS].mongodb),
        (Route(callee.app, service=callee.host, attributes=_service(callee)),),
        Direction.OUTBOUND,
        Protocol.TCP,
        check=False,
        attributes={"source.uid": workload.uid, "context.reporter.uid": workload.uid},
    )


def _service(workload: Workload) -> dict[str, str]:
    return {"destination.service.name": workload.app, "destination.service.namespace": workload.namespace}


def _upstream(plan: Plan, caller: str, name: str) -> Upstream:
    workload = plan.workloads[name]
    return Upstream(
        workload.app,
        _here(plan.ports[name].inbound),
        http2=name in HTTP_WORKLOADS,
        uid=workload.uid,
        tls=plan.identities[caller],
        sni=workload.host,
    )


def _spread(config: dict[str, Any], plan: Plan, serving: Sequence[str]) -> None:
    """Let the cluster of a service have an endpoint for each of its workloads."""
    if len(serving) == 1:
        return
    (cluster,) = [
        each for each in config["static_resources"]["clusters"] if each["name"] == plan.workloads[serving[0]].app
    ]
    cluster["load_assignment"]["endpoints"] = [
        {
            "lb_endpoints": [
                {
                    "endpoint": {
                        "address": {"socket_address": {"address": "127.0.0.1", "port_value": plan.ports[name].inbound}}
                    },
                    "metadata": {"filter_metadata": {"istio": {"uid": plan.workloads[name].uid}}},
                }
                for name in serving
            ]
        }
    ]
