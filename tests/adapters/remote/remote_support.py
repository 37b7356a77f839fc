"""A real adapter server in this process, and handlers that call it over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from mixer.adapters.base import AdapterInfo, CheckResult, Handler, InstanceInfo, Params, QuotaArgs, QuotaResult
from mixer.adapters.remote import Connection, RemoteParams, RemoteTemplate, build
from mixer.adapters.remote.descriptors import EncodedInstance
from mixer.adapters.remote.handler import RemoteHandler
from mixer.adapters.remote.standard import standard_model
from mixer.adapters.testing import RecordingEnv
from mixer.attributes import Duration, MappingBag, ValueType, Vocabulary
from mixer.rules.encoding import compile_encoded
from mixer.sdk import AdapterServer, ServerSecurity
from mixer.sdk.params import ParamsCodec
from mixer.store.protojson import decode
from mixer.templates import TEMPLATES, Template
from mixer.templates.builder import CompiledInstance

WORDS = Vocabulary(
    {
        "source.name": ValueType.STRING,
        "source.ip": ValueType.IP_ADDRESS,
        "source.uid": ValueType.STRING,
        "source.labels": ValueType.STRING_MAP,
        "request.size": ValueType.INT64,
        "request.time": ValueType.TIMESTAMP,
        "response.duration": ValueType.DURATION,
        "request.ratio": ValueType.DOUBLE,
        "request.ok": ValueType.BOOL,
        "request.host": ValueType.DNS_NAME,
        "request.uri": ValueType.URI,
        "request.mail": ValueType.EMAIL_ADDRESS,
    }
)


def remote_template(name: str) -> RemoteTemplate:
    """A compiled-in template as a `template` resource of that name gives it."""
    known, model = TEMPLATES[name], standard_model(name)
    full_name = f"{name}.template.istio-system"
    outputs = dict(model.outputs) if known.outputs else {}
    return RemoteTemplate(full_name, known.variety, EncodedInstance, (), outputs, "output", model)


def instance(
    template: str, params: Mapping[str, Any], name: str = "i.instance.istio-system", bindings: Any = None
) -> CompiledInstance:
    """A compiled instance of a remote template."""
    made, faults = compile_encoded(name, name.split(".")[0], remote_template(template), params, bindings or {}, WORDS)
    assert made is not None, faults
    return made


def built(made: CompiledInstance, **attributes: Any) -> Any:
    """The instance of a request."""
    return made.build(MappingBag({name.replace("__", "."): value for name, value in attributes.items()}))


@dataclass
class Seen:
    """What the handlers of an adapter under test were asked."""

    params: list[Any] = field(default_factory=list)
    types: list[dict[str, Any]] = field(default_factory=list)
    instances: list[Any] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    quotas: list[QuotaArgs] = field(default_factory=list)
    closed: int = 0
    answer: Any = None

    async def say(self, default: Any) -> Any:
        """The answer that the test has set, which may be an error or a function, or the default one."""
        answer = self.answer
        if callable(answer):
            answer = await answer()
        if isinstance(answer, Exception):
            raise answer
        return default if answer is None else answer


class PlainParams(Params):
    """Params of one field of each kind that matters here."""

    greeting: str = "hello"
    limits: dict[str, int] = {}


def adapter(seen: Seen, templates: Sequence[Template] = tuple(TEMPLATES.values())) -> AdapterInfo:
    """An adapter that remembers everything."""

    class Remembering(Handler):
        async def handle_check(self, given: Any, /) -> CheckResult:
            seen.instances.append(given)
            result: CheckResult = await seen.say(CheckResult(valid_duration=Duration.parse("2s"), valid_use_count=7))
            return result

        async def handle_report(self, given: Sequence[Any], /) -> None:
            seen.instances += given
            seen.batches.append(len(given))
            await seen.say(None)

        async def handle_quota(self, given: Any, args: QuotaArgs, /) -> QuotaResult:
            seen.instances.append(given)
            seen.quotas.append(args)
            result: QuotaResult = await seen.say(QuotaResult(args.amount, Duration.parse("3s")))
            return result

        async def generate_attributes(self, given: Any, /) -> Mapping[str, Any]:
            seen.instances.append(given)
            outputs: Mapping[str, Any] = await seen.say({})
            return outputs

        async def aclose(self) -> None:
            seen.closed += 1

    async def make(params: Any, instances: Sequence[InstanceInfo], env: Any) -> Handler:
        if params.greeting == "explode":
            raise RuntimeError("it exploded")
        seen.params.append(params)
        seen.types.append({info.name: info.types for info in instances})
        return Remembering()

    def validate(params: Any, instances: Sequence[InstanceInfo]) -> Any:
        from mixer.store.problem import FieldError

        if params.greeting == "":
            yield FieldError(("greeting",), "must not be empty", "a word")

    return AdapterInfo("remembering", tuple(templates), PlainParams, make, validate)


@asynccontextmanager
async def served(
    info: AdapterInfo, address: str = "127.0.0.1:0", security: ServerSecurity | None = None
) -> AsyncIterator[AdapterServer]:
    """A running server."""
    server = AdapterServer(info, address, security=security)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0.2)


@asynccontextmanager
async def calling(
    port: int,
    instances: Sequence[CompiledInstance],
    *,
    params: Mapping[str, Any] | None = None,
    session_based: bool = False,
    env: RecordingEnv | None = None,
    **connection: Any,
) -> AsyncIterator[RemoteHandler]:
    """A handler that is connected to a port."""
    env = env or RecordingEnv()
    handler = await build(
        remote_params(port, params, session_based=session_based, **connection),
        [InstanceInfo(i.name, i.template, i.types) for i in instances],
        env.env(),
    )
    try:
        yield handler
    finally:
        await handler.aclose()
        await handler.aclose()
        await env.aclose()


def remote_params(
    port: int, params: Mapping[str, Any] | None = None, *, session_based: bool = False, **connection: Any
) -> RemoteParams:
    """What an operator's handler says."""
    where, faults = decode(Connection, {"address": f"127.0.0.1:{port}", "timeout": "2s", **connection})
    assert where is not None, faults
    config = None
    if params is not None:
        codec = ParamsCodec("remembering", PlainParams)
        url = "type.googleapis.com/remembering.Params"
        config = AnyMessage(type_url=url, value=codec.encode(params)).SerializeToString()
    return RemoteParams(connection=where, config=config, session_based=session_based)
