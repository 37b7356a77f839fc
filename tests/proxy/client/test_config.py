from __future__ import annotations

from typing import Any

import pytest

from mixer.api.codes import Code
from mixer.attributes import Duration, Timestamp
from proxy.client import (
    HttpClientConfig,
    LocalNode,
    ServiceConfig,
    TcpClientConfig,
    Transport,
    http_status,
    local_node,
    read_config,
    status_text,
)
from proxy.client.values import from_message, read_attributes, to_message


def test_defaults_are_those_of_the_reference() -> None:
    transport = Transport()
    policy = transport.network_fail_policy
    assert (transport.batch_entries, transport.batch_time_s, transport.check_timeout_s) == (100, 1.0, 5.0)
    assert (policy.fails_open, policy.max_retry, policy.base_retry_wait, policy.max_retry_wait) == (
        True, 0, Duration.parse("80ms"), Duration.parse("1s"),
    )  # fmt: skip
    assert (transport.check_cluster, transport.report_cluster) == ("mixer_server", "mixer_server")
    switched_off = {transport.disable_check_cache, transport.disable_quota_cache, transport.disable_report_batch}
    assert switched_off == {False}


@pytest.mark.parametrize(
    ("data", "entries", "seconds"),
    [
        ({"reportBatchMaxEntries": 3, "reportBatchMaxTime": "250ms"}, 3, 0.25),
        ({"report_batch_max_entries": 0, "report_batch_max_time": "0s"}, 100, 1.0),
        ({"disable_report_batch": True, "report_batch_max_entries": 7}, 1, 1.0),
        ({"report_batch_max_time": "1000h"}, 100, 86_400.0),
    ],
)
def test_batch_settings(data: dict[str, Any], entries: int, seconds: float) -> None:
    transport, problems = read_config(Transport, data)
    assert transport is not None, problems
    assert (transport.batch_entries, transport.batch_time_s) == (entries, seconds)


@pytest.mark.parametrize(
    ("interval", "seconds"), [(None, 10.0), ("2s", 2.0), ("10ms", 1.0), ("-1s", 10.0), ("0", 10.0)]
)
def test_report_interval_has_a_floor(interval: str | None, seconds: float) -> None:
    config, problems = read_config(TcpClientConfig, {"reportInterval": interval})
    assert config is not None, problems
    assert config.report_interval_s == seconds


def test_both_spellings_and_all_fields_are_read() -> None:
    service = {
        "disableCheckCalls": True,
        "disable_report_calls": True,
        "networkFailPolicy": {"policy": 1, "maxRetry": 3, "base_retry_wait": "10ms", "maxRetryWait": "1.5s"},
        "forwardAttributes": {"source.uid": "x"},
    }
    config, problems = read_config(HttpClientConfig, {"serviceConfigs": {"a": service}, "transport": {}})
    assert config is not None, problems
    policy = config.service_configs["a"].network_fail_policy
    assert policy is not None
    assert not policy.fails_open
    assert (policy.max_retry, policy.max_retry_wait) == (3, Duration.parse("1.5s"))
    assert config.service_configs["a"].forward_attributes == {"source.uid": "x"}


QUOTA = "serviceConfigs.a.quotaSpec[0].rules[0]"


def in_rule(**rule: Any) -> dict[str, Any]:
    rule = {"quotas": [{"quota": "q", "charge": 1}], **rule}
    return {"serviceConfigs": {"a": {"quotaSpec": [{"rules": [rule]}]}}}


def in_match(**match: Any) -> dict[str, Any]:
    return in_rule(match=[{"clause": {"request.path": match}}])


def in_api(**pattern: Any) -> dict[str, Any]:
    return {"serviceConfigs": {"a": {"httpApiSpec": [{"patterns": [{"httpMethod": "GET", **pattern}]}]}}}


