"""Values as JSON, and whole evaluations as JSON: one line of a batch in, one line out.

The form is part of the outward contract: times in RFC 3339, spans as Go prints them, addresses as text, the
doubles that JSON lacks as ``"NaN"``, ``"+Inf"`` and ``"-Inf"``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, Final

from mixer.attributes import (
    AttributeValue,
    Condition,
    Duration,
    MappingBag,
    Timestamp,
    TrackedMap,
    TrackingBag,
    ValueType,
    Vocabulary,
    stringify,
)
from mixer.attributes.values import format_double, parse_ip
from mixer.errors import EvalError, ExprError
from mixer.expr.program import compile_expr
from mixer.expr.regex import is_text, with_replacements
from mixer.expr.runtime import generic_text

_SPECIAL: Final = {"NaN": math.nan, "+Inf": math.inf, "Inf": math.inf, "Infinity": math.inf, "-Inf": -math.inf,
                   "-Infinity": -math.inf}  # fmt: skip
_TEXTS: Final = frozenset({ValueType.STRING, ValueType.URI, ValueType.DNS_NAME, ValueType.EMAIL_ADDRESS})


def type_from_json(name: object) -> ValueType:
    """The type of that name (``STRING``, ``INT64``...); anything else is a ValueError."""
    if isinstance(name, str) and name in ValueType.__members__:
        return ValueType[name]
    raise ValueError(f"{name!r} is not a type; expected one of {', '.join(ValueType.__members__)}")


def value_from_json(kind: ValueType, value: object) -> AttributeValue:
    """Read a value of a declared type.

    Raises:
        ValueError: The JSON is not a value of that type; the message says what was expected.
    """
    if kind in _TEXTS:
        if isinstance(value, str):
            return _clean(value)
    elif kind is ValueType.BOOL:
        if isinstance(value, bool):
            return value
    elif kind is ValueType.INT64:
        if isinstance(value, int) and not isinstance(value, bool):
            if -(1 << 63) <= value < 1 << 63:
                return value
            raise ValueError(f"{value} does not fit 64 bits")
    elif kind is ValueType.DOUBLE:
        if isinstance(value, str) and value in _SPECIAL:
            return _SPECIAL[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise ValueError("the number does not fit a double") from None
    elif kind is ValueType.STRING_MAP:
        if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
            return {_clean(k): _clean(v) for k, v in value.items()}
    elif isinstance(value, str):
        if kind is ValueType.TIMESTAMP:
            return Timestamp.parse(value)
        if kind is ValueType.DURATION:
            return Duration.parse(value)
        if kind is ValueType.IP_ADDRESS:
            return parse_ip(value)
    raise ValueError(f"{value!r} is not a value of type {kind.name}")


def value_to_json(kind: ValueType, value: AttributeValue) -> Any:
    """The JSON of a value; one whose class does not fit its declared type comes as its generic text."""
    if kind is ValueType.STRING_MAP and isinstance(value, Mapping):
        content = value.untracked() if isinstance(value, TrackedMap) else value
        return {_clean(k): _clean(v) for k, v in sorted(content.items())}
    if isinstance(value, bool):
        return value
    if isinstance(value, Duration | Timestamp):
        return str(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else format_double(value)
    if isinstance(value, bytes):
        return stringify(value)
    return _clean(value if isinstance(value, str) else generic_text(value))


def evaluate_case(request: Mapping[str, Any], default_vocab: Vocabulary | None = None) -> dict[str, Any]:
    """Evaluate one line of a batch, as a batch's answer.

    Args:
        request: ``id``, ``expr``, and optionally ``attrs`` and ``vocab``; whatever it holds, nothing is raised.
        default_vocab: What the lines before established. A line's own ``vocab`` adds to it and wins; where there
            is neither, the types that ``attrs`` gives are the vocabulary.

    Returns:
        ``id``, then ``compile_error``; or ``type``, ``value`` or ``error``, and ``referenced``. A request that is
        malformed itself has ``error`` only.
    """
    answer: dict[str, Any] = {"id": request.get("id")}
    try:
        values, declared = _attributes_from_json(request.get("attrs"))
        vocabulary = _vocabulary_of(request, default_vocab, declared)
        source = request.get("expr")
        if not isinstance(source, str):
            raise ValueError("'expr' must be a string")
    except ValueError as fault:
        return {**answer, "error": _clean(str(fault))}
    try:
        program = compile_expr(source, vocabulary)
    except ExprError as fault:
        return {**answer, "compile_error": _clean(fault.message)}
    answer["type"] = program.type.name
    bag = TrackingBag(MappingBag(values))
    try:
        answer["value"] = value_to_json(program.type, program.evaluate(bag))
    except EvalError as fault:
        answer["error"] = _clean(str(fault))
    answer["referenced"] = references_to_json(bag)
    return answer


def vocabulary_from_json(types: object) -> Vocabulary:
    """Read ``{"name": "TYPE", ...}``; a ValueError says what is wrong with it."""
    if not isinstance(types, dict):
        raise ValueError("'vocab' must be an object of attribute names and types")
    for kind in types.values():
        if not isinstance(kind, str):
            type_from_json(kind)
    return _vocabulary_of_items(tuple(types.items()))


@functools.lru_cache(maxsize=256)
def _vocabulary_of_items(items: tuple[tuple[str, str], ...]) -> Vocabulary:
    """The lines of a batch repeat a few vocabularies, and a fingerprint costs more than an evaluation."""
    return Vocabulary({name: type_from_json(kind) for name, kind in items})


def references_to_json(bag: TrackingBag) -> list[str]:
    """What a bag recorded, sorted: ``EXACT name``, ``ABSENCE map[key]``."""
    return sorted(
        _clean(f"{Condition(condition).name} {name}[{key}]" if key else f"{Condition(condition).name} {name}")
        for (name, key), condition in bag.referenced.items()
    )


def _attributes_from_json(attrs: object) -> tuple[dict[str, AttributeValue], dict[str, ValueType]]:
    if attrs is None:
        return {}, {}
    if not isinstance(attrs, dict):
        raise ValueError("'attrs' must be an object of attribute names and values")
    values: dict[str, AttributeValue] = {}
    types: dict[str, ValueType] = {}
    for name, given in attrs.items():
        if not isinstance(given, dict) or "type" not in given or "value" not in given:
            raise ValueError(f"attribute {name}: expected an object with 'type' and 'value'")
        try:
            types[name] = type_from_json(given["type"])
            values[name] = value_from_json(types[name], given["value"])
        except ValueError as fault:
            raise ValueError(f"attribute {name}: {fault}") from fault
    return values, types


def _vocabulary_of(
    request: Mapping[str, Any], default: Vocabulary | None, declared: Mapping[str, ValueType]
) -> Vocabulary:
    own = request.get("vocab")
    if own is None:
        return Vocabulary(declared) if default is None else default
    given = vocabulary_from_json(own)
    return given if default is None else default.extended(given)


def _clean(text: str) -> str:
    """The text as JSON can hold it: bytes that are not UTF-8 replaced."""
    return text if is_text(text) else with_replacements(text)
