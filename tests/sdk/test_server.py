"""The server around an adapter: templates of an author's own, health, tokens, resources, the command."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml
from click.testing import CliRunner
from google.protobuf import descriptor_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mixer.adapters.base import AdapterInfo, CheckResult, Code, Handler, Status
from mixer.adapters.remote import EncodedInstance, RemoteTemplate
from mixer.adapters.remote.descriptors import decode_descriptors, read_template
from mixer.adapters.remote.standard import standard_descriptor
from mixer.api.gen.mixer.adapter.model.v1beta1 import extensions_pb2
from mixer.attributes import Duration, ValueType, Vocabulary
from mixer.rules.encoding import compile_encoded
from mixer.sdk import AdapterServer, ServerSecurity, sessions, template_of
from mixer.sdk.__main__ import write_templates
from mixer.sdk.command import command
from mixer.sdk.decoding import UnknownTemplateError, descriptor_of
from mixer.sdk.resources import template_resources
from mixer.templates import LISTENTRY, TEMPLATES, Template, Variety
from tests.adapters.remote.remote_support import Seen, adapter, built, calling, instance, served

ROOT = Path(__file__).parents[2]
F = descriptor_pb2.FieldDescriptorProto


def own_descriptors() -> bytes:
    """A generator of an author's own, as protoc would describe it."""
    described = decode_descriptors(standard_descriptor("kubernetes"))
    file = next(f for f in described.file if f.package == "adapter.template.kubernetes")
    file.package = "geo"
    file.name = "geo.proto"
    for method in file.service[0].method:
        method.input_type, method.output_type = ".geo.HandleKubernetesRequest", ".geo.OutputMsg"
    file.message_type[0].field[0].type_name = ".geo.InstanceMsg"
    output = next(m for m in file.message_type if m.name == "OutputMsg")
    for kind in list(output.nested_type):
        output.nested_type.remove(kind)
    del output.field[:]
    for number, (name, type_name) in enumerate(
        [
            ("country", ""),
            ("seenFor", ".istio.policy.v1beta1.Duration"),
            ("address", ".istio.policy.v1beta1.IPAddress"),
            ("since", ".google.protobuf.Timestamp"),
            ("anything", ".istio.policy.v1beta1.Value"),
        ],
        start=1,
    ):
        kind = F.TYPE_MESSAGE if type_name else F.TYPE_STRING
        output.field.add(name=name, number=number, type=kind, type_name=type_name or None, label=F.LABEL_OPTIONAL)
    file.dependency.append("google/protobuf/timestamp.proto")
    return described.SerializeToString()


async def test_a_template_of_an_authors_own() -> None:
    template = template_of(own_descriptors())
    assert (template.variety, dict(template.outputs)) == (
        Variety.ATTRIBUTE_GENERATOR,
        {
            "country": ValueType.STRING,
            "seenFor": ValueType.DURATION,
            "address": ValueType.IP_ADDRESS,
            "since": ValueType.TIMESTAMP,
        },
    )
    answer = {"country": "NO", "seen_for": Duration.parse("2s"), "address": b"\1\2\3\4"}
    seen = Seen(answer=answer)
    model = read_template(descriptor_of(template))
    remote = RemoteTemplate("geo.template.x", template.variety, EncodedInstance, (), model.outputs, "output", model)
    words = Vocabulary({"source.ip": ValueType.IP_ADDRESS, "source.country": ValueType.STRING})
    bindings = {"source.country": '$out.country | "?"'}
    made, faults = compile_encoded("i.instance.x", "i", remote, {"source_ip": "source.ip"}, bindings, words)
    assert made is not None, faults

    async with served(adapter(seen, (template,))) as server, calling(server.port, [made]) as handler:
        outputs = await handler.generate_attributes(built(made, source__ip=b"\0\0\0\1"))

    assert outputs == {"country": "NO", "seenFor": Duration.parse("2s"), "address": b"\1\2\3\4"}
    assert (seen.instances[0].name, seen.instances[0].source_ip, seen.instances[0].source_uid) == (
        "i.instance.x",
        b"\0\0\0\1",
        "",
    )


