"""Our stubs: made from our sources, and on the wire the same as Envoy's."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.envoy.gen import accesslog_pb2, auth_pb2, core_pb2, ratelimit_pb2
from proxy.envoy.generate import GEN_DIR, generate

ENVOY: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("envoy_fields.json").read_text("utf-8"))
OPEN_ENUMS = {("mixer.envoy.auth.v3.HttpStatus", "code")}
"""Fields that are enumerations with Envoy and numbers with us, which on the wire is the same."""


def messages(file: Any) -> Iterator[Any]:
    waiting = list(file.DESCRIPTOR.message_types_by_name.values())
    for message in waiting:
        if not message.GetOptions().map_entry:
            yield message
        waiting += message.nested_types


MESSAGES = [message for file in (accesslog_pb2, auth_pb2, core_pb2, ratelimit_pb2) for message in messages(file)]


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("protoc-gen-mypy", path=sysconfig.get_path("scripts")) or shutil.which("protoc-gen-mypy")),
    reason="needs mypy-protobuf",
)
def test_committed_stubs_are_those_of_the_sources(tmp_path: Path) -> None:
    """When this fails, run ``python -m proxy.envoy.generate`` and commit the result."""
    pytest.importorskip("grpc_tools")
    generate(tmp_path)
    made = tmp_path / "proxy/envoy/gen"

    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in GEN_DIR.iterdir() if path.suffix in (".py", ".pyi"))
    assert [name for name in names if (made / name).read_text() != (GEN_DIR / name).read_text()] == []


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.full_name)
def test_fields_have_the_numbers_and_types_of_envoys(message: Any) -> None:
    if message.full_name == "mixer.envoy.accesslog.v3.StreamAccessLogsResponse":
        assert not message.fields
        return
    theirs = ENVOY[message.full_name]

    for field in message.fields:
        name, text, repeated, enum = theirs[str(field.number)]
        kind = field.message_type or field.enum_type
        assert (field.name, field.is_repeated) == (name, repeated)
        if (message.full_name, field.name) in OPEN_ENUMS:
            assert enum
        elif kind is None:
            assert str(field.type) == text
        else:
            assert kind.full_name == text
        if field.enum_type is not None:
            ours = {value.name: value.number for value in field.enum_type.values}
            assert ours.items() <= ENVOY[field.enum_type.full_name].items()
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
            entry = ENVOY[field.message_type.full_name]
            assert str(key.type) == entry["1"][1]
            assert (value.message_type.full_name if value.message_type else str(value.type)) == entry["2"][1]


def test_names_do_not_collide_with_envoys() -> None:
    assert {message.full_name.split(".v3.")[0].rsplit(".", 1)[0] for message in MESSAGES} == {"mixer.envoy"}
