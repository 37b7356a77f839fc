"""The socket and the task beside it: names are resolved, datagrams leave, and nothing ever waits for the server.

A connected socket is asked to send and not to block. UDP takes everything; a Unix socket whose reader is slow or gone
says so, and then datagrams wait in `Packets`. Source: spec adapters 4.12.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Final

from mixer.adapters.base import Env
from mixer.adapters.statsd.ledger import Drop, Ledger
from mixer.adapters.statsd.packets import Packets
from mixer.adapters.statsd.params import Address

RESOLVE_EVERY_S: Final = 60.0
"""How long a resolved name holds: UDP would never hear that a server has moved."""

RESOLVE_TIMEOUT_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
_LAST_TRIES: Final = 20
_LAST_PAUSE_S: Final = 0.02
_TOO_LARGE: Final = (errno.EMSGSIZE, errno.EINVAL)


async def connect(address: Address) -> socket.socket:
    """A datagram socket to an address, which need not listen (unless it is a path).

    Raises:
        OSError: There is no such host or path; TimeoutError is one, too.
    """
    if address.path:
        return _connected(socket.AF_UNIX, address.path)
    async with asyncio.timeout(RESOLVE_TIMEOUT_S):
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    fault: OSError = OSError(f"no address for {address.host}")
    for family, _, _, _, sockaddr in found:
        try:
            return _connected(family, sockaddr)
        except OSError as exc:
            fault = exc
    raise fault


def _connected(family: int, where: object) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.connect(where)  # type: ignore[arg-type]  # a path or a pair, by family
    except BaseException:
        made.close()
        raise
    return made


class Sender:
    """Sends what is full at once, and what is not at the interval."""

    def __init__(self, address: Address, packets: Packets, ledger: Ledger, env: Env, *, interval_s: float) -> None:
        self._address, self._packets, self._ledger = address, packets, ledger
        self._env, self._interval_s = env, interval_s
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[object] | None = None
        self._failures = 0
        self._closed = False

    def offer(self, line: bytes) -> Drop | None:
        """Take the line of an instance, or say why not."""
        if self._closed:
            return Drop.CLOSED
        if self._packets.add(line):
            if self._packets.first is not None:
                self._send_full()
            return None
        return Drop.BUFFER_FULL

    async def run(self) -> None:
        """The background task."""
        self._task = asyncio.current_task()
        clock = self._env.clock
        resolved_s = 0.0
        while not self._closed:
            if self._socket is None or clock.monotonic() - resolved_s >= RESOLVE_EVERY_S:
                if await self._connect():
                    resolved_s = clock.monotonic()
                elif self._socket is None:
                    await clock.sleep(min(FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_S))
                    continue
            self.flush()
            await clock.sleep(self._interval_s)

    def flush(self) -> None:
        """Send all that waits, as far as the socket takes it."""
        self._packets.close_open()
        self._send_full()

    async def aclose(self) -> None:
        """Send what waits, a short while at most; what is left then is dropped. Safe twice."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait({self._task})
        self._packets.close_open()
        for _ in range(_LAST_TRIES):
            if self._packets.first is None:
                break
            if self._socket is None and not await self._connect():
                break
            self._send_full()
            if self._packets.first is not None:
                await asyncio.sleep(_LAST_PAUSE_S)
        if rest := self._packets.clear():  # at the end of the process nobody will read the counter any more
            self._env.log.warning("statsd_instances_dropped", reason=Drop.CLOSED.value, instances=rest)
            self._ledger.drop(Drop.CLOSED, rest)
        self._disconnect()

    async def _connect(self) -> bool:
        try:
            made = await connect(self._address)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a host name that can be none
            self._failures += 1
            report = self._env.log.warning if self._failures == 1 else self._env.log.debug
            report("statsd_server_not_found", error=str(exc) or type(exc).__name__, outcome="will try again")
            return False
        if self._failures:
            self._env.log.info("statsd_server_found", failures=self._failures)
            self._failures = 0
        self._disconnect()
        self._socket = made
        return True

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send_full(self) -> None:
        while self._socket is not None and (packet := self._packets.first) is not None:
            try:
                self._send(self._socket, packet.data)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno not in _TOO_LARGE:
                    self._disconnect()
                    return
                self._ledger.drop(Drop.TOO_LARGE, self._packets.pop().instances)
            else:
                self._ledger.send(self._packets.pop().instances)

    def _send(self, to: socket.socket, data: bytes) -> None:
        try:
            to.send(data)
        except ConnectionRefusedError:
            if self._address.path:
                raise
            # Of UDP this is about an earlier datagram, and takes the place of sending this one.
            self._ledger.refuse()
            to.send(data)
