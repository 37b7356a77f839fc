"""Writes ``envoy_fields.json``: what Envoy's own API descriptors say of the messages that our stubs are subsets of.

Run it where ``xds-protos`` is installed, in an environment of its own: the package brings an old copy of
``opentelemetry.proto`` along, which must not come near the service's.

    python -m venv /tmp/xds && /tmp/xds/bin/pip install xds-protos==1.85.0
    /tmp/xds/bin/python tests/proxy/envoy/envoy_fields.py
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_suffix(".json")

PACKAGES = {
    "envoy.service.auth.v3": "auth",
    "envoy.service.ratelimit.v3": "ratelimit",
    "envoy.extensions.common.ratelimit.v3": "ratelimit",
    "envoy.service.accesslog.v3": "accesslog",
    "envoy.data.accesslog.v3": "accesslog",
    "envoy.config.core.v3": "core",
    "envoy.type.v3": "auth",
}
"""Envoy's packages -> ours."""

MODULES = (
    "envoy.service.auth.v3.external_auth_pb2",
    "envoy.service.ratelimit.v3.rls_pb2",
    "envoy.service.accesslog.v3.als_pb2",
)
ROOTS = ("CheckRequest", "CheckResponse", "RateLimitRequest", "RateLimitResponse", "StreamAccessLogsMessage")


def our_name(name: str) -> str:
    """The name that one of Envoy's messages or enumerations has with us; others keep theirs."""
    for package, ours in PACKAGES.items():
        if name.startswith(f"{package}."):
            return f"mixer.envoy.{ours}.v3{name[len(package) :]}"
    return name


def describe(message: Any, into: dict[str, Any]) -> None:
    """Add a message, and all that it is made of: for each field its name, type, and whether there are several."""
    name = our_name(message.full_name)
    if name in into or message.full_name.startswith("google."):
        return
    fields: dict[str, list[Any]] = {}
    into[name] = fields
    for field in message.fields:
        kind = field.message_type or field.enum_type
        text = our_name(kind.full_name) if kind is not None else str(field.type)
        fields[str(field.number)] = [field.name, text, field.is_repeated, field.enum_type is not None]
        if field.message_type is not None:
            describe(field.message_type, into)
        elif field.enum_type is not None:
            into[text] = {value.name: value.number for value in field.enum_type.values}


def main() -> None:
    """Write the table."""
    table: dict[str, Any] = {}
    for module in map(importlib.import_module, MODULES):
        for root in ROOTS:
            if root in module.DESCRIPTOR.message_types_by_name:
                describe(module.DESCRIPTOR.message_types_by_name[root], table)
    lines = (f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
