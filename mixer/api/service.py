"""The gRPC side of the API: client stub and servicer of ``istio.mixer.v1.Mixer``."""

from __future__ import annotations

from mixer.api.gen.mixer.v1.mixer_pb2_grpc import MixerServicer, MixerStub, add_MixerServicer_to_server

__all__ = ["MixerServicer", "MixerStub", "add_MixerServicer_to_server"]
