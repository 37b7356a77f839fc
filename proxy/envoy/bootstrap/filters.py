"""The filters that ask Mixer, and the access logs that report to it. Source: spec envoy 2.3 to 2.6, 5.2 and 8.1."""

from __future__ import annotations

from typing import Any, Final

from proxy.envoy.bootstrap.clusters import CHECK, CHECK_HTTP, REPORT, TYPE, duration
from proxy.envoy.bootstrap.model import ExtAuthz, Listener, Protocol, RateLimit, Route, Sidecar
from proxy.envoy.bootstrap.text import Note

EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
RATE_LIMIT: Final = "envoy.filters.http.ratelimit"
FORWARDED: Final = "x-istio-attributes"
SERVICE: Final = "service_config"
"""The context extension, and the tag, that names the service whose configuration applies."""
ROUTE_METADATA: Final = "mixer"
"""Namespace of the metadata in which routes tell the access log their attributes."""

REQUEST_HEADERS: Final = (
    ":method", ":path", ":authority", "content-type", "x-request-id", "traceparent",
    "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-envoy-auth-failure-mode-allowed",
)  # fmt: skip
RESPONSE_HEADERS: Final = (
    ":status", "content-type", "content-length", "server", "date", "grpc-status", "grpc-message",
)  # fmt: skip
TRAILERS: Final = ("grpc-status", "grpc-message")

_NOT_TOLD: Final = ("source.", "origin.", "request.", "connection.")
"""What a header may not tell in the HTTP form, lest it be a client's."""

_REMOVE_RESPONSE_HEADERS: Final = """\
function envoy_on_response(handle)
  local answer = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.ext_authz")
  if answer ~= nil and answer["remove_response_headers"] ~= nil then
    for _, name in ipairs(answer["remove_response_headers"]) do handle:headers():remove(name) end
  end
end
"""


def log_name(listener: Listener) -> str:
    """What reports of a listener are called; the direction in front becomes ``context.reporter.kind``."""
    return f"{listener.direction}_{listener.name}"


def static_attributes(listener: Listener) -> dict[str, str]:
    """Attributes of all that goes through a listener, as texts."""
    return {"context.reporter.kind": str(listener.direction), **listener.attributes}


def route_attributes(listener: Listener, route: Route) -> dict[str, str]:
    """Static attributes of a route, those of its listener included."""
    service = {"destination.service.host": route.service} if route.service else {}
    return {**static_attributes(listener), **service, **route.attributes}


def http_filters(sidecar: Sidecar, listener: Listener) -> list[Any]:
    """The HTTP filters of a listener, the router last."""
    filters: list[Any] = []
    if listener.check:
        filters.append(
            Note(
                "External authorization can add and replace response headers but not remove them; this does. It "
                "stands before the check, so that it sees the response after it.",
                {
                    "name": "envoy.filters.http.lua",
                    "typed_config": {
                        "@type": f"{TYPE}.extensions.filters.http.lua.v3.Lua",
                        "default_source_code": {"inline_string": _REMOVE_RESPONSE_HEADERS},
                    },
                },
            )
        )
        filters.append(_ext_authz_http(sidecar, listener))
    if sidecar.rate_limit is not None:
        filters.append(
            Note(
                "After the check: a denied request is not charged. Quotas that QuotaSpecs bind are part of the check "
                "and need no descriptor.",
                _rate_limit(sidecar.rate_limit),
            )
        )
    router = {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}
    return [*filters, {"name": "envoy.filters.http.router", "typed_config": router}]


def per_route(listener: Listener, route: Route, sidecar: Sidecar) -> dict[str, Any]:
    """``typed_per_filter_config`` of a route."""
    found: dict[str, Any] = {}
    if listener.check and sidecar.mixer.http is None:
        extensions = route_attributes(listener, route)
        if route.service:
            extensions[SERVICE] = route.service
        found[EXT_AUTHZ] = Note(
            "Tells Mixer which service this is, and attributes that do not change.",
            {
                "@type": f"{TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
                "check_settings": {"context_extensions": extensions},
            },
        )
    if route.rate_limits and sidecar.rate_limit is not None:
        found[RATE_LIMIT] = {
            "@type": f"{TYPE}.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
            "rate_limits": list(route.rate_limits),
        }
    return found


