"""The stdio handler: log entries and metrics become lines. Source: spec adapters 4.3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mixer.adapters.base import Env, Handler, InstanceInfo
from mixer.adapters.stdio.backups import Backups
from mixer.adapters.stdio.lines import (
    Entry,
    FieldTypes,
    all_fields,
    console_line,
    json_line,
    present_fields,
    to_json,
    untyped,
)
from mixer.adapters.stdio.params import Level, StdioParams, Stream
from mixer.adapters.stdio.sinks import FileSink, RotatedFileSink, Sink, StreamSink
from mixer.attributes import ValueType
from mixer.errors import AdapterError
from mixer.templates.logentry import LogEntryInstance
from mixer.templates.metric import MetricInstance

_MIB = 1 << 20
_SHOWN = 3
"""How many faults an error spells out."""


class StdioHandler(Handler):
    """Writes one line for each instance, a batch in one go."""

    def __init__(self, params: StdioParams, instances: Sequence[InstanceInfo], env: Env, sink: Sink) -> None:
        self._params, self._clock, self._sink = params, env.clock, sink
        self._line: Callable[[Entry], str] = json_line if params.output_as_json else console_line
        self._variables = _field_types(instances, "variables")
        self._dimensions = _field_types(instances, "dimensions")
        self._values = {i.name: kind for i in instances if isinstance(kind := i.types.get("value"), ValueType)}

    def handle_report(self, instances: Sequence[LogEntryInstance | MetricInstance], /) -> None:
        """Write what the output level lets through, in order.

        Raises:
            AdapterError: Lines are lost; all others are written.
        """
        faults: list[str] = []
        lines: list[str] = []
        for instance in instances:
            try:
                entry = self._log_entry(instance) if isinstance(instance, LogEntryInstance) else self._metric(instance)
                if entry is not None:
                    lines.append(self._line(entry))
            except (TypeError, ValueError, AttributeError) as exc:  # a value that attributes cannot have
                faults.append(f"{instance.name}: {exc}")
        if lines:
            faults += self._sink.write(lines)
        if faults:
            shown = "; ".join(faults[:_SHOWN])
            raise AdapterError(f"{shown}; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else shown)

    async def aclose(self) -> None:
        """Close the file; the standard streams stay open."""
        self._sink.close()

    def _log_entry(self, instance: LogEntryInstance) -> Entry | None:
        level: Level = self._params.severity_levels.get(instance.severity, Level.INFO)
        if level < self._params.output_level:
            return None
        types = self._variables.get(instance.name)
        fields = present_fields(instance.variables, untyped(instance.variables) if types is None else types)
        return Entry(level.text, instance.timestamp, instance.name, fields)

    def _metric(self, instance: MetricInstance) -> Entry | None:
        level: Level = self._params.metric_level
        if level < self._params.output_level:
            return None
        types = self._dimensions.get(instance.name)
        value = to_json(instance.value, self._values.get(instance.name, ValueType.VALUE_TYPE_UNSPECIFIED))
        fields = all_fields(instance.dimensions, untyped(instance.dimensions) if types is None else types)
        return Entry(level.text, self._clock.now(), instance.name, [("value", value), *fields])


def _field_types(instances: Sequence[InstanceInfo], field: str) -> Mapping[str, FieldTypes]:
    return {i.name: dict(sorted(kinds.items())) for i in instances if isinstance(kinds := i.types.get(field), Mapping)}


def open_sink(params: StdioParams, env: Env) -> Sink:
    """The sink that the params ask for.

    Raises:
        AdapterError: Its file cannot be opened.
    """
    stream: Stream = params.log_stream
    if stream is Stream.STDOUT:
        return StreamSink("stdout")
    if stream is Stream.STDERR:
        return StreamSink("stderr")
    path = Path(params.output_path)
    try:
        if stream is Stream.FILE:
            return FileSink(path)
        backups = Backups(
            path,
            keep=params.max_rotated_files,
            max_days=params.max_days_before_rotation,
            complain=lambda message: env.log.warning("rotation", problem=message),
        )
        max_bytes = params.max_megabytes_before_rotation * _MIB
        return RotatedFileSink(path, max_bytes=max_bytes, backups=backups, now=env.clock.now)
    except (OSError, ValueError) as exc:  # ValueError: a path with a NUL in it
        raise AdapterError(f"could not build logger: {exc}") from exc


async def build(params: StdioParams, instances: Sequence[InstanceInfo], env: Env) -> StdioHandler:
    """A handler with its file open."""
    return StdioHandler(params, instances, env, open_sink(params, env))
