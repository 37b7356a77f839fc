"""A Zipkin collector, and a bench for handlers that send to it."""

import pytest

from mixer.adapters.zipkin import INFO
from tests.adapters.spans.kit import Bench
from tests.adapters.spans.web import WebReceiver


@pytest.fixture
async def collector():
    collector = WebReceiver()
    await collector.start()
    yield collector
    await collector.stop()


@pytest.fixture
async def bench(collector):
    bench = Bench(INFO)
    build = bench.build

    async def build_here(**params):
        return await build(**{"url": f"{collector.base}/api/v2/spans", **params})

    bench.build = build_here
    yield bench
    await bench.aclose()
