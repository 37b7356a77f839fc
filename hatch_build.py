"""Compiles the decoders of requests and of header blocks when a wheel or an editable install is built.

They are accelerators: without Cython or a C compiler, or with MIXER_NO_NATIVE set, the package is built without them
and decodes in Python.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REQUESTS = Path("mixer/api/_native.pyx")
HEADERS = Path("mixer/server/http2/_hpack.pyx")
SOURCES = (REQUESTS, HEADERS)


def library_of(source: Path) -> str:
    """The name of the file that a source is compiled to."""
    return f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"


def compile_native(root: Path, source: Path, into: Path, flags: Sequence[str] = ("-O3",)) -> Path:
    """Compile a source of the package at ``root`` into the folder ``into``, which exists.

    Raises:
        RuntimeError: Cython or the C compiler is missing or failed; the text says which, and what it said.
    """
    library = into / library_of(source)
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        code, partial = Path(folder, f"{source.stem}.c"), Path(folder, library.name)
        _run([sys.executable, "-m", "cython", "-3", str(root / source), "-o", str(code)])
        include = f"-I{sysconfig.get_path('include')}"
        linking = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
        _run([*compiler, *linking, "-fPIC", "-fwrapv", *flags, include, str(code), "-o", str(partial)])
        library.unlink(missing_ok=True)  # never into a file that a process has loaded
        library.write_bytes(partial.read_bytes())
    return library


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        raise RuntimeError(f"{command[0]}: {exc.strerror}") from exc
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}: {(done.stderr or done.stdout).strip()}")


class NativeBuildHook(BuildHookInterface[Any]):
    """Puts each compiled decoder beside its source, where an editable install finds it, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files."""
        root = Path(self.root)
        for source in SOURCES:  # those of older sources must not stay
            (root / source.parent / library_of(source)).unlink(missing_ok=True)
        if os.environ.get("MIXER_NO_NATIVE"):
            self.app.display_info("MIXER_NO_NATIVE is set: no compiled decoders")
            return
        for source in SOURCES:
            try:
                library = compile_native(root, source, root / source.parent)
            except RuntimeError as exc:
                self.app.display_warning(f"{source} is not compiled; Python will do its work: {exc}")
                continue
            build_data["artifacts"].append(library.relative_to(root).as_posix())
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
