"""Python services behind uvicorn and grpc.aio, and a real Mixer: what their users see, and what Mixer is told."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import grpc
import pytest
import uvicorn
from grpc import aio

import proxy.middleware
from mixer.cli.ports import read_ready_line
from proxy.client import HttpClientConfig, SidecarClient, read_config
from proxy.middleware import MixerInterceptor, MixerMiddleware, mixer_client, one_service

ROOT = Path(__file__).parents[3]
PORTS = ("--port", "0", "--monitoring-port", "0", "--metrics-port", "0", "--console-port", "0")
HOST = "hello.default.svc.cluster.local"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("python-service")]

RULES = """
kind: handler
metadata: {name: deny, namespace: istio-system}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: not for you}}}
---
kind: instance
metadata: {name: nothing, namespace: istio-system}
spec: {compiledTemplate: checknothing}
---
kind: rule
metadata: {name: deny, namespace: istio-system}
spec:
  match: request.url_path.startsWith("/admin") || request.url_path == "/shop.Cart/Empty"
  actions: [{handler: deny, instances: [nothing]}]
---
kind: rule
metadata: {name: headers, namespace: istio-system}
spec:
  match: request.url_path == "/old"
  requestHeaderOperations: [{name: ':path', values: ['"/new?from=mixer"']}]
  responseHeaderOperations: [{name: x-served-by, values: ['destination.service.host']}]
---
kind: handler
metadata: {name: counters, namespace: istio-system}
spec:
  compiledAdapter: memquota
  params: {quotas: [{name: visits.instance.istio-system, maxAmount: 2, validDuration: 600s}]}
---
kind: instance
metadata: {name: visits, namespace: istio-system}
spec: {compiledTemplate: quota, params: {dimensions: {user: 'request.headers["x-user"] | "nobody"'}}}
---
kind: rule
metadata: {name: limit, namespace: istio-system}
spec: {actions: [{handler: counters, instances: [visits]}]}
---
kind: instance
metadata: {name: seen, namespace: istio-system}
spec:
  compiledTemplate: metric
  params:
    value: response.size | 0
    dimensions:
      path: request.url_path
      code: response.code
      error: context.proxy_error_code | "?"
---
kind: handler
metadata: {name: prom, namespace: istio-system}
spec:
  compiledAdapter: prometheus
  params:
    metrics:
      - {name: seen, instance_name: seen.instance.istio-system, kind: COUNTER, label_names: [path, code, error]}
