"""Where Envoy's calls go on the gRPC port: the names and paths of its services, which our stubs do not carry."""

from __future__ import annotations

from typing import Final

AUTHORIZATION: Final = "envoy.service.auth.v3.Authorization"
RATE_LIMIT: Final = "envoy.service.ratelimit.v3.RateLimitService"
ACCESS_LOG: Final = "envoy.service.accesslog.v3.AccessLogService"

CHECK: Final = f"/{AUTHORIZATION}/Check"
SHOULD_RATE_LIMIT: Final = f"/{RATE_LIMIT}/ShouldRateLimit"
STREAM_ACCESS_LOGS: Final = f"/{ACCESS_LOG}/StreamAccessLogs"
