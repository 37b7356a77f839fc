"""The way to Redis: batches of script calls over connections of redis-py, to one server, a Sentinel's master or a cluster.

redis-py brings the protocol, TLS, authentication, the discovery of masters and the map of a cluster. What it does with
time-outs, retries and pools is switched off: a call whose answer was lost must not be charged twice, and waiting has a
bound that is set in one place, by whoever calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import NoScriptError, RedisError, ResponseError

from mixer.adapters.redisquota.params import DEFAULT_CONNECTIONS, Mode, RedisQuotaParams
from mixer.adapters.redisquota.scripts import Script

CONNECT_TIMEOUT_S: Final = 0.5
_STALE_AFTER_S: Final = 0.1
LINK_ERRORS: Final = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)
"""What a link raises when it has no answer. Replies that are errors are not raised but returned, each for its call."""


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[int]

    def by_name(self) -> tuple[str | int, ...]:
        """The command for a server that knows the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    def in_full(self) -> tuple[str | int, ...]:
        """The command for a server that does not."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)


class Link(Protocol):
    """One way to Redis; a batch at a time."""

    async def connect(self) -> None:
        """Be ready to be asked; does nothing when it is.

        Raises:
            LINK_ERRORS: That was not possible within `CONNECT_TIMEOUT_S`.
        """

    async def run(self, calls: Sequence[Call], timeout_s: float) -> list[Any]:
        """Run scripts; answers with a reply, or the error that Redis replied, for each call in order.

        Raises:
            LINK_ERRORS: At least one has no answer; all of them may have been run, or none.
        """
        ...

    async def ping(self, timeout_s: float) -> None:
        """See whether Redis answers.

        Raises:
            LINK_ERRORS: It does not.
        """

    async def aclose(self) -> None:
        """Let go of the connections; it may be used again."""


class PasswordFile(CredentialProvider):
    """Credentials with a password that is read anew for each connection."""

    def __init__(self, username: str, path: str) -> None:
        self._username, self._path = username, Path(path)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The password, after the user if there is one.

        Raises:
            OSError: The file cannot be read.
        """
        password = self._path.read_text(encoding="utf-8").strip()
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same; the file is small and mounted, so reading it takes no time worth a thread."""
        return self.get_credentials()


class SingleLink:
    """A connection to one server; which one, a pool of redis-py knows."""

    def __init__(self, pool: ConnectionPool, sentinels: Sequence[Redis] = ()) -> None:
        self._sentinels = sentinels
        self._connection: Connection = pool.make_connection()  # type: ignore[no-untyped-call]
        self._pool = pool
        self._used = 0.0

    async def connect(self) -> None:
        """See `Link`."""
        if not self._connection.is_connected:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connection.connect()  # type: ignore[no-untyped-call]

    async def run(self, calls: Sequence[Call], timeout_s: float) -> list[Any]:
        """See `Link`."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._used > _STALE_AFTER_S and self._connection.is_connected:
            async with asyncio.timeout(timeout_s):
                if await self._connection.can_read():  # nobody asked: that is the end of the connection
                    await self._connection.disconnect(nowait=True)
        await self.connect()
        async with asyncio.timeout(timeout_s):
            replies = await self._ask([call.by_name() for call in calls])
            unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                again = await self._ask([calls[place].in_full() for place in unknown])
                for place, reply in zip(unknown, again, strict=True):
                    replies[place] = reply
        self._used = loop.time()
        return replies

    async def ping(self, timeout_s: float) -> None:
        """See `Link`."""
        await self.connect()
        async with asyncio.timeout(timeout_s):
            (reply,) = await self._ask([("PING",)])
        if isinstance(reply, Exception):
            raise reply

    async def _ask(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        connection = self._connection
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as exc:
                replies.append(exc)
        return replies

    async def aclose(self) -> None:
        """See `Link`."""
        await self._connection.disconnect(nowait=True)
        await self._pool.aclose()
        for sentinel in self._sentinels:
            await sentinel.aclose()


class ClusterLink:
    """A cluster; redis-py knows which node has which key, and follows when keys move."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster

    async def connect(self) -> None:
        """See `Link`."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._cluster.initialize()

    async def run(self, calls: Sequence[Call], timeout_s: float) -> list[Any]:
        """See `Link`."""
        await self.connect()
        try:
            async with asyncio.timeout(timeout_s):
                replies = await self._ask([call.by_name() for call in calls])
                unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
                if unknown:
                    again = await self._ask([calls[place].in_full() for place in unknown])
                    for place, reply in zip(unknown, again, strict=True):
                        replies[place] = reply
        except LINK_ERRORS:
            await self.aclose()  # the next one reads the map anew
            raise
        return replies

    async def ping(self, timeout_s: float) -> None:
        """See `Link`."""
        await self.connect()
        async with asyncio.timeout(timeout_s):
            await self._cluster.ping(target_nodes=RedisCluster.PRIMARIES)

    async def _ask(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        pipeline = self._cluster.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))

    async def aclose(self) -> None:
        """See `Link`."""
        await self._cluster.aclose()


def open_links(params: RedisQuotaParams) -> list[Link]:
    """As many links as the params allow; nothing is connected yet."""
    count = params.connection_pool_size or DEFAULT_CONNECTIONS
    addresses = params.addresses
    settings = _settings(params, params.username, params.password.get_secret_value(), params.password_file)
    if params.mode is Mode.CLUSTER:
        nodes = [ClusterNode(host, port) for host, port in addresses]
        settings |= {"ssl": params.tls is not None, "max_connections": 1, "retry": Retry(NoBackoff(), 0)}
        return [ClusterLink(RedisCluster(startup_nodes=list(nodes), **settings)) for _ in range(count)]
    if params.mode is Mode.SENTINEL:
        return [_sentinel_link(params, addresses, settings) for _ in range(count)]
    ((host, port),) = addresses
    kind = Connection if params.tls is None else SSLConnection
    return [
        SingleLink(ConnectionPool(kind, host=host, port=port, db=params.database, **settings)) for _ in range(count)
    ]


def _sentinel_link(params: RedisQuotaParams, addresses: list[tuple[str, int]], settings: dict[str, Any]) -> SingleLink:
    tls = {"ssl": True} if params.tls is not None else {}
    theirs = _settings(params, params.sentinel_username, params.sentinel_password.get_secret_value(), "")
    theirs |= {"socket_timeout": CONNECT_TIMEOUT_S / 2, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(addresses, sentinel_kwargs={**theirs, **tls})  # type: ignore[no-untyped-call]
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        params.sentinel_master, sentinel, db=params.database, **tls, **settings
    )
    return SingleLink(pool, sentinel.sentinels)


def _settings(params: RedisQuotaParams, username: str, password: str, password_file: str) -> dict[str, Any]:
    """What all kinds of connections take. Time-outs of single steps are off, as whole batches have one."""
    settings: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT_S / 2,
        "driver_info": None,
    }
    if password_file:
        settings["credential_provider"] = PasswordFile(username, password_file)
    elif password:
        settings |= {"username": username or None, "password": password}
    if params.tls is not None:
        settings |= {
            "ssl_ca_certs": params.tls.ca_file or None,
            "ssl_certfile": params.tls.cert_file or None,
            "ssl_keyfile": params.tls.key_file or None,
            "ssl_cert_reqs": "none" if params.tls.insecure_skip_verify else "required",
            "ssl_check_hostname": not params.tls.insecure_skip_verify,
        }
    return settings
