"""What the tests of the middleware share: a policy client that does as it is told, and an ASGI server without sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixer.api.answer import AppliedHeader, HeaderKind, RouteDirective
from mixer.attributes import ABSENT, AttributeBag, AttributeValue
from proxy.client import LayeredBag
from proxy.client.forwarded import read_forwarded
from proxy.policy import Verdict

WALL = 1_700_000_000_000_000_000


@dataclass
class FakePolicy:
    """A `proxy.policy.PolicyClient` that gives one verdict and keeps what it was asked and told."""

    verdict: Verdict = field(default_factory=Verdict)
    later: bool = False
    statics: Mapping[str, AttributeValue] = field(default_factory=dict)
    forwards: str = ""
    failure: BaseException | None = None
    checks: list[dict[str, AttributeValue]] = field(default_factory=list)
    reports: list[AttributeBag] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)
    back_pressure: Callable[[], Awaitable[None]] | None = None

    def compose(
        self, derived: AttributeBag, *, service: str = "", forwarded: str = "", tcp: bool = False
    ) -> AttributeBag:
        return LayeredBag(read_forwarded(forwarded), derived, self.statics)

    def check(self, bag: AttributeBag, *, service: str = "", tcp: bool = False, timeout_s: float | None = None) -> Any:
        self.checks.append(values(bag))
        self.services.append(service)
        self.timeouts.append(timeout_s)
        return self._answer() if self.later or self.failure else self.verdict

    async def _answer(self) -> Verdict:
        if self.failure is not None:
            raise self.failure
        return self.verdict

    def take(self, bag: AttributeBag, charges: Mapping[str, int], *, timeout_s: float | None = None) -> Verdict:
        raise AssertionError("not asked for")

    def report(
        self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
    ) -> Awaitable[None] | None:
        self.reports += records
        self.services.append(service)
        return None if self.back_pressure is None else self.back_pressure()

    def forward(self, *, service: str = "") -> str:
        return self.forwards

    @property
    def record(self) -> dict[str, AttributeValue]:
        """The one record there is."""
        (bag,) = self.reports
        return values(bag)


def values(bag: AttributeBag) -> dict[str, Any]:
    found = {name: bag.peek(name) for name in bag.names()}
    assert ABSENT not in found.values()
    return found


class Clock:
    """Nanoseconds that pass with each look."""

    def __init__(self, now: int = 0, step: int = 1_000) -> None:
        self.now, self.step = now, step

    def __call__(self) -> int:
        self.now += self.step
        return self.now


def http_scope(
    path: str = "/echo", query: str = "", headers: Mapping[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """A scope as uvicorn makes it."""
    pairs = {"host": "istio.io:8080", "user-agent": "curl", **(headers or {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8080),
        "client": ("10.1.2.3", 4711),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
        **more,
    }


def socket_scope(path: str = "/chat", *, denial: bool = True, **more: Any) -> dict[str, Any]:
    scope = http_scope(path, **more) | {"type": "websocket", "scheme": more.get("scheme", "ws"), "subprotocols": []}
    del scope["method"]
    return scope | {"extensions": {"websocket.http.response": {}} if denial else {}}


@dataclass
class Wire:
    """A server's two callables: it gives these messages, and keeps what is sent."""

    incoming: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    fails_at: int | None = None

    async def receive(self) -> Any:
        return self.incoming.pop(0) if self.incoming else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.fails_at is not None and len(self.sent) >= self.fails_at:
            raise ConnectionResetError("nobody is there")
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [(name.decode(), value.decode()) for name, value in self.sent[0]["headers"]]

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent[1:]).decode()


def body(*chunks: bytes) -> list[dict[str, Any]]:
    """A request's body in pieces."""
    last = len(chunks) - 1
    return [{"type": "http.request", "body": c, "more_body": n < last} for n, c in enumerate(chunks)]


class Echo:
    """An application that sends back what it gets, and keeps its scopes."""

    def __init__(self, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.status = status
        self.headers = [(name.encode(), value.encode()) for name, value in headers]
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        whole, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            whole += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": whole})

    @property
    def scope(self) -> Any:
        (scope,) = self.scopes
        return scope


def replace(name: str, value: str) -> AppliedHeader:
    return AppliedHeader(name, value, HeaderKind.REPLACE)


def append(name: str, value: str) -> AppliedHeader:
    return AppliedHeader(name, value, HeaderKind.APPEND)


def remove(name: str) -> AppliedHeader:
    return AppliedHeader(name, "", HeaderKind.REMOVE)


def directed(
    *, request: Sequence[AppliedHeader] = (), response: Sequence[AppliedHeader] = (), direct: int = 0, body: str = ""
) -> RouteDirective:
    return RouteDirective(tuple(request), tuple(response), direct, body)
