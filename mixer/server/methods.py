"""What the gRPC port offers: Mixer's service, health and reflection, and whatever else is mounted beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Final, Protocol

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from mixer.api import messages
from mixer.api.codes import Code
from mixer.api.rpc import NO_HEAD, CallHead, Methods, ServiceError, Stream
from mixer.server.service import MixerService

HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")
"""The two are the same on the wire; newer clients ask the second first."""


class Transport(Protocol):
    """What carries `Methods` to callers, on one address."""

    async def bind(self, address: str) -> int:
        """Listen on ``host:port`` or ``unix:///path``; returns the port, 0 for a socket file.

        Raises:
            OSError: The address cannot be bound.
        """
        ...

    async def start(self) -> None:
        """Accept connections."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in progress finish for so long, then cut them off; safe before `start`."""
        ...


class Health:
    """What health answers, for the server as a whole and for each service. Source: grpc/health/v1/health.proto."""

    def __init__(self, services: Iterable[str] = (messages.SERVICE_NAME,)) -> None:
        self._status = dict.fromkeys(("", *services), health_pb2.HealthCheckResponse.NOT_SERVING)
        self._changed = asyncio.Event()
        self._ending = False

    def set_serving(self, serving: bool) -> None:
        """Tell everybody who asks or watches."""
        status = health_pb2.HealthCheckResponse
        self._status = dict.fromkeys(self._status, status.SERVING if serving else status.NOT_SERVING)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Tell everybody that it serves no more, and end the watches: a transport that drains would wait for them."""
        self._ending = True
        self.set_serving(False)

    async def check(self, data: bytes, head: CallHead = NO_HEAD) -> bytes:
        """``Check``: the present state."""
        status = self._status.get(_parsed(health_pb2.HealthCheckRequest, data).service)
        if status is None:
            raise ServiceError(Code.NOT_FOUND, "unknown service")
        answer: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
        return answer

    async def watch(self, requests: AsyncIterator[bytes], head: CallHead = NO_HEAD) -> AsyncGenerator[bytes, None]:
        """``Watch``: the present state, then every change of it up to the `end`."""
        service = _parsed(health_pb2.HealthCheckRequest, await anext(requests, b"")).service
        last = None
        while True:
            changed = self._changed
            status = self._status.get(service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status).SerializeToString()
            last = status
            if self._ending:
                return
            await changed.wait()


def mixer_methods(service: MixerService) -> Methods:
    """Mixer's own service."""
    name = messages.SERVICE_NAME
    return Methods({f"/{name}/Check": service.check, f"/{name}/Report": service.report})


def with_health_and_reflection(methods: Methods, health: Health) -> Methods:
    """The methods, and the two services that tell about them."""
    reflect = _reflection((*methods.services, HEALTH, REFLECTION[0]))
    return methods | Methods(
        {f"/{HEALTH}/Check": health.check},
        {f"/{HEALTH}/Watch": health.watch, **{f"/{name}/ServerReflectionInfo": reflect for name in REFLECTION}},
    )


def _reflection(names: tuple[str, ...]) -> Stream:
    servicer = reflection.aio.ReflectionServicer(names)

    async def reflect(requests: AsyncIterator[bytes], head: CallHead) -> AsyncGenerator[bytes, None]:
        parsed = (_parsed(reflection_pb2.ServerReflectionRequest, data) async for data in requests)
        async for answer in servicer.ServerReflectionInfo(parsed, None):
            yield answer.SerializeToString()

    return reflect


def _parsed(kind: type, data: bytes):  # type: ignore[no-untyped-def]  # protobuf's stubs have no common parser
    try:
        return kind.FromString(data)  # type: ignore[attr-defined]
    except Exception as exc:  # protobuf's DecodeError, under whichever implementation
        raise ServiceError(Code.INVALID_ARGUMENT, f"malformed {kind.__name__}: {exc}") from exc
