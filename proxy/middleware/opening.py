"""Where a middleware's client comes from: made elsewhere, or opened and closed with the application.

A sidecar client belongs to one event loop, and applications are put together before there is one. So a middleware
takes a function that opens a client as well; it is called at the application's start, or at the first request where a
server says nothing of its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, TypeAlias

import structlog
from prometheus_client import CollectorRegistry

from mixer.attributes import AttributeValue
from mixer.tls import ClientTls
from proxy.client.bindings import SpecIndex
from proxy.client.config import (
    FailPolicy,
    HttpClientConfig,
    NetworkFailPolicy,
    ServiceConfig,
    Transport,
    for_all_services,
)
from proxy.client.delivery import DeliveryLimits
from proxy.client.node import LocalNode
from proxy.client.remote import RemoteMixer, RemoteOptions
from proxy.client.sidecar import SidecarClient
from proxy.client.values import NOTHING
from proxy.middleware.flows import Message, Receive, Scope, Send
from proxy.policy import PolicyClient

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.middleware.opening")

ClientSource: TypeAlias = PolicyClient | Callable[[], AbstractAsyncContextManager[PolicyClient]]
"""A client that somebody else closes, or a function that opens one."""

RETRIES: Final = 1


def one_service(attributes: Mapping[str, AttributeValue] = NOTHING, *, fail_open: bool = False) -> HttpClientConfig:
    """The configuration of a service that is alone in its process: every request is checked and reported.

    Args:
        attributes: Of each request, such as ``destination.service.host``. ``context.reporter.kind`` is ``inbound``
            unless it is given.
        fail_open: Requests pass when Mixer gives no answer and no cache knows; otherwise they get 503.
    """
    policy = NetworkFailPolicy(policy=FailPolicy.FAIL_OPEN if fail_open else FailPolicy.FAIL_CLOSE, max_retry=RETRIES)
    statics = {"context.reporter.kind": "inbound", **attributes}
    return for_all_services(ServiceConfig(mixer_attributes=statics), Transport(network_fail_policy=policy))


@asynccontextmanager
async def mixer_client(
    address: str,
    config: HttpClientConfig | None = None,
    *,
    report_address: str = "",
    node: LocalNode | None = None,
    specs: SpecIndex | None = None,
    registry: CollectorRegistry | None = None,
    delivery: DeliveryLimits | None = None,
    tls: ClientTls | None = None,
    grace_s: float = 5.0,
) -> AsyncIterator[SidecarClient]:
    """A client of the Mixer at an address, for as long as the context lasts; it opens whether Mixer is there or not.

    Args:
        address: ``host:port`` or ``unix:///path``.
        config: What holds for requests; `one_service` by default.
        report_address: Another Mixer for reports.
        node: Who this service is.
        specs: Quota and API specs that bindings give to services.
        registry: Where the client's counters are scraped.
        delivery: Bounds of the buffer of reports.
        tls: Whom to trust and what to show, as `mixer.tls.ClientTls`; None for cleartext.
        grace_s: How long reports that wait may take at the end; what is left then is dropped, and counted.

    Raises:
        CertificateError: The files of ``tls`` are not fit for use.
    """
    config = one_service() if config is None else config
    policy = config.transport.network_fail_policy
    remote = RemoteMixer(
        RemoteOptions(
            address,
            report_address,
            check_timeout_s=config.transport.check_timeout_s,
            max_retries=policy.max_retry,
            base_retry_wait_s=policy.base_retry_wait.seconds,
            max_retry_wait_s=policy.max_retry_wait.seconds,
            delivery=delivery or DeliveryLimits(),
            tls=tls,
        )
    )
    client = SidecarClient(remote, config, specs=specs, node=node, registry=registry)
    try:
        yield client
    finally:
        end = asyncio.get_running_loop().time() + grace_s
        await client.aclose(grace_s)
        await remote.aclose(max(0.0, end - asyncio.get_running_loop().time()))


class ClientHolder:
    """A middleware's client, opened at most once at a time."""

    def __init__(self, source: ClientSource) -> None:
        self._source = source
        self.client: PolicyClient | None = None
        self._stack: AsyncExitStack | None = None
        self._opening: asyncio.Lock | None = None
        if not callable(source):
            self.client = source

    async def open(self) -> PolicyClient:
        """The client, which is opened unless it is there."""
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self.client is None:
                assert callable(self._source)
                stack = AsyncExitStack()
                self.client = await stack.enter_async_context(self._source())
                self._stack = stack
            return self.client

    async def close(self) -> None:
        """Close the client if it was opened here; safe twice."""
        stack, self._stack = self._stack, None
        if stack is not None:
            self.client = None
            await stack.aclose()

    @property
    def is_ours(self) -> bool:
        """Whether the client is opened here."""
        return callable(self._source)


class Lifespan:
    """A server's lifespan, for an application that may know none.

    The client is open before the application starts, and closed when it has stopped. An application that refuses the
    scope, or that leaves early, is stood in for: the server must be answered in order that the client gets closed.
    """

    def __init__(self, holder: ClientHolder, receive: Receive, send: Send) -> None:
        self._holder = holder
        self._receive = receive
        self._send = send
        self._asked = self._answered = self._stopping = self._stopped = False

    async def run(self, app: Callable[[Scope, Receive, Send], object], scope: Scope) -> None:
        """Live through it; what the application raises before it listens is what it has to say of the scope."""
        try:
            await app(scope, self._hear, self._say)  # type: ignore[misc]
        except Exception as exc:
            if self._asked:
                await self._holder.close()
                raise
            log.debug("application_without_lifespan", error=repr(exc))
        except BaseException:
            await self._holder.close()
            raise
        if not self._asked:
            await self._hear()
        if not self._answered:
            await self._say({"type": "lifespan.startup.complete"})
        if not self._stopping and not self._stopped:
            await self._hear()
        if not self._stopped:
            await self._say({"type": "lifespan.shutdown.complete"})

    async def _hear(self) -> Message:
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self._asked = True
            try:
                await self._holder.open()
            except Exception as exc:
                self._answered = self._stopping = self._stopped = True
                await self._send({"type": "lifespan.startup.failed", "message": f"no client for Mixer: {exc}"})
                raise
        elif message["type"] == "lifespan.shutdown":
            self._stopping = True
        return message

    async def _say(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._answered = True
        elif kind in ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            self._answered = self._stopping = self._stopped = True
            await self._holder.close()
        await self._send(message)