@pytest.mark.parametrize(
    ("data", "field", "message", "expected"),
    [
        ([], "", "a list cannot be read here", "a mapping"),
        ({"transprt": {}}, "transprt", 'unknown field "transprt" in HttpClientConfig', "transport"),
        ({"transport": {"disableCheckCache": "yes"}}, "transport.disableCheckCache", "a string cannot be read here", "true or false, without quotes"),
        ({"transport": {"networkFailPolicy": {"policy": "OPEN"}}}, "transport.networkFailPolicy.policy", 'unknown value "OPEN" for enum FailPolicy', "one of FAIL_OPEN, FAIL_CLOSE"),
        ({"transport": {"networkFailPolicy": {"maxRetry": -1}}}, "transport.networkFailPolicy.maxRetry", "-1 is out of range", "0 to 4294967295"),
        ({"transport": {"reportBatchMaxTime": 5}}, "transport.reportBatchMaxTime", "the number 5 is not a duration", 'a quoted duration such as "1m30s", "300ms" or "0"'),
        ({"mixerAttributes": {"a": [1]}}, "mixerAttributes", "a: a list is no attribute value", "a string, a boolean, a number or a map of strings"),
        ({"mixerAttributes": {"a": 1 << 63}}, "mixerAttributes", "a: the number 9223372036854775808 does not fit 64 bits", "a string, a boolean, a number or a map of strings"),
        ({"mixerAttributes": {"a": {"k": 1}}}, "mixerAttributes", "a: a mapping is no attribute value", "a string, a boolean, a number or a map of strings"),
        ({"mixerAttributes": "x"}, "mixerAttributes", "a string is no set of attributes", 'a map of values by name, or {"attributes": {NAME: {"stringValue": ...}}}'),
        ({"serviceConfigs": {"a": {"quotaSpec": [{}]}}}, "serviceConfigs.a.quotaSpec[0].rules", "required field is missing", ""),
        ({"serviceConfigs": {"a": {"quotaSpec": [{"rules": []}]}}}, "serviceConfigs.a.quotaSpec[0].rules", "is empty", "at least one entry"),
        (in_rule(quotas=[]), f"{QUOTA}.quotas", "is empty", "at least one entry"),
        (in_rule(quotas=[{"quota": "", "charge": 1}]), f"{QUOTA}.quotas[0].quota", "is empty", "a text"),
        (in_rule(quotas=[{"quota": "q"}]), f"{QUOTA}.quotas[0].charge", "required field is missing", ""),
        (in_rule(quotas=[{"quota": "q", "charge": 0}]), f"{QUOTA}.quotas[0].charge", "a charge of 0", "a number above 0"),
        (in_match(regex="("), f'{QUOTA}.match[0].clause["request.path"].regex', "not a regular expression: missing ): (", "an expression of RE2"),
        (in_match(regex="(?=x)"), f'{QUOTA}.match[0].clause["request.path"].regex', "not a regular expression: invalid perl operator: (?=", "an expression of RE2"),
        (in_match(prefix=""), f'{QUOTA}.match[0].clause["request.path"].prefix', "is empty", "a text"),
        (in_match(exact="a", prefix="b"), f'{QUOTA}.match[0].clause["request.path"]', "more than one kind of match is set", "one of exact, prefix, regex"),
        (in_api(), "serviceConfigs.a.httpApiSpec[0].patterns[0]", "a pattern matches by a template or by an expression", "one of uriTemplate, regex"),
        (in_api(regex="["), "serviceConfigs.a.httpApiSpec[0].patterns[0].regex", "not a regular expression: missing ]: [", "an expression of RE2"),
        ({"serviceConfigs": {"a": {"httpApiSpec": [{}]}}}, "serviceConfigs.a.httpApiSpec[0].patterns", "required field is missing", ""),
    ],
)  # fmt: skip
def test_fault_is_named_with_its_place_and_what_was_expected(
    data: Any, field: str, message: str, expected: str
) -> None:
    config, problems = read_config(HttpClientConfig, data)
    assert config is None
    assert [(p.field, p.message, p.expected) for p in problems] == [(field, message, expected)]


def test_place_of_the_data_is_part_of_the_path() -> None:
    _, problems = read_config(ServiceConfig, {"x": 1}, under=("spec", "service"))
    assert problems[0].field == "spec.service.x"


