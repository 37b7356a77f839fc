"""Params: what decodes, what is at fault, what 0 means."""

import pytest

from mixer.adapters.fluentd import INFO
from mixer.adapters.fluentd.params import Limits, split_address
from mixer.adapters.testing import assert_handler_lifecycle, parse_params
from mixer.store.problem import format_path
from mixer.store.protojson import decode


def paths_of(**params):
    model, faults = decode(INFO.params, params)
    return [format_path(fault.path) for fault in (faults if model is None else INFO.validate(model, []))]


async def test_handler_lifecycle_with_nothing_listening():
    """Source: spec adapters 4.2, scenarios 1 and 12, and 14 as the contract wants it: away is no fault."""
    await assert_handler_lifecycle(INFO)
    await assert_handler_lifecycle(INFO, {"address": "127.0.0.1:1"})


async def test_handler_lifecycle_with_a_spool(tmp_path):
    await assert_handler_lifecycle(INFO, {"address": "127.0.0.1:1", "spoolDirectory": str(tmp_path / "spool")})
    (home,) = (tmp_path / "spool").iterdir()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("address", ["", "dummy", "a:b", "1:2:3", "host:-1", "host:65536", "[::1]"])
def test_address_that_is_no_host_and_port_is_a_fault(address):
    """Source: spec adapters 4.2, scenario 2."""
    assert paths_of(address=address) == ["address"]


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (":0", ("localhost", 0)),
        ("1.2.3.4:1234", ("1.2.3.4", 1234)),
        ("[::1]:24224", ("::1", 24224)),
        ("fluentd-es.logging:24224", ("fluentd-es.logging", 24224)),
    ],
)
def test_address_is_split(address, parts):
    assert paths_of(address=address) == []
    assert split_address(address) == parts


def test_each_negative_number_is_a_fault():
    """Source: spec adapters 4.2, scenario 3."""
    faults = paths_of(
        instanceBufferSize=-1,
        maxBufferBytes=-1,
        maxBatchSizeBytes="-1",
        pushIntervalDuration="-1s",
        pushTimeoutDuration="-1m",
        maxSpoolBytes=-1,
        spoolDirectory="a\0b",
    )
    assert faults == [
        "instanceBufferSize",
        "maxBufferBytes",
        "maxBatchSizeBytes",
        "pushIntervalDuration",
        "pushTimeoutDuration",
        "maxSpoolBytes",
        "spoolDirectory",
    ]


def test_overrides_are_taken_in_both_spellings():
    """Source: spec adapters 4.2, scenario 4."""
    params = {
        "max_batch_size_bytes": 40000,
        "instanceBufferSize": 3,
        "push_interval_duration": "3m",
        "pushTimeoutDuration": "10s",
    }
    limits = Limits.of(parse_params(INFO, params))
    assert (limits.batch_bytes, limits.buffer_entries, limits.interval_s, limits.timeout_s) == (40000, 3, 180, 10)
    assert limits.buffer_bytes == 160_000


def test_zero_means_the_default():
    limits = Limits.of(parse_params(INFO, {"pushIntervalDuration": "0", "maxBatchSizeBytes": 0}))
    assert limits == Limits.of(parse_params(INFO, None))
    assert (limits.batch_bytes, limits.interval_s, limits.timeout_s) == (8_388_608, 60, 60)
