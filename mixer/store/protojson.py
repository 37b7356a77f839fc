"""Specs and params as strict models that decode by protobuf's JSON rules.

Both spellings of a field are accepted (``instanceName`` wins over ``instance_name``), unknown fields are
errors, null is unset, maps and lists replace defaults whole, nested models merge over theirs.
Source: spec runtime 1.2, spec adapters 1.2.
"""

from __future__ import annotations

import difflib
import enum
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mixer.attributes.values import Duration
from mixer.store.problem import FieldError
from mixer.store.resource import to_camel, to_snake


class ProtoModel(BaseModel):
    """Base of every spec and params model: strict, frozen, both spellings of field names.

    Fields are declared in snake case; a field whose protobuf name is itself in camel case is declared
    in snake case all the same and accepts both.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        alias_generator=to_camel,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, data: Any) -> Any:
        if isinstance(data, BaseModel):
            return data
        if not isinstance(data, Mapping):
            raise bad_value(f"{describe(data)} cannot be read here", "a mapping")
        known = {field.alias or name: name for name, field in cls.model_fields.items()}
        spec: dict[str, Any] = {}
        for key, value in data.items():
            alias = key if key in known else to_camel(str(key))
            if value is None or (alias != key and alias in data and alias in known):
                continue
            if isinstance(value, list) and alias in known and _is_tuple(cls.model_fields[known[alias]].annotation):
                value = tuple(value)  # strict mode takes no list for a tuple
            spec[alias if alias in known else key] = value
        return spec


def _is_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(get_origin(arg) is tuple for arg in get_args(annotation))


Model = TypeVar("Model", bound=ProtoModel)


def decode(model: type[Model], data: object) -> tuple[Model | None, list[FieldError]]:
    """Decode plain data (as YAML or JSON give it); every fault is reported, not only the first.

    Returns:
        The model and no faults, or None and at least one.
    """
    try:
        return model.model_validate({} if data is None else data), []
    except ValidationError as exc:
        return None, [_field_error(model, error) for error in exc.errors(include_url=False)]


def describe(value: object) -> str:
    """A value's kind in the words of YAML; never the value of a long or secret text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


_EXPECTED: Mapping[str, str] = {
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
}


_LOC_MARK: Final = re.compile(r"function-(?:before|after|wrap|plain)\[.*\]|\[key\]")
"""What pydantic adds to a path for its own purposes."""


def _expected(kind: str, value: object) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "a string (quote it)"
    if kind == "bool_type" and isinstance(value, str):
        return "true or false, without quotes"
    return _EXPECTED[kind]


def _field_error(model: type[BaseModel], error: Any) -> FieldError:
    path = tuple(part for part in error["loc"] if not (isinstance(part, str) and _LOC_MARK.fullmatch(part)))
    kind = error["type"]
    if kind == "extra_forbidden":
        owner = _model_at(model, path[:-1])
        name = str(path[-1])
        known = sorted({field.alias or n for n, field in owner.model_fields.items()} if owner else ())
        close = difflib.get_close_matches(to_camel(name), known, n=1)
        expected = f"{close[0]}" if close else f"one of {', '.join(known)}" if known else "no fields here"
        return FieldError(path, f'unknown field "{name}" in {owner.__name__ if owner else model.__name__}', expected)
    if kind == "missing":
        return FieldError(path, "required field is missing")
    if kind in _EXPECTED:
        return FieldError(path, f"{describe(error['input'])} cannot be read here", _expected(kind, error["input"]))
    ctx = error.get("ctx", {})
    if kind == "value_error":
        return FieldError(path, str(ctx.get("error", error["msg"])))
    return FieldError(path, error["msg"], str(ctx.get("expected", "")) if kind == "proto_value" else "")


