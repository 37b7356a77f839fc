"""Fuzzes the compiled decoder under AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m tests.api.fuzz_sanitized --seconds 60 [--seed N]

Builds it with both into a temporary folder and runs `tests.api.fuzz_decode` with that build, in a process in which
each Python object has its own memory, so that a read beyond a request's bytes is seen. Exits 1 on a find, 77 when
there is nothing to build or run it with.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLAGS = [
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-wrapv",
]
ROOT = Path(__file__).parents[2]
# A package's folder comes first among those in which its modules are looked for, so ours is put before it.
_RUN = """
import sys
from tests.api import fuzz_decode
import mixer.api._native as native
assert native.__file__.startswith(sys.argv[1]), native.__file__
del sys.argv[1]
sys.exit(fuzz_decode.main())
"""
_PRELUDE = """
import sys
import mixer.api
mixer.api.__path__.insert(0, sys.argv[1])
"""


def runtimes_of_sanitizers() -> list[str]:
    """The runtime libraries of the sanitizers, which must be loaded before Python itself."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        asked = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        path = Path(asked.stdout.strip())
        if not path.is_absolute():
            raise FileNotFoundError(name)
        found.append(str(path.resolve()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    args = parser.parse_args()
    try:
        runtimes = runtimes_of_sanitizers()
        from hatch_build import REQUESTS, compile_native
    except (ImportError, OSError, subprocess.CalledProcessError) as exc:
        print(f"the sanitizers or the build tools are missing: {exc}", file=sys.stderr)
        return 77
    with tempfile.TemporaryDirectory() as folder:
        compile_native(ROOT, REQUESTS, Path(folder), FLAGS)
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(runtimes),
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",  # Python keeps much until its end
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        }
        environment.pop("MIXER_NO_NATIVE", None)
        options = ["--seconds", str(args.seconds), "--seed", str(args.seed)]
        command = [sys.executable, "-c", _PRELUDE + _RUN, folder, *options]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
