"""The handler of an adapter in another process: one call for each check and quota, one for each batch of a report.

Source: spec runtime 6.1.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from pydantic import Field

from mixer.adapters.base import CheckResult, Env, Handler, InstanceInfo, Params, QuotaArgs, QuotaResult
from mixer.adapters.remote.answers import check_result, quota_result
from mixer.adapters.remote.backend import Backend
from mixer.adapters.remote.connection import Connection
from mixer.adapters.remote.descriptors import (
    EncodedInstance,
    RemoteTemplate,
    TemplateModel,
    WireVariety,
    message_class,
    output_reader,
)
from mixer.adapters.remote.types import type_message
from mixer.api.gen.mixer.adapter.model.v1beta1 import check_pb2, quota_pb2
from mixer.attributes import AttributeValue
from mixer.errors import BackendRejectedError, BackendUnavailableError

_BUILD_WAITS_S: Final = 2.0
LARGEST_CALL: Final = 3 << 20
"""Bytes of instances in one call; gRPC's servers refuse messages above 4 MiB unless told otherwise."""


class RemoteParams(Params):
    """All that a handler of an adapter in another process is made of."""

    connection: Connection
    config: bytes | None = Field(default=None, repr=False)
    """The operator's params, as the bytes of an Any; None for an adapter without any."""
    session_based: bool = False
    digest: str = ""
    """Differs when the adapter's resource does."""


@dataclass(frozen=True, slots=True)
class _Target:
    """How to call for the instances of one name."""

    model: TemplateModel
    outputs: Callable[[bytes], Mapping[str, AttributeValue]] | None


class RemoteHandler(Handler):
    """Hands instances on, and answers what the process answers."""

    def __init__(self, params: RemoteParams, instances: Sequence[InstanceInfo], env: Env) -> None:
        config = None if params.config is None else AnyMessage.FromString(params.config)
        self._targets = dict(_targets(instances))
        types = {info.name: type_message(self._targets[info.name].model, info.types) for info in instances}
        self._backend = Backend(params.connection, config, types, env, session_based=params.session_based)
        self._calls = random.getrandbits(64)

    async def prepare(self) -> None:
        """Do what can be done before the first call.

        Raises:
            BackendUnavailableError: The backend is away; the first call tries again.
            BackendRejectedError: It refuses the params.
        """
        await self._backend.prepare()

    async def handle_check(self, instance: EncodedInstance, /) -> CheckResult:
        """Ask the backend."""
        model = self._targets[instance.name].model
        data = await self._ask(model, [instance.payload], self._next_id())
        try:
            if model.variety is WireVariety.CHECK_WITH_OUTPUT:
                data = _result_of(model, data)
            return check_result(check_pb2.CheckResult.FromString(data))
        except (DecodeError, ValueError):
            raise self._backend.nonsense(model.path) from None

    async def handle_report(self, instances: Sequence[EncodedInstance], /) -> None:
        """Hand a batch on, in one call unless it is larger than a call may be."""
        if not instances:
            return
        model = self._targets[instances[0].name].model
        portions = list(_portions(instances))
        for index, payloads in enumerate(portions):
            # Once one fails, so will the next, only later: what follows is lost with it.
            lost = sum(map(len, portions[index:]))
            await self._ask(model, payloads, self._next_id(), lost=lost)

    async def handle_quota(self, instance: EncodedInstance, args: QuotaArgs, /) -> QuotaResult:  # type: ignore[override]
        """Ask the backend, under the instance's name.

        Raises:
            BackendRejectedError: Its answer is about other quotas, or more than was asked for.
        """
        model = self._targets[instance.name].model
        wanted = quota_pb2.QuotaRequest(
            quotas={instance.name: quota_pb2.QuotaRequest.QuotaParams(amount=args.amount, best_effort=args.best_effort)}
        )
        data = await self._ask(model, [instance.payload], args.dedup_id, quota=wanted)
        try:
            answer = quota_pb2.QuotaResult.FromString(data)
        except DecodeError:
            raise self._backend.nonsense(model.path) from None
        if instance.name not in answer.quotas:
            raise BackendRejectedError(f"remote server did not respond with the requested quota '{instance.name}'")
        try:
            result = quota_result(answer.quotas[instance.name])
        except ValueError:
            raise self._backend.nonsense(model.path) from None
        if args.amount >= 0 and not 0 <= result.amount <= args.amount:
            raise BackendRejectedError(f"quota '{instance.name}': asked for {args.amount}, granted {result.amount}")
        return result

    async def generate_attributes(self, instance: EncodedInstance, /) -> Mapping[str, AttributeValue]:
        """Ask the backend."""
        target = self._targets[instance.name]
        data = await self._ask(target.model, [instance.payload], self._next_id())
        assert target.outputs is not None
        try:
            return target.outputs(data)
        except (DecodeError, ValueError):
            raise self._backend.nonsense(target.model.path) from None

    async def _ask(
        self, model: TemplateModel, payloads: Sequence[bytes], dedup_id: str, *, quota: Any = None, lost: int = 0
    ) -> bytes:
        fields = model.request_fields
        request: Any = model.request(**{model.instances: payloads if model.repeats else payloads[0]})
        if "dedup_id" in fields:
            request.dedup_id = dedup_id
        if quota is not None and "quota_request" in fields:
            request.quota_request = quota.SerializeToString()
        takes_config = "adapter_config" in fields
        return await self._backend.handle(model.path, request, takes_config=takes_config, instances=lost)

    def _next_id(self) -> str:
        self._calls = (self._calls + 1) & 0xFFFF_FFFF_FFFF_FFFF
        return str(self._calls)

    async def aclose(self) -> None:
        """Close session and connection."""
        await self._backend.aclose()


def _targets(instances: Sequence[InstanceInfo]) -> Iterator[tuple[str, _Target]]:
    for info in instances:
        assert isinstance(info.template, RemoteTemplate)
        model = info.template.model
        assert model is not None
        generates = model.variety is WireVariety.ATTRIBUTE_GENERATOR and model.output is not None
        yield info.name, _Target(model, output_reader(model.output) if generates and model.output else None)


def _result_of(model: TemplateModel, data: bytes) -> bytes:
    answer: Any = message_class(model.answer)()
    answer.ParseFromString(data)
    result: bytes = answer.result.SerializeToString()
    return result


def _portions(instances: Sequence[EncodedInstance]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for instance in instances:
        if portion and size + len(instance.payload) > LARGEST_CALL:
            yield portion
            portion, size = [], 0
        portion.append(instance.payload)
        size += len(instance.payload)
    yield portion


async def build(params: RemoteParams, instances: Sequence[InstanceInfo], env: Env) -> RemoteHandler:
    """A handler, with a session if there is one to be had within two seconds; else the first call opens one.

    Raises:
        AdapterError: A file of the authentication cannot be used, or the backend is there and refuses the params.
    """
    handler = RemoteHandler(params, instances, env)
    try:
        async with asyncio.timeout(_BUILD_WAITS_S):
            await handler.prepare()
    except (TimeoutError, BackendUnavailableError) as exc:
        reason = str(exc) or "it does not answer"
        env.log.warning("backend_away", address=params.connection.address, reason=reason)
    except BaseException:
        await handler.aclose()
        raise
    return handler
