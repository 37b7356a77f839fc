"""Calls without a transport: paths, and for each what takes bytes and gives bytes or a `ServiceError`.

Services are written against this, transports carry it, and neither knows the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias
from urllib.parse import quote

from mixer.api.codes import Code

_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

MESSAGE_BYTES: Final = 6_000
"""Of an error's message on the wire: gRPC clients drop a call whose headers are beyond 8 KiB, message and all."""


class ServiceError(Exception):
    """An answer that is not one: what the transport tells its caller instead."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, _shortened(message)


class CallHead(Protocol):
    """What comes with a call besides its messages."""

    def header(self, name: str, /) -> str:
        """A header of the call by its lower case name, the last of several; empty when there is none."""
        ...


class NoHead:
    """The head of a call that has none."""

    def header(self, name: str, /) -> str:
        """Nothing."""
        return ""


NO_HEAD: Final[CallHead] = NoHead()

Unary: TypeAlias = Callable[[bytes, CallHead], Awaitable[bytes]]
"""One serialized request to one serialized answer; raises `ServiceError`."""

Stream: TypeAlias = Callable[[AsyncIterator[bytes], CallHead], AsyncGenerator[bytes, None]]
"""Serialized requests as they come to serialized answers as they arise; raises `ServiceError`."""


@dataclass(frozen=True, slots=True)
class Methods:
    """Methods by path, such as ``/istio.mixer.v1.Mixer/Check``."""

    unary: Mapping[str, Unary] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)

    def __or__(self, other: Methods) -> Methods:
        """The methods of both; of two under one path, the other's."""
        return Methods({**self.unary, **other.unary}, {**self.streams, **other.streams})

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services that the paths belong to, sorted."""
        return tuple(sorted({path.split("/")[1] for path in (*self.unary, *self.streams)}))


def _shortened(message: str) -> str:
    """The beginning of a message that is too long once it is percent-encoded, as it travels."""
    whole = len(message)
    if whole <= MESSAGE_BYTES // 12:  # four bytes a character, three letters a byte
        return message
    while (size := len(quote(message.encode("utf-8", "replace"), safe=_PRINTABLE))) > MESSAGE_BYTES:
        message = message[: len(message) * MESSAGE_BYTES // size - 1]
    return message if len(message) == whole else f"{message} ... ({whole - len(message)} more characters)"
