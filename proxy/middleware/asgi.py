"""The ASGI middleware: a Check before the application gets a request, a Report when its response has ended.

Nothing of a body is read or kept here; the server's flow control holds back what the application does not read, and
what nobody reads while a decision is pending. Source: spec proxy 1, 3 and 11; the ASGI specification, versions 2 and 3.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from mixer.api.codes import Code
from proxy.envoy.check_bag import is_grpc
from proxy.middleware.exchange import Exchange, Host
from proxy.middleware.exclusion import exclusion
from proxy.middleware.flows import HttpFlow, Message, Receive, Scope, Send, WebSocketFlow
from proxy.middleware.metrics import MiddlewareMetrics, ProtocolCounter
from proxy.middleware.opening import ClientHolder, ClientSource, Lifespan
from proxy.middleware.operations import Changes, header_value, request_changes, response_changes
from proxy.middleware.request import FORWARDED, RequestSeen
from proxy.policy import PolicyClient, Verdict
from proxy.replies import BODILESS, LocalReply, local_reply, quota_pairs

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application."""

_DENIAL: Final = "websocket.http.response"


class MixerMiddleware:
    """Policy and telemetry around an ASGI application, for HTTP requests and WebSockets.

    Args:
        app: Who serves what may pass.
        client: A `proxy.policy.PolicyClient`, or a function that opens one (see `proxy.middleware.mixer_client`); the
            latter is opened before the application starts and closed after it has stopped.
        service: Key of the service's configuration; the client's default one applies when there is none of that name.
        exclude: Paths that are left alone, whole ones or beginnings such as ``/static/*``.
        check_timeout_s: How long a decision may take; None leaves it to the client's configuration.
        metrics: Where verdicts are counted.
        now: Nanoseconds since 1970.
        monotonic_ns: Nanoseconds of a clock that is never set.

    Raises:
        ValueError: A pattern of ``exclude`` that no path can match.
    """

    def __init__(
        self,
        app: Application,
        client: ClientSource,
        *,
        service: str = "",
        exclude: Iterable[str] = (),
        check_timeout_s: float | None = None,
        metrics: MiddlewareMetrics | None = None,
        now: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._app = app
        self._holder = ClientHolder(client)
        self._excluded = exclusion(exclude)
        self.metrics: Final = metrics or MiddlewareMetrics()
        self._http = Host(service, check_timeout_s, ProtocolCounter(self.metrics, "http"), now, monotonic_ns)
        self._sockets = Host(service, check_timeout_s, ProtocolCounter(self.metrics, "websocket"), now, monotonic_ns)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        kind = scope["type"]
        if kind == "lifespan":
            if self._holder.is_ours:
                await Lifespan(self._holder, receive, send).run(self._app, scope)
                return
        elif kind in ("http", "websocket"):
            if self._excluded(scope["path"]):
                await self._app(_without_forwarded(scope, ""), receive, send)
                return
            if not isinstance(scope["headers"], list | tuple):  # ASGI lets them be read once
                scope = {**scope, "headers": list(scope["headers"])}
            client = self._holder.client or await self._holder.open()
            serve = self._serve_http if kind == "http" else self._serve_socket
            await serve(client, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _serve_http(self, client: PolicyClient, scope: Scope, receive: Receive, send: Send) -> None:
        host = self._http
        seen = RequestSeen(scope, host.now())
        exchange = Exchange(host, client, seen, seen.header_bytes)
        try:
            verdict = await exchange.decide()
            reply = local_reply(verdict)
            if reply is None:
                scope, changes = _onward(client, host, scope, seen, verdict)
                exchange.goes_on(scope.get("server"))
                flow = HttpFlow(exchange, receive, send, changes)
                await self._app(scope, flow.receive, flow.send)
            else:
                exchange.denied_here()
                host.counter.refused(reply.refused)
                flow = HttpFlow(exchange, receive, send)
                grpc = is_grpc(seen.headers())
                await _answer(reply, verdict, flow.send, grpc=grpc, head=seen.method() == "HEAD")
        except BaseException:
            exchange.close()
            exchange.left_alone()
            raise
        exchange.close()
        await exchange.wait_delivered()

    async def _serve_socket(self, client: PolicyClient, scope: Scope, receive: Receive, send: Send) -> None:
        host = self._sockets
        seen = RequestSeen(scope, host.now())
        exchange = Exchange(host, client, seen, seen.header_bytes)
        accepted = 101 if scope.get("http_version", "1.1")[:1] == "1" else 200
        try:
            verdict = await exchange.decide()
            reply = local_reply(verdict)
            if reply is None:
                scope, changes = _onward(client, host, scope, seen, verdict)
                exchange.goes_on(scope.get("server"))
                flow = WebSocketFlow(exchange, receive, send, accepted, changes)
                await self._app(scope, flow.receive, flow.send)
                flow.ended()
            else:
                exchange.denied_here()
                host.counter.refused(reply.refused)
                flow = WebSocketFlow(exchange, receive, send, accepted)
                await _refuse(reply, flow, scope)
        except BaseException:
            exchange.close()
            exchange.left_alone()
            raise
        exchange.close()
        await exchange.wait_delivered()


def _onward(
    client: PolicyClient, host: Host, scope: Scope, seen: RequestSeen, verdict: Verdict
) -> tuple[Scope, Changes | None]:
    """The scope for the application, and what becomes of the headers of its response."""
    forward = client.forward(service=host.service)
    if forward or seen.forwarded:
        scope = _without_forwarded(scope, forward)
    directive = verdict.directive
    after: Changes | None = None
    if directive is not None:
        if directive.request_headers:
            before = request_changes(directive.request_headers, http=scope["type"] == "http")
            host.counter.refused(before.refused)
            scope = _changed(scope, before)
        if directive.response_headers:
            after = response_changes(directive.response_headers)
            host.counter.refused(after.refused)
    if verdict.quotas:
        pairs = quota_pairs(verdict, () if after is None else after.fates)
        if pairs:
            after = _with_quotas(after, pairs)
    return scope, after


def _with_quotas(changes: Changes | None, pairs: Iterable[tuple[str, str]]) -> Changes:
    encoded = tuple((name.encode(), header_value(value)) for name, value in pairs)
    gone, added, fates = (
        (frozenset[bytes](), (), ()) if changes is None else (changes.gone, changes.added, changes.fates)
    )
    return Changes(gone | {name for name, _ in encoded}, added + encoded, fates)


def _without_forwarded(scope: Scope, forward: str) -> Scope:
    """The scope with this value of the forwarded attributes' header in place of the one that came."""
    headers = [pair for pair in scope["headers"] if pair[0] != FORWARDED]
    if forward:
        headers.append((FORWARDED, forward.encode()))
    return {**scope, "headers": headers}


def _changed(scope: Scope, changes: Changes) -> Scope:
    """The scope of a request after header operations, pseudo headers included."""
    changed = {**scope, "headers": changes.applied(scope["headers"])}
    if changes.method:
        changed["method"] = changes.method
    if changes.path:
        path, _, query = changes.path.partition("?")
        changed["path"] = unquote(path)
        changed["raw_path"] = quote(path, safe="/%:@!$&'()*+,;=-._~").encode()
        changed["query_string"] = header_value(query)
    return changed


async def _answer(reply: LocalReply, verdict: Verdict, send: Send, *, grpc: bool, head: bool) -> None:
    """Answer in place of the application."""
    direct = verdict.directive is not None and verdict.directive.direct_response_code
    status, body = reply.status, header_value(reply.body)
    headers = [(name.encode(), header_value(value)) for name, value in reply.headers]
    if grpc and not direct:  # a gRPC client understands nothing else
        status, body = 200, b""
        message = quote(verdict.message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~", errors="replace")
        headers += [
            (b"content-type", b"application/grpc"),
            (b"grpc-status", str(int(reply.rpc_code)).encode()),
            (b"grpc-message", message.encode()),
        ]
    else:
        names = {name for name, _ in headers}
        if grpc and b"grpc-status" not in names and (reply.rpc_code != Code.OK or 200 <= status < 300):
            headers.append((b"grpc-status", str(int(reply.rpc_code)).encode()))
        if body and b"content-type" not in names:
            headers.append((b"content-type", b"text/plain"))
    if status not in BODILESS:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


async def _refuse(reply: LocalReply, flow: WebSocketFlow, scope: Scope) -> None:
    """Refuse a WebSocket before it is one: with a response where the server can send one, else by closing it (403)."""
    first: Message = await flow.receive()
    if first["type"] != "websocket.connect":
        return
    if _DENIAL not in (scope.get("extensions") or ()):
        await flow.send({"type": "websocket.close", "code": 1008})
        return
    body = header_value(reply.body)
    headers = [(name.encode(), header_value(value)) for name, value in reply.headers]
    if body and all(name != b"content-type" for name, _ in headers):
        headers.append((b"content-type", b"text/plain"))
    if reply.status not in BODILESS:
        headers.append((b"content-length", str(len(body)).encode()))
    await flow.send({"type": "websocket.http.response.start", "status": reply.status, "headers": headers})
    await flow.send({"type": "websocket.http.response.body", "body": body})
