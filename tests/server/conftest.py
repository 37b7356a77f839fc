"""A Mixer in this process, on free ports, with configuration from text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mixer.adapters.loading import load_adapters
from mixer.api.service import MixerStub
from mixer.server.app import MixerServer, ServerOptions
from mixer.server.transport import TransportKind
from mixer.store.file import FileStore

ATTRIBUTES = Path(__file__).parents[2] / "config" / "mesh" / "attributes.yaml"


class RunningMixer:
    """A started server, a client for it, and the folder that it is configured from."""

    def __init__(self, server: MixerServer, stub: Any, channel: grpc.aio.Channel, folder: Path) -> None:
        self.server, self.stub, self.channel, self.folder = server, stub, channel, folder

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self.server.ports[port]}{path}"


@pytest.fixture(params=list(TransportKind), ids=str)
def transport(request: pytest.FixtureRequest) -> TransportKind:
    """Every transport carries the same API."""
    kind: TransportKind = request.param
    return kind


@pytest.fixture
async def start_mixer(
    tmp_path: Path, transport: TransportKind
) -> AsyncIterator[Callable[..., Awaitable[RunningMixer]]]:
    """Start a server on the default vocabulary and the YAML given; options are those of `ServerOptions`."""
    running: list[RunningMixer] = []

    async def start(config: str = "", **options: Any) -> RunningMixer:
        folder = tmp_path / f"config{len(running)}"
        folder.mkdir()
        (folder / "attributes.yaml").write_text(ATTRIBUTES.read_text())
        (folder / "config.yaml").write_text(config)
        ports = {"port": 0, "monitoring_port": 0, "metrics_port": 0, "console_port": 0}
        all_options = ServerOptions(**{**ports, "transport": transport, **options})
        server = MixerServer(FileStore(folder), load_adapters(), all_options)
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['port']}")
        running.append(RunningMixer(server, MixerStub(channel), channel, folder))
        return running[-1]

    yield start
    for mixer in running:
        await mixer.channel.close()
        await mixer.server.stop()
