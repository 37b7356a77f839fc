"""Ticks for a watcher of files: when to look again.

Notifications of the operating system are the fast way and never the only one: they do not cross links to
other folders, get lost when queues overflow, and die with the folder they were asked for. So a tick comes
every few seconds in any case, and the watch is set up again when the root has become another one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from typing import Final

import structlog
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

_log = structlog.get_logger()

QUIET_MS: Final = 100
"""A burst is over when nothing came for this long."""
LONGEST_MS: Final = 1_000
"""A burst that does not end is reported after this long."""
_POLL_MS: Final = 200
_AWAY_S: Final = 0.5
"""Between two looks for a root that is missing."""


async def changes(path: str, *, poll: bool, rescan_s: float) -> AsyncGenerator[bool, None]:
    """True when something at or below ``path`` may have changed, False when it is merely time to look.

    Never ends and never raises because of the state of the disk.
    """
    complained = False
    while True:
        root = _identity(path)
        if root is None:
            await asyncio.sleep(min(rescan_s, _AWAY_S))
            continue
        try:
            watcher = _watcher(path, poll)
        except (OSError, WatchfilesRustInternalError) as exc:
            if not complained:
                complained = True
                _log.warning("file_notifications_unavailable", path=path, reason=str(exc), rescan_s=rescan_s)
            yield False
            await asyncio.sleep(rescan_s)
            continue
        stop = threading.Event()
        try:
            yield True  # what came or went before the watch was set up
            while _identity(path) == root:
                found = await asyncio.to_thread(watcher.watch, LONGEST_MS, QUIET_MS, int(rescan_s * 1_000), stop)
                yield not isinstance(found, str)
                if not isinstance(found, str) and any(changed == path for _, changed in found):
                    break  # the root itself: it may be another one by now, under the same inode number
        finally:
            stop.set()  # ends the thread within QUIET_MS
            watcher.close()


def _watcher(path: str, poll: bool) -> RustNotify:
    """A watcher of a folder and all below it, or of the folder that holds a single file."""
    is_folder = os.path.isdir(path)
    target = path if is_folder else os.path.dirname(path) or "."
    return RustNotify([target], False, poll, _POLL_MS, is_folder, True)


def _identity(path: str) -> tuple[int, int] | None:
    """Which folder this is; None when it is missing, and the same for all single files."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if os.path.isdir(path) else (0, 0)
