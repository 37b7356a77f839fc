"""Against a Forward receiver that is not ours: the OpenTelemetry Collector's.

Opt-in, as it takes a Go compiler and a while: ``cd tests/adapters/fluentd/forward_receiver && go build -o PATH .``,
then run with ``MIXER_FORWARD_RECEIVER=PATH``; without it the conftest leaves this file out.
"""

import asyncio
import json
import os
import socket

import pytest

from mixer.attributes import Duration, Timestamp

PROGRAM = os.environ.get("MIXER_FORWARD_RECEIVER", "")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def started(address):
    process = await asyncio.create_subprocess_exec(PROGRAM, address, stdout=asyncio.subprocess.PIPE)
    assert await process.stdout.readline() == b"ready\n"
    return process


async def log_records(process, count):
    """The first records it prints: time in ns, body and attributes as plain values."""
    found = []
    async with asyncio.timeout(10):
        while len(found) < count:
            line = json.loads(await process.stdout.readline())
            for resource in line["resourceLogs"]:
                for scope in resource["scopeLogs"]:
                    found += [
                        (int(r["timeUnixNano"]), {a["key"]: value_of(a["value"]) for a in r["attributes"]})
                        for r in scope["logRecords"]
                    ]
    return found


def value_of(value):
    ((kind, inner),) = value.items()
    if kind == "kvlistValue":
        return {pair["key"]: value_of(pair["value"]) for pair in inner["values"]}
    return int(inner) if kind == "intValue" else inner


async def test_collector_understands_and_acknowledges(bench, entry):
    address = free_address()
    process = await started(address)
    values = {"text": "grün", "double": 1.5, "yes": True, "map": {"a": "b"}, "d": Duration.parse("10ms")}
    try:
        handler = await bench.build(address=address)
        handler.handle_report([entry(1, **values), entry(2, tag="other")])
        await bench.until(lambda: bench.books().get("delivered") == 2, step_s=60)
        records = await log_records(process, 2)
    finally:
        process.kill()
        await process.communicate()
    noon = int(Timestamp.parse("2026-03-01T12:00:00.123456789Z"))
    first = {**values, "d": "10ms", "n": 1, "severity": "info", "fluent.tag": "log"}
    assert records == [(noon, first), (noon, {"n": 2, "severity": "info", "name": "log", "fluent.tag": "other"})]

    handler.handle_report([entry(n) for n in range(3, 40)])  # while it is away
    await bench.until(lambda: bench.books().get("retries", 0) >= 2, step_s=60)
    process = await started(address)
    try:
        await bench.until(lambda: bench.books()["delivered"] == 39, step_s=60)
        records = await log_records(process, 37)
        assert [record["n"] for _, record in records] == list(range(3, 40))
        await handler.aclose()
    finally:
        process.kill()
        await process.communicate()
