"""Connection, session and calls to the process of an adapter. Source: spec runtime 6.1, 6.2 and 6.5."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status as WireStatus
from prometheus_client import CollectorRegistry, Counter

from mixer.adapters.base import Env
from mixer.adapters.remote.connection import Connection
from mixer.adapters.remote.credentials import Certificates, open_tokens
from mixer.adapters.remote.relay import Relay
from mixer.api.gen.mixer.adapter.model.v1beta1 import infrastructure_backend_pb2 as infrastructure
from mixer.errors import AdapterError, BackendRejectedError, BackendUnavailableError

SESSION_TYPE: Final = "google.protobuf.Any.type_url"
"""The type of an ``adapter_config`` that is the id of a session."""

LONGEST_CALL_S: Final = 60.0
"""Limit of a call without a time-out of its own; the dispatcher's is the one that counts, and ends the call too."""

MOST_CALLS: Final = 1000
"""Calls in progress for one handler; more than that wait for a backend that will not catch up."""

SILENCE_S: Final = 1.0
"""A connection on which nothing came for so long, while a call waited in vain from beginning to end, is made anew.

It may lead nowhere without anybody being told. Under a load of calls that give up soon, gRPC's keepalive does not
find out, and no later call would be answered either.
"""

SESSION_LIMIT_S: Final = 5.0
SESSION_AGAIN_S: Final = 1.0
"""After a session was refused, none is asked for until so much later."""

_SKIP_IDENTITY: Final = "BYPASS_OOP_MTLS_SAN_VERIFICATION"
_CLOSE_TIMEOUT_S: Final = 1.0
_GRACE_S: Final = 0.1
"""gRPC ends a call at its deadline; what is not its own (a session, a token) ends so much later."""

_SERVICE: Final = infrastructure.DESCRIPTOR.services_by_name["InfrastructureBackend"].full_name

_OPTIONS: Final = (
    ("grpc.lb_policy_name", "round_robin"),
    # A backend that is back is found within about a second; one that does not even refuse is given up after one.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A peer that is cut off while a long call waits is noticed; idle connections send nothing, as gRPC's servers ask.
    # Short calls need more than that, see `SILENCE_S`.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

_TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)
_FORGOTTEN: Final = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION})
"""How a backend says that it does not know a session."""


