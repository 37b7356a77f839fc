"""What an operator writes to configure the otlp adapter, and what can be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import Field
from yarl import URL

from mixer.adapters.base import InstanceInfo
from mixer.adapters.spans.params import Sampling, SpanParams, common_faults, is_web_address
from mixer.store.problem import FieldError
from mixer.store.protojson import Double, ProtoEnum, enum_field

BATCH: Final = 256
_DEFAULT_ENDPOINTS: Final = ("localhost:4317", "http://localhost:4318")
_TRACES_PATH: Final = "/v1/traces"
_HOST_PORT: Final = re.compile(r"[^/?#@\s]+")


class Protocol(ProtoEnum):
    """How OTLP travels."""

    GRPC = 0
    HTTP = 1


class Compression(ProtoEnum):
    """What is done to a batch before it is sent."""

    NONE = 0
    GZIP = 1


class OtlpParams(SpanParams):
    """Params of the otlp adapter."""

    protocol: enum_field(Protocol) = Protocol.GRPC  # type: ignore[valid-type]
    """GRPC (the default), or HTTP, with protobuf as the body."""

    endpoint: str = ""
    """Where the receiver listens; empty, the default: ``localhost:4317``, or ``http://localhost:4318`` for HTTP.

    GRPC: ``host:port``, or a URL whose scheme says whether TLS is spoken (``https``) or not (``http``, as without a
    scheme). HTTP: a URL; one without a path gets ``/v1/traces``.
    """

    ca_certificates: str = ""
    """A PEM file of the authorities to trust with TLS; empty, the default: the usual ones. Read when the handler starts."""

    compression: enum_field(Compression) = Compression.NONE  # type: ignore[valid-type]
    """NONE (the default) or GZIP."""

    sample_probability: Double = 1.0
    """Which share of traces is exported, 0 to 1; default 1. The id of a trace decides, so its spans stay together."""

    sampling: enum_field(Sampling) = Sampling.INCOMING  # type: ignore[valid-type]
    """INCOMING (the default): the decision that came with the request is followed. PROBABILITY: it is ignored.

    That decision is part of a whole header (``traceparent`` or ``b3``) in the instance's ``traceId``; where there is
    none, ``sampleProbability`` decides all the same.
    """

    resource_attributes: dict[str, str] = Field(default_factory=dict)
    """Attributes of every resource besides ``service.name``, such as ``deployment.environment.name``."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint, taken apart; ``address`` is host and port for gRPC, a URL for HTTP."""

    address: str
    is_secure: bool


def target(params: OtlpParams) -> Target:
    """Where to send.

    Raises:
        ValueError: The endpoint is none.
    """
    endpoint = params.endpoint or _DEFAULT_ENDPOINTS[params.protocol]
    if params.protocol is Protocol.HTTP:
        if not is_web_address(endpoint):
            raise ValueError("not a URL to post to")
        url = URL(endpoint)
        return Target(str(url.with_path(_TRACES_PATH) if url.path == "/" else url), url.scheme == "https")
    scheme, has_scheme, rest = endpoint.rpartition("://")
    if has_scheme and scheme not in ("http", "https"):
        raise ValueError(f"unknown scheme {scheme!r}")
    address = rest.removesuffix("/")
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) <= 65_535 and _HOST_PORT.fullmatch(host)):
        raise ValueError("not a host and a port")
    return Target(address, scheme == "https")


def validate(params: OtlpParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    form = "http:// or https://, then a host" if params.protocol is Protocol.HTTP else "host:port"
    try:
        where = target(params)
    except ValueError as exc:
        yield FieldError(("endpoint",), str(exc), form)
    else:
        if params.ca_certificates and not where.is_secure:
            yield FieldError(("caCertificates",), "the endpoint does not speak TLS", "an https:// endpoint")
    if "\0" in params.ca_certificates:
        yield FieldError(("caCertificates",), "a path has no NUL")
    if params.protocol is Protocol.GRPC:
        for name in params.headers:
            if name.lower().startswith("grpc-") or name.lower().endswith("-bin"):
                yield FieldError(("headers", name), "gRPC keeps this name for itself")
    yield from common_faults(params)
