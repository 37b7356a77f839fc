"""The configuration folder of a measured server: the mesh's objects, a policy to check, rules that never hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from loadtest.encoded import QUOTA_NAME
from loadtest.mesh import NAMESPACES
from loadtest.scenario import Scenario

MESH: Final = Path(__file__).resolve().parent.parent / "config" / "mesh"
NAMESPACE: Final = "istio-system"
_ACCESS_LOG: Final = "accesslog.yaml"

Object = dict[str, Any]


def write_config(scenario: Scenario, folder: Path, *, policy: bool) -> None:
    """Fill a folder with what ``mixs server`` is to load.

    ``policy`` adds what Checks need in order to have something to do.
    """
    for path in sorted(MESH.glob("*.yaml")):
        if path.name != _ACCESS_LOG:
            shutil.copy(path, folder)
    if scenario.access_log:
        _write(folder / _ACCESS_LOG, _log_to_nowhere(yaml.safe_load_all((MESH / _ACCESS_LOG).read_text())))
    if policy:
        _write(folder / "policy.yaml", policy_objects())
    if scenario.idle_rules:
        _write(folder / "idle.yaml", idle_objects(scenario.idle_rules))


def _write(path: Path, objects: Iterator[Object]) -> None:
    path.write_text(yaml.safe_dump_all(objects, sort_keys=False))


def _log_to_nowhere(objects: Iterator[Object]) -> Iterator[Object]:
    """The access log with its lines built and written, but to /dev/null."""
    for each in objects:
        if each["kind"] == "handler":
            each["spec"]["params"] |= {"logStream": "FILE", "outputPath": "/dev/null"}
        yield each


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    return {
        "apiVersion": "config.istio.io/v1alpha2",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": dict(spec),
    }


def _rule(name: str, match: str, handler: str, *instances: str) -> Object:
    action = {"handler": handler, "instances": list(instances)}
    return _object("rule", name, {**({"match": match} if match else {}), "actions": [action]})


def policy_objects() -> Iterator[Object]:
    """A whitelist of callers' namespaces, a denial that few requests meet, and a quota that never runs out."""
    yield _object(
        "handler",
        "callers",
        {"compiledAdapter": "listchecker", "params": {"overrides": list(NAMESPACES), "blacklist": False}},
    )
    yield _object(
        "instance",
        "callernamespace",
        {"compiledTemplate": "listentry", "params": {"value": 'source.namespace | "unknown"'}},
    )
    yield _rule("callers", 'destination.service.host != ""', "callers", "callernamespace")
    status = {"code": 7, "message": "this version may not call"}
    yield _object("handler", "versions", {"compiledAdapter": "denier", "params": {"status": status}})
    yield _object("instance", "version", {"compiledTemplate": "checknothing"})
    match = '(destination.labels["app"] | "") == "svc-0001" && (source.labels["version"] | "") == "v2"'
    yield _rule("versions", match, "versions", "version")
    quota = {"name": f"{QUOTA_NAME}.instance.{NAMESPACE}", "maxAmount": 1_000_000_000, "validDuration": "1s"}
    yield _object("handler", "requestquota", {"compiledAdapter": "memquota", "params": {"quotas": [quota]}})
    dimensions = {
        "source": 'source.workload.name | "unknown"',
        "destination": 'destination.labels["app"] | destination.service.name | "unknown"',
    }
    yield _object("instance", QUOTA_NAME, {"compiledTemplate": "quota", "params": {"dimensions": dimensions}})
    yield _rule("requestquota", "", "requestquota", QUOTA_NAME)


def idle_objects(count: int) -> Iterator[Object]:
    """Rules of three common forms about services that are not in the mesh, each for Check and for Report."""
    yield _object("handler", "idle", {"compiledAdapter": "noop", "params": {}})
    yield _object("instance", "idlecheck", {"compiledTemplate": "checknothing"})
    yield _object("instance", "idlereport", {"compiledTemplate": "reportnothing"})
    forms = (
        'destination.service.host == "idle-{0}.default.svc.cluster.local"',
        '(destination.labels["app"] | "") == "idle-{0}" && (request.method | "") == "GET"',
        'match(request.headers["x-idle"] | "", "idle-{0}-*")',
    )
    for number in range(count):
        yield _rule(f"idle-{number:05d}", forms[number % 3].format(number), "idle", "idlecheck", "idlereport")