@pytest.mark.parametrize("outputs", [{"nowhere": "x"}, {"country": 5}], ids=["name", "type"])
async def test_outputs_that_the_template_lacks_are_a_fault_of_the_adapter(outputs: Any) -> None:
    template = template_of(own_descriptors())
    model = read_template(descriptor_of(template))
    remote = RemoteTemplate("geo.template.x", template.variety, EncodedInstance, (), model.outputs, "output", model)
    made, _ = compile_encoded("i.instance.x", "i", remote, {}, {}, Vocabulary({}))
    assert made is not None
    async with served(adapter(Seen(answer=outputs), (template,))) as server, calling(server.port, [made]) as handler:
        with pytest.raises(Exception, match="the adapter crashed"):
            await handler.generate_attributes(built(made))


def test_a_template_that_nobody_describes_cannot_be_served() -> None:
    stranger = Template("stranger", Variety.CHECK, object)

    with pytest.raises(UnknownTemplateError, match="'stranger' has no descriptor; make it with template_of"):
        AdapterServer(adapter(Seen(), (stranger,)))


async def test_health_is_served_without_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    security = ServerSecurity(token=token)
    async with (
        served(adapter(Seen()), security=security) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = channel.unary_unary("/checknothing.HandleCheckNothingService/HandleCheckNothing")
        for metadata in ((), (("authorization", "y"),), (("x-token", "x"),)):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call(b"", metadata=metadata)
            assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await call(b"", metadata=(("authorization", "Bearer x"),))


@pytest.mark.parametrize("request_", [b"\xff\xff", b"\x0a\x02\xff\xff"], ids=["request", "instance"])
async def test_requests_that_are_none_are_refused(request_: bytes) -> None:
    async with served(adapter(Seen())) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/checknothing.HandleCheckNothingService/HandleCheckNothing")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(request_)
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_calls_in_progress_finish_before_the_end() -> None:
    go = asyncio.Event()
    seen = Seen(answer=go.wait)
    made = instance("reportnothing", {})
    server = AdapterServer(adapter(seen))
    await server.start()
    async with calling(server.port, [made]) as handler:
        call = asyncio.ensure_future(handler.handle_report([built(made)]))
        for _ in range(200):
            if seen.batches:
                break
            await asyncio.sleep(0.005)
        stopping = asyncio.ensure_future(server.stop(5))
        await asyncio.sleep(0.02)
        assert not stopping.done()
        go.set()
        await call
        await stopping
        await server.stop()
    assert seen.closed == 1


async def test_a_port_that_is_taken_is_said() -> None:
    async with served(adapter(Seen())) as server:
        with pytest.raises(OSError, match="cannot listen on"):
            await AdapterServer(adapter(Seen()), f"127.0.0.1:{server.port}").start()


async def test_tasks_of_a_handler_end_with_it() -> None:
    ended = []

    async def make(params: Any, instances: Any, env: Any) -> Handler:
        async def work() -> None:
            try:
                await env.clock.sleep(60)
            finally:
                ended.append(True)

        env.spawn(work())
        return Handler()

    info = adapter(Seen(), (LISTENTRY,))
    spawning = AdapterInfo(info.name, info.templates, info.params, make)
    server = AdapterServer(spawning)
    await server.start()
    async with calling(server.port, [instance("listentry", {})], session_based=True):
        await asyncio.sleep(0)
    await server.stop()

    assert ended == [True]


def test_ready_made_templates_are_those_of_the_code(tmp_path: Path) -> None:
    """Google's own files in a descriptor differ between releases of protobuf; ours do not."""
    write_templates(tmp_path)
    committed = ROOT / "config" / "templates"

    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in committed.iterdir())
    for path in tmp_path.iterdir():
        texts = [yaml.safe_load((folder / path.name).read_text()) for folder in (tmp_path, committed)]
        ours = [
            {f.name: f for f in decode_descriptors(text["spec"].pop("descriptor")).file if "google/" not in f.name}
            for text in texts
        ]
        assert texts[0] == texts[1]
        assert ours[0] == ours[1], f"run python -m mixer.sdk {committed}"


def test_every_compiled_in_template_has_a_resource() -> None:
    assert [r["metadata"]["name"] for r in template_resources(TEMPLATES.values())] == list(TEMPLATES)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tls-key", __file__], "go together"),
        (["--tls-client-ca", __file__], "--tls-client-ca needs"),
        (["--token-file", "/nowhere"], "does not exist"),
        (["--tls-key", __file__, "--tls-certificate", __file__], "cannot start"),
    ],
    ids=["pair", "ca", "missing", "no-key"],
)
def test_misuse_of_the_command_is_explained(arguments: list[str], complaint: str) -> None:
    done = CliRunner().invoke(command(adapter(Seen())), ["--address", "127.0.0.1:0", *arguments])

    assert done.exit_code != 0
    assert complaint in done.output


