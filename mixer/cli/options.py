"""What the commands have in common: how they print help, durations, and the store that a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import click

from mixer.attributes import Duration
from mixer.store import Store
from mixer.store.file import FileStore

CONTEXT: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class DurationText(click.ParamType):
    """A duration in Go's form, such as ``1m30s``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        """Read it, or say what was expected."""
        if isinstance(value, Duration):
            return value
        try:
            return Duration.parse(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a duration; write it as 500ms, 30s or 1m30s", param, ctx)


DURATION = DurationText()


def open_store(url: str) -> Store:
    """The store that a URL names.

    Raises:
        click.BadParameter: The URL is none that we know.
    """
    parts = urlsplit(url)
    if parts.scheme == "fs":
        path = unquote(parts.netloc + parts.path)
        if not path:
            raise click.BadParameter("fs:// needs a path, as in fs:///etc/mixer")
        return FileStore(Path(path))
    if parts.scheme in ("k8s", "kube", "kubernetes"):
        raise click.BadParameter("this version reads configuration from files only; give fs:///path")
    if not parts.scheme and Path(url).exists():
        raise click.BadParameter(f"unknown config URL {url!r}; for a folder or file write fs://{Path(url).resolve()}")
    raise click.BadParameter(f"unknown config URL {url!r}; expected fs:///path")
