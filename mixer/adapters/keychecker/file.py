"""Reading a file of keys. What is wrong with it is told by place, never by content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import yaml

from mixer.adapters.keychecker.params import Key, KeyList, key_faults
from mixer.errors import BackendUnavailableError
from mixer.store.problem import format_path
from mixer.store.protojson import decode

MAX_BYTES: Final = 16 << 20
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHOWN: Final = 3

Mark = tuple[int, int, int]
"""What changes when a file does: inode, time of its last change, size."""


def mark_of(path: str) -> Mark | None:
    """The mark of a file, None when there is none that can be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_keys(path: str) -> Sequence[Key]:
    """The keys of a file; blocks.

    Raises:
        BackendUnavailableError: It cannot be read, or something in it is wrong; then none of it counts.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise BackendUnavailableError(f"{path}: {exc.strerror or type(exc).__name__}") from None
    if len(data) > MAX_BYTES:
        raise BackendUnavailableError(f"{path}: more than {MAX_BYTES} bytes")
    try:
        content = yaml.load(data, Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:  # its text shows a piece of the file
        line = f", line {exc.problem_mark.line + 1}" if exc.problem_mark else ""
        raise BackendUnavailableError(f"{path}{line}: neither YAML nor JSON") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BackendUnavailableError(f"{path}: neither YAML nor JSON") from None
    model, faults = decode(KeyList, content)
    if model is not None:
        faults = list(key_faults(model.keys))
    if model is None or faults:
        told = [f"{format_path(fault.path)}: {fault.message}" for fault in faults[:_SHOWN]]
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise BackendUnavailableError(f"{path}: {'; '.join(told)}{more}")
    return model.keys
