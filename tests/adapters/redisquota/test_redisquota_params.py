"""Params and keys of redisquota; no Redis is needed. Source: spec adapters 4.7, scenarios 10 to 12."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.cluster import key_slot

from mixer.adapters.base import InstanceInfo
from mixer.adapters.redisquota import INFO
from mixer.adapters.redisquota.limits import key_base, limits_by_name
from mixer.adapters.redisquota.params import validate
from mixer.adapters.redisquota.scripts import SCRIPTS
from mixer.adapters.testing import RecordingEnv, parse_params, settle
from mixer.attributes import Duration, Timestamp
from mixer.store.protojson import decode
from mixer.templates import QUOTA
from mixer.templates.quota import QuotaInstance

Q = {"name": "q", "maxAmount": 10, "validDuration": "10s"}
GOOD = {"redisServerUrl": "redis:6379", "quotas": [Q]}


def faults(data, *instances):
    params, errors = decode(INFO.params, data)
    assert errors == []
    return [(".".join(map(str, error.path)), error.message) for error in validate(params, instances)]


def test_good_params_have_no_fault_in_either_spelling():
    quota = {
        "name": "q",
        "max_amount": "500",
        "valid_duration": "1s",
        "bucket_duration": "500ms",
        "rate_limit_algorithm": "ROLLING_WINDOW",
        "overrides": [{"dimensions": {"destination": "ratings"}, "max_amount": 100}],
    }
    assert faults({"redis_server_url": "localhost:6379", "connection_pool_size": 10, "quotas": [quota]}) == []
    assert faults(GOOD, InstanceInfo("q", QUOTA, {"dimensions": {}})) == []


def test_empty_params_are_told_all_at_once():
    """Scenario 10, but for the connection, which validation does not try."""
    nothing = [
        ("quotas", "quota should not be empty"),
        ("redisServerUrl", "redis_server_url should not be empty"),
    ]
    assert faults({}) == nothing
    pool = ("connectionPoolSize", "connection_pool_size of -10 is invalid, must be > 0")
    assert faults({"connectionPoolSize": -10}) == [*nothing, pool]


def quota(**fields):
    return {**GOOD, "quotas": [{**Q, **fields}]}


ROLLING = {"rateLimitAlgorithm": "ROLLING_WINDOW"}
BROKEN = {
    "no name": (quota(name="", validDuration="0"), "quotas.0.name", "quotas.name should not be empty"),
    "no window": (quota(validDuration="0"), "quotas.0.validDuration", "must be positive"),
    "negative window": (quota(validDuration="-1s"), "quotas.0.validDuration", "must be positive"),
    "window below Redis's clock": (quota(validDuration="999ns"), "quotas.0.validDuration", "shorter than"),
    "bucket too long": (quota(bucketDuration="2m", **ROLLING), "quotas.0.bucketDuration", "must be shorter"),
    "bucket as long": (quota(bucketDuration="10s", **ROLLING), "quotas.0.bucketDuration", "must be shorter"),
    "no bucket": (quota(**ROLLING), "quotas.0.bucketDuration", "must be positive"),
    "override of nothing": (quota(overrides=[{}]), "quotas.0.overrides.0.maxAmount", "max_amount must be > 0"),
    "override for all": (
        quota(overrides=[{"maxAmount": 1}]),
        "quotas.0.overrides.0.dimensions",
        "quotas.overrides.dimensions is empty",
    ),
    "no port": ({**GOOD, "redisServerUrl": "redis"}, "redisServerUrl", "is not an address"),
    "port too large": ({**GOOD, "redisServerUrl": "redis:66000"}, "redisServerUrl", "is not an address"),
    "a whole URL": ({**GOOD, "redisServerUrl": "redis://u:secret@redis:1"}, "redisServerUrl", "is not an address"),
    "several": ({**GOOD, "redisServerUrl": "a:1,b:2"}, "redisServerUrl", "several addresses need a mode"),
    "no time": ({**GOOD, "requestTimeout": "0s"}, "requestTimeout", "out of range"),
    "much time": ({**GOOD, "requestTimeout": "11s"}, "requestTimeout", "out of range"),
    "many connections": ({**GOOD, "connectionPoolSize": 1001}, "connectionPoolSize", "out of range"),
    "negative memory": ({**GOOD, "deduplicationDuration": "-1s"}, "deduplicationDuration", "must not be negative"),
    "database of a cluster": ({**GOOD, "mode": "CLUSTER", "database": 1}, "database", "no such database"),
    "prefix with braces": ({**GOOD, "keyPrefix": "{}"}, "keyPrefix", "braces"),
    "nameless master": ({**GOOD, "mode": "SENTINEL", "sentinelMaster": ""}, "sentinelMaster", "should not be empty"),
    "two passwords": ({**GOOD, "password": "a", "passwordFile": "b"}, "passwordFile", "stands beside a password"),
    "user without password": ({**GOOD, "username": "a"}, "username", "has no password"),
    "certificate without key": ({**GOOD, "tls": {"certFile": "a"}}, "tls.certFile", "go together"),
}


@pytest.mark.parametrize(("data", "field", "message"), BROKEN.values(), ids=BROKEN)
def test_fault_is_told_with_its_field(data, field, message):
    ((where, what),) = faults(data)
    assert where == field
    assert message in what
    assert "secret" not in what


def test_fixed_window_has_no_use_for_a_bucket():
    assert faults(quota(bucketDuration="2m")) == []


def test_routed_instance_without_limit_is_a_fault():
    assert faults(GOOD, InstanceInfo("Foo", QUOTA, {"dimensions": {}})) == [
        ("quotas", "did not find limit defined for quota Foo")
    ]


async def test_nothing_connects_during_validation_and_building():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        params = parse_params(INFO, {**GOOD, "redisServerUrl": f"127.0.0.1:{listener.getsockname()[1]}"})
        env = RecordingEnv()
        handler = await INFO.build(params, (), env.env())
        with pytest.raises(BlockingIOError):
            listener.accept()
        await settle()
        await handler.aclose()
        await env.aclose()


async def test_secrets_show_nowhere():
    data = {
        **GOOD,
        "redisServerUrl": "127.0.0.1:1",
        "username": "me",
        "password": "hunter2",
        "sentinelPassword": "hunter3",
    }
    params = parse_params(INFO, data)
    env = RecordingEnv()
    handler = await INFO.build(params, (), env.env())
    await asyncio.sleep(0.02)
    await handler.aclose()
    await env.aclose()
    assert "hunter" not in f"{params!r} {params} {params.model_dump()} {params.model_dump_json()} {env.logged}"
    _, errors = decode(INFO.params, {**GOOD, "password": ["hunter2"]})
    assert errors
    assert "hunter" not in str(errors)


def test_keys_are_readable_and_tell_types_apart():
    def base(**dimensions):
        return key_base(QuotaInstance("q.instance.ns", dimensions))

    assert base() == "q.instance.ns"
    assert base(b="2", a="1") == "q.instance.ns;a=1;b=2"
    assert base(a=1) == "q.instance.ns;a:int=1"
    assert base(a="x;b=y") == "q.instance.ns;a=x%3bb%3dy"
    values = [
        "1",
        1,
        True,
        1.0,
        b"\x01",
        Duration(1),
        Timestamp(1),
        {"1": "1"},
        {"1&1": "1"},
        {"1": "1&1:1"},
        "",
        "{",
        "}",
        "é",
        "\0",
    ]
    assert len({base(a=value) for value in values}) == len(values)
    assert len(base(a="x" * 100_000)) < 300
    assert base(a="x" * 100_000) != base(a="x" * 100_001)


texts = st.text(max_size=30) | st.text(alphabet="ab{};=%:&", max_size=8)
values = st.one_of(
    texts, st.integers(), st.booleans(), st.floats(allow_nan=False), st.dictionaries(texts, texts, max_size=3)
)


@given(st.dictionaries(texts, values, max_size=3), st.dictionaries(texts, values, max_size=3), texts)
def test_keys_of_a_call_share_a_slot_and_different_counters_never_share_a_key(one, other, dedup_id):
    limits = limits_by_name(
        parse_params(INFO, {**GOOD, "quotas": [{**Q, **ROLLING, "bucketDuration": "1s"}, {**Q, "name": "f"}]}), SCRIPTS
    )

    def typed(dimensions):
        return {
            (k, type(v).__name__, repr(v if not isinstance(v, dict) else sorted(v.items())))
            for k, v in dimensions.items()
        }

    bases = key_base(QuotaInstance("q", one)), key_base(QuotaInstance("q", other))
    assert (bases[0] == bases[1]) == (typed(one) == typed(other))
    for limit in (limits["q"].own, limits["f"].own):
        keys = limit.keys("mixer:", bases[0], dedup_id)
        assert len({key_slot(key.encode()) for key in keys}) == 1
        assert all(key.isascii() for key in keys)
        assert len(keys) == len(set(keys))
