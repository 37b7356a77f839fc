"""Values and types on the way to a backend. Source: spec adapters 4.15."""

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration as WireDuration
from google.rpc.status_pb2 import Status as WireStatus

from mixer.adapters.base import DirectResponse, InstanceInfo, Status
from mixer.adapters.bypass import INFO
from mixer.adapters.bypass.convert import NO_TYPES, status_of, to_metric, to_type, to_value
from mixer.api.gen.mixer.template.metric.template_handler_service_pb2 import Type as MetricType
from mixer.api.gen.mixer.template.quota.template_handler_service_pb2 import Type as QuotaType
from mixer.api.gen.policy.v1beta1.http_response_pb2 import DirectHttpResponse
from mixer.attributes import Duration, Timestamp, ValueType
from mixer.attributes.values import ZERO_TIME
from mixer.errors import AdapterError
from mixer.store.protojson import decode
from mixer.templates import CHECKNOTHING, METRIC, QUOTA, REPORTNOTHING
from mixer.templates.metric import MetricInstance


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("a", None, 'string_value: "a"'),
        ("a", ValueType.STRING, 'string_value: "a"'),
        ("a", ValueType.DNS_NAME, 'dns_name_value { value: "a" }'),
        ("a", ValueType.EMAIL_ADDRESS, 'email_address_value { value: "a" }'),
        ("a", ValueType.URI, 'uri_value { value: "a" }'),
        (5, None, "int64_value: 5"),
        (0, None, "int64_value: 0"),
        (1.5, None, "double_value: 1.5"),
        (True, None, "bool_value: true"),
        (b"\x7f\x00\x00\x01", None, r'ip_address_value { value: "\177\000\000\001" }'),
        (Duration(-1_500_000_000), None, "duration_value { value { seconds: -1 nanos: -500000000 } }"),
        (Timestamp(1_500_000_000), None, "timestamp_value { value { seconds: 1 nanos: 500000000 } }"),
        (ZERO_TIME, None, "timestamp_value { value { seconds: -62135596800 } }"),
    ],
    ids=str,
)
def test_values_keep_their_type(value, kind, text):
    assert " ".join(str(to_value(value, kind)).split()) == text


@pytest.mark.parametrize("value", [{"a": "b"}, None, ["a"], Timestamp(-(1 << 63) * 9)], ids=str)
def test_values_without_a_form_are_errors(value):
    with pytest.raises((TypeError, ValueError)):
        to_value(value)


def test_metric_carries_name_value_and_dimensions_only():
    instance = MetricInstance("m", 5, {"host": "a.b", "none": None}, "type", {"zone": "z"})
    message = to_metric(instance, {"value": ValueType.INT64, "dimensions": {"host": ValueType.DNS_NAME}})
    assert message.value.int64_value == 5
    assert {key: value.dns_name_value.value for key, value in message.dimensions.items()} == {"host": "a.b"}
    assert (message.name, message.monitored_resource_type, len(message.monitored_resource_dimensions)) == ("m", "", 0)


def test_metric_names_what_cannot_be_sent():
    with pytest.raises(AdapterError) as caught:
        to_metric(MetricInstance("m", 5, {"labels": {"a": "b"}}), NO_TYPES)
    assert str(caught.value) == "m: dimension 'labels' cannot be sent: a mapping is no value of this protocol"


def test_inferred_types_are_those_of_the_template():
    types = {"value": ValueType.INT64, "dimensions": {"a": ValueType.URI}, "monitored_resource_dimensions": {}}
    metric = MetricType()
    assert to_type(InstanceInfo("m", METRIC, types)).Unpack(metric)
    assert (metric.value, dict(metric.dimensions)) == (ValueType.INT64, {"a": ValueType.URI})
    quota = QuotaType()
    assert to_type(InstanceInfo("q", QUOTA, {"dimensions": {"a": ValueType.BOOL}})).Unpack(quota)
    assert dict(quota.dimensions) == {"a": ValueType.BOOL}
    assert to_type(InstanceInfo("c", CHECKNOTHING, {})).type_url == "type.googleapis.com/checknothing.Type"
    assert to_type(InstanceInfo("r", REPORTNOTHING, {})).type_url == "type.googleapis.com/reportnothing.Type"


def test_status_brings_its_direct_response():
    other, direct = AnyMessage(), AnyMessage()
    other.Pack(WireDuration(seconds=1))
    direct.Pack(DirectHttpResponse(code=302, body="b", headers={"Location": "/"}))
    status = status_of(WireStatus(code=7, message="no", details=[other, direct]))
    assert status == Status(7, "no", DirectResponse(302, "b", {"Location": "/"}))
    assert status_of(WireStatus(code=7, details=[other])) == Status(7)


@pytest.mark.parametrize(
    ("params", "type_url", "value"),
    [
        (
            {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.5s"},
            "type.googleapis.com/google.protobuf.Duration",
            WireDuration(seconds=1, nanos=500_000_000).SerializeToString(),
        ),
        (
            {"@type": "type.googleapis.com/google.rpc.Status", "code": 5},
            "type.googleapis.com/google.rpc.Status",
            WireStatus(code=5).SerializeToString(),
        ),
        ({"@type": "x/unknown.Type", "value": "AQI="}, "x/unknown.Type", b"\x01\x02"),
    ],
    ids=["well known", "known", "bytes"],
)
def test_backend_params_become_a_message(params, type_url, value):
    model, _ = decode(INFO.params, {"backendAddress": "a:1", "params": params})
    assert list(INFO.validate(model, ())) == []
    assert (model.backend_params().type_url, model.backend_params().value) == (type_url, value)


@pytest.mark.parametrize(
    "params",
    [
        {"code": 5},
        {"@type": 5, "value": ""},
        {"@type": "x/unknown.Type", "host": "a"},
        {"@type": "x/unknown.Type", "value": "?"},
        {"@type": "x/unknown.Type", "value": 5},
        {"@type": "type.googleapis.com/google.rpc.Status", "kode": 5},
    ],
    ids=str,
)
def test_backend_params_that_are_no_message_are_a_fault(params):
    model, _ = decode(INFO.params, {"backendAddress": "a:1", "params": params})
    assert [fault.path for fault in INFO.validate(model, ())] == [("params",)]


def test_address_and_time_limit_are_required():
    model, _ = decode(INFO.params, {"callTimeout": "0"})
    assert [fault.path for fault in INFO.validate(model, ())] == [("backendAddress",), ("callTimeout",)]
