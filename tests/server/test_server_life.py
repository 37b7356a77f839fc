"""Start, readiness, reload, drain; pages; what a client can find out about the server."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import mixer.errors as errors
from mixer import __version__
from mixer.adapters.loading import load_adapters
from mixer.api import messages
from mixer.api.encode import encode_check
from mixer.api.rpc import ServiceError
from mixer.errors import StoreUnavailableError
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.app import MixerServer, ServerOptions
from mixer.server.service import MixerService
from mixer.server.status import code_of
from mixer.store.file import FileStore

DENY = """
kind: handler
metadata: {name: deny, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: %s}}}
---
kind: instance
metadata: {name: nothing, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: istio-system}
spec: {actions: [{handler: deny, instances: [nothing]}]}
"""


async def get(url: str, **headers: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as page:
        return page.status, page.headers["Content-Type"], await page.text()


def rewrite(path: Path, text: str) -> None:
    """Replace a file at once; the watch would see one that is half written."""
    new = path.parent.with_name(f"new-{path.name}")
    new.write_text(text)
    new.rename(path)


async def denial(mixer: Any) -> str:
    response = await mixer.stub.Check(encode_check({}))
    return str(response.precondition.status.message)


async def eventually(what: Any, expected: object, *, turns: int = 400) -> None:
    for _ in range(turns):
        if await what() == expected:
            return
        await asyncio.sleep(0.01)
    assert await what() == expected


async def health_of(mixer: Any, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(mixer.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def test_health_readiness_and_version_tell_the_truth(start_mixer: Any) -> None:
    mixer = await start_mixer()

    assert await health_of(mixer) == health_pb2.HealthCheckResponse.SERVING
    assert await health_of(mixer, "istio.mixer.v1.Mixer") == health_pb2.HealthCheckResponse.SERVING
    for path in ("/healthz", "/readyz", "/healthz/live", "/healthz/ready"):
        assert (await get(mixer.url("monitoring-port", path)))[0] == 200
    assert (await get(mixer.url("monitoring-port", "/version")))[2].strip() == __version__


async def test_a_refused_first_configuration_is_not_ready_until_it_is_sound(start_mixer: Any) -> None:
    mixer = await start_mixer(DENY.replace("handler: deny", "handler: other"), strict=True)

    assert await health_of(mixer) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await get(mixer.url("monitoring-port", "/readyz")))[0] == 503
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mixer.stub.Check(encode_check({}))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    rewrite(mixer.folder / "config.yaml", DENY % "now")
    await eventually(lambda: health_of(mixer), health_pb2.HealthCheckResponse.SERVING)
    assert await denial(mixer) == "deny.istio-system:now"


async def test_changed_files_take_effect_and_broken_ones_do_not(start_mixer: Any) -> None:
    mixer = await start_mixer(DENY % "one")
    assert await denial(mixer) == "deny.istio-system:one"

    rewrite(mixer.folder / "config.yaml", DENY % "two")
    await eventually(lambda: denial(mixer), "deny.istio-system:two")

    async def problems() -> int:
        return len(json.loads((await get(mixer.url("console-port", "/config")))[2])["problems"])

    rewrite(mixer.folder / "config.yaml", (DENY % "three").replace("code: 7", "kode: 7"))
    await eventually(problems, 1)
    assert await denial(mixer) == "deny.istio-system:two"

    rewrite(mixer.folder / "config.yaml", (DENY % "four").replace("{compiledAdapter", "{{{ compiledAdapter"))
    await eventually(problems, 1)
    assert await denial(mixer) == "deny.istio-system:two"

    rewrite(mixer.folder / "config.yaml", DENY % "five")
    await eventually(lambda: denial(mixer), "deny.istio-system:five")


async def test_metrics_come_as_text_or_openmetrics(start_mixer: Any) -> None:
    mixer = await start_mixer()

    for port in ("monitoring-port", "metrics-port"):
        status, kind, _ = await get(mixer.url(port, "/metrics"))
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        _, kind, text = await get(mixer.url(port, "/metrics"), Accept="application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")


async def test_the_console_shows_what_is_wrong(start_mixer: Any) -> None:
    mixer = await start_mixer(DENY.replace("handler: deny", "handler: <script>"))

    _, kind, page = await get(mixer.url("console-port", "/"))

    assert kind.startswith("text/html")
    assert "Handler not found" in page
    assert "<script>" not in page


async def test_reflection_names_the_original_files(start_mixer: Any) -> None:
    mixer = await start_mixer()
    stub = reflection_pb2_grpc.ServerReflectionStub(mixer.channel)
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="istio.mixer.v1.Mixer")

    answers = [answer async for answer in stub.ServerReflectionInfo(iter([asked]))]

    files = answers[0].file_descriptor_response.file_descriptor_proto
    assert any(b"mixer/v1/mixer.proto" in file for file in files)


async def test_a_message_beyond_the_limit_is_refused(start_mixer: Any) -> None:
    mixer = await start_mixer(max_message_bytes=10_000)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mixer.stub.Check(encode_check({"request.path": "x" * 20_000}))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await mixer.stub.Check(encode_check({}))


async def test_a_port_that_is_taken_is_an_error(start_mixer: Any, tmp_path: Path) -> None:
    mixer = await start_mixer()
    ports = {"monitoring_port": 0, "metrics_port": 0, "console_port": 0}
    second = MixerServer(FileStore(tmp_path), load_adapters(), ServerOptions(port=mixer.server.ports["port"], **ports))

    with pytest.raises(OSError, match="cannot listen"):
        await second.start()


async def test_a_store_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    ports = {"port": 0, "monitoring_port": 0, "metrics_port": 0, "console_port": 0}
    server = MixerServer(FileStore(tmp_path / "nothing"), load_adapters(), ServerOptions(**ports))

    with pytest.raises(StoreUnavailableError, match="nothing"):
        await server.start()


def every_error(root: type[Exception] = errors.MixerError) -> list[type[Exception]]:
    return [root, *(e for child in root.__subclasses__() for e in every_error(child))]


@pytest.mark.parametrize("kind", [k for k in every_error() if k not in (errors.MixerError,)], ids=lambda k: k.__name__)
def test_every_error_has_a_status_code(kind: Any) -> None:
    assert code_of(kind) is not None


async def test_any_bytes_are_answered_or_refused(start_mixer: Any) -> None:
    mixer = await start_mixer(DENY % "always")
    service = MixerService(mixer.server.controller, RuntimeMetrics())

    chance = random.Random(7)
    sound = encode_check(
        {"request.path": "/p", "request.headers": {"a": "b"}, "source.ip": b"1234"}
    ).SerializeToString()
    for _ in range(2_000):
        data = bytearray(sound if chance.random() < 0.8 else chance.randbytes(chance.randrange(60)))
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        data = bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data)
        for serve in (service.check, service.report):
            try:
                answer = await serve(data)
            except ServiceError as exc:
                assert exc.code.name == "INVALID_ARGUMENT"  # noqa: PT017  the answer is what is tested
            else:
                if serve == service.check:
                    assert messages.CheckResponse.FromString(answer).precondition.status.code == 7


async def test_requests_in_progress_finish_while_draining(start_mixer: Any) -> None:
    mixer = await start_mixer(DENY % "still")
    checks = [asyncio.create_task(denial(mixer)) for _ in range(50)]
    await asyncio.sleep(0)

    await mixer.server.stop()

    answers = await asyncio.gather(*checks, return_exceptions=True)
    answered = [a for a in answers if a == "deny.istio-system:still"]
    refused = [a for a in answers if isinstance(a, grpc.aio.AioRpcError) and a.code() is grpc.StatusCode.UNAVAILABLE]
    assert len(answered) + len(refused) == 50
