"""The context of a call as its handler gets it: messages and metadata pass through, counted, as a directive wants them.

Source: spec proxy 3.2 and 11.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from grpc import aio

from mixer.api.answer import AppliedHeader
from proxy.headers import Fate, fates
from proxy.middleware.call import FRAME_BYTES, metadata_map
from proxy.middleware.exchange import Exchange, bytes_of

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Metadata as grpcio has it."""

_KEY: Final = re.compile(r"(?!grpc-)[0-9a-z_.\-]+(?<!-bin)")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class MetadataChanges:
    """What operations do to metadata; see `proxy.middleware.operations.Changes`."""

    gone: frozenset[str] = frozenset()
    added: tuple[tuple[str, str], ...] = ()
    fates: tuple[Fate, ...] = ()
    refused: tuple[str, ...] = ()

    def applied(self, metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
        """The metadata after the operations."""
        kept = [(name, value) for name, value in metadata if name not in self.gone]
        return (*kept, *self.added)


NO_CHANGES: Final = MetadataChanges()


@lru_cache(maxsize=1024)
def metadata_changes(operations: tuple[AppliedHeader, ...]) -> MetadataChanges:
    """What operations do to metadata; gRPC's own headers, and what it would not send, stay out of it."""
    wanted, refused = fates(operations)
    kept = []
    for fate in wanted:
        if not _KEY.fullmatch(fate.name):
            refused.append("bad_name")
        elif not all(_VALUE.fullmatch(value) for value in fate.values):
            refused.append("bad_value")
        else:
            kept.append(fate)
    return MetadataChanges(
        frozenset(fate.name for fate in kept if not fate.onto),
        tuple((fate.name, value) for fate in kept for value in fate.values),
        tuple(kept),
        tuple(refused),
    )


def sendable(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Those of the pairs that metadata can hold."""
    return tuple((name, value) for name, value in pairs if _KEY.fullmatch(name) and _VALUE.fullmatch(value))


class CallContext(aio.ServicerContext):  # type: ignore[misc]
    """See `grpc.aio.ServicerContext`; the server's own is behind it.

    Args:
        inner: The server's context, whose messages are bytes.
        exchange: Where all of it is counted.
        metadata: What the handler is shown of the call's metadata.
        changes: What is done to the initial metadata of the response.
        handler: Tells how messages become bytes and back.
    """

    def __init__(
        self,
        inner: Any,
        exchange: Exchange,
        metadata: Metadata,
        changes: MetadataChanges,
        handler: grpc.RpcMethodHandler,
    ) -> None:
        self._inner = inner
        self._exchange = exchange
        self._metadata = metadata
        self._changes = changes
        self._decode: Callable[[bytes], Any] | None = handler.request_deserializer
        self._encode: Callable[[Any], bytes] | None = handler.response_serializer

    def arrived(self, data: bytes) -> Any:
        """A message of the client's."""
        self._exchange.request_bytes += len(data) + FRAME_BYTES
        return data if self._decode is None else self._decode(data)

    def leaving(self, message: Any) -> bytes:
        """A message for the client, as bytes."""
        data: bytes = message if self._encode is None else self._encode(message)
        self._exchange.response_bytes += len(data) + FRAME_BYTES
        return data

    async def begin(self) -> None:
        """Send the head of the response, unless it is sent."""
        if not self._exchange.status:
            if self._changes.added:
                await self.send_initial_metadata(())
            else:
                self._exchange.begins(200, {}, 0)

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF`."""
        data = await self._inner.read()
        return data if data is aio.EOF else self.arrived(data)

    async def write(self, message: Any) -> None:
        """Send a message."""
        data = self.leaving(message)
        await self.begin()
        await self._inner.write(data)

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Send the initial metadata, and what the directive says."""
        metadata = self._changes.applied(initial_metadata)
        await self._inner.send_initial_metadata(metadata)
        self._exchange.begins(200, metadata_map(metadata), bytes_of(metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call."""
        await self._inner.abort(code, details, trailing_metadata)
        raise AssertionError("abort raises")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())
        raise AssertionError("abort raises")

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set it."""
        self._inner.set_trailing_metadata(trailing_metadata)

    def invocation_metadata(self) -> Metadata:
        """The call's metadata, after the operations of the directive."""
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set it."""
        self._inner.set_code(code)

    def set_details(self, details: str) -> None:
        """Set them."""
        self._inner.set_details(details)

    def set_compression(self, compression: grpc.Compression) -> None:
        """Set it."""
        self._inner.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        """Disable it."""
        self._inner.disable_next_message_compression()

    def peer(self) -> str:
        """The client's address."""
        return str(self._inner.peer())

    def peer_identities(self) -> Iterable[bytes] | None:
        """Who the client is."""
        found: Iterable[bytes] | None = self._inner.peer_identities()
        return found

    def peer_identity_key(self) -> str | None:
        """By which property."""
        found: str | None = self._inner.peer_identity_key()
        return found

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What authentication told."""
        found: Mapping[str, Iterable[bytes]] = self._inner.auth_context()
        return found

    def time_remaining(self) -> float | None:
        """Seconds until the deadline."""
        left: float | None = self._inner.time_remaining()
        return left

    def trailing_metadata(self) -> Metadata:
        """What was set."""
        found: Metadata = self._inner.trailing_metadata()
        return found

    def code(self) -> grpc.StatusCode:
        """What was set."""
        return self._inner.code()

    def details(self) -> str:
        """What was set."""
        found: str = self._inner.details()
        return found

    def add_done_callback(self, callback: Any) -> None:
        """Have it called at the end."""
        self._inner.add_done_callback(callback)

    def cancelled(self) -> bool:
        """Whether the call is cancelled."""
        return bool(self._inner.cancelled())

    def done(self) -> bool:
        """Whether the call has ended."""
        return bool(self._inner.done())


class Incoming:
    """The messages of a streaming request, as the handler gets them."""

    __slots__ = ("_context", "_iterator", "_messages")

    def __init__(self, messages: Any, context: CallContext) -> None:
        self._messages = messages
        self._iterator: AsyncIterator[bytes] | None = None  # made when it is used: handlers may read in the other way
        self._context = context

    def __aiter__(self) -> Incoming:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:
            self._iterator = self._messages.__aiter__()
        return self._context.arrived(await self._iterator.__anext__())