def network_ext_authz(sidecar: Sidecar, listener: Listener) -> dict[str, Any]:
    """The check of a connection, at its first data."""
    settings = sidecar.ext_authz
    return {
        "name": "envoy.filters.network.ext_authz",
        "typed_config": {
            "@type": f"{TYPE}.extensions.filters.network.ext_authz.v3.ExtAuthz",
            "stat_prefix": "mixer_tcp",
            "transport_api_version": "V3",
            "failure_mode_allow": _failure_mode(settings),
            "include_tls_session": True,
            "grpc_service": {
                "envoy_grpc": {"cluster_name": CHECK, "authority": "mixer"},
                "timeout": duration(settings.timeout_s),
                "initial_metadata": Note(
                    "A connection's check has no id and no extensions of its own.",
                    [
                        {"key": "x-mixer-stream", "value": "%STREAM_ID%"},
                        {"key": "x-mixer-listener", "value": log_name(listener)},
                    ],
                ),
            },
        },
    }


def access_log(sidecar: Sidecar, listener: Listener) -> dict[str, Any]:
    """The access log of a listener, as reports."""
    http = listener.protocol is Protocol.HTTP
    kind = "HttpGrpcAccessLogConfig" if http else "TcpGrpcAccessLogConfig"
    config: dict[str, Any] = {
        "@type": f"{TYPE}.extensions.access_loggers.grpc.v3.{kind}",
        "common_config": {
            "log_name": Note("Names the listener; the direction in front is understood.", log_name(listener)),
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": REPORT, "authority": "mixer"}},
            "buffer_flush_interval": Note(
                "Reports leave after so long, or when so much is there.", duration(sidecar.flush_s)
            ),
            "buffer_size_bytes": sidecar.buffer_bytes,
            "custom_tags": Note("What an entry does not say by itself.", _tags(listener)),
        },
    }
    if http:
        config["additional_request_headers_to_log"] = Note(
            "An entry has no other headers than these; a check has all of them.",
            list(dict.fromkeys((*REQUEST_HEADERS, *sidecar.logged_request_headers))),
        )
        config["additional_response_headers_to_log"] = list(
            dict.fromkeys((*RESPONSE_HEADERS, *sidecar.logged_response_headers))
        )
        config["additional_response_trailers_to_log"] = list(TRAILERS)
    name = "envoy.access_loggers.http_grpc" if http else "envoy.access_loggers.tcp_grpc"
    return {"name": name, "typed_config": config}


def route_metadata(listener: Listener, route: Route) -> dict[str, str]:
    """What a route tells the access log, where the listener has several routes."""
    return _told(listener, route) if len(listener.routes) > 1 else {}


def _told(listener: Listener, route: Route) -> dict[str, str]:
    own = dict(route_attributes(listener, route))
    if route.service:
        own[SERVICE] = route.service
    return own


def _tags(listener: Listener) -> list[dict[str, Any]]:
    tags: list[dict[str, Any]] = [
        {"tag": "flags", "value": "%RESPONSE_FLAGS%"},
        {"tag": "dest.uid", "value": "%UPSTREAM_METADATA(istio:uid)%"},
    ]
    if len(listener.routes) == 1:
        told = _told(listener, listener.routes[0])
        return [*tags, *({"tag": name, "literal": {"value": value}} for name, value in told.items())]
    names = dict.fromkeys(name for route in listener.routes for name in _told(listener, route))
    return [*tags, *({"tag": name, "value": f"%METADATA(ROUTE:{ROUTE_METADATA}:{name})%"} for name in names)]


def _ext_authz_http(sidecar: Sidecar, listener: Listener) -> dict[str, Any]:
    settings = sidecar.ext_authz
    config: dict[str, Any] = {
        "@type": f"{TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "stat_prefix": "mixer",
    }
    if sidecar.mixer.http is None:
        config["grpc_service"] = _check_service(settings)
    else:
        config["http_service"] = _check_http_service(settings, listener, sidecar)
        config["allowed_headers"] = Note(
            "Without this hardly any header is sent.",
            {"patterns": [{"safe_regex": {"regex": settings.request_headers}}]},
        )
        config["disallowed_headers"] = Note(
            "What Envoy itself tells Mixer; a client that sends such a header would choose its own identity.",
            {"patterns": [{"prefix": "x-mixer-"}]},
        )
    config |= {
        "failure_mode_allow": _failure_mode(settings),
        "failure_mode_allow_header_add": settings.failure_mode_allow,
        "status_on_error": Note("Else an error looks like a denial: 403.", {"code": "ServiceUnavailable"}),
        "clear_route_cache": Note("An answer may change the path or the host; the route follows.", True),
        "include_tls_session": Note("The server name that the client asked for.", True),
        "metadata_context_namespaces": Note("Claims of a token that was verified before.", [_JWT]),
    }
    if settings.body_bytes:
        config["with_request_body"] = Note(
            "Partial bodies are checked, too: else a larger request is refused before any policy ran.",
            {"max_request_bytes": settings.body_bytes, "allow_partial_message": True},
        )
    return {"name": EXT_AUTHZ, "typed_config": config}