def _model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model class that the data at ``path`` is decoded onto."""
    current: type[BaseModel] = model
    is_key = False
    for part in path:
        if isinstance(part, int) or is_key:
            is_key = False  # list positions and map keys do not change the class
            continue
        field = next((f for n, f in current.model_fields.items() if part in (f.alias, n)), None)
        inner = None if field is None else _model_in(field.annotation)
        if field is None or inner is None:
            return None
        current, is_key = inner, get_origin(field.annotation) in (dict, Mapping)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for arg in getattr(annotation, "__args__", ()):
        found = _model_in(arg)
        if found is not None:
            return found
    return None


_SHOWN: Final = 40
"""Characters of a faulty value that a message repeats."""


def bad_value(message: str, expected: str) -> PydanticCustomError:
    """The error for a field validator to raise: what is wrong, and what was expected."""
    message = message.encode("utf-8", "backslashreplace").decode()  # pydantic takes no half of a surrogate pair
    return PydanticCustomError("proto_value", "{message}", {"message": message, "expected": expected})


def _duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, str):
        try:
            return Duration.parse(value)
        except ValueError as exc:
            message = str(exc) if len(value) <= _SHOWN else f"invalid duration {_quoted(value)}"
            raise bad_value(message, 'a duration such as "1m30s", "300ms" or "0"') from None
    raise bad_value(f"{describe(value)} is not a duration", 'a quoted duration such as "1m30s", "300ms" or "0"')


_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]+", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NAMED_NUMBERS: Final = frozenset(("Infinity", "-Infinity", "NaN"))


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        number = value
        if isinstance(value, str):
            if _WHOLE_NUMBER.fullmatch(value) is None:
                raise bad_value(f"{_quoted(value)} is not a whole number", "a whole number")
            number = int(value) if len(value) <= 30 else high + 1
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int):
            raise bad_value(f"{describe(value)} is not a whole number", "a whole number")
        if not low <= number <= high:
            raise bad_value(f"{_brief(str(value))} is out of range", f"{low} to {high}")
        return number

    return parse


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise bad_value(f"{describe(value)} is not a number", "a number")
    if isinstance(value, str) and value not in _NAMED_NUMBERS and _NUMBER.fullmatch(value) is None:
        raise bad_value(f"{_quoted(value)} is not a number", "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number) and not (isinstance(value, float) or value in _NAMED_NUMBERS):
        raise bad_value(f"{_brief(str(value))} is out of range", "a number that fits 64 bits")
    return number


def _brief(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _quoted(text: str) -> str:
    return repr(_brief(text))


DurationField = Annotated[Duration, BeforeValidator(_duration)]
"""A quoted text in Go's duration grammar; a bare number is an error."""
Int32 = Annotated[int, BeforeValidator(_integer(-(1 << 31), (1 << 31) - 1))]
Int64 = Annotated[int, BeforeValidator(_integer(-(1 << 63), (1 << 63) - 1))]
Uint32 = Annotated[int, BeforeValidator(_integer(0, (1 << 32) - 1))]
Double = Annotated[float, BeforeValidator(_double)]


class ProtoEnum(enum.IntEnum):
    """Base of enums in specs: the exact name or the number. Use ``enum_field(Kind)`` as the annotation."""


E = TypeVar("E", bound=ProtoEnum)


def enum_field(kind: type[E]) -> Any:
    """The annotation for a field of a protobuf enum: its exact value name, or its number."""

    def parse(value: Any) -> E:
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        if isinstance(value, int) and not isinstance(value, bool) and value in kind._value2member_map_:
            return kind(value)
        shown = f'"{_brief(value)}"' if isinstance(value, str) else describe(value)
        raise bad_value(f"unknown value {shown} for enum {kind.__name__}", f"one of {', '.join(kind.__members__)}")

    return Annotated[kind, BeforeValidator(parse)]


__all__ = [
    "Double",
    "DurationField",
    "Int32",
    "Int64",
    "ProtoEnum",
    "ProtoModel",
    "Uint32",
    "bad_value",
    "decode",
    "describe",
    "enum_field",
    "to_camel",
    "to_snake",
]