TYPED = {
    "text": {"stringValue": "x"},
    "number": {"int64Value": "-3"},
    "float": {"doubleValue": 0.5},
    "truth": {"boolValue": False},
    "address": {"bytesValue": "CgAAAQ=="},
    "time": {"timestampValue": "2020-01-01T00:00:00.5Z"},
    "span": {"durationValue": "-1.500s"},
    "map": {"stringMapValue": {"entries": {"k": "v"}}},
}


def test_attributes_of_every_type_are_read_and_written() -> None:
    found = read_attributes({"attributes": TYPED})
    assert {name: (type(value).__name__, value) for name, value in found.items() if name != "map"} == {
        "text": ("str", "x"),
        "number": ("int", -3),
        "float": ("float", 0.5),
        "truth": ("bool", False),
        "address": ("bytes", b"\n\x00\x00\x01"),
        "time": ("Timestamp", Timestamp.parse("2020-01-01T00:00:00.5Z")),
        "span": ("Duration", Duration.parse("-1.5s")),
    }
    assert found["map"] == {"k": "v"}
    assert from_message(to_message(found)) == found


def test_plain_attributes_have_the_types_of_yaml() -> None:
    plain = {"a": "2020-01-01T00:00:00Z", "b": True, "c": 3, "d": 0.5, "e": {"k": "v"}, "attributes": "text"}
    assert read_attributes(plain) == plain


def test_attribute_message_that_is_none_is_refused() -> None:
    data = {"mixerAttributes": {"attributes": {"a": {"stringVal": "x"}}}}
    _, (problem,) = read_config(HttpClientConfig, data)
    assert problem.message.startswith("not istio.mixer.v1.Attributes: ")


@pytest.mark.parametrize(
    ("metadata", "node_id", "expected"),
    [
        ({"NODE_UID": "kubernetes://a.ns", "NODE_NAMESPACE": "ns"}, "", LocalNode("kubernetes://a.ns", "ns")),
        ({"NODE_UID": "u"}, "sidecar~10.0.0.1~pod-1.ns~ns.svc.cluster.local", LocalNode("kubernetes://pod-1.ns", "ns")),
        ({}, "sidecar~10.0.0.1~pod~x", LocalNode()),
        ({}, "sidecar~10.0.0.1~pod.~x", LocalNode()),
        ({}, "", LocalNode()),
    ],
    ids=["metadata", "both or neither", "no namespace", "empty namespace", "nothing"],
)
def test_node_is_known_by_metadata_or_id(metadata: dict[str, object], node_id: str, expected: LocalNode) -> None:
    assert local_node(metadata, node_id) == expected


@pytest.mark.parametrize(
    ("code", "http"),
    [
        (Code.OK, 200), (Code.CANCELLED, 499), (Code.UNKNOWN, 500), (Code.INVALID_ARGUMENT, 400),
        (Code.DEADLINE_EXCEEDED, 504), (Code.NOT_FOUND, 404), (Code.ALREADY_EXISTS, 409),
        (Code.PERMISSION_DENIED, 403), (Code.RESOURCE_EXHAUSTED, 429), (Code.FAILED_PRECONDITION, 400),
        (Code.ABORTED, 409), (Code.OUT_OF_RANGE, 400), (Code.UNIMPLEMENTED, 501), (Code.INTERNAL, 500),
        (Code.UNAVAILABLE, 503), (Code.DATA_LOSS, 500), (Code.UNAUTHENTICATED, 401), (99, 500), (-1, 500),
    ],
)  # fmt: skip
def test_http_status_of_a_code(code: int, http: int) -> None:
    assert http_status(code) == http


def test_status_text() -> None:
    """Scenario 35 and 37."""
    assert status_text(Code.PERMISSION_DENIED, "shish") == "PERMISSION_DENIED:shish"
    assert status_text(Code.UNAUTHENTICATED, "") == "UNAUTHENTICATED"
    assert status_text(99, "x") == "UNKNOWN:x"
