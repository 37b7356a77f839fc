"""Clusters: Mixer's services, the upstreams of routes, and the collector of spans. Source: spec envoy 2.1."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from proxy.envoy.bootstrap.model import Endpoint, MixerTls, Sidecar, Tls, TracingKind, Upstream
from proxy.envoy.bootstrap.text import Note

CHECK: Final = "mixer_check"
REPORT: Final = "mixer_report"
CHECK_HTTP: Final = "mixer_check_http"
TRACES: Final = "traces"
TYPE: Final = "type.googleapis.com/envoy"
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def duration(seconds: float) -> str:
    """A duration as protobuf's JSON has it."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def address(endpoint: Endpoint) -> dict[str, Any]:
    """``core.v3.Address``."""
    if endpoint.path:
        return {"pipe": {"path": endpoint.path}}
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def clusters(sidecar: Sidecar) -> list[Any]:
    """All clusters that the listeners of a sidecar name."""
    mixer = sidecar.mixer
    found: list[Any] = [
        Note(
            "Checks and rate limits. They wait for their answer, so their connection is not shared with reports.",
            _mixer(CHECK, mixer.grpc, mixer.tls),
        ),
        Note("Reports.", _mixer(REPORT, mixer.grpc, mixer.tls)),
    ]
    if mixer.http is not None:
        http = _cluster(CHECK_HTTP, mixer.http) | _breakers() | _mixer_tls(mixer.http, mixer.tls)
        found.append(Note("Checks in their HTTP form.", http))
    found += (_upstream(upstream) for upstream in sidecar.upstreams)
    if sidecar.tracing is not None:
        grpc = sidecar.tracing.kind is TracingKind.OTLP
        found.append(_cluster(TRACES, sidecar.tracing.collector) | (_http2() if grpc else {}))
    return found


def _cluster(name: str, endpoint: Endpoint, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    named = bool(endpoint.host) and not endpoint.host.replace(".", "").isdigit() and ":" not in endpoint.host
    target: dict[str, Any] = {"endpoint": {"address": address(endpoint)}}
    if metadata:
        target["metadata"] = {"filter_metadata": metadata}
    return {
        "name": name,
        "type": "STRICT_DNS" if named else "STATIC",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [target]}]},
    }


def _http2(*, keepalive: bool = False) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if keepalive:
        options["connection_keepalive"] = Note(
            "Finds a peer that is gone without a word.", {"interval": "30s", "timeout": "5s"}
        )
    protocol = {"@type": f"{TYPE}.{_HTTP_OPTIONS.removeprefix('envoy.')}"}
    protocol["explicit_http_config"] = {"http2_protocol_options": options}  # type: ignore[assignment]
    return {
        "typed_extension_protocol_options": Note(
            "gRPC needs HTTP/2; without this Envoy speaks HTTP/1.1 and each call fails.", {_HTTP_OPTIONS: protocol}
        )
    }


def _breakers() -> dict[str, Any]:
    return {
        "circuit_breakers": Note(
            "The default of 1024 requests is less than a busy listener has waiting when Mixer is slow.",
            {"thresholds": [{"max_connections": 1024, "max_pending_requests": 10000, "max_requests": 10000}]},
        )
    }


def _mixer(name: str, endpoint: Endpoint, tls: MixerTls | None) -> dict[str, Any]:
    return _cluster(name, endpoint) | _http2(keepalive=True) | _breakers() | _mixer_tls(endpoint, tls, alpn="h2")


def _mixer_tls(endpoint: Endpoint, tls: MixerTls | None, *, alpn: str = "http/1.1") -> dict[str, Any]:
    if tls is None or endpoint.path:
        return {}
    name = tls.server_name or endpoint.host
    kind = _name_kind(name)
    context: dict[str, Any] = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "validation_context": {
            "trusted_ca": {"filename": tls.authority},
            "match_typed_subject_alt_names": Note(
                "Without a name any certificate of the authority would do.",
                [{"san_type": kind, "matcher": {"exact": name}}],
            ),
        },
        "alpn_protocols": [alpn],
    }
    if tls.certificate:
        context["tls_certificates"] = Note("Mixer asks who calls: mutual TLS.", [_pair(tls.certificate, tls.key)])
    upstream: dict[str, Any] = {"@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}
    if kind == "DNS":
        upstream["sni"] = name
    return {
        "transport_socket": Note(
            "Mixer is called over TLS. Envoy reads these files at its start; give them by SDS where they are renewed.",
            {"name": "envoy.transport_sockets.tls", "typed_config": upstream | {"common_tls_context": context}},
        )
    }


def _name_kind(name: str) -> str:
    if "://" in name:
        return "URI"
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP_ADDRESS"


def _upstream(upstream: Upstream) -> dict[str, Any]:
    cluster = _cluster(upstream.name, upstream.endpoint, {"istio": {"uid": upstream.uid}} if upstream.uid else None)
    if upstream.http2:
        cluster |= _http2()
    if upstream.tls is not None:
        context = common_tls(upstream.tls)
        if upstream.http2:
            context["alpn_protocols"] = ["h2"]
        tls: dict[str, Any] = {"@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}
        if upstream.sni:
            tls["sni"] = upstream.sni
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": tls | {"common_tls_context": context},
        }
    return cluster


def common_tls(tls: Tls) -> dict[str, Any]:
    """``CommonTlsContext`` of an identity."""
    return {
        "tls_certificates": [_pair(tls.certificate, tls.key)],
        "validation_context": {"trusted_ca": {"filename": tls.authority}},
    }


def _pair(certificate: str, key: str) -> dict[str, Any]:
    return {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