def test_resources_are_printed() -> None:
    arguments = ["resources", "--namespace", "shop", "--no-session-based"]
    done = CliRunner().invoke(command(adapter(Seen(), (LISTENTRY,))), arguments)

    template, described = yaml.safe_load_all(done.output)
    assert (template["kind"], template["metadata"]) == ("template", {"name": "listentry", "namespace": "shop"})
    assert described["spec"]["templates"] == ["listentry.template.shop"]
    assert described["spec"]["session_based"] is False


async def test_a_handler_that_blocks_keeps_nobody_waiting_in_threads() -> None:
    gate, entered = threading.Barrier(3, timeout=5), []

    class Blocking(Handler):
        def handle_check(self, given: Any, /) -> CheckResult:
            entered.append(threading.current_thread().name)
            gate.wait()
            return CheckResult()

    async def make(params: Any, instances: Any, env: Any) -> Handler:
        return Blocking()

    info = AdapterInfo("blocking", (LISTENTRY,), adapter(Seen()).params, make)
    server = AdapterServer(info, threads=2)
    await server.start()
    made = instance("listentry", {})
    async with calling(server.port, [made]) as handler:
        calls = [asyncio.ensure_future(handler.handle_check(built(made))) for _ in range(2)]
        await asyncio.to_thread(gate.wait)
        await asyncio.gather(*calls)
    await server.stop()

    assert len(set(entered)) == 2


async def test_a_check_with_output_is_a_check() -> None:
    described = decode_descriptors(standard_descriptor("listentry"))
    file = next(f for f in described.file if f.package == "listentry")
    file.options.Extensions[extensions_pb2.template_variety] = 4
    file.message_type.add(name="OutputMsg").field.add(name="x", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    answer = file.message_type.add(name="Answer")
    for number, (name, kind) in enumerate(
        (("result", ".istio.mixer.adapter.model.v1beta1.CheckResult"), ("output", ".listentry.OutputMsg")), start=1
    ):
        answer.field.add(name=name, number=number, type=F.TYPE_MESSAGE, type_name=kind, label=F.LABEL_OPTIONAL)
    file.service[0].method[0].output_type = ".listentry.Answer"
    template = template_of(described.SerializeToString())
    model = read_template(descriptor_of(template))
    remote = RemoteTemplate("l.template.x", template.variety, EncodedInstance, (), {}, "output", model)
    made, _ = compile_encoded("i.instance.x", "i", remote, {"value": "'a'"}, {}, Vocabulary({}))
    assert made is not None
    denial = CheckResult(Status(Code.PERMISSION_DENIED, "no"), Duration(3), 4)

    async with (
        served(adapter(Seen(answer=denial), (template,))) as server,
        calling(server.port, [made]) as handler,
    ):
        assert await handler.handle_check(built(made)) == denial


async def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    made = instance("listentry", {})
    path = f"unix:{tmp_path}/a"
    async with served(adapter(Seen()), path), calling(0, [made], address=path) as handler:
        assert (await handler.handle_check(built(made))).status.ok


async def test_many_who_open_sessions_at_once_get_one_handler() -> None:
    builds = []

    async def make(params: Any, instances: Any, env: Any) -> Handler:
        builds.append(params)
        await asyncio.sleep(0.02)
        if len(builds) == 1:
            raise RuntimeError("not yet")
        return Handler()

    server = AdapterServer(AdapterInfo("slow", (LISTENTRY,), adapter(Seen()).params, make))
    await server.start()
    opened = [server.sessions.open(AnyMessage(), {}) for _ in range(5)]
    refused = await asyncio.gather(*opened, return_exceptions=True)
    names = await asyncio.gather(*(server.sessions.open(AnyMessage(), {}) for _ in range(5)))
    assert {str(refusal) for refusal in refused} == {"not yet"}
    assert len(set(names)) == 5
    assert len({id(server.sessions.of_session(name)) for name in names}) == 1
    assert len(builds) == 2
    await server.stop()


async def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    server = AdapterServer(adapter(Seen(), (LISTENTRY,)))
    await server.start()
    first, second, third = [await server.sessions.open(AnyMessage(), {}) for _ in range(3)]
    with pytest.raises(sessions.UnknownSessionError):
        server.sessions.of_session(first)
    assert server.sessions.of_session(second) is server.sessions.of_session(third)
    await server.stop()
