"""Levels, params, streams and failing sinks."""

import io
import sys

import pytest

from mixer.adapters.stdio import INFO, StdioHandler
from mixer.adapters.stdio.params import StdioParams
from mixer.adapters.testing import RecordingEnv, assert_handler_lifecycle
from mixer.errors import AdapterError
from mixer.store.problem import format_path
from mixer.store.protojson import decode
from mixer.templates.logentry import LogEntryInstance
from mixer.templates.metric import MetricInstance


def entries(*severities):
    return [LogEntryInstance("l", severity=severity) for severity in severities]


def paths_of(**params):
    model, faults = decode(INFO.params, params)
    return [format_path(fault.path) for fault in (faults if model is None else INFO.validate(model, []))]


async def test_default_params_take_empty_batches(bench):
    """Source: spec adapters 4.3, scenario 1."""
    handler = await bench.build()
    handler.handle_report([])
    await handler.aclose()
    assert bench.out() == []


async def test_severities_become_levels(bench):
    """Source: spec adapters 4.3, scenario 6."""
    handler = await bench.build()
    handler.handle_report(entries("INFO", "informational", "ERROR", "error", "BOGUS", "warn", "fatal", "Default", ""))
    levels = [line["level"] for line in bench.objects()]
    assert levels == ["info", "info", "error", "error", "info", "warn", "error", "info", "info"]


@pytest.mark.parametrize("level", [1, "WARNING"])
async def test_given_severity_table_replaces_the_default(bench, level):
    """Source: spec adapters 4.3, scenarios 11 and 12."""
    handler = await bench.build(severity_levels={"warning": level})
    handler.handle_report(entries("warning", "WARNING", "ERROR"))
    assert [line["level"] for line in bench.objects()] == ["warn", "info", "info"]


@pytest.mark.parametrize(
    ("output_level", "levels"),
    [("INFO", ["info", "warn", "error", "warn"]), ("WARNING", ["warn", "error", "warn"]), ("ERROR", ["error"])],
)
async def test_output_level_leaves_lower_lines_out(bench, output_level, levels):
    handler = await bench.build(output_level=output_level, metric_level="WARNING")
    handler.handle_report(entries("info", "warning", "error"))
    handler.handle_report([MetricInstance("m", 1)])
    assert [line["level"] for line in bench.objects()] == levels


async def test_batch_is_one_line_each_in_order_and_one_write(bench, monkeypatch):
    """Source: spec adapters 4.3, scenario 13."""
    written = []
    monkeypatch.setattr(sys.stdout, "write", written.append)
    handler = await bench.build()
    handler.handle_report([LogEntryInstance("one"), LogEntryInstance("two")])
    assert len(written) == 1
    assert [line.split('"instance":')[1] for line in written[0].splitlines()] == ['"one"}', '"two"}']


async def test_stderr_is_the_other_stream(bench, capsys):
    handler = await bench.build(log_stream="STDERR")
    handler.handle_report([LogEntryInstance("x")])
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({"outputPath": "/tmp/x"}, ["outputPath"]),
        ({"logStream": "STDERR", "output_path": "/tmp/x"}, ["outputPath"]),
        ({"logStream": "FILE"}, ["outputPath"]),
        ({"logStream": 3}, ["outputPath"]),
        ({"logStream": "FILE", "outputPath": "x"}, []),
        (
            {"maxMegabytesBeforeRotation": -1, "maxDaysBeforeRotation": -1, "maxRotatedFiles": -1},
            ["maxMegabytesBeforeRotation", "maxDaysBeforeRotation", "maxRotatedFiles"],
        ),
        ({"metricLevel": "LOUD"}, ["metricLevel"]),
    ],
)
def test_faults_of_params_are_found_at_their_place(params, paths):
    """Source: spec adapters 4.3, scenario 9."""
    assert paths_of(**params) == paths


def test_defaults_are_those_of_the_reference():
    assert StdioParams().model_dump(exclude={"severity_levels"}) == {
        "log_stream": 0,
        "metric_level": 0,
        "output_as_json": True,
        "output_level": 0,
        "output_path": "",
        "max_megabytes_before_rotation": 100,
        "max_days_before_rotation": 30,
        "max_rotated_files": 1000,
    }


class BrokenSink:
    """Loses every batch, and cannot even be closed in peace."""

    def write(self, lines, /):
        return [f"{len(lines)} line(s) not written: disk on fire"]

    def close(self):
        pass


@pytest.mark.parametrize("instance", [LogEntryInstance("l"), MetricInstance("m", 1)], ids=["logentry", "metric"])
async def test_failing_sink_is_an_error_and_closes_in_peace(instance):
    """Source: spec adapters 4.3, scenario 10."""
    handler = StdioHandler(StdioParams(), [], RecordingEnv().env(), BrokenSink())
    with pytest.raises(AdapterError, match="disk on fire"):
        handler.handle_report([instance])
    await handler.aclose()


class ClosedPipe(io.StringIO):
    """A standard output whose reader has gone."""

    def flush(self):
        raise BrokenPipeError(32, "Broken pipe")


def shut_stream():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream", [ClosedPipe(), shut_stream(), None], ids=["reader gone", "closed", "process has none"]
)
async def test_lost_standard_output_is_an_error_only(bench, monkeypatch, stream):
    handler = await bench.build()
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(AdapterError, match=r"2 line\(s\) not written to stdout"):
        handler.handle_report([LogEntryInstance("a"), LogEntryInstance("b")])
    await handler.aclose()


async def test_value_that_attributes_cannot_have_costs_only_its_line(bench):
    handler = await bench.build()
    mixed_keys = {"a": {1: "x", "y": "z"}}
    with pytest.raises(AdapterError, match="bad: "):
        handler.handle_report([LogEntryInstance("bad", mixed_keys), LogEntryInstance("good")])
    assert [line["instance"] for line in bench.objects()] == ["good"]


@pytest.mark.parametrize("stream", ["STDOUT", "STDERR", "FILE", "ROTATED_FILE"])
async def test_lifecycle(tmp_path, stream):
    path = {"output_path": str(tmp_path / "log")} if stream.endswith("FILE") else {}
    await assert_handler_lifecycle(INFO, {"log_stream": stream, **path})
