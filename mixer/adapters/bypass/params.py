"""The params of bypass and their faults. Source: spec adapters 4.15."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage

from mixer.adapters.base import InstanceInfo, Params
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField


class BypassParams(Params):
    """Params of the bypass adapter."""

    backend_address: str = ""
    """Where the backend listens, as ``host:port``; required. The connection is not encrypted."""

    params: dict[str, Any] | None = None
    """The backend's own params: a message in JSON with its type under ``@type``; none by default.

    A message type that Mixer does not know is given by its bytes: base64 under ``value``.
    """

    session_based: bool = False
    """Whether the backend gets its params once, for a session (true), or with each call (false, the default)."""

    call_timeout: DurationField = Duration.parse("5s")
    """Limit for one call to the backend; positive, default 5s. Istio's adapter has none."""

    def backend_params(self) -> AnyMessage | None:
        """The backend's params as a message.

        Raises:
            ValueError: They are no message of the type that they name.
        """
        if self.params is None:
            return None
        try:
            return json_format.ParseDict(self.params, AnyMessage())
        except (json_format.ParseError, TypeError, AttributeError) as exc:
            # Not a type of ours: then there is a URL and bytes, or a mistake.
            if set(self.params) != {"@type", "value"} or not isinstance(self.params["@type"], str):
                raise ValueError(str(exc) or type(exc).__name__) from exc
            return AnyMessage(type_url=self.params["@type"], value=_base64(self.params["value"]))


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("value is not base64")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("value is not base64") from None


def validate(params: BypassParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault that shows without asking the backend."""
    if not params.backend_address:
        yield FieldError(("backendAddress",), "must not be empty", "host:port")
    if params.call_timeout <= 0:
        yield FieldError(("callTimeout",), "must be positive")
    try:
        params.backend_params()
    except ValueError as exc:
        expected = 'a message with "@type", or "@type" and its bytes as base64 under "value"'
        yield FieldError(("params",), str(exc), expected)
