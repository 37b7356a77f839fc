"""listchecker against a web server on this machine. Source: spec adapters 4.5."""

import asyncio
import contextlib
import gzip

import pytest
from aiohttp import web

from mixer.adapters.base import Code
from mixer.adapters.listchecker import INFO
from mixer.adapters.listchecker.fetch import HttpSource
from mixer.adapters.testing import RecordingEnv, assert_handler_lifecycle, build_handler, settle
from mixer.errors import BackendUnavailableError
from mixer.templates.listentry import ListEntryInstance


@contextlib.asynccontextmanager
async def serving(answer):
    """A server that answers every request with ``answer(request)``; gives its host and port."""
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def source_of(url, *, timeout_s=5.0, max_bytes=1 << 20):
    source = HttpSource(url, timeout_s=timeout_s, max_bytes=max_bytes)
    try:
        yield source
    finally:
        await source.aclose()


async def failure_of(url, **limits):
    async with source_of(url, **limits) as source:
        with pytest.raises(BackendUnavailableError) as caught:
            await source.fetch()
        return str(caught.value).replace(str(source), "<url>")


async def hello(request):
    return web.Response(text="src1\nsrc2\n")


async def test_listchecker_fetches_its_list_before_it_is_built():
    async with serving(hello) as address:
        env = RecordingEnv()
        handler = await build_handler(INFO, {"providerUrl": f"http://{address}/list"}, env=env)
        assert handler.handle_check(ListEntryInstance("i", "src1")).status.ok
        assert handler.handle_check(ListEntryInstance("i", "x")).status.code == Code.PERMISSION_DENIED
        await handler.aclose()
        await settle()
        assert env.running == 0


async def test_listchecker_with_a_provider_keeps_the_lifecycle():
    async with serving(hello) as address:
        await assert_handler_lifecycle(INFO, {"providerUrl": f"http://{address}/list"})
    await assert_handler_lifecycle(INFO, {"providerUrl": f"http://{address}/list"})


async def test_a_provider_that_cannot_be_reached_fails_calls_and_not_the_build():
    """Scenario 12: TLS on a plain port."""
    async with serving(hello) as address:
        handler = await build_handler(INFO, {"providerUrl": f"https://{address}/list"})
        with pytest.raises(BackendUnavailableError, match="cannot be fetched"):
            handler.handle_check(ListEntryInstance("i", "src1"))
        await handler.aclose()


async def test_source_follows_redirects():
    async def answer(request):
        if request.path == "/old":
            raise web.HTTPMovedPermanently("/new")
        return web.Response(text=request.path)

    async with serving(answer) as address, source_of(f"http://{address}/old") as source:
        assert await source.fetch() == b"/new"


@pytest.mark.parametrize("status", [500, 404, 204, 301, 206])
async def test_only_status_200_counts(status):
    """Scenarios 13 and 14: among them a redirect that leads nowhere."""

    async def answer(request):
        return web.Response(status=status)

    async with serving(answer) as address:
        assert await failure_of(f"http://{address}/") == f"<url> answers {status}"


async def test_endless_redirects_end():
    async def answer(request):
        raise web.HTTPFound(f"/?n={int(request.query.get('n', 0)) + 1}")

    async with serving(answer) as address:
        assert await failure_of(f"http://{address}/") == "<url> cannot be fetched: TooManyRedirects"


async def test_redirects_stay_on_the_web():
    async def answer(request):
        raise web.HTTPFound("file:///etc/passwd")

    async with serving(answer) as address:
        assert "cannot be fetched" in await failure_of(f"http://{address}/")


async def test_a_body_that_breaks_off_is_a_failure():
    """Scenario 13, second half."""

    async def answer(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"only this")
        request.transport.close()
        return response

    async with serving(answer) as address:
        assert "cannot be fetched" in await failure_of(f"http://{address}/")


@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_has_a_size_limit(packed):
    body = b"x" * 2000

    async def answer(request):
        headers = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(body=gzip.compress(body) if packed else body, headers=headers)

    async with serving(answer) as address:
        assert await failure_of(f"http://{address}/", max_bytes=1999) == "<url> answers with more than 1999 bytes"
        async with source_of(f"http://{address}/", max_bytes=2000) as source:
            assert await source.fetch() == body


async def test_a_silent_provider_has_a_time_limit():
    async def answer(request):
        await asyncio.Event().wait()

    async with serving(answer) as address:
        assert await failure_of(f"http://{address}/", timeout_s=0.05) == "<url> did not answer in 0.05 s"


async def test_a_name_that_does_not_exist_is_a_failure():
    assert "cannot be fetched" in await failure_of("http://nowhere.invalid/")


async def test_messages_keep_secrets():
    async with source_of("https://user:secret@lists.example/ips?token=secret#x") as source:
        assert str(source) == "https://lists.example/ips"
