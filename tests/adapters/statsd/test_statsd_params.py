"""What can be wrong with the params. Source: spec adapters 4.12, scenarios 1 to 3, and 5, "dogstatsd"."""

import pytest

from mixer.adapters.statsd import DOGSTATSD, INFO
from mixer.attributes import ValueType
from mixer.store.protojson import decode


def faults(info, params, *instances):
    model, found = decode(info.params, params)
    return [(".".join(map(str, fault.path)), fault.message) for fault in found or info.validate(model, instances)]


@pytest.mark.parametrize("info", [INFO, DOGSTATSD], ids=lambda info: info.name)
def test_empty_params_are_valid(info):
    assert faults(info, {}) == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"flushDuration": "-1s"}, "flushDuration"),
        ({"samplingRate": -1}, "samplingRate"),
        ({"samplingRate": "NaN"}, "samplingRate"),
        ({"flushBytes": -1}, "flushBytes"),
        ({"flushBytes": 1433}, "flushBytes"),
        ({"bufferBytes": -1}, "bufferBytes"),
        ({"address": "nowhere"}, "address"),
        ({"address": "a:b:1"}, "address"),
        ({"address": "a:0"}, "address"),
        ({"address": "a:70000"}, "address"),
        ({"address": "unix://relative"}, "address"),
        ({"address": "unix:///" + "x" * 108}, "address"),
        ({"metrics": {"m": {"type": "COUNTER", "nameTemplate": "{{if 1}}"}}}, "metrics.m.nameTemplate"),
        ({"metrics": {"m": {"type": "SUM"}}}, "metrics.m.type"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_statsd_fault_names_the_field(params, field):
    assert [path for path, _ in faults(INFO, params)] == [field]


def test_statsd_reports_every_fault():
    params = {"flushDuration": "-1s", "samplingRate": -1, "flushBytes": -1, "address": ""}
    assert len(faults(INFO, params)) == 4


@pytest.mark.parametrize("address", ["localhost:8125", ":8125", "[::1]:8125", "unix:///run/s", "10.0.0.1:1"])
def test_address_is_accepted(address):
    assert faults(INFO, {"address": address}) == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"metrics": {}}, "metrics"),
        ({"metrics": {"i": {"type": "COUNTER"}}}, "metrics.i.name"),
        ({"metrics": {"i": {"name": "n"}}}, "metrics.i.type"),
        ({"metrics": {"i": {"name": "n", "type": 1}, "j": {"name": "n", "type": 1}}}, "metrics.j"),
        ({"metrics": {"i": {"name": "n", "type": 1}}, "sampleRate": 1.5}, "sampleRate"),
        ({"metrics": {"i": {"name": "n", "type": 1}}, "sampleRate": "NaN"}, "sampleRate"),
        ({"metrics": {"i": {"name": "n", "type": 1}}, "bufferLength": -1}, "bufferLength"),
        ({"metrics": {"i": {"name": "n", "type": 1}}, "address": ""}, "address"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_dogstatsd_fault_names_the_field(instance_info, params, field):
    assert [path for path, _ in faults(DOGSTATSD, params, instance_info("i"))] == [field]


@pytest.mark.parametrize(
    ("kind", "value", "sound"),
    [
        ("COUNTER", ValueType.INT64, True),
        ("COUNTER", ValueType.DURATION, False),
        ("GAUGE", ValueType.DOUBLE, False),
        ("DISTRIBUTION", ValueType.DURATION, True),
        ("DISTRIBUTION", ValueType.INT64, True),
        ("DISTRIBUTION", ValueType.STRING, False),
    ],
)
def test_dogstatsd_metric_takes_only_some_types(instance_info, kind, value, sound):
    found = faults(DOGSTATSD, {"metrics": {"i": {"name": "n", "type": kind}}}, instance_info("i", value))
    assert [path for path, _ in found] == ([] if sound else ["metrics.i.type"])
