"""Who Mixer is and who the backend is: tokens and certificates, and their files when they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mixer.adapters.base import CheckResult
from mixer.adapters.remote import credentials
from mixer.adapters.remote.handler import RemoteHandler
from mixer.adapters.testing import FakeClock, RecordingEnv
from mixer.errors import AdapterError, BackendRejectedError, BackendUnavailableError
from mixer.sdk import ServerSecurity
from tests.adapters.remote.remote_support import Seen, adapter, built, calling, instance, served
from tests.certificates import Authority

SPIFFE = "spiffe://cluster.local/ns/istio-system/sa/mixer"
MADE = instance("checknothing", {})

pytestmark = pytest.mark.slow


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("s3cret-one\n")
    return path


async def ask(handler: RemoteHandler) -> CheckResult:
    return await handler.handle_check(built(MADE))


async def ask_until(handler: RemoteHandler, done: Callable[[Exception | None], bool]) -> None:
    """Ask until an answer, or a failure, is the wanted one; connections are renewed in the background."""
    for _ in range(200):
        failure: Exception | None = None
        try:
            await ask(handler)
        except AdapterError as exc:
            failure = exc
        if done(failure):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(failure)


def tls(authority: Authority, **more: Any) -> dict[str, Any]:
    return {"authentication": {"tls": {"caCertificates": str(authority.ca), **more}}}


@pytest.mark.parametrize(
    ("sent", "header"),
    [
        ({"authHeader": "BEARER"}, "authorization"),
        ({"authHeader": "PLAIN"}, "authorization"),
        ({"customHeader": "X-Token"}, "x-token"),
    ],
    ids=["bearer", "plain", "custom"],
)
async def test_tls_with_a_token(authority: Authority, token: Path, sent: dict[str, str], header: str) -> None:
    pair = authority.issue("server", ["127.0.0.1"])
    security = ServerSecurity(pair.certificate, pair.key, token=token, header=header)
    async with (
        served(adapter(Seen()), security=security) as server,
        calling(server.port, [MADE], **tls(authority, tokenPath=str(token), **sent)) as handler,
    ):
        assert (await ask(handler)).status.ok


async def test_a_token_that_changed_is_read_anew(authority: Authority, token: Path, tmp_path: Path) -> None:
    pair = authority.issue("server", ["adapters.example"])
    expected = tmp_path / "expected"
    expected.write_text("s3cret-one")
    security = ServerSecurity(pair.certificate, pair.key, token=expected)
    env = RecordingEnv()
    options = tls(authority, tokenPath=str(token), authHeader="BEARER", serverName="adapters.example")
    async with (
        served(adapter(Seen()), security=security) as server,
        calling(server.port, [MADE], env=env, **options) as handler,
    ):
        await ask(handler)
        expected.write_text("s3cret-two")
        with pytest.raises(BackendRejectedError, match="the token is missing or wrong") as failure:
            await ask(handler)
        assert "s3cret" not in str(failure.value)
        token.write_text("s3cret-two")  # noqa: ASYNC240  a file of a test
        await env.clock.advance(credentials.LOOK_AGAIN_S)
        assert (await ask(handler)).status.ok
        token.unlink()  # noqa: ASYNC240
        await env.clock.advance(credentials.LOOK_AGAIN_S)
        assert (await ask(handler)).status.ok, "a file that has gone leaves its last content"


async def test_a_server_of_another_name_is_refused(authority: Authority, token: Path) -> None:
    pair = authority.issue("server", ["other.example"])
    security = ServerSecurity(pair.certificate, pair.key)
    options = tls(authority, tokenPath=str(token), authHeader="BEARER", serverName="adapters.example")
    async with (
        served(adapter(Seen()), security=security) as server,
        calling(server.port, [MADE], **options) as handler,
    ):
        with pytest.raises(BackendUnavailableError, match="Hostname Verification"):
            await ask(handler)


async def test_a_server_of_another_authority_is_refused(authority: Authority, token: Path, tmp_path: Path) -> None:
    pair = Authority(tmp_path, "stranger").issue("server", ["127.0.0.1"])
    options = tls(authority, tokenPath=str(token), authHeader="BEARER")
    async with (
        served(adapter(Seen()), security=ServerSecurity(pair.certificate, pair.key)) as server,
        calling(server.port, [MADE], **options) as handler,
    ):
        with pytest.raises(BackendUnavailableError):
            await ask(handler)


async def test_mutual_tls_by_name(authority: Authority) -> None:
    theirs, ours = authority.issue("server", ["adapters.example"]), authority.issue("client", ["mixer.example"])
    security = ServerSecurity(theirs.certificate, theirs.key, authority.ca)
    async with served(adapter(Seen()), security=security) as server:
        async with calling(server.port, [MADE], **mutual(authority, ours, serverName="adapters.example")) as handler:
            assert (await ask(handler)).status.ok
        async with calling(server.port, [MADE], **mutual(authority, ours, serverName="other.example")) as handler:
            with pytest.raises(BackendUnavailableError):
                await ask(handler)


def mutual(authority: Authority, ours: Any, **more: Any) -> dict[str, Any]:
    files = {"privateKey": str(ours.key), "clientCertificate": str(ours.certificate)}
    return {"authentication": {"mutual": {**files, "caCertificates": str(authority.ca), **more}}}


async def test_mutual_tls_by_identity(authority: Authority) -> None:
    """The backend must have Mixer's own identity; its name does not count."""
    theirs, ours = authority.issue("server", [SPIFFE]), authority.issue("client", [SPIFFE])
    security = ServerSecurity(theirs.certificate, theirs.key, authority.ca)
    async with (
        served(adapter(Seen()), security=security) as server,
        calling(server.port, [MADE], session_based=True, **mutual(authority, ours)) as handler,
    ):
        answers = await asyncio.gather(*(ask(handler) for _ in range(50)))
        assert all(answer.status.ok for answer in answers)


