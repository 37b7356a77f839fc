"""What an operator writes to configure the stdio adapter, and what can be wrong with it. Source: spec adapters 4.3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import Field

from mixer.adapters.base import InstanceInfo, Params
from mixer.store.problem import FieldError
from mixer.store.protojson import Int32, ProtoEnum, enum_field


class Stream(ProtoEnum):
    """Where lines go."""

    STDOUT = 0
    STDERR = 1
    FILE = 2
    ROTATED_FILE = 3

    @property
    def is_file(self) -> bool:
        """Whether ``outputPath`` says which file."""
        return self in (Stream.FILE, Stream.ROTATED_FILE)


class Level(ProtoEnum):
    """How serious a line is."""

    INFO = 0
    WARNING = 1
    ERROR = 2

    @property
    def text(self) -> str:
        """What the line says."""
        return _LEVEL_TEXTS[self]


_LEVEL_TEXTS: Final = ("info", "warn", "error")

SEVERITY_LEVELS: Final = {
    **dict.fromkeys(("INFORMATIONAL", "informational", "INFO", "info"), Level.INFO),
    **dict.fromkeys(("WARNING", "warning", "WARN", "warn"), Level.WARNING),
    **dict.fromkeys(("ERROR", "error", "ERR", "err", "FATAL", "fatal"), Level.ERROR),
}


class StdioParams(Params):
    """Params of the stdio adapter."""

    log_stream: enum_field(Stream) = Stream.STDOUT  # type: ignore[valid-type]
    """Where lines go: STDOUT (the default), STDERR, FILE (appended to) or ROTATED_FILE (renamed when it is full)."""

    severity_levels: dict[str, enum_field(Level)] = Field(default_factory=lambda: dict(SEVERITY_LEVELS))  # type: ignore[valid-type]
    """Severity of a log entry, spelled exactly -> level; a severity that is not listed is INFO.

    The default knows informational, info, warning, warn, error, err and fatal in small and in capital letters;
    a table given here replaces it whole.
    """

    metric_level: enum_field(Level) = Level.INFO  # type: ignore[valid-type]
    """The level of metrics, which have no severity; default INFO."""

    output_as_json: bool = True
    """One JSON object a line (the default), or text columns separated by tabs, the last one JSON."""

    output_level: enum_field(Level) = Level.INFO  # type: ignore[valid-type]
    """Lines below this level are left out; default INFO, which keeps all. (The original ignores it.)"""

    output_path: str = ""
    """The file for FILE and ROTATED_FILE, which need one; the other streams must have none.

    Writing waits for the disk, and so does everything else in the process: meant for local disks.
    """

    max_megabytes_before_rotation: Int32 = 100
    """ROTATED_FILE: the size in MiB that the file does not exceed; default 100, 0 for any size."""

    max_days_before_rotation: Int32 = 30
    """ROTATED_FILE: renamed files older than this many days are deleted; default 30, 0 keeps them."""

    max_rotated_files: Int32 = 1000
    """ROTATED_FILE: how many renamed files are kept, the newest; default 1000, 0 keeps all."""


def validate(params: StdioParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    stream: Stream = params.log_stream
    if stream.is_file and not params.output_path:
        yield FieldError(("outputPath",), f"{stream.name} needs a path")
    if not stream.is_file and params.output_path:
        yield FieldError(("outputPath",), f"{stream.name} has no path", "none, or logStream FILE or ROTATED_FILE")
    for field, value in (
        ("maxMegabytesBeforeRotation", params.max_megabytes_before_rotation),
        ("maxDaysBeforeRotation", params.max_days_before_rotation),
        ("maxRotatedFiles", params.max_rotated_files),
    ):
        if value < 0:
            yield FieldError((field,), "must not be negative", "0 for no limit")
