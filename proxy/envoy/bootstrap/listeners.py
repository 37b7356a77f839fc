"""Listeners, and the whole that they make with the clusters. Source: spec envoy 2.2, 2.4 and 2.7."""

from __future__ import annotations

from typing import Any

from proxy.envoy.bootstrap.clusters import TRACES, TYPE, address, clusters, common_tls, duration
from proxy.envoy.bootstrap.filters import (
    FORWARDED,
    ROUTE_METADATA,
    access_log,
    http_filters,
    log_name,
    network_ext_authz,
    per_route,
    route_metadata,
)
from proxy.envoy.bootstrap.model import Direction, Listener, Protocol, Route, Sidecar, Tls, Tracing, TracingKind
from proxy.envoy.bootstrap.text import Note


def bootstrap(sidecar: Sidecar) -> dict[str, Any]:
    """A whole configuration, to start an Envoy with."""
    found: dict[str, Any] = {"node": {"id": sidecar.node_id, "cluster": sidecar.node_cluster}}
    if sidecar.admin is not None:
        found["admin"] = Note(
            "Whoever reaches this controls the proxy: keep it on this machine.", {"address": address(sidecar.admin)}
        )
    found["static_resources"] = {
        "listeners": [listener(sidecar, each) for each in sidecar.listeners],
        "clusters": clusters(sidecar),
    }
    return found


def fragments(sidecar: Sidecar) -> dict[str, Any]:
    """What to paste into a configuration that there is: for each listener filters and access log, and the clusters."""
    found: dict[str, Any] = {}
    for each in sidecar.listeners:
        name = log_name(each)
        if each.protocol is Protocol.TCP:
            if each.check:
                found[f"{name} filters, before tcp_proxy"] = [network_ext_authz(sidecar, each)]
            found[f"{name} access_log of tcp_proxy"] = [access_log(sidecar, each)]
            continue
        found[f"{name} http_filters"] = http_filters(sidecar, each)
        found[f"{name} access_log of the connection manager"] = [access_log(sidecar, each)]
        for route in each.routes:
            if config := per_route(each, route, sidecar):
                found[f"{name} typed_per_filter_config of the route to {route.upstream}"] = config
    own = {upstream.name for upstream in sidecar.upstreams}
    found["clusters"] = [each for each in clusters(sidecar) if _name(each) not in own]
    return found


def _name(cluster: Any) -> str:
    return str((cluster.value if isinstance(cluster, Note) else cluster)["name"])