---
kind: rule
metadata: {name: seen, namespace: istio-system}
spec: {match: context.reporter.kind == "inbound", actions: [{handler: prom, instances: [seen]}]}
"""


class Mixer:
    """``mixs server`` as a process."""

    def __init__(self, folder: Path) -> None:
        store = folder / "config"
        store.mkdir()
        (store / "attributes.yaml").write_text((ROOT / "config/mesh/attributes.yaml").read_text())
        (store / "rules.yaml").write_text(RULES)
        command = [sys.executable, "-m", "mixer.cli.mixs", "server", "--config-store", f"fs://{store}", *PORTS]
        with (folder / "stderr").open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        ports = read_ready_line(self.process.stdout.readline())
        assert ports is not None, (folder / "stderr").read_text()
        self.ports = ports
        self.address = f"127.0.0.1:{ports['port']}"

    def counted(self, **labels: str) -> float | None:
        """The value of the metric ``seen``."""
        with urlopen(f"http://127.0.0.1:{self.ports['metrics-port']}/metrics") as page:
            lines = page.read().decode().splitlines()
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        for line in lines:
            if "seen" in line and not line.startswith("#") and all(label in line for label in wanted):
                return float(line.rsplit(" ", 1)[1])
        return None

    async def wait_counted(self, value: float, **labels: str) -> None:
        """Until the metric has this value; reports are sent within a second."""
        async with asyncio.timeout(10):
            while await asyncio.to_thread(self.counted, **labels) != value:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def mixer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixer]:
    mixer = Mixer(tmp_path_factory.mktemp("mixer"))
    yield mixer
    mixer.stop()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Service:
    """An ASGI application with its own idea of paths."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.gone = asyncio.Event()
        self.received: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] in ("http", "websocket")  # it knows no lifespan
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        self.received.append(scope["path"])
        match scope["path"]:
            case "/crash":
                raise ZeroDivisionError
            case "/wait":
                self.started.set()
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.gone.set()
                return
            case "/echo":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                more = True
                while more:
                    message = await receive()
                    more = message["more_body"]
                    await send({"type": "http.response.body", "body": message["body"], "more_body": more})
                return
        body = json.dumps([scope["path"], scope["query_string"].decode()]).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[str]:
    """A uvicorn in this process; the value is its URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, ws="wsproto", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
        assert not task.done()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def config_of(**transport: Any) -> HttpClientConfig:
    """With a quota for ``/limited``."""
    match = [{"clause": {"request.url_path": {"exact": "/limited"}}}]
    found, problems = read_config(
        HttpClientConfig,
        {
            "defaultDestinationService": "hello",
            "serviceConfigs": {
                "hello": {
                    "mixerAttributes": {"context.reporter.kind": "inbound", "destination.service.host": HOST},
                    "quotaSpec": [{"rules": [{"match": match, "quotas": [{"quota": "visits", "charge": 1}]}]}],
                }
            },
            "transport": {"networkFailPolicy": {"policy": "FAIL_CLOSE"}, "reportBatchMaxTime": "0.05s", **transport},
        },
    )
    assert found is not None, problems
    return found


def opening(address: str, config: HttpClientConfig | None = None) -> Callable[[], Any]:
    return lambda: mixer_client(address, config or config_of(), grace_s=0.3)


async def get(url: str, **more: Any) -> tuple[int, str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url, **more) as response:
        return response.status, await response.text(), response.headers


async def test_mixer_decides_and_hears_of_every_end(mixer: Mixer) -> None:
    """Scenarios 5, 6, 9, 31, 33 and 35 over the wire."""
    service = Service()
    async with running(MixerMiddleware(service, opening(mixer.address), exclude=["/healthz"])) as url:
        assert (await get(f"{url}/hello"))[:2] == (200, '["/hello", ""]')
        for path in ("/admin", "/%61dmin", "/admin%2Fx"):
            status, text, headers = await get(f"{url}{path}", allow_redirects=False)
            assert (status, text) == (403, "PERMISSION_DENIED:deny.istio-system:not for you")
            assert headers["content-type"] == "text/plain"

        _, text, headers = await get(f"{url}/old")
        assert (text, headers["x-served-by"]) == ('["/new", "from=mixer"]', HOST)

        answers = [await get(f"{url}/limited", headers={"x-user": "ada"})]
        assert answers[0][0] == 200
        async with asyncio.timeout(10):
            while answers[-1][0] == 200:  # until prefetched units are answered, requests pass on trust
                answers.append(await get(f"{url}/limited", headers={"x-user": "ada"}))
                await asyncio.sleep(0.01)
        assert answers[-1][:2] == (429, "RESOURCE_EXHAUSTED:Quota is exhausted for: visits")

        assert (await get(f"{url}/crash"))[0] == 500
        assert (await get(f"{url}/healthz"))[0] == 200

    await mixer.wait_counted(len('["/hello", ""]'), path="/hello", code="200", error="-")
    await mixer.wait_counted(47 * 2, path="/admin", code="403", error="UAEX")
    await mixer.wait_counted(0, path="/crash", code="500", error="-")
    assert mixer.counted(path="/healthz") is None
    assert "/admin" not in service.received


async def test_client_that_disconnects_is_reported_once(mixer: Mixer) -> None:
    service = Service()
    async with running(MixerMiddleware(service, opening(mixer.address))) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await service.started.wait()
        writer.close()
        await service.gone.wait()

    await mixer.wait_counted(0, path="/wait", code="500", error="DC")


async def test_large_bodies_stream_through_both_ways(mixer: Mixer) -> None:
    """Scenario 40."""
    size = 10 << 20
    async with (
        running(MixerMiddleware(Service(), opening(mixer.address))) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/echo", data=io.BytesIO(b"x" * size)) as response,
    ):
        assert len(await response.read()) == size

    await mixer.wait_counted(size, path="/echo", code="200", error="-")


async def test_websocket_is_checked_and_reported(mixer: Mixer) -> None:
    async with running(MixerMiddleware(Service(), opening(mixer.address))) as url, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{url}/chat") as connection:
            await connection.send_str("hello")
            assert await connection.receive_str() == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{url}/admin/chat")
        assert refused.value.status == 403

    await mixer.wait_counted(5, path="/chat", code="101", error="-")


@pytest.mark.parametrize(("policy", "status"), [("FAIL_OPEN", 200), ("FAIL_CLOSE", 503)])
async def test_fail_policy_decides_while_mixer_is_away(policy: str, status: int) -> None:
    """Scenario 7."""
    config = config_of(networkFailPolicy={"policy": policy}, checkTimeout="0.3s")
    async with running(MixerMiddleware(Service(), opening(free_address(), config))) as url:
        found, text, _ = await get(f"{url}/hello")

    assert found == status
    if status == 503:
        assert text == "UNAVAILABLE:no decision could be made"


async def test_example_of_the_package_works(mixer: Mixer) -> None:
    text = textwrap.dedent(str(proxy.middleware.__doc__).split("::\n")[1].rpartition("\n\nA gRPC")[0])
    names: dict[str, Any] = {}
    exec(text.replace("127.0.0.1:9091", mixer.address), names)

    async with running(names["app"]) as url:
        assert (await get(f"{url}/"))[:2] == (200, "hello")
        assert (await get(f"{url}/admin"))[0] == 403


async def test_known_decisions_hold_while_mixer_is_away(tmp_path: Path) -> None:
    """Scenario 3, and a Mixer that goes away between two requests."""
    mixer = Mixer(tmp_path)
    clients: list[SidecarClient] = []

    @asynccontextmanager
    async def kept() -> AsyncIterator[SidecarClient]:
        async with mixer_client(mixer.address, config_of(checkTimeout="0.5s"), grace_s=0.1) as client:
            clients.append(client)
            yield client

    async with running(MixerMiddleware(Service(), kept)) as url:
        assert [(await get(f"{url}/hello"))[0] for _ in range(3)] == [200] * 3
        await asyncio.to_thread(mixer.stop)
        assert (await get(f"{url}/hello"))[0] == 200
        assert (await get(f"{url}/admin"))[0] == 503
        (client,) = clients
        counters = client.counters()
        assert (counters.check_calls, counters.check_cache_hits) == (5, 3)


async def test_grpc_service_asks_mixer(mixer: Mixer) -> None:
    async def add(request: bytes, context: Any) -> bytes:
        return request * 2

    how = {name: grpc.unary_unary_rpc_method_handler(add) for name in ("Add", "Empty")}
    config = one_service({"destination.service.host": HOST})
    async with mixer_client(mixer.address, config) as client:
        server = aio.server(interceptors=[MixerInterceptor(client)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", how),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary("/shop.Cart/Add")(b"ab", timeout=5) == b"abab"
            with pytest.raises(aio.AioRpcError) as refused:
                await channel.unary_unary("/shop.Cart/Empty")(b"", timeout=5)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
            assert refused.value.details() == "deny.istio-system:not for you"
        await server.stop(None)

    await mixer.wait_counted(9, path="/shop.Cart/Add", code="200", error="-")
    await mixer.wait_counted(0, path="/shop.Cart/Empty", code="403", error="UAEX")
