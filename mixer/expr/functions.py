"""The one table of functions, methods and operators: what each takes and gives.

To add a function: a row here, its meaning in ``runtime.py`` (or, when it needs more than its argument values,
in ``codegen.py``), and cases in the expression corpus.

Source: spec language 3.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from mixer.attributes import ValueType


class Generic(enum.Enum):
    """The type that the first generic argument has, and that all further ones must have."""

    T = "T"


class Mode(enum.Enum):
    """What a function does on the left of ``|``."""

    DIRECT = "direct"
    """It can be absent, so that the next alternative is taken."""

    CALL = "call"
    """It is always present; what its arguments lack is an error."""


Parameter: TypeAlias = ValueType | Generic


@dataclass(frozen=True, slots=True)
class Function:
    """A signature; a method has a ``receiver`` type. The count of arguments is always exact."""

    name: str
    params: tuple[Parameter, ...]
    returns: Parameter
    receiver: ValueType | None = None
    mode: Mode = Mode.CALL


def _table() -> Mapping[str, Function]:
    t, v = Generic.T, ValueType
    rows = [
        *(Function(name, (t, t), v.BOOL) for name in ("EQ", "NEQ", "LT", "LEQ", "GT", "GEQ")),
        Function("LAND", (v.BOOL, v.BOOL), v.BOOL),
        Function("LOR", (v.BOOL, v.BOOL), v.BOOL),
        Function("OR", (t, t), t, mode=Mode.DIRECT),
        Function("INDEX", (v.STRING_MAP, v.STRING), v.STRING, mode=Mode.DIRECT),
        Function("ADD", (t, t), t),
        Function("size", (v.STRING,), v.INT64),
        Function("conditional", (v.BOOL, t, t), t),
        Function("conditionalString", (v.BOOL, v.STRING, v.STRING), v.STRING),
        Function("match", (v.STRING, v.STRING), v.BOOL),
        Function("matches", (v.STRING,), v.BOOL, receiver=v.STRING),
        Function("startsWith", (v.STRING,), v.BOOL, receiver=v.STRING),
        Function("endsWith", (v.STRING,), v.BOOL, receiver=v.STRING),
        Function("toLower", (v.STRING,), v.STRING),
        Function("ip", (v.STRING,), v.IP_ADDRESS),
        Function("timestamp", (v.STRING,), v.TIMESTAMP),
        Function("dnsName", (v.STRING,), v.DNS_NAME),
        Function("email", (v.STRING,), v.EMAIL_ADDRESS),
        Function("uri", (v.STRING,), v.URI),
        Function("emptyStringMap", (), v.STRING_MAP),
    ]
    return MappingProxyType({row.name: row for row in rows})


FUNCTIONS: Final = _table()

ORDERING: Final = {"LT": "<", "LEQ": "<=", "GT": ">", "GEQ": ">="}
"""The comparisons that need an order, with the sign that Python shares."""
