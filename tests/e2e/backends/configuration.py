"""What Mixer is configured with: all backends at once, small buffers, short time-outs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mixer.sdk.resources import adapter_resource, template_resources
from tests.e2e.backends.guests import INFO as GUESTS

ROOT = Path(__file__).parents[3]
NAMESPACE = "istio-system"
QUOTA = "calls"
LIMIT = 40
"""Units of a key in a window."""
WINDOW_S = 30

ROOM = 150
"""How many instances each telemetry handler holds; at the load's rate less than the longest fault brings."""


def telemetry(addresses: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Handlers of reports, by name: adapter and params."""
    spans = {"bufferSize": ROOM, "batchSize": 40, "batchInterval": "200ms", "timeout": "700ms", "retryFor": "120s"}
    count = {
        "flushDuration": "50ms",
        "metrics": {f"count.instance.{NAMESPACE}": {"type": 1, "nameTemplate": "{{.id}}"}},
    }
    return {
        "fluentd": {
            "address": addresses["fluentd"],
            "requireAckResponse": True,
            "instanceBufferSize": ROOM,
            "pushIntervalDuration": "200ms",
            "pushTimeoutDuration": "700ms",
        },
        "otlp": {"endpoint": addresses["otlp"], **spans},
        "zipkin": {"url": f"http://{addresses['zipkin']}/api/v2/spans", "sampleProbability": 1.0, **spans},
        "statsd": {"address": addresses["statsd"], **count},
        "unix": {"address": f"unix://{addresses['unix']}", "bufferBytes": 6000, **count},
    }


INSTANCES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "entry": ("logentry", {"severity": '"info"', "timestamp": "request.time", "variables": {"id": "request.id"}}),
    "count": ("metric", {"value": "1", "dimensions": {"id": "request.id"}}),
    "span": (
        "tracespan",
        {
            "traceId": "request.id",
            "spanId": 'request.headers["x-b3-spanid"] | ""',
            "spanName": '"request"',
            "startTime": "request.time",
            "endTime": "request.time",
        },
    ),
    "nothing": ("checknothing", {}),
    "question": ("authorization", {"subject": {"user": 'request.headers["end-user"] | ""'}, "action": {}}),
    QUOTA: ("quota", {"dimensions": {"key": 'request.headers["key"] | ""'}}),
}


def objects(addresses: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    """Every object of the configuration."""
    yield from template_resources(GUESTS.templates)
    yield adapter_resource(GUESTS)
    handlers: dict[str, tuple[str, dict[str, Any]]] = {
        name: ("statsd" if name == "unix" else name, params) for name, params in telemetry(addresses).items()
    }
    handlers["denier"] = ("denier", {"status": {"code": 7, "message": "no"}})
    handlers["opa"] = (
        "opa",
        {
            "serverUrl": f"http://{addresses['opa']}",
            "checkMethod": "data.guests.allow",
            "failClose": True,
            "timeout": "250ms",
        },
    )
    handlers["redis"] = ("redisquota", redisquota(addresses["redis"]))
    for name, (adapter, params) in handlers.items():
        yield made("handler", name, {"compiledAdapter": adapter, "params": params})
    connection = {"address": addresses["guests"], "timeout": "250ms"}
    yield made("handler", "guests", {"adapter": "guests", "params": {"unwanted": ["eve"]}, "connection": connection})
    for name, (template, params) in INSTANCES.items():
        yield made("instance", name, {"compiledTemplate": template, "params": params})
    guest = {"value": 'request.headers["end-user"] | ""'}
    yield made("instance", "guest", {"template": "listentry", "params": guest})
    visit = {"severity": '"info"', "timestamp": "request.time", "variables": {"id": "request.id"}}
    yield made("instance", "visit", {"template": "logentry", "params": visit})
    for path, actions in {
        "/telemetry": {"fluentd": "entry", "otlp": "span", "zipkin": "span", "statsd": "count", "unix": "count"},
        "/visits": {"guests": "visit"},
        "/free": {"denier": "nothing"},
        "/opa": {"opa": "question"},
        "/guests": {"guests": "guest"},
        "/redis": {"redis": QUOTA},
    }.items():
        spec = {
            "match": f'request.path == "{path}"',
            "actions": [{"handler": handler, "instances": [instance]} for handler, instance in actions.items()],
        }
        yield made("rule", path.strip("/"), spec)


def redisquota(address: str, *, limit: int = LIMIT, window: str = f"{WINDOW_S}s", **params: Any) -> dict[str, Any]:
    """Params of redisquota with one quota in fixed windows."""
    quota = {"name": f"{QUOTA}.instance.{NAMESPACE}", "maxAmount": limit, "validDuration": window}
    return {"redisServerUrl": address, "quotas": [quota], "requestTimeout": "150ms", **params}


def made(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object of the configuration."""
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "config.istio.io/v1alpha2", "kind": kind, "metadata": metadata, "spec": spec}


def write(folder: Path, resources: Iterable[dict[str, Any]]) -> None:
    """A folder that Mixer can be started on."""
    (folder / "attributes.yaml").write_text((ROOT / "config/mesh/attributes.yaml").read_text())
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(resources, sort_keys=False))
