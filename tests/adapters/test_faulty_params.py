"""Any value in any field of any adapter's params is taken or is a fault of that field, and never an exception."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from mixer.adapters.loading import load_adapters
from mixer.store.protojson import decode

ADAPTERS = load_adapters()
ABSURD: tuple[Any, ...] = (
    None, True, 0, -1, 3.5, 1 << 200, -(1 << 200), float("nan"), float("inf"), "", " ", "\0", "\ud800", "x" * 100_000,
    "0s", "-1s", "1e400s", "999999999999999h", "1.5", "://", "http://[", "(", "*", "[[[]]]", "127.0.0.1:99999", "{{.x",
    [], [[]], [None], [{}], [True], ["", ""], {}, {"": ""}, {"a": None}, {"a": {"b": []}}, {1: 2},
)  # fmt: skip
Path = tuple[str | int, ...]


def models(annotation: Any) -> Iterator[tuple[Path, type[BaseModel]]]:
    """The messages in a field, with where they stand in its value."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield (), annotation
    elif origin in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        for argument in arguments:
            yield from models(argument)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        for path, model in models(arguments[1]):
            yield ("key", *path), model
    elif origin in (list, tuple, frozenset, set):
        for path, model in models(arguments[0]):
            yield (0, *path), model


def fields(model: type[BaseModel], above: Path = (), depth: int = 4) -> Iterator[Path]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        for path, inner in models(field.annotation) if depth else ():
            yield from fields(inner, (*above, name, *path), depth - 1)


def nested(path: Path, value: Any) -> Any:
    for step in reversed(path):
        value = [value] if step == 0 else {step: value}
    return value


def plain(path: Path) -> tuple[str, ...]:
    return tuple(str(step).replace("_", "").lower() for step in path)


CASES = [(adapter, path) for adapter in sorted(ADAPTERS) for path in fields(ADAPTERS[adapter].params)]


@pytest.mark.parametrize(
    ("adapter", "path"), CASES, ids=[f"{adapter}-{'.'.join(map(str, path))}" for adapter, path in CASES]
)
def test_absurd_value_is_a_fault_of_its_field_and_no_crash(adapter: str, path: Path) -> None:
    info = ADAPTERS[adapter]
    named = []
    for value in ABSURD:
        params, faults = decode(info.params, nested(path, value))
        if params is not None:
            faults = list(info.validate(params, ()))
        named += [fault for fault in faults if plain(fault.path)[: len(path)] == plain(path)]
        assert all(fault.message for fault in faults)

    assert named, "no value at all is a fault of this field"


ADDRESSES = [(adapter, path) for adapter, path in CASES if re.search("url|address|endpoint|server", str(path[-1]))]


@pytest.mark.parametrize(
    ("adapter", "path"), ADDRESSES, ids=[f"{adapter}-{'.'.join(map(str, path))}" for adapter, path in ADDRESSES]
)
def test_credentials_in_an_address_are_never_repeated(adapter: str, path: Path) -> None:
    info = ADAPTERS[adapter]
    for value in ("x://u:hunter2@h:1/p", "http://u:hunter2@[h", "u:hunter2@h:1", "hunter2@:/:1", "http//u:hunter2@h"):
        for given in (value, [value], {"hunter2": value}):
            params, faults = decode(info.params, nested(path, given))
            if params is not None:
                faults = list(info.validate(params, ()))
            assert not any("hunter2" in f"{fault.message}{fault.expected}" for fault in faults), value
