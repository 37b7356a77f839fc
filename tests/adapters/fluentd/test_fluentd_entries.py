"""What a log entry looks like to Fluentd: tag, time and record."""

import struct

import msgpack
import pytest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.fluentd import FluentdParams
from mixer.adapters.fluentd.entries import EntryEncoder, EntryError
from mixer.adapters.testing import FakeClock
from mixer.attributes import Duration, Timestamp, ValueType
from mixer.templates import LOGENTRY
from mixer.templates.logentry import LogEntryInstance

NAME = "newlog.instance.istio-system"
TIME = Timestamp.parse("2017-02-01T10:04:00.9Z")


def encoded(instance, types=None, **params):
    infos = [InstanceInfo(NAME, LOGENTRY, {"variables": types or {}})]
    return EntryEncoder(FluentdParams(**params), infos, FakeClock()).encode(instance)


def entry_of(variables, types=None, **params):
    """Tag, time and record."""
    entry = encoded(LogEntryInstance(NAME, variables, TIME, "info"), types, **params)
    return entry.tag, *msgpack.unpackb(entry.data)


def time_of(timestamp, **params):
    return msgpack.unpackb(encoded(LogEntryInstance(NAME, {}, timestamp), **params).data)[0]


@pytest.mark.parametrize(("integer", "expected"), [(True, 10), (False, "10ms")])
def test_duration_is_text_or_milliseconds(integer, expected):
    """Source: spec adapters 4.2, scenario 8."""
    record = entry_of({"d": Duration.parse("10ms")}, integer_duration=integer)[2]
    assert record == {"d": expected, "severity": "info"}


def test_integer_duration_is_truncated():
    variables = {"a": Duration.parse("1.999ms"), "b": Duration.parse("-1.999ms")}
    assert entry_of(variables, integer_duration=True)[2] == {"a": 1, "b": -1, "severity": "info"}


def test_address_is_text_when_declared_and_binary_otherwise():
    """Source: spec adapters 4.2, scenario 9."""
    types = {"ip": ValueType.IP_ADDRESS, "raw": ValueType.STRING}
    record = entry_of({"ip": bytes(4), "raw": bytes(4), "other": b"\xff"}, types)[2]
    assert record == {"ip": "0.0.0.0", "raw": bytes(4), "other": b"\xff", "severity": "info"}


def test_variable_tag_becomes_the_tag():
    """Source: spec adapters 4.2, scenario 10."""
    variables = {"tag": "app", "x": 1}
    tag, _, record = entry_of(variables)
    assert (tag, record) == ("app", {"x": 1, "name": NAME, "severity": "info"})
    assert variables == {"tag": "app", "x": 1}, "the instance stays as it is"


def test_without_variable_tag_the_instance_names_the_entry():
    """Source: spec adapters 4.2, scenario 10, and 6.4."""
    assert entry_of({"x": 1})[::2] == (NAME, {"x": 1, "severity": "info"})


def test_tag_that_is_no_text_is_an_error():
    with pytest.raises(EntryError, match="tag is not a string") as caught:
        encoded(LogEntryInstance(NAME, {"tag": 5}))
    assert caught.value.reason == "bad_tag"


def test_value_that_no_attribute_has_is_an_error():
    with pytest.raises(EntryError) as caught:
        encoded(LogEntryInstance(NAME, {"x": object()}))
    assert caught.value.reason == "unencodable"


def test_severity_of_the_entry_wins_over_a_variable():
    assert entry_of({"severity": "mine"})[2] == {"severity": "info"}


def test_every_kind_of_value_is_encoded():
    """Source: spec adapters 4.2, scenario 11."""
    variables = {
        "string": "grün",
        "int": -3,
        "double": 1.5,
        "bool": True,
        "time": TIME,
        "duration": Duration.parse("1s"),
        "map": {"a": "b"},
        "ip": b"\x01\x02\x03\x04",
        "bytes": b"b",
    }
    assert entry_of(variables, {"ip": ValueType.IP_ADDRESS})[2] == {
        **variables,
        "time": msgpack.ExtType(5, struct.pack(">qi", 1485943440, 900_000_000)),
        "duration": "1s",
        "ip": "1.2.3.4",
        "severity": "info",
    }


def test_time_variable_is_text_on_demand():
    assert entry_of({"t": TIME}, timestamps_as_text=True)[2]["t"] == "2017-02-01T10:04:00.9Z"


def test_time_has_nanoseconds_or_is_truncated_to_seconds():
    """Source: spec adapters 4.2, scenario 13; EventTime is Fluentd's extension 0."""
    assert time_of(TIME) == msgpack.ExtType(0, struct.pack(">II", 1485943440, 900_000_000))
    assert time_of(TIME, sub_second_time=False) == 1485943440


@pytest.mark.parametrize("text", ["1969-12-31T23:59:58.5Z", "2106-02-07T06:28:16Z"])
def test_time_that_event_time_cannot_hold_is_a_number(text):
    timestamp = Timestamp.parse(text)
    assert time_of(timestamp) == int(timestamp) // 10**9


def test_entry_without_a_time_happened_now():
    assert time_of(LogEntryInstance("x").timestamp, sub_second_time=False) == 1_000_000_000


def test_broken_unicode_is_replaced():
    record = entry_of({"x": "a\udc80"})[2]
    assert record["x"] == "a?"
