"""Errors -> status codes of the API: one table, which every error class of Mixer's must be found in.

Source: spec runtime 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mixer.adapters.base import Code
from mixer.adapters.loading import AdapterLoadError
from mixer.errors import (
    AdapterError,
    BackendUnavailableError,
    EvalError,
    ExprError,
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
        ExprError: Code.INTERNAL,
        StoreError: Code.INTERNAL,
        StoreUnavailableError: Code.UNAVAILABLE,
    }
)


class ServiceError(Exception):
    """An answer that is not one: what the transport tells its caller instead."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def code_of(kind: type[MixerError]) -> Code | None:
    """The code for an error class, by the nearest class of the table above it; None when there is none."""
    return next((CODES[base] for base in kind.__mro__ if base in CODES), None)


def service_error(exc: MixerError) -> ServiceError:
    """The answer for an error of Mixer's."""
    return ServiceError(code_of(type(exc)) or Code.UNKNOWN, str(exc))
