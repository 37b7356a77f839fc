"""Errors -> status codes of the API: one table, which every error class of Mixer's must be found in.

Source: spec runtime 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from mixer.adapters.base import Code
from mixer.adapters.loading import AdapterLoadError
from mixer.errors import (
    AdapterError,
    BackendUnavailableError,
    EvalError,
    ExprError,
    MixerCallError,
    MixerError,
    StoreError,
    StoreUnavailableError,
    WireError,
)
from mixer.runtime.results import DispatchError, ReportError

CODES: Mapping[type[MixerError], Code] = MappingProxyType(
    {
        WireError: Code.INVALID_ARGUMENT,
        DispatchError: Code.INTERNAL,
        ReportError: Code.UNKNOWN,
        AdapterError: Code.INTERNAL,
        BackendUnavailableError: Code.UNAVAILABLE,
        AdapterLoadError: Code.INTERNAL,
        EvalError: Code.INTERNAL,
        MixerCallError: Code.UNAVAILABLE,
        ExprError: Code.INTERNAL,
        StoreError: Code.INTERNAL,
        StoreUnavailableError: Code.UNAVAILABLE,
    }
)


_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

MESSAGE_BYTES: Final = 6_000
"""Of an error's message on the wire: gRPC clients drop a call whose headers are beyond 8 KiB, message and all."""


class ServiceError(Exception):
    """An answer that is not one: what the transport tells its caller instead."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, _shortened(message)


def _shortened(message: str) -> str:
    """The beginning of a message that is too long once it is percent-encoded, as it travels."""
    whole = len(message)
    if whole <= MESSAGE_BYTES // 12:  # four bytes a character, three letters a byte
        return message
    while (size := len(quote(message.encode("utf-8", "replace"), safe=_PRINTABLE))) > MESSAGE_BYTES:
        message = message[: len(message) * MESSAGE_BYTES // size - 1]
    return message if len(message) == whole else f"{message} ... ({whole - len(message)} more characters)"


def code_of(kind: type[MixerError]) -> Code | None:
    """The code for an error class, by the nearest class of the table above it; None when there is none."""
    return next((CODES[base] for base in kind.__mro__ if base in CODES), None)


def service_error(exc: MixerError) -> ServiceError:
    """The answer for an error of Mixer's."""
    return ServiceError(code_of(type(exc)) or Code.UNKNOWN, str(exc))
