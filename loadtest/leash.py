"""Runs a command that ends when its starter does, however that one ends: a given-up run leaves no server behind.

``python -m loadtest.leash PID COMMAND...``, where PID is the starter; the command takes this process over.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # Linux, <sys/prctl.h>; it outlives execve


def on_leash(command: Sequence[str]) -> list[str]:
    """The command line that runs a command on a leash held by this process."""
    return [sys.executable, "-m", "loadtest.leash", str(os.getpid()), *command]


def main() -> None:
    """Ask for SIGTERM at the starter's end, then become the command."""
    starter, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(starter):  # else it ended before we asked
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
