"""Mutual TLS by the rules of SPIFFE, for which gRPC has no setting: the backend must be who Mixer itself is.

A certificate of a mesh names a URI and no host, and gRPC in Python checks hosts only. So gRPC speaks openly with a
socket in a folder that is ours alone, and this relay carries its bytes over TLS: the chain is verified, and one of
the URIs of the backend's certificate must be one of those in Mixer's own.

Source: spec runtime 6.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from pathlib import Path
from typing import Final

from cryptography import x509

from mixer.adapters.remote.credentials import Certificates, uris_of
from mixer.errors import AdapterError

_CONNECT_LIMIT_S: Final = 2.0
_PIECE: Final = 1 << 16


class Relay:
    """Listens on a socket in a new folder; ``target`` is its address for gRPC, ``fault`` why it last failed."""

    def __init__(self, address: str, server_name: str, certificates: Certificates) -> None:
        self._address, self._server_name, self._certificates = address, server_name, certificates
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self.fault = ""

    async def start(self) -> str:
        """Listen; the answer is the address for gRPC."""
        self._folder = tempfile.TemporaryDirectory(prefix="mixer-")
        path = Path(self._folder.name) / "backend"
        self._server = await asyncio.start_unix_server(self._accept, path)
        return f"unix:{path}"

    async def aclose(self) -> None:
        """Stop, and cut what is connected; safe unused, safe twice."""
        if self._server is not None:
            self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        if self._folder is not None:
            self._folder.cleanup()
        self._folder, self._server = None, None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer), name="relay")
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                far_reader, far_writer = await self._connect()
            self.fault = ""
            ways = [
                asyncio.ensure_future(_copy(reader, far_writer)),
                asyncio.ensure_future(_copy(far_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except TimeoutError:
            self.fault = "no connection in time"
        except ssl.SSLError as exc:
            self.fault = f"TLS: {exc.reason or 'failed'}"
        except (OSError, AdapterError, ValueError) as exc:
            self.fault = str(exc)
        finally:
            for end in (writer, far_writer):
                if end is not None:
                    end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self._certificates.context()  # of each connection anew: files change
        if self._address.startswith("unix:"):
            path = self._address.removeprefix("unix:").removeprefix("//")
            name = self._server_name or "localhost"
            reader, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname=name)
        else:
            host, _, port = self._address.rpartition(":")
            host = host.rsplit("/", 1)[-1].removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
            name = self._server_name or host
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
        secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
        shown = secured.getpeercert(binary_form=True)
        theirs = uris_of(x509.load_der_x509_certificate(shown)) if shown else frozenset()
        if not theirs & self._certificates.identities():
            writer.transport.abort()
            raise AdapterError("the backend's certificate has none of the identities of Mixer's own")
        return reader, writer


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
