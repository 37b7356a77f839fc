"""The gRPC side of the API: client stub and servicer of ``istio.mixer.v1.Mixer``."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from mixer.api.gen.mixer.v1.mixer_pb2_grpc import MixerServicer, MixerStub, add_MixerServicer_to_server


def awaitable(call: object) -> Awaitable[Any]:
    """A call of the stub as it is: generated code is typed for blocking channels, over an aio channel one awaits it."""
    return cast(Awaitable[Any], call)


__all__ = ["MixerServicer", "MixerStub", "add_MixerServicer_to_server", "awaitable"]
