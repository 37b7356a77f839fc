"""A gRPC channel to one Mixer, which is made anew when its certificate files are renewed.

A call after the renewal goes over a new connection; those in progress end on the old one. Over TLS it finds out, too,
why a connection does not come about: gRPC says UNAVAILABLE, and little else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from grpc import aio

from mixer.api.messages import SERVICE_NAME
from mixer.tls import ClientCertificates, channel_options

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.line")

RETIRE_S: Final = 30.0
"""A channel whose certificates are out of date is closed so long after: then no call is in progress on it."""

ASK_AGAIN_S: Final = 5.0
"""Pause between two handshakes that find out why calls fail."""

TELL_AGAIN_S: Final = 60.0
"""Pause between two log lines that say the same."""

_OPTIONS: Final = (
    # A Mixer that comes back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 800),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class Line:
    """The two calls to one Mixer; must be made and closed within one running event loop.

    Attributes:
        tls_fault: Why TLS does not come about, as it was last found; empty when it does.
        tls_faults: How often it was found not to.
    """

    def __init__(self, address: str, certificates: ClientCertificates | None = None) -> None:
        """Prepare; nothing is connected before the first call. Socket files are spoken to in cleartext."""
        self.address: Final = address.removeprefix("tcp://")
        self._certificates = None if address.startswith("unix:") else certificates
        self._loop = asyncio.get_running_loop()
        self._retired: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._finding: asyncio.Task[None] | None = None
        self._find_at = self._tell_at = 0.0
        self.tls_fault = ""
        self.tls_faults = 0
        self._used: object = None
        self._open()

    def _open(self) -> None:
        if self._certificates is None:
            self._channel = aio.insecure_channel(self.address, options=(("grpc.default_authority", "mixer"), *_OPTIONS))
        else:
            self._used = material = self._certificates.renewed.current()
            self._channel = aio.secure_channel(
                self.address,
                self._certificates.credentials(material),
                options=(*channel_options(self._certificates), *_OPTIONS),
            )
        self._check: Any = self._channel.unary_unary(f"/{SERVICE_NAME}/Check")
        self._report: Any = self._channel.unary_unary(f"/{SERVICE_NAME}/Report")

    @property
    def check(self) -> Callable[..., Any]:
        """The method Check, over the channel of now."""
        if self._certificates is not None:
            self._follow(self._certificates)
        return self._check  # type: ignore[no-any-return]

    @property
    def report(self) -> Callable[..., Any]:
        """The method Report, over the channel of now."""
        if self._certificates is not None:
            self._follow(self._certificates)
        return self._report  # type: ignore[no-any-return]

    def _follow(self, certificates: ClientCertificates) -> None:
        if certificates.renewed.current() is self._used:
            return
        former = self._channel
        self._open()
        self._find_at = 0.0
        retiring = self._loop.create_task(self._retire(former), name="retire a channel")
        self._retired.add(retiring)
        retiring.add_done_callback(self._retired.discard)

    async def _retire(self, channel: aio.Channel) -> None:
        # Its own grace period cannot be cut short: what waits for calls would be left behind.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), RETIRE_S)
        await channel.close(None)

    def failed(self) -> None:
        """A call found nobody: find out whether TLS is to blame."""
        if self._certificates is None or self._finding is not None or self._loop.time() < self._find_at:
            return
        self._find_at = self._loop.time() + ASK_AGAIN_S
        self._finding = self._loop.create_task(self._find(self._certificates), name="find out what TLS complains of")

    def worked(self) -> None:
        """A call had an answer."""
        if self.tls_fault:
            self.tls_fault = ""
            log.info("mixer_tls_restored", address=self.address)

    async def _find(self, certificates: ClientCertificates) -> None:
        try:
            fault = await certificates.fault_of(self.address)
        finally:
            self._finding = None
        if not fault:
            self.tls_fault = ""  # nobody is there, or it was cured just now
            return
        self.tls_faults += 1
        now = self._loop.time()
        if fault != self.tls_fault or now >= self._tell_at:
            self._tell_at = now + TELL_AGAIN_S
            log.error("mixer_tls_failed", address=self.address, error=fault)
        self.tls_fault = fault

    async def aclose(self) -> None:
        """Hang up; safe twice."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        self._closing.set()
        await asyncio.gather(*self._retired)
        await self._channel.close(None)