async def test_a_backend_of_another_identity_is_refused(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = authority.issue("server", ["spiffe://cluster.local/ns/x/sa/y", "127.0.0.1"])
    ours = authority.issue("client", [SPIFFE])
    security = ServerSecurity(theirs.certificate, theirs.key, authority.ca)
    async with served(adapter(Seen()), security=security) as server:
        async with calling(server.port, [MADE], **mutual(authority, ours)) as handler:
            with pytest.raises(BackendUnavailableError, match="none of the identities of Mixer's own"):
                await ask(handler)
        monkeypatch.setenv("BYPASS_OOP_MTLS_SAN_VERIFICATION", "true")
        async with calling(server.port, [MADE], **mutual(authority, ours)) as handler:
            assert (await ask(handler)).status.ok


async def test_a_backend_of_an_unknown_authority_is_refused_whatever_its_identity(
    authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    theirs, ours = stranger.issue("server", [SPIFFE]), authority.issue("client", [SPIFFE])
    security = ServerSecurity(theirs.certificate, theirs.key, authority.ca)
    async with (
        served(adapter(Seen()), security=security) as server,
        calling(server.port, [MADE], **mutual(authority, ours)) as handler,
    ):
        with pytest.raises(BackendUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(handler)


@pytest.mark.parametrize("names", [["127.0.0.1"], [SPIFFE]], ids=["name", "identity"])
async def test_certificates_may_be_replaced(authority: Authority, tmp_path: Path, names: list[str]) -> None:
    """All files of both sides change to those of a new authority; connections of before go on, new ones are new."""
    theirs, ours = authority.issue("server", names), authority.issue("client", names)
    both = tmp_path / "both.pem"
    both.write_bytes(authority.ca.read_bytes())
    security = ServerSecurity(theirs.certificate, theirs.key, both)
    env = RecordingEnv()
    options = mutual(authority, ours)
    options["authentication"]["mutual"]["caCertificates"] = str(both)
    async with served(adapter(Seen()), security=security) as server:
        port = server.port
        async with calling(port, [MADE], env=env, **options) as handler:
            await ask(handler)
            successor = Authority(tmp_path, "successor")
            both.write_bytes(successor.ca.read_bytes())
            successor.issue("server", names)
            successor.issue("client", names)
            await env.clock.advance(credentials.LOOK_AGAIN_S)
            await server.stop(0)
            async with served(adapter(Seen()), f"127.0.0.1:{port}", security):
                await ask_until(handler, lambda failure: failure is None)


@pytest.mark.parametrize(
    ("authentication", "complaint"),
    [
        ({"tls": {"tokenPath": "/hunter2", "authHeader": "BEARER"}}, "the file of authentication.tls.tokenPath cannot"),
        (
            {"tls": {"caCertificates": "/hunter2", "tokenPath": "TOKEN", "authHeader": "BEARER"}},
            "the file of authentication.tls.caCertificates cannot",
        ),
        (
            {"tls": {"oauth": {"clientId": "a", "clientSecret": "/hunter2", "tokenUrl": "http://x/"}}},
            "the file of authentication.tls.oauth.clientSecret cannot",
        ),
        ({"mutual": {"privateKey": "/hunter2", "clientCertificate": "TOKEN"}}, "the file of authentication.mutual."),
        ({"mutual": {"privateKey": "TOKEN", "clientCertificate": "TOKEN"}}, "the certificates or the key cannot be"),
    ],
    ids=["token", "authorities", "secret", "key", "no-key"],
)
async def test_a_file_that_cannot_be_used_fails_the_build_without_telling_what_is_in_it(
    token: Path, authentication: Any, complaint: str
) -> None:
    for part in authentication.values():
        part.update({name: str(token) for name, value in part.items() if value == "TOKEN"})

    with pytest.raises(AdapterError, match=complaint) as failure:
        async with calling(1, [MADE], authentication=authentication):
            pass

    assert "hunter2" not in str(failure.value)
    assert "s3cret" not in str(failure.value)


@asynccontextmanager
async def token_server(answer: Any) -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    asked: list[dict[str, str]] = []

    async def issue(request: web.Request) -> web.Response:
        form = dict(await request.post())
        asked.append({**{k: str(v) for k, v in form.items()}, "login": request.headers["Authorization"]})
        return answer(len(asked))  # type: ignore[no-any-return]

    app = web.Application()
    app.router.add_post("/token", issue)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}/token", asked
    finally:
        await runner.cleanup()


async def test_tokens_of_an_oauth_server_are_used_until_they_are_old(token: Path) -> None:
    from mixer.adapters.remote.connection import OAuth

    def answer(count: int) -> web.Response:
        return web.json_response({"access_token": f"t{count}", "expires_in": 100})

    clock = FakeClock()
    async with token_server(answer) as (url, asked):
        oauth = OAuth(
            client_id="me", client_secret=str(token), token_url=url, scopes=["a", "b"], endpoint_params={"aud": "x"}
        )
        tokens = credentials.OAuthTokens(oauth, clock)
        first = await asyncio.gather(*(tokens.metadata() for _ in range(5)))
        await clock.advance(69)
        kept = await tokens.metadata()
        await clock.advance(2)
        renewed = await tokens.metadata()
        tokens.refused()
        after_refusal = await tokens.metadata()

    assert [m for (m,) in first] == [("authorization", "Bearer t1")] * 5
    assert (kept, renewed, after_refusal) == (
        (("authorization", "Bearer t1"),),
        (("authorization", "Bearer t2"),),
        (("authorization", "Bearer t3"),),
    )
    assert asked[0]["grant_type"] == "client_credentials"
    assert (asked[0]["scope"], asked[0]["aud"]) == ("a b", "x")
    assert asked[0]["login"].startswith("Basic ")


@pytest.mark.parametrize(
    "answer",
    [
        lambda count: web.Response(status=500),
        lambda count: web.Response(text="no json"),
        lambda count: web.json_response(["x"]),
        lambda count: web.json_response({"access_token": "two\nlines"}),
        lambda count: web.json_response({"access_token": "t", "expires_in": "soon"}),
    ],
    ids=["status", "text", "list", "newline", "life"],
)
async def test_an_oauth_server_that_gives_no_token_makes_the_backend_unavailable(token: Path, answer: Any) -> None:
    from mixer.adapters.remote.connection import OAuth

    async with token_server(answer) as (url, _):
        tokens = credentials.OAuthTokens(OAuth(client_id="me", client_secret=str(token), token_url=url), FakeClock())
        with pytest.raises(BackendUnavailableError, match="token server"):
            await tokens.metadata()
