"""The line by which a started server tells its ports, written and read in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping

_READY = re.compile(r"(?:mixs|mixproxy) is ready: (.*)")


def ready_line(ports: Mapping[str, int], program: str = "mixs") -> str:
    """``mixs is ready: port=9091 monitoring-port=15014 metrics-port=42422 console-port=9876``."""
    return f"{program} is ready: " + " ".join(f"{name}={port}" for name, port in ports.items())


def read_ready_line(line: str) -> dict[str, int] | None:
    """The ports by name, or None when the line is another one."""
    match = _READY.fullmatch(line.strip())
    if match is None:
        return None
    return {name: int(port) for name, port in (pair.split("=") for pair in match[1].split())}
