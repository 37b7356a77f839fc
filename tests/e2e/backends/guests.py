"""An adapter as a process of its own that judges names and takes log entries: ``python -m tests.e2e.backends.guests``.

Its book and its moments of being full are those of `tests.e2e.backends.receivers`; ``BOOK`` in the environment names it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence

from mixer.errors import BackendUnavailableError
from mixer.sdk import AdapterInfo, CheckResult, Code, Handler, Params, Status, serve
from mixer.templates import LISTENTRY, LOGENTRY
from mixer.templates.listentry import ListEntryInstance
from mixer.templates.logentry import LogEntryInstance
from tests.e2e.backends.receivers import HANGS_S, Book


class GuestsParams(Params):
    """What an operator says."""

    unwanted: list[str] = []


class Guests(Handler):
    """Denies who is unwanted; a full one fails, or does not answer."""

    def __init__(self, params: GuestsParams) -> None:
        self._unwanted = frozenset(params.unwanted)
        self._book = Book(os.environ["BOOK"])
        self._ways = itertools.cycle(("fail", "hang"))

    async def handle_check(self, instance: ListEntryInstance, /) -> CheckResult:
        await self._find_room()
        if instance.value in self._unwanted:
            return CheckResult(Status(Code.PERMISSION_DENIED, "unwanted"))
        return CheckResult()

    async def handle_report(self, instances: Sequence[LogEntryInstance], /) -> None:
        await self._find_room()
        self._book.take([str(instance.variables["id"]) for instance in instances])

    async def _find_room(self) -> None:
        if self._book.is_full:
            if next(self._ways) == "hang":
                await asyncio.sleep(HANGS_S)
            raise BackendUnavailableError("full")


async def build(params: GuestsParams, instances: object, env: object) -> Guests:
    return Guests(params)


INFO = AdapterInfo("guests", (LISTENTRY, LOGENTRY), GuestsParams, build, description="Judges names, keeps entries.")

if __name__ == "__main__":
    serve(INFO)
