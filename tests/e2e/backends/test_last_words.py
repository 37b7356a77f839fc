"""Mixer ends while its backends are gone: it ends in time, and says what is lost, for nobody can read its metrics then."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import grpc.aio
import pytest

from mixer.api.encode import encode_report
from mixer.api.service import MixerStub
from mixer.attributes import Timestamp
from tests.e2e.backends.configuration import INSTANCES, made, telemetry, write
from tests.e2e.backends.load import trace_id
from tests.e2e.backends.programs import Mixs, make_backend

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("backends")]

LOST = {
    "fluentd": ("fluentd_entries_dropped", "entries"),
    "otlp": ("spans_dropped", "spans"),
    "zipkin": ("spans_dropped", "spans"),
    "unix": ("statsd_instances_dropped", "instances"),
}
"""For each handler: the event that tells, and the field that says how many."""
INSTANCE_OF = {"fluentd": "entry", "otlp": "span", "zipkin": "span", "unix": "count"}
RECORDS = 20
ENDS_WITHIN_S = 12.0


def records(first: int) -> object:
    now = Timestamp(time.time_ns())
    return encode_report(
        {"request.id": trace_id(number), "request.time": now, "request.headers": {"x-b3-spanid": f"{number:016x}"}}
        for number in range(first, first + RECORDS)
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "frozen"])
async def test_what_arrived_and_what_the_log_calls_lost_are_all_there_was(tmp_path: Path, number: int) -> None:
    backends = {name: make_backend(name, tmp_path) for name in LOST}
    config = tmp_path / "config"
    config.mkdir()
    log = tmp_path / "mixs.log"
    mixs = Mixs(config, log, "--log-as-json")
    try:
        await asyncio.gather(*(backend.start() for backend in backends.values()))
        params = telemetry({name: backend.address for name, backend in backends.items()} | {"statsd": "127.0.0.1:9"})
        write(
            config,
            [
                *(
                    made(
                        "handler",
                        name,
                        {"compiledAdapter": "statsd" if name == "unix" else name, "params": params[name]},
                    )
                    for name in LOST
                ),
                *(
                    made("instance", name, {"compiledTemplate": template, "params": fields})
                    for name, (template, fields) in INSTANCES.items()
                ),
                made("rule", "all", {"actions": [{"handler": h, "instances": [i]} for h, i in INSTANCE_OF.items()]}),
            ],
        )
        await asyncio.to_thread(mixs.start)
        async with grpc.aio.insecure_channel(mixs.target) as channel:
            stub = MixerStub(channel)
            await stub.Report(records(1), timeout=10, wait_for_ready=True)
            async with asyncio.timeout(10):
                while not all(len(backend.arrived()) == RECORDS for backend in backends.values()):  # noqa: ASYNC110  files
                    await asyncio.sleep(0.05)
            for backend in backends.values():
                backend.hit(number)
            await stub.Report(records(1 + RECORDS), timeout=10)
        began = time.monotonic()
        assert await asyncio.to_thread(mixs.stop) == 0
        took_s = time.monotonic() - began
    finally:
        mixs.stop(signal.SIGKILL)
        for backend in backends.values() if number == signal.SIGSTOP else ():
            backend.hit(signal.SIGCONT)
        await asyncio.gather(*(backend.stop() for backend in backends.values()))

    assert took_s < ENDS_WITHIN_S
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    for name, (event, field) in LOST.items():
        lost = sum(line[field] for line in lines if line["event"] == event and line["handler"].startswith(f"{name}."))
        arrived = len(backends[name].arrived())
        if number == signal.SIGKILL:
            assert (name, arrived + lost) == (name, 2 * RECORDS)
        else:  # what a frozen one finds on its socket when it goes on has arrived, though nobody could know
            assert arrived + lost >= 2 * RECORDS, name
