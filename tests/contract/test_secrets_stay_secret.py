"""Passwords, tokens and keys in params show up nowhere: no problem, log line, page or repr has them.

Every adapter with a secret in its params is in the table; one that is not fails the first test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
import structlog
import yaml
from pydantic import BaseModel, SecretStr

from mixer.adapters.loading import load_adapters
from mixer.rules.build import SnapshotBuilder
from mixer.server.app import MixerServer, ServerOptions
from mixer.store.file import FileStore

SECRET = "hunter2-Zx9"
NOWHERE = "127.0.0.1:1"

# For each adapter: a template, sound params with secrets, and faulty params whose fault is in a secret's place.
CASES: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "redisquota": (
        "quota",
        {
            "redisServerUrl": NOWHERE,
            "quotas": [{"name": "x.instance.istio-system", "maxAmount": 1, "validDuration": "1s"}],
            "username": "mixer",
            "password": SECRET,
        },
        [{"password": [SECRET]}, {"password": {SECRET: SECRET}}, {"passwrd": SECRET}],
    ),
    "otlp": (
        "tracespan",
        {"endpoint": f"http://{NOWHERE}", "protocol": "HTTP", "headers": {"authorization": SECRET}},
        [{"headers": {"authorization": [SECRET]}}, {"headers": SECRET}],
    ),
    "zipkin": (
        "tracespan",
        {"url": f"http://{NOWHERE}/api/v2/spans", "headers": {"authorization": SECRET}},
        [{"headers": {"authorization": {"a": SECRET}}}],
    ),
    "opa": (
        "authorization",
        {"serverUrl": f"http://{NOWHERE}", "checkMethod": "data.mixer.allow", "token": SECRET},
        [{"token": [SECRET]}],
    ),
    "keychecker": (
        "apikey",
        {"keys": [{"name": "ann", "secret": SECRET}]},
        [{"keys": [{"name": "ann", "secret": [SECRET]}]}, {"keys": [{"name": "ann", "sha256": SECRET}]}],
    ),
}
INSTANCES: dict[str, dict[str, Any]] = {
    "quota": {"dimensions": {}},
    "tracespan": {
        "traceId": '"1"', "spanName": '"s"', "startTime": "request.time", "endTime": "response.time",
    },
    "authorization": {"subject": {"user": '"u"'}, "action": {"path": '"/"'}},
    "apikey": {"apiKey": '"k"', "api": '"a"', "apiOperation": '"o"', "timestamp": "request.time"},
}  # fmt: skip
MANIFEST = {
    "kind": "attributemanifest", "name": "m",
    "spec": {"attributes": {"request.time": {"valueType": "TIMESTAMP"}, "response.time": {"valueType": "TIMESTAMP"}}},
}  # fmt: skip


def secrets_of(model: type[BaseModel]) -> Iterator[str]:
    """The paths of a model's secrets."""
    for name, field in model.model_fields.items():
        for kind in _kinds(field.annotation):
            if kind is SecretStr:
                yield name
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from (f"{name}.{inner}" for inner in secrets_of(kind))


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in get_args(annotation):
        yield from _kinds(each)


def write(folder: Path, adapter: str, params: dict[str, Any]) -> None:
    template = CASES[adapter][0]
    objects = [
        MANIFEST,
        {"kind": "instance", "name": "x", "spec": {"compiledTemplate": template, "params": INSTANCES[template]}},
        {"kind": "handler", "name": "h", "spec": {"compiledAdapter": adapter, "params": params}},
        {"kind": "rule", "name": "r", "spec": {"actions": [{"handler": "h", "instances": ["x"]}]}},
    ]
    folder.mkdir()
    text = yaml.safe_dump_all(
        {
            "apiVersion": "config.istio.io/v1alpha2",
            "kind": each["kind"],
            "metadata": {"name": each["name"], "namespace": "istio-system"},
            "spec": each["spec"],
        }
        for each in objects
    )
    (folder / "config.yaml").write_text(text)


def test_every_adapter_with_secrets_is_looked_at() -> None:
    found = {name for name, info in load_adapters().items() if list(secrets_of(info.params))}

    assert found == set(CASES)


@pytest.mark.parametrize("adapter", CASES)
async def test_secret_is_on_no_page_and_in_no_line(adapter: str, tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "config", adapter, CASES[adapter][1])
    options = ServerOptions(port=0, monitoring_port=0, metrics_port=0, console_port=0)
    server = MixerServer(FileStore(tmp_path / "config"), load_adapters(), options)
    with structlog.testing.capture_logs() as lines:
        await server.start()
        try:
            snapshot = server.controller.snapshot
            assert [problem.message for problem in snapshot.problems] == []
            pages = [("console-port", "/"), ("console-port", "/config"), ("monitoring-port", "/metrics")]
            seen = [repr(snapshot), repr(list(snapshot.handlers.values())), repr(server.controller.dispatcher.binding)]
            seen += [str(handler.params) for handler in snapshot.handlers.values()]
            async with aiohttp.ClientSession() as session:
                for port, path in pages:
                    async with session.get(f"http://127.0.0.1:{server.ports[port]}{path}") as page:
                        seen.append(await page.text())
            await asyncio.sleep(0.05)  # what tries to connect may complain
        finally:
            await server.stop()
    seen += [json.dumps(line, default=repr) for line in lines]
    out = capsys.readouterr()

    leaks = [text[max(0, text.find(SECRET) - 200) :][:300] for text in [*seen, out.out, out.err] if SECRET in text]
    assert leaks == []


@pytest.mark.parametrize(
    ("adapter", "fault"),
    [(adapter, fault) for adapter, (_, _, faults) in CASES.items() for fault in faults],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_problem_of_a_secret_does_not_quote_it(adapter: str, fault: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "config", adapter, {**CASES[adapter][1], **fault})

    contents = await FileStore(tmp_path / "config").load()
    with structlog.testing.capture_logs() as lines:
        snapshot = SnapshotBuilder(load_adapters()).build(contents)

    assert snapshot.problems, "the params are faulty"
    assert all(SECRET not in f"{problem} {problem!r}" for problem in snapshot.problems)
    assert all(SECRET not in json.dumps(line, default=repr) for line in lines)
