"""The gRPC server around an adapter: instances in, answers out, sessions, health and a graceful end.

Source: spec runtime 6.1 and 6.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status as WireStatus
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from mixer.adapters.base import AdapterInfo, Code, Handler, QuotaArgs
from mixer.adapters.remote.answers import wire_check_result, wire_quota_result
from mixer.adapters.remote.backend import SESSION_TYPE
from mixer.adapters.remote.descriptors import WireVariety, message_class
from mixer.api.gen.mixer.adapter.model.v1beta1 import infrastructure_backend_pb2 as infrastructure
from mixer.api.gen.mixer.adapter.model.v1beta1 import quota_pb2
from mixer.errors import AdapterError, BackendUnavailableError, MixerError
from mixer.sdk.decoding import InstanceReader, output_writer
from mixer.sdk.sessions import RefusedError, Sessions, UnknownSessionError
from mixer.templates import Template

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.sdk")

LARGEST_MESSAGE: Final = 16 << 20
SWEEP_S: Final = 5.0

_INFRASTRUCTURE: Final = infrastructure.DESCRIPTOR.services_by_name["InfrastructureBackend"].full_name


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """How the server says who it is, and who may call.

    Attributes:
        certificate: Path of the server's certificate chain, in PEM; none means an open port.
        key: Path of its key.
        client_ca: Path of the authorities for certificates of callers, which then must have one.
        token: Path of the token that callers must send, by ``header``.
        header: The name of the header; in ``authorization`` the word Bearer may stand before the token.
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    token: Path | None = None
    header: str = "authorization"

    def credentials(self) -> grpc.ServerCredentials | None:
        """For gRPC; certificates are read anew for each connection, so that they can be replaced.

        Raises:
            OSError: A file cannot be read.
        """
        if self.certificate is None or self.key is None:
            return None
        fetch = self._configuration
        return grpc.dynamic_ssl_server_credentials(fetch(), fetch, require_client_authentication=bool(self.client_ca))

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        assert self.certificate is not None
        assert self.key is not None
        authorities = self.client_ca.read_bytes() if self.client_ca is not None else None
        return grpc.ssl_server_certificate_configuration(
            [(self.key.read_bytes(), self.certificate.read_bytes())], authorities
        )


class _TokenGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets calls pass that show the token; the health service is open to all."""

    def __init__(self, path: Path, header: str) -> None:
        self._path, self._header = path, header.lower()

        async def refuse(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong")

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Refuse, or go on."""
        if details.method.startswith("/grpc.health."):
            return await continuation(details)
        wanted = self._path.read_bytes().strip()
        for name, value in details.invocation_metadata or ():
            given = value.encode() if isinstance(value, str) else value
            if name == self._header and hmac.compare_digest(given.removeprefix(b"Bearer "), wanted):
                return await continuation(details)
        return self._refusal


class AdapterServer:
    """An adapter as a server of its own.

    Args:
        info: The adapter.
        address: Where to listen, ``host:port``; port 0 picks a free one.
        security: Certificates and tokens; by default the port is open, so keep it to the machine.
        threads: For handlers that block: how many of their calls run at a time, each in a thread. With 0 they run
            in the event loop, where one that blocks keeps all others waiting.
    """

    def __init__(
        self,
        info: AdapterInfo,
        address: str = "127.0.0.1:0",
        *,
        security: ServerSecurity | None = None,
        threads: int = 0,
    ) -> None:
        self._info = info
        self._address = address
        self._security = security or ServerSecurity()
        readers = [(template, InstanceReader(template)) for template in info.templates]
        self.sessions: Final = Sessions(info, {reader.model.package: (t, reader.model) for t, reader in readers})
        self._threads = ThreadPoolExecutor(threads, info.name) if threads else None
        calling = _Calling(self._threads)
        self._services = [_service(template, reader, self._handler_of, calling) for template, reader in readers]
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen and serve; ``port`` is where.

        Raises:
            OSError: The port is taken, or a file of the security cannot be read.
        """
        guards = []
        if self._security.token is not None:
            self._security.token.read_bytes()
            guards.append(_TokenGuard(self._security.token, self._security.header))
        server = grpc.aio.server(
            interceptors=guards,
            options=(
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", LARGEST_MESSAGE),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ),
        )
        server.add_generic_rpc_handlers((*self._services, self._infrastructure()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        credentials = self._security.credentials()
        try:
            if credentials is None:
                self.port = server.add_insecure_port(self._address)
            else:
                self.port = server.add_secure_port(self._address, credentials)
        except RuntimeError as exc:
            raise OSError(f"cannot listen on {self._address}: {exc}") from exc
        await server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="sweep sessions")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sessions.sweep()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, let those in progress finish, then flush and close all handlers; safe twice."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await server.stop(grace_s)
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await self.sessions.aclose()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _handler_of(self, config: AnyMessage) -> Handler:
        if config.type_url == SESSION_TYPE:
            return self.sessions.of_session(config.value.decode("utf-8", "replace"))
        return await self.sessions.of_config(config)

    def _infrastructure(self) -> grpc.GenericRpcHandler:
        sessions = self.sessions

        async def validate(request: infrastructure.ValidateRequest, _: Any) -> infrastructure.ValidateResponse:
            try:
                sessions.validate(request.adapter_config, request.inferred_types)
            except RefusedError as exc:
                return infrastructure.ValidateResponse(status=_refused(exc))
            return infrastructure.ValidateResponse()

        async def create(request: infrastructure.CreateSessionRequest, _: Any) -> infrastructure.CreateSessionResponse:
            try:
                name = await sessions.open(request.adapter_config, request.inferred_types)
            except RefusedError as exc:
                return infrastructure.CreateSessionResponse(status=_refused(exc))
            return infrastructure.CreateSessionResponse(session_id=name)

        async def close(request: infrastructure.CloseSessionRequest, _: Any) -> infrastructure.CloseSessionResponse:
            sessions.close(request.session_id)
            return infrastructure.CloseSessionResponse()

        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=_serialized
            )
            for name, method, request in (
                ("Validate", validate, infrastructure.ValidateRequest),
                ("CreateSession", create, infrastructure.CreateSessionRequest),
                ("CloseSession", close, infrastructure.CloseSessionRequest),
            )
        }
        return grpc.method_handlers_generic_handler(_INFRASTRUCTURE, methods)


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _refused(exc: RefusedError) -> WireStatus:
    return WireStatus(code=Code.INVALID_ARGUMENT, message=str(exc))


_Find = Callable[[AnyMessage], Awaitable[Handler]]


class _Calling:
    """Calls a handler's method, in a thread if there are any, and waits for what it has to wait for itself."""

    def __init__(self, threads: Executor | None) -> None:
        self._threads = threads

    async def __call__(self, method: Callable[..., Any], *arguments: Any) -> Any:
        if self._threads is None:
            answer = method(*arguments)
        else:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, method, *arguments)
        return await answer if isinstance(answer, Awaitable) else answer


