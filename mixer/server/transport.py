"""The gRPC transport: Mixer's service, health and reflection on one port. Source: spec runtime 5 and 7.1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mixer.api import messages
from mixer.server.service import MixerService
from mixer.server.status import ServiceError

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class GrpcTransport:
    """A grpc.aio server around a `MixerService`.

    ``max_message_bytes`` bounds what is received; a larger request is answered RESOURCE_EXHAUSTED.
    """

    def __init__(
        self, service: MixerService, *, max_message_bytes: int = 1 << 20, max_concurrent_streams: int = 1024
    ) -> None:
        self._server = aio.server(
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_concurrent_streams", max_concurrent_streams),
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent rival
            )
        )
        methods = {"Check": service.check, "Report": service.report}
        handlers = {name: grpc.unary_unary_rpc_method_handler(_unary(serve)) for name, serve in methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(messages.SERVICE_NAME, handlers),))
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (messages.SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def bind(self, address: str) -> int:
        """Listen on ``host:port`` or ``unix:///path``; returns the port, 0 for a socket file.

        Raises:
            OSError: The address cannot be bound.
        """
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as exc:
            raise OSError(f"cannot listen on {address}: {exc}") from exc
        return port if not address.startswith("unix:") else 0

    async def start(self) -> None:
        """Accept connections; health says NOT_SERVING until `set_serving`."""
        await self.set_serving(False)
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """What health answers, for the server as a whole and for Mixer's service."""
        status = health_pb2.HealthCheckResponse
        for name in ("", messages.SERVICE_NAME):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in progress finish for so long, then cut them off."""
        await self._server.stop(grace_s)


def _unary(serve: Callable[[bytes], Awaitable[bytes]]) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def call(data: bytes, context: Any) -> bytes:
        try:
            return await serve(data)
        except ServiceError as exc:
            await context.abort(_CODES.get(exc.code, grpc.StatusCode.UNKNOWN), exc.message)
            raise AssertionError("abort returns never") from exc

    return call
