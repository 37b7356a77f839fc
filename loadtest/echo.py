"""A grpc.aio server that answers every call of Mixer's service with nothing: what the transport alone costs.

Run by ``loadtest``: ``python -m loadtest.echo``; ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal

import grpc
import uvloop
from grpc import aio

from mixer.api.messages import SERVICE_NAME
from mixer.cli.ports import ready_line


async def _answer(data: bytes, context: object) -> bytes:
    return b""


async def _serve() -> None:
    server = aio.server()
    handlers = {name: grpc.unary_unary_rpc_method_handler(_answer) for name in ("Check", "Report")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    print(ready_line({"port": port}), flush=True)
    await stop.wait()
    await server.stop(1)


if __name__ == "__main__":
    uvloop.run(_serve())
