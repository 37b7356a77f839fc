"""The page of a scrape, sent while it is made: its size costs little memory, and requests hardly wait for it.

The page is made in chunks, each in a thread of its own turn and only when the scraper has taken the one before.
What requests may have to wait for is the making of a chunk, which takes about a millisecond.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, Protocol

from aiohttp import web
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder

from mixer.adapters.base import Encode, StreamedMetric

CHUNK: Final = 256 * 1024
"""Bytes of text after which a chunk is sent."""

SAMPLES: Final = 500
"""How many samples of a family an encoder gets at once."""

_LATE_SUFFIXES: Final = ("_created", "_gsum", "_gcount")
"""Samples that the text encoder puts behind all others of their family."""

_GZIP: Final = 31  # zlib's window bits for a gzip header, and the largest window
_REFUSED: Final = ("q=0", "q=0.0", "q=0.00", "q=0.000")

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scraped(Protocol):
    """What can be scraped: a `CollectorRegistry`, or what looks like one."""

    def collect(self) -> Iterable[Metric]:
        """The metrics of the moment; called and iterated in threads, one at a time."""
        ...


Refresh = Callable[[], Awaitable[None]]
"""Brings what is scraped up to date, in the event loop."""


async def is_fresh() -> None:
    """The `Refresh` of what is never out of date."""


def metrics_page(registry: Scraped, refresh: Refresh = is_fresh) -> Page:
    """A scrape of a registry, in the text format or in OpenMetrics, and compressed, as the scraper asks."""

    async def page(request: web.Request) -> web.StreamResponse:
        await refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type}
        chunks = chunks_of(pieces_of(registry, encode))
        if takes_gzip(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            chunks = zipped(chunks)
        first, second = await _next(chunks), await _next(chunks)
        if second is None:  # nothing to stream: one answer with its length
            return web.Response(body=first, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method != "HEAD":
            chunk: bytes | None = (first or b"") + second
            while chunk is not None:
                if not await _written(response, chunk):
                    return response
                chunk = await _next(chunks)
        await response.write_eof()
        return response

    return page


async def _written(response: web.StreamResponse, chunk: bytes) -> bool:
    """Whether the scraper is still there to take a chunk; an empty one is what a compressor keeps to itself."""
    if chunk:
        try:
            await response.write(chunk)
        except ConnectionError:
            return False
    return True


async def _next(chunks: Iterator[bytes]) -> bytes | None:
    return await asyncio.to_thread(next, chunks, None)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether the header of that name allows gzip expressly."""
    for accepted in accept_encoding.lower().split(","):
        coding, _, parameters = accepted.partition(";")
        if coding.strip() == "gzip":
            return parameters.strip() not in _REFUSED
    return False


def pieces_of(registry: Scraped, encode: Encode) -> Iterator[bytes]:
    """A page of any size, as ``encode`` would make it; nothing is made before it is asked for."""
    end = encode(_Families())
    for family in registry.collect():
        if isinstance(family, StreamedMetric):
            yield from family.render(encode)
        else:
            yield from _encoded(family, encode, end)
    yield end


def _encoded(family: Metric, encode: Encode, end: bytes) -> Iterator[bytes]:
    samples = family.samples
    late = [family.name + suffix for suffix in _LATE_SUFFIXES]
    if len(samples) <= SAMPLES or any(sample.name in late for sample in samples):
        yield encode(_Families(family)).removesuffix(end)
        return
    part = Metric(family.name, family.documentation, "unknown", family.unit)
    part.type = family.type
    head = encode(_Families(part)).removesuffix(end)
    yield head
    for at in range(0, len(samples), SAMPLES):
        part.samples = samples[at : at + SAMPLES]
        yield encode(_Families(part)).removesuffix(end).removeprefix(head)


class _Families:
    """Looks like a registry to an encoder."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def chunks_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces put together until they are worth sending; at least one chunk, which may be empty."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        if size >= CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
        gathered.append(piece)
        size += len(piece)
    yield b"".join(gathered)


def zipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same, as a gzip file; a chunk of it may be empty."""
    packer = zlib.compressobj(level=1, wbits=_GZIP)
    packed: bytes | None = None
    for chunk in chunks:
        if packed is not None:
            yield packed
        packed = packer.compress(chunk)
    yield (packed or b"") + packer.flush()