_JWT: Final = "envoy.filters.http.jwt_authn"


def _failure_mode(settings: ExtAuthz) -> Note:
    if settings.failure_mode_allow:
        return Note("Requests pass unchecked while nobody answers.", True)
    return Note("Requests get 503 while nobody answers; True lets them pass.", False)


def _check_service(settings: ExtAuthz) -> dict[str, Any]:
    service: dict[str, Any] = {
        "envoy_grpc": {"cluster_name": CHECK, "authority": "mixer", "skip_envoy_headers": False},
        "timeout": Note(
            "Exact, for all attempts together. Envoy tells it, so Mixer knows it too.", duration(settings.timeout_s)
        ),
    }
    if settings.retries:
        service["retry_policy"] = Note(
            "Here and nowhere else retries work; a time-out is not tried again.",
            {
                "retry_on": "unavailable,connect-failure,refused-stream,reset",
                "num_retries": settings.retries,
                "retry_back_off": {"base_interval": "0.08s", "max_interval": "1s"},
            },
        )
    service["initial_metadata"] = [
        {"key": "x-mixer-stream", "value": "%STREAM_ID%"},
        {"key": "x-mixer-conn", "value": "%CONNECTION_ID%"},
    ]
    return service


def _check_http_service(settings: ExtAuthz, listener: Listener, sidecar: Sidecar) -> dict[str, Any]:
    headers: dict[str, str] = {
        "x-mixer-source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
        "x-mixer-dest": "%DOWNSTREAM_LOCAL_ADDRESS%",
        "x-mixer-peer": "uri=%DOWNSTREAM_PEER_URI_SAN%",
        "x-mixer-sni": "%REQUESTED_SERVER_NAME%",
        "x-mixer-stream": "%STREAM_ID%",
        "x-mixer-listener": log_name(listener),
    }
    services = {route.service for route in listener.routes if route.service}
    if len(services) == 1:
        headers["x-mixer-service"] = services.pop()
    attributes = (
        route_attributes(listener, listener.routes[0]) if len(listener.routes) == 1 else static_attributes(listener)
    )
    told = {name: value for name, value in attributes.items() if not name.startswith(_NOT_TOLD) and ";" not in value}
    if told:
        headers["x-mixer-context"] = ";".join(f"{name}={value}" for name, value in told.items()).replace("%", "%%")
    return {
        "server_uri": {
            "uri": "http://mixer",
            "cluster": CHECK_HTTP,
            "timeout": Note("Exact.", duration(settings.timeout_s)),
        },
        "path_prefix": "/check",
        "authorization_request": {
            "headers_to_add": Note(
                "What a request's own headers do not tell.",
                [{"key": key, "value": value} for key, value in headers.items()],
            )
        },
        "authorization_response": {
            "allowed_upstream_headers": {"patterns": [{"prefix": "x-"}]},
            "allowed_client_headers": {
                "patterns": [
                    {"prefix": "x-"},
                    {"prefix": "ratelimit"},
                    *({"exact": h} for h in ("content-type", "location", "set-cookie", "retry-after")),
                ]
            },
            "allowed_client_headers_on_success": {"patterns": [{"prefix": "x-"}, {"prefix": "ratelimit"}]},
            "dynamic_metadata_from_headers": {"patterns": [{"prefix": "x-mixer-md-"}]},
        },
    }


def _rate_limit(settings: RateLimit) -> dict[str, Any]:
    return {
        "name": RATE_LIMIT,
        "typed_config": {
            "@type": f"{TYPE}.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": settings.domain,
            "timeout": Note(
                "The default of 20 ms is too short for a quota in another process.", duration(settings.timeout_s)
            ),
            "failure_mode_deny": settings.failure_mode_deny,
            "rate_limited_as_resource_exhausted": Note(
                "Callers of gRPC get RESOURCE_EXHAUSTED, not UNAVAILABLE.", True
            ),
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "disable_x_envoy_ratelimited_header": True,
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {
                    "envoy_grpc": {"cluster_name": CHECK, "authority": "mixer"},
                    "initial_metadata": [{"key": "x-mixer-stream", "value": "%STREAM_ID%"}],
                },
            },
        },
    }
