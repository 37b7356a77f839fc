"""The generated stubs: up to date, and the same to the outside as Istio's."""

from __future__ import annotations

import importlib
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from mixer.api import messages
from mixer.api.generate import GEN_DIR, PROTO_DIR, generate

SOURCES = [path.relative_to(PROTO_DIR).as_posix() for path in PROTO_DIR.rglob("*.proto")]
for source in SOURCES:
    importlib.import_module("mixer.api.gen." + source.removesuffix(".proto").replace("/", ".") + "_pb2")


def files_of(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text("utf-8")
        for path in root.rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("protoc-gen-mypy", path=sysconfig.get_path("scripts")) or shutil.which("protoc-gen-mypy")),
    reason="needs mypy-protobuf",
)
def test_committed_stubs_are_those_of_the_sources(tmp_path: Path) -> None:
    """When this fails, run ``python -m mixer.api.generate`` and commit the result."""
    pytest.importorskip("grpc_tools")

    generate(tmp_path)

    assert files_of(tmp_path) == files_of(GEN_DIR)


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("istio.mixer.v1.Mixer", "mixer/v1/mixer.proto"),
        ("istio.mixer.v1.CompressedAttributes", "mixer/v1/attributes.proto"),
        ("istio.policy.v1beta1.ValueType", "policy/v1beta1/value_type.proto"),
        ("istio.policy.v1beta1.DirectHttpResponse", "policy/v1beta1/http_response.proto"),
        ("istio.policy.v1beta1.Value", "policy/v1beta1/type.proto"),
        (
            "istio.mixer.adapter.model.v1beta1.InfrastructureBackend",
            "mixer/adapter/model/v1beta1/infrastructure_backend.proto",
        ),
        ("metric.HandleMetricService", "mixer/template/metric/template_handler_service.proto"),
        ("google.rpc.Status", "google/rpc/status.proto"),
    ],
)
def test_reflection_finds_symbols_in_files_of_the_original_names(symbol: str, file: str) -> None:
    assert messages.CheckRequest.DESCRIPTOR.file.name == "mixer/v1/mixer.proto"
    assert descriptor_pool.Default().FindFileContainingSymbol(symbol).name == file


def test_every_source_is_registered_under_its_path() -> None:
    assert len(SOURCES) == 21
    for source in SOURCES:
        assert descriptor_pool.Default().FindFileByName(source).name == source


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (messages.CheckRequest, "attributes=1 global_word_count=2 deduplication_id=3 quotas=4"),
        (messages.QuotaParams, "amount=1 best_effort=2"),
        (messages.CheckResponse, "precondition=2 quotas=3"),
        (
            messages.PreconditionResult,
            "status=1 valid_duration=2 valid_use_count=3 referenced_attributes=5 route_directive=6",
        ),
        (messages.QuotaResult, "valid_duration=1 granted_amount=2 referenced_attributes=5 status=6"),
        (messages.ReferencedAttributes, "words=1 attribute_matches=2"),
        (messages.AttributeMatch, "name=1 condition=2 regex=3 map_key=4"),
        (messages.HeaderOperation, "name=1 value=2 operation=3"),
        (
            messages.RouteDirective,
            "request_header_operations=1 response_header_operations=2 direct_response_code=3 direct_response_body=4",
        ),
        (messages.ReportRequest, "attributes=1 default_words=2 global_word_count=3 repeated_attributes_semantics=4"),
        (messages.ReportResponse, ""),
        (
            messages.CompressedAttributes,
            "words=1 strings=2 int64s=3 doubles=4 bools=5 timestamps=6 durations=7 bytes=8 string_maps=9",
        ),
        (messages.StringMap, "entries=1"),
        (messages.DirectHttpResponse, "code=1 body=2 headers=3"),
    ],
    ids=lambda value: value.DESCRIPTOR.name if hasattr(value, "DESCRIPTOR") else "",
)
def test_fields_have_the_numbers_of_the_original(message: type, fields: str) -> None:
    found = message.DESCRIPTOR.fields  # type: ignore[attr-defined]
    assert " ".join(f"{f.name}={f.number}" for f in found if f.number < EXTENSIONS) == fields


EXTENSIONS = 15
"""From this number on, fields are not the original's."""


def test_fields_beyond_the_original_are_known() -> None:
    file = messages.CheckRequest.DESCRIPTOR.file
    every = [*file.message_types_by_name.values()]
    every += [nested for message in every for nested in message.nested_types]

    assert {f"{m.name}.{f.name}" for m in every for f in m.fields if f.number >= EXTENSIONS} == {
        "CheckRequest.quotas_only",
        "QuotaResult.level",
        "ReportRequest.deduplication_id",
    }


def test_indices_are_zigzag_encoded() -> None:
    assert messages.CompressedAttributes(strings={-1: -2}).SerializeToString() == bytes.fromhex("120408011003")


def test_service_has_the_two_calls() -> None:
    service = messages.CheckRequest.DESCRIPTOR.file.services_by_name["Mixer"]

    assert messages.SERVICE_NAME == service.full_name == "istio.mixer.v1.Mixer"
    assert [method.name for method in service.methods] == ["Check", "Report"]


def test_stubs_do_not_touch_top_level_names() -> None:
    assert messages.CheckRequest.__module__ == "mixer.api.gen.mixer.v1.mixer_pb2"
    assert "policy" not in sys.modules
    assert "mixer.v1" not in sys.modules


def test_value_types_are_those_of_the_attribute_layer() -> None:
    from mixer.attributes import ValueType

    assert {kind.name: kind.value for kind in ValueType} == dict(messages.WireValueType.items())