class RemoteMetrics:
    """Mixer's metrics of calls to adapters in other processes; a registry takes a name once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "mixer_remote_adapter_calls",
            "Calls to adapters in other processes, by how they ended.",
            ("handler", "outcome"),
            registry=registry,
        )
        self.lost = Counter(
            "mixer_remote_adapter_lost_instances",
            "Instances of reports that an adapter in another process did not take.",
            ("handler", "outcome"),
            registry=registry,
        )


_counts: WeakKeyDictionary[CollectorRegistry, RemoteMetrics] = WeakKeyDictionary()


class Backend:
    """One process as one handler sees it.

    The connection is made in the background, and made again whenever it is lost or its certificates change. With
    sessions, the params are validated and a session is opened once, by `prepare` or before the first call; it is
    opened anew when the backend does not know it, or was away and may have lost it.

    Every method raises `BackendUnavailableError` when the same call may succeed later, and
    `BackendRejectedError` when it will not.
    """

    def __init__(
        self,
        connection: Connection,
        config: AnyMessage | None,
        types: Mapping[str, AnyMessage],
        env: Env,
        *,
        session_based: bool,
    ) -> None:
        self._connection = connection
        self._params = config
        self._types = types
        self._session_based = session_based
        self._env = env
        self._limit_s = LONGEST_CALL_S if connection.timeout is None else connection.timeout.seconds
        self._tokens = open_tokens(connection.tls, env.clock)
        authentication = connection.tls or connection.mutual
        self._certificates = None if authentication is None else Certificates(authentication, env.clock)
        self._relay: Relay | None = None
        self._target = connection.address
        self._channel: grpc.aio.Channel | None = None
        self._certificates_used: tuple[bytes | None, ...] = ()
        self._heard = 0.0
        """When something last came over the channel, in the time of the event loop; at first when it was made."""
        self._retired: list[grpc.aio.Channel] = []
        self._methods: dict[str, Any] = {}
        """The channel's methods that were called, by path."""
        self._session: AnyMessage | None = None
        self._opening = asyncio.Lock()
        self._refused_until = 0.0
        self._refusal: AdapterError | None = None
        self._calls = 0
        counts = _counts.get(env.metrics)
        if counts is None:
            counts = _counts[env.metrics] = RemoteMetrics(env.metrics)
        self._counts = counts

    async def prepare(self) -> None:
        """Start to connect; with sessions: have the params validated and open one."""
        certificates, mutual = self._certificates, self._connection.mutual
        if certificates is not None and mutual is not None and _checks_identity() and certificates.identities():
            self._relay = Relay(self._connection.address, mutual.server_name, certificates)
            self._target = await self._relay.start()
        self._connected().get_state(try_to_connect=True)
        if self._session_based:
            await self._open_session()

    def _connected(self) -> grpc.aio.Channel:
        """The channel, made anew when the files behind it have changed."""
        certificates = None if self._relay is not None else self._certificates
        if self._channel is not None and (certificates is None or certificates.state == self._certificates_used):
            return self._channel
        former = self._channel
        self._methods = {}
        self._heard = asyncio.get_running_loop().time()
        if certificates is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
            return self._channel
        authentication = self._connection.tls or self._connection.mutual
        options: list[tuple[str, Any]] = list(_OPTIONS)
        if authentication is not None and authentication.server_name:
            options.append(("grpc.ssl_target_name_override", authentication.server_name))
        self._certificates_used = certificates.state
        self._channel = grpc.aio.secure_channel(self._target, certificates.credentials(), options=options)
        if former is not None:
            self._env.log.info("certificates_changed", address=self._connection.address)
            self._replace(former)
        return self._channel

    def _answerless(self, channel: grpc.aio.Channel, began: float) -> None:
        """A call that began then was given up; see `SILENCE_S`."""
        silent_s = asyncio.get_running_loop().time() - self._heard
        if channel is self._channel and self._heard <= began and silent_s >= SILENCE_S:
            self._env.log.info("backend_is_silent", address=self._connection.address, outcome="connecting anew")
            self._channel = None
            self._replace(channel)

    def _replace(self, former: grpc.aio.Channel) -> None:
        """Let the calls on a channel end, then close it."""
        self._retired.append(former)
        self._env.spawn(self._retire(former))

    async def _retire(self, channel: grpc.aio.Channel) -> None:
        await channel.close(self._limit_s + _GRACE_S)
        self._retired.remove(channel)

    async def handle(self, path: str, request: Any, *, takes_config: bool, instances: int = 0) -> bytes:
        """Call for instances, with the params or the session as the request's configuration.

        Args:
            path: The method.
            request: The request without its configuration, which is added here.
            takes_config: Whether the request has a place for it.
            instances: How many instances of a report are lost if the call fails.

        Returns:
            The answer as it came.
        """
        outcome = "ok"
        if self._calls >= MOST_CALLS:
            self._count("overloaded", instances)
            raise BackendUnavailableError(self._text(f"{MOST_CALLS} calls wait for an answer already"))
        self._calls += 1
        until = asyncio.get_running_loop().time() + self._limit_s
        try:
            async with asyncio.timeout_at(until + _GRACE_S):
                return await self._handle(path, request, takes_config, until)
        except TimeoutError:
            outcome = "late"
            raise BackendUnavailableError(
                self._text("rpc error: code = DeadlineExceeded desc = no time left")
            ) from None
        except BackendUnavailableError as exc:
            late = _code(exc) is grpc.StatusCode.DEADLINE_EXCEEDED or isinstance(exc.__cause__, TimeoutError)
            outcome = "late" if late else "unavailable"
            raise
        except AdapterError:
            outcome = "rejected"
            raise
        except asyncio.CancelledError:
            outcome = "late"  # the dispatcher waits no longer
            raise
        finally:
            self._calls -= 1
            self._count(outcome, instances)

    def _count(self, outcome: str, instances: int) -> None:
        self._counts.calls.labels(self._env.handler, outcome).inc()
        if outcome != "ok" and instances:
            self._counts.lost.labels(self._env.handler, outcome).inc(instances)

    async def _handle(self, path: str, request: Any, takes_config: bool, until: float) -> bytes:
        if not self._session_based:
            if self._params is not None and takes_config:
                request.adapter_config = self._params.SerializeToString()
            return await self._call(path, request.SerializeToString(), until)
        session = await self._open_session()
        for attempt in range(2):
            if takes_config:
                request.adapter_config = session.SerializeToString()
            try:
                return await self._call(path, request.SerializeToString(), until)
            except AdapterError as exc:
                code = _code(exc)
                if code is grpc.StatusCode.UNAVAILABLE and self._session is session:
                    self._session = None
                if code not in _FORGOTTEN or attempt:
                    raise
            if self._session is session:
                self._session = None
            session = await self._open_session()
        raise AssertionError  # the second attempt returns or raises

    async def _open_session(self) -> AnyMessage:
        if self._session is not None:
            return self._session
        until = asyncio.get_running_loop().time() + min(self._limit_s, SESSION_LIMIT_S)
        try:
            async with asyncio.timeout_at(until), self._opening:
                if self._session is None:  # nobody opened one while we waited
                    if self._refusal is not None and self._env.clock.monotonic() < self._refused_until:
                        raise self._refusal
                    self._session = await self._new_session(until)
                return self._session
        except TimeoutError as exc:
            text = "rpc error: code = DeadlineExceeded desc = it opens no session in time"
            raise BackendUnavailableError(self._text(text)) from exc

    async def _new_session(self, until: float) -> AnyMessage:
        validate = infrastructure.ValidateRequest(adapter_config=self._params, inferred_types=self._types)
        checked = await self._infrastructure("Validate", validate, infrastructure.ValidateResponse, until)
        self._require_ok("refuses the params", checked.status)
        create = infrastructure.CreateSessionRequest(adapter_config=self._params, inferred_types=self._types)
        created = await self._infrastructure("CreateSession", create, infrastructure.CreateSessionResponse, until)
        self._require_ok("opens no session", created.status)
        self._refusal = None
        return AnyMessage(type_url=SESSION_TYPE, value=created.session_id.encode())

    def _require_ok(self, complaint: str, status: WireStatus) -> None:
        if status.code:
            self._refusal = BackendRejectedError(self._text(f"{complaint}: {status.message} (code {status.code})"))
            self._refused_until = self._env.clock.monotonic() + SESSION_AGAIN_S
            raise self._refusal

    async def _infrastructure(self, method: str, request: Any, answer: Any, until: float) -> Any:
        data = await self._call(f"/{_SERVICE}/{method}", request.SerializeToString(), until)
        try:
            return answer.FromString(data)
        except DecodeError:
            raise BackendRejectedError(self._text(f"it answers {method} with nonsense")) from None

    async def _call(self, path: str, request: bytes, until: float) -> bytes:
        metadata = await self._tokens.metadata()
        began = asyncio.get_running_loop().time()
        left_s = max(until - began, 0.001)
        channel: grpc.aio.Channel | None = None
        try:
            channel = self._connected()
            method = self._methods.get(path)
            if method is None:
                method = self._methods[path] = channel.unary_unary(path)
            answer = await method(request, timeout=left_s, metadata=metadata)
        except asyncio.CancelledError:
            if not _is_told_to_end():
                raise BackendUnavailableError(self._text("the connection was closed")) from None
            if channel is not None:
                self._answerless(channel, began)
            raise
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                self._note_life(channel)
            elif channel is not None:
                self._answerless(channel, began)
            if exc.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._tokens.refused()
            kind = BackendUnavailableError if exc.code() in _TRANSIENT else BackendRejectedError
            raise kind(self._text(self._explained(exc))) from exc
        except grpc.aio.UsageError as exc:  # the channel was closed meanwhile
            raise BackendUnavailableError(self._text(str(exc))) from exc
        except (ValueError, TypeError) as exc:  # never the traceback, which would show the token
            raise BackendRejectedError(self._text(f"no call can be made: {type(exc).__name__}")) from None
        self._note_life(channel)
        return bytes(answer)

    def _note_life(self, channel: grpc.aio.Channel | None) -> None:
        if channel is self._channel:
            self._heard = asyncio.get_running_loop().time()

    def _explained(self, exc: grpc.aio.AioRpcError) -> str:
        code = exc.code().name.title().replace("_", "")
        fault = self._relay.fault if self._relay is not None else ""
        if fault and exc.code() is grpc.StatusCode.UNAVAILABLE:
            return f"rpc error: code = {code} desc = {fault}"
        return f"rpc error: code = {code} desc = {exc.details()}"

    def _text(self, text: str) -> str:
        return f"handler '{self._env.handler}': backend {self._connection.address}: {text}"

    def nonsense(self, path: str) -> BackendRejectedError:
        """The error for an answer that is none."""
        return BackendRejectedError(self._text(f"{path} was answered with nonsense"))

    async def aclose(self) -> None:
        """Close the session, if the backend listens, and the connection; safe twice."""
        session, self._session = self._session, None
        if session is not None:
            request = infrastructure.CloseSessionRequest(session_id=session.value.decode("utf-8", "replace"))
            with contextlib.suppress(AdapterError):  # a backend that is gone has no session either
                until = asyncio.get_running_loop().time() + _CLOSE_TIMEOUT_S
                await self._infrastructure("CloseSession", request, infrastructure.CloseSessionResponse, until)
        channels = [*self._retired, *([self._channel] if self._channel is not None else [])]
        await asyncio.gather(*(channel.close(None) for channel in channels))
        if self._relay is not None:
            await self._relay.aclose()


def _is_told_to_end() -> bool:
    """Whether a cancellation is about this task, and not about a call on a channel that was closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _checks_identity() -> bool:
    return os.environ.get(_SKIP_IDENTITY, "").lower() != "true"


def _code(exc: BaseException) -> grpc.StatusCode | None:
    cause = exc.__cause__
    return cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None
