"""Errors -> status codes of the API: one table, which every error class of Mixer's must be found in.

Source: spec runtime 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mixer.adapters.loading import AdapterLoadError
from mixer.api.codes import Code
from mixer.api.rpc import ServiceError
from mixer.errors import (
    AdapterError,
    BackendUnavailableError,
    CertificateError,
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
        CertificateError: Code.INTERNAL,
        EvalError: Code.INTERNAL,
        MixerCallError: Code.UNAVAILABLE,
        ExprError: Code.INTERNAL,
        StoreError: Code.INTERNAL,
        StoreUnavailableError: Code.UNAVAILABLE,
    }
)


def code_of(kind: type[MixerError]) -> Code | None:
    """The code for an error class, by the nearest class of the table above it; None when there is none."""
    return next((CODES[base] for base in kind.__mro__ if base in CODES), None)


def service_error(exc: MixerError) -> ServiceError:
    """The answer for an error of Mixer's."""
    return ServiceError(code_of(type(exc)) or Code.UNKNOWN, str(exc))