def listener(sidecar: Sidecar, each: Listener) -> dict[str, Any]:
    """One listener."""
    if each.protocol is Protocol.HTTP:
        filters = [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _connection_manager(sidecar, each),
            }
        ]
    else:
        filters = [network_ext_authz(sidecar, each)] if each.check else []
        filters.append({"name": "envoy.filters.network.tcp_proxy", "typed_config": _tcp_proxy(sidecar, each)})
    chain: dict[str, Any] = {"filters": filters}
    found: dict[str, Any] = {"name": log_name(each), "address": address(each.endpoint)}
    if each.tls is not None:
        found["listener_filters"] = Note(
            "The server name is known before the handshake ends.",
            [
                {
                    "name": "envoy.filters.listener.tls_inspector",
                    "typed_config": {"@type": f"{TYPE}.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
                }
            ],
        )
        chain["transport_socket"] = _downstream_tls(each.tls, http=each.protocol is Protocol.HTTP)
    return found | {"filter_chains": [chain]}


def _connection_manager(sidecar: Sidecar, each: Listener) -> dict[str, Any]:
    inbound = each.direction is Direction.INBOUND
    config: dict[str, Any] = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": log_name(each),
        "codec_type": "AUTO",
        "generate_request_id": True,
        "preserve_external_request_id": False,
    }
    if sidecar.edge:
        config["use_remote_address"] = Note("Clients are not trusted: what they say of themselves is replaced.", True)
        if inbound:
            config["early_header_mutation_extensions"] = [_not_believed(FORWARDED)]
    else:
        config["use_remote_address"] = Note("Beside a service: the proxy before has said who the client is.", False)
        config["skip_xff_append"] = True
    config |= {
        "forward_client_cert_details": Note(
            "Else a client could claim an identity in x-forwarded-client-cert.", "SANITIZE_SET"
        ),
        "set_current_client_cert_details": {"uri": True},
        "server_header_transformation": Note("The service keeps its own Server header.", "PASS_THROUGH"),
        "normalize_path": Note("Policies see the path that routes see.", True),
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT" if sidecar.edge else "KEEP_UNCHANGED",
        "access_log": [access_log(sidecar, each)],
        "http_filters": http_filters(sidecar, each),
    }
    if sidecar.tracing is not None:
        config["tracing"] = _tracing(sidecar.tracing, sidecar.node_cluster)
    routes: dict[str, Any] = {
        "name": log_name(each),
        "virtual_hosts": [_virtual_host(sidecar, each, number, route) for number, route in enumerate(each.routes)],
    }
    if inbound:
        routes["request_headers_to_remove"] = Note(
            "What a peer told of itself is for Mixer; the service does not see it, checked or not.", [FORWARDED]
        )
    elif each.forward:
        routes["request_headers_to_add"] = Note(
            "Tells the next sidecar who is calling.",
            [
                {
                    "header": {"key": FORWARDED, "value": each.forward.replace("%", "%%")},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        )
    config["route_config"] = routes
    return config


def _not_believed(header: str) -> dict[str, Any]:
    """Takes a header away before any filter sees the request."""
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": Note("Only a sidecar may tell who is calling, and no client is one.", [{"remove": header}]),
        },
    }


def _virtual_host(sidecar: Sidecar, each: Listener, number: int, route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "match": {"prefix": "/"},
        "route": {"cluster": route.upstream, "timeout": Note("The service decides how long it takes.", "0s")},
    }
    if told := route_metadata(each, route):
        found["metadata"] = Note("For the tags of the access log.", {"filter_metadata": {ROUTE_METADATA: told}})
    config = per_route(each, route, sidecar)
    if config:
        found["typed_per_filter_config"] = config
    return {"name": f"{route.upstream}-{number}", "domains": list(route.domains), "routes": [found]}


def _tcp_proxy(sidecar: Sidecar, each: Listener) -> dict[str, Any]:
    return {
        "@type": f"{TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": log_name(each),
        "cluster": each.routes[0].upstream,
        "access_log_options": Note(
            "A report at the beginning, one every so often, one at the end.",
            {
                "access_log_flush_interval": duration(each.access_log_interval_s),
                "flush_access_log_on_connected": True,
            },
        ),
        "access_log": [access_log(sidecar, each)],
    }


def _downstream_tls(tls: Tls, *, http: bool) -> dict[str, Any]:
    context = common_tls(tls)
    if http:
        context["alpn_protocols"] = ["h2", "http/1.1"]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": tls.require_peer,
            "common_tls_context": context,
        },
    }


def _tracing(tracing: Tracing, service: str) -> dict[str, Any]:
    if tracing.kind is TracingKind.OTLP:
        provider = {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": f"{TYPE}.config.trace.v3.OpenTelemetryConfig",
                "service_name": service,
                "grpc_service": {"envoy_grpc": {"cluster_name": TRACES}, "timeout": "0.5s"},
            },
        }
    else:
        provider = {
            "name": "envoy.tracers.zipkin",
            "typed_config": {
                "@type": f"{TYPE}.config.trace.v3.ZipkinConfig",
                "collector_cluster": TRACES,
                "collector_endpoint": "/api/v2/spans",
                "collector_endpoint_version": "HTTP_JSON",
                "trace_id_128bit": True,
                "shared_span_context": False,
                "trace_context_option": Note(
                    "Both forms are understood and sent on; B3 alone would drop a caller's traceparent.",
                    "USE_B3_WITH_W3C_PROPAGATION",
                ),
            },
        }
    return {"provider": provider, "random_sampling": {"value": tracing.sampling_percent}}
