"""redisquota on a real Redis, with the test's clock in place of Redis's own.

The scripts are the shipped ones but for the line that sets ``now``: it reads one more argument, which `ClockedLink`
adds. The shipped scripts take no such argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mixer.adapters.base import Clock
from mixer.adapters.redisquota import INFO, RedisQuotaHandler
from mixer.adapters.redisquota.handler import open_handler
from mixer.adapters.redisquota.link import Call, Link, open_links
from mixer.adapters.redisquota.scripts import Scripts
from mixer.adapters.testing import RecordingEnv, parse_params

SCRIPTS = Scripts.on("local now = tonumber(ARGV[#ARGV])")
START_US = 1_700_000_000_000_000


class ClockedLink:
    """A link that tells scripts the time."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link, self._clock = link, clock

    async def run(self, calls: Sequence[Call], timeout_s: float) -> list[Any]:
        now_us = START_US + round(self._clock.monotonic() * 1e6)
        stamped = [replace(call, arguments=[*call.arguments, now_us]) for call in calls]
        return await self._link.run(stamped, timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


def clocked_handler(params: dict[str, Any], env: RecordingEnv) -> RedisQuotaHandler:
    """A handler whose windows go by the clock of ``env``; it may wait long, as the machine may be busy."""
    model = parse_params(INFO, {"requestTimeout": "10s", "connectionPoolSize": 1, **params})
    links = [ClockedLink(link, env.clock) for link in open_links(model)]
    return open_handler(model, links, env.env(), scripts=SCRIPTS)
