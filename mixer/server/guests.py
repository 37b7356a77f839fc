"""Services that are served beside Mixer's own without being known here: the composition root brings them along.

A guest has methods for the gRPC port, may listen on ports of its own, and hears of each configuration that is
published. Its calls are counted and guarded as Mixer's are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import structlog

from mixer.api.rpc import Methods
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.server.guard import guarded
from mixer.store import StoreContents
from mixer.tls import ServerCertificates

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.server.guests")


@dataclass(frozen=True, slots=True)
class House:
    """What a guest finds here.

    Attributes:
        controller: Whose dispatcher decides; not `Controller.ready` before there is a configuration.
        metrics: Its registry is where a guest's metrics belong.
        certificates: What a guest's own ports serve TLS with; None for cleartext.
    """

    controller: Controller
    metrics: RuntimeMetrics
    certificates: ServerCertificates | None = None


class Guest(Protocol):
    """Services that came along."""

    @property
    def methods(self) -> Methods:
        """What they offer on the gRPC port."""
        ...

    @property
    def ports(self) -> Collection[str]:
        """The names of `mixer.server.options.ServerOptions.guest_ports` that `listen` knows."""
        ...

    def configure(self, contents: StoreContents) -> None:
        """Follow a configuration that was just published."""
        ...

    async def listen(self, name: str, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Serve one of its `ports`; returns the bound one.

        Raises:
            OSError: The port is taken.
        """
        ...

    async def start(self) -> None:
        """Begin work that needs the running loop; before any call comes."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take no new requests, finish those in progress, end; safe before `start`."""
        ...


Invitation: TypeAlias = Callable[[House], Guest]
"""Makes a guest for a house; workers make one each."""


class Guests:
    """All guests of a house."""

    def __init__(self, invitations: Sequence[Invitation], house: House) -> None:
        self._house = house
        self._draining = asyncio.Event()
        self._guests = [invite(house) for invite in invitations]
        if self._guests:
            house.controller.followers.append(self._configure)

    @property
    def methods(self) -> Methods:
        """What they offer, counted and guarded."""
        methods = Methods()
        for guest in self._guests:
            methods |= guest.methods
        return guarded(methods, self._house.controller.ready.is_set, self._house.metrics, self._draining)

    def _configure(self, contents: StoreContents) -> None:
        for guest in self._guests:
            try:
                guest.configure(contents)
            except Exception as exc:
                log.error("guest_not_configured", guest=type(guest).__name__, exc_info=exc)

    async def start(self) -> None:
        """Start them all."""
        for guest in self._guests:
            await guest.start()

    async def listen(self, host: str, ports: Mapping[str, int], *, reuse_port: bool = False) -> dict[str, int]:
        """Have each port served by the guest that knows its name; returns the bound ones.

        Raises:
            OSError: A port is taken.
            ValueError: Nobody serves a port of that name.
        """
        bound = {}
        for name, port in ports.items():
            guest = next((guest for guest in self._guests if name in guest.ports), None)
            if guest is None:
                raise ValueError(f"nobody serves {name}")
            bound[name] = await guest.listen(name, host, port, reuse_port=reuse_port)
        return bound

    def drain(self) -> None:
        """End streams that would not end by themselves, so that the transport need not wait for them."""
        self._draining.set()

    async def stop(self, grace_s: float) -> None:
        """Stop them all."""
        for guest in reversed(self._guests):
            await guest.stop(grace_s)
