"""The page of a scrape over HTTP: streamed, compressed on demand, freed when nobody reads on."""

import asyncio
import gzip
import weakref

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.exposition import generate_latest

from mixer.server.pages import Pages, scrape_app
from mixer.server.scrape import CHUNK, chunks_of, takes_gzip, zipped

PIECE = b"x" * 65535 + b"\n"


class Endless(Metric):
    """A family that renders itself."""

    made = 0

    def __init__(self, pieces):
        super().__init__("large", "", "gauge")
        self.pieces = pieces

    def render(self, encode):
        for _ in range(self.pieces):
            self.made += 1
            yield PIECE


class Registry:
    def __init__(self, *families):
        self.families = families

    def collect(self):
        yield from self.families


@pytest.fixture
async def serve():
    pages = Pages("127.0.0.1")

    async def serve(registry):
        return f"http://127.0.0.1:{await pages.serve(0, scrape_app(registry))}/metrics"

    yield serve
    await pages.close()


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("pieces", [0, 1, 200])
async def test_pages_arrive_whole(serve, coding, pieces):
    url = await serve(Registry(Endless(pieces)))
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        async with client.get(url, headers={"Accept-Encoding": coding}) as answer:
            body = await answer.read()
        assert answer.headers.get("Content-Encoding", "identity") == coding
        assert ("Content-Length" in answer.headers) == (pieces < 200)
        assert (gzip.decompress(body) if coding == "gzip" else body) == PIECE * pieces
        async with client.head(url, headers={"Accept-Encoding": coding}) as head:
            assert head.status == 200


async def test_a_client_that_leaves_frees_the_page(serve, caplog):
    registry = Registry(Endless(1_000_000))
    family = weakref.ref(registry.families[0])
    url = await serve(registry)
    async with aiohttp.ClientSession() as client:
        answer = await client.get(url, headers={"Accept-Encoding": "identity"})
        await answer.content.readany()
        await asyncio.sleep(0.3)
        made = registry.families[0].made
        assert made * len(PIECE) < 32 * 2**20, "made only as fast as it is read"
        answer.close()
    registry.families = ()
    for _ in range(500):
        if family() is None:
            break
        await asyncio.sleep(0.01)
    assert family() is None
    assert not caplog.records, "scrapers come and go"


async def test_a_collector_that_fails_is_an_error(serve):
    class Failing:
        def collect(self):
            raise RuntimeError("no")

    async with aiohttp.ClientSession() as client, client.get(await serve(Failing())) as answer:
        assert answer.status == 500


async def test_an_ordinary_registry_is_served_as_its_encoder_has_it(serve):
    registry = CollectorRegistry()
    Gauge("a", "One.", registry=registry).set(1)
    async with aiohttp.ClientSession() as client, client.get(await serve(registry)) as answer:
        assert await answer.read() == generate_latest(registry)


def test_chunks_are_bounded():
    assert list(chunks_of([])) == [b""]
    chunks = list(chunks_of([PIECE] * 50))
    assert b"".join(chunks) == PIECE * 50
    assert max(map(len, chunks)) < CHUNK + len(PIECE)
    assert len(list(zipped([b"a"]))) == 1


@pytest.mark.parametrize(
    ("header", "taken"),
    [("", False), ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("identity", False), ("*", False)],
)
def test_gzip_is_taken_if_named(header, taken):
    assert takes_gzip(header) is taken
