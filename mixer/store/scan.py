"""The files of a configuration folder: which there are, in which order, and what is in them.

Source: spec runtime 1.13.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from mixer.errors import StoreUnavailableError

SUFFIXES: Final = (".yaml", ".yml")
MAX_FILE_BYTES: Final = 16 * 1024 * 1024


class Found(NamedTuple):
    """A file to read, or something that should be readable and is not.

    Attributes:
        path: Where; the folder itself when ``is_folder``.
        signature: Changes when the file does: device, inode, size, modification time.
        error: Why it cannot be read, empty when it can.
        is_folder: The error is about all that is below.
    """

    path: str
    signature: tuple[int, ...] = ()
    error: str = ""
    is_folder: bool = False


def find_files(root: str) -> list[Found]:
    """The configuration files below a folder in lexical order, or the one file that ``root`` is.

    Regular files and symbolic links to files whose name ends in ``.yaml`` or ``.yml``; linked folders are
    not followed. Names that start with two dots are the private copies of a mounted ConfigMap, those with
    ``.#`` are editors' locks: neither is looked at.

    Raises:
        StoreUnavailableError: The root does not exist or cannot be listed.
    """
    try:
        status = os.stat(root)
        if not stat.S_ISDIR(status.st_mode):
            return [Found(root, _signature(status))]
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as exc:
        raise StoreUnavailableError(f"cannot read {root}: {_reason(exc)}") from exc
    return list(_walk(root, names))


def _walk(folder: str, names: list[str]) -> Iterator[Found]:
    for name in names:
        if name.startswith(("..", ".#")):
            continue
        path = os.path.join(folder, name)
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                with os.scandir(path) as entries:
                    below = sorted(entry.name for entry in entries)
                yield from _walk(path, below)
                continue
            if not name.endswith(SUFFIXES):
                continue
            if stat.S_ISLNK(status.st_mode):
                status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                yield Found(path, _signature(status))
        except OSError as exc:
            if not os.path.lexists(path):
                continue  # deleted since the listing
            is_folder = os.path.isdir(path) and not os.path.islink(path)
            yield Found(path, error=_reason(exc, path), is_folder=is_folder)


def read_file(path: str) -> bytes:
    """The content of a file.

    Raises:
        OSError: It cannot be read, or is larger than `MAX_FILE_BYTES`.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise OSError(f"larger than {MAX_FILE_BYTES} bytes")
    return data


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _reason(exc: OSError, path: str = "") -> str:
    if isinstance(exc, FileNotFoundError) and path and os.path.islink(path):
        return f"it is a link to {os.readlink(path)}, which does not exist"
    return (exc.strerror or str(exc)).lower()