def _service(template: Template, reader: InstanceReader, find: _Find, calling: _Calling) -> grpc.GenericRpcHandler:
    """The service of a template: each method gets the bytes of its request."""
    model = reader.model
    answer = _answers(reader, calling)
    from_bytes: Any = model.request

    async def method(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            request = from_bytes()
            request.ParseFromString(data)
            return await answer(await find(AnyMessage.FromString(request.adapter_config)), request)
        except DecodeError:
            code, text = grpc.StatusCode.INVALID_ARGUMENT, "the request cannot be decoded"
        except UnknownSessionError as exc:
            code, text = grpc.StatusCode.NOT_FOUND, str(exc)
        except RefusedError as exc:
            code, text = grpc.StatusCode.INVALID_ARGUMENT, str(exc)
        except BackendUnavailableError as exc:
            code, text = grpc.StatusCode.UNAVAILABLE, str(exc)
        except AdapterError as exc:
            code, text = grpc.StatusCode.INTERNAL, str(exc)
        except MixerError as exc:
            code, text = grpc.StatusCode.UNKNOWN, str(exc)
        except Exception as exc:
            log.error("handler_crashed", template=template.name, exc_info=exc)
            code, text = grpc.StatusCode.INTERNAL, f"the adapter crashed: {type(exc).__name__}: {exc}"
        await context.abort(code, text)
        raise AssertionError  # abort raises

    service, name = model.path.strip("/").split("/")
    return grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(method)})


def _answers(reader: InstanceReader, calling: _Calling) -> Callable[[Handler, Any], Awaitable[bytes]]:
    """How a handler answers requests of a template."""
    model = reader.model
    match model.variety:
        case WireVariety.CHECK | WireVariety.CHECK_WITH_OUTPUT:

            async def check(handler: Handler, request: Any) -> bytes:
                result = await calling(handler.handle_check, reader(_first(model.instances, request)))
                data = wire_check_result(result).SerializeToString()
                if model.variety is not WireVariety.CHECK_WITH_OUTPUT:
                    return data
                whole: Any = message_class(model.answer)()
                whole.result.ParseFromString(data)
                return _serialized(whole)

            return check
        case WireVariety.QUOTA:

            async def quota(handler: Handler, request: Any) -> bytes:
                instance = reader(_first(model.instances, request))
                answer = quota_pb2.QuotaResult()
                for name, wanted in quota_pb2.QuotaRequest.FromString(request.quota_request).quotas.items():
                    args = QuotaArgs(wanted.amount, wanted.best_effort, request.dedup_id)
                    result = await calling(handler.handle_quota, instance, args)
                    answer.quotas[name].CopyFrom(wire_quota_result(result))
                return answer.SerializeToString()

            return quota
        case WireVariety.ATTRIBUTE_GENERATOR:
            assert model.output is not None
            write = output_writer(model.output)

            async def generate(handler: Handler, request: Any) -> bytes:
                instance = reader(_first(model.instances, request))
                outputs: Mapping[str, Any] = await calling(handler.generate_attributes, instance)
                return write(outputs)

            return generate
        case _:

            async def report(handler: Handler, request: Any) -> bytes:
                payloads: Sequence[bytes] = getattr(request, model.instances)
                await calling(handler.handle_report, [reader(payload) for payload in payloads])
                return b""

            return report


def _first(name: str, request: Any) -> bytes:
    found = getattr(request, name)
    return found if isinstance(found, bytes) else found[0]
