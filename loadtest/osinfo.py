"""What the operating system knows: CPU time and memory of processes, and the machine itself. Linux only."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from mixer.api.decode import DECODER

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_STAT_PPID, _STAT_UTIME, _STAT_CSTIME = 1, 11, 14  # counted from the field behind the name
_PACKAGES: Final = ("grpcio", "protobuf", "uvloop", "prometheus-client", "mixer")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and everything that it started have used so far.

    ``cpu_s`` includes children that have ended and were waited for; the memory figures are sums over processes, so
    what they share counts more than once.
    """

    cpu_s: float
    rss_bytes: int
    peak_rss_bytes: int


def tree_usage(pid: int) -> Usage:
    """Read the usage of a process tree; processes that end meanwhile count as nothing."""
    pids = process_tree(pid)
    memory = [_memory(each) for each in pids]
    return Usage(sum(map(_cpu_s, pids)), sum(rss for rss, _ in memory), sum(peak for _, peak in memory))


def process_tree(pid: int) -> list[int]:
    """A process and its descendants, the oldest first."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[_STAT_PPID]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, ())
    return found


def busy_s() -> float:
    """CPU seconds that all processes of the machine have used since it started, those taken by its host included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, (_PROC / "stat").read_text().partition("\n")[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _stat(pid: int) -> list[str]:
    try:
        # The name, in parentheses, may hold anything.
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[_STAT_UTIME : _STAT_CSTIME + 1])) / _TICKS if fields else 0.0


def _memory(pid: int) -> tuple[int, int]:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    found = {
        name: int(rest.split()[0]) << 10
        for name, _, rest in (line.partition(":") for line in lines)
        if rest.endswith(" kB")
    }
    return found.get("VmRSS", 0), found.get("VmHWM", 0)


def environment() -> dict[str, Any]:
    """Everything about this machine and program that a figure depends on."""
    return {
        "cpu": _first_value(_PROC / "cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_mib": int(_first_value(_PROC / "meminfo", "MemTotal").split()[0]) >> 10,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "decoder": DECODER,
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed_files": _changed(_git("status", "--porcelain", "--", "mixer", "config").splitlines()),
        "load_average": os.getloadavg()[0],
    }


def _changed(lines: Iterable[str]) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in lines if line.strip()]


def _first_value(path: Path, key: str) -> str:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0 unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent.parent), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip("\n") if done.returncode == 0 else ""
