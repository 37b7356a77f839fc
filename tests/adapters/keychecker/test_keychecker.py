"""keychecker: keys, what they are good for, and files of them. Source: spec adapters 2.8."""

import asyncio
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.base import Code
from mixer.adapters.keychecker import INFO
from mixer.adapters.keychecker.keys import Holder, KeyTable, digest_of
from mixer.adapters.testing import FakeClock, RecordingEnv, assert_handler_lifecycle, build_handler
from mixer.attributes import Duration
from mixer.errors import BackendUnavailableError
from mixer.store.protojson import decode
from mixer.templates.apikey import ApiKeyInstance

SECRET = "k-3141592653589793"
SHA256 = hashlib.sha256(SECRET.encode()).hexdigest()
MINUTE = Duration.parse("60s")


class Bench:
    def __init__(self):
        self.clock = FakeClock()
        self.recording = RecordingEnv(self.clock)
        self.handlers = []

    async def build(self, **params):
        handler = await build_handler(INFO, params, env=self.recording)
        self.handlers.append(handler)
        return handler

    def outcomes(self):
        return {
            sample.labels["outcome"]: int(sample.value)
            for family in self.recording.metrics.collect()
            for sample in family.samples
            if sample.name == "mixer_keychecker_checks_total" and sample.value
        }

    def sample(self, name):
        return self.recording.metrics.get_sample_value(f"mixer_keychecker_{name}", {"handler": "test.istio-system"})

    async def until(self, condition):
        """Move the time on until something holds; files are read in threads, on their own time."""
        for _ in range(500):
            if condition():
                return
            await self.clock.advance(10)
            await asyncio.sleep(0.002)
        raise AssertionError("never came true")


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    for handler in bench.handlers:
        await handler.aclose()
    await asyncio.sleep(0)
    assert bench.recording.crashes == []
    assert SECRET not in str(bench.recording.logged)
    assert SHA256 not in str(bench.recording.logged)
    await bench.recording.aclose()


def faults(params):
    model, found = decode(INFO.params, params)
    return [(".".join(map(str, fault.path)), fault.message) for fault in found or INFO.validate(model, ())]


def key(**more):
    return {"name": "shop", "secret": SECRET, **more}


def presented(text, **more):
    return ApiKeyInstance("i", api_key=text, **more)


async def test_lifecycle(tmp_path):
    await assert_handler_lifecycle(INFO, {"keys": [key()]})
    await assert_handler_lifecycle(INFO, {"keysFile": str(tmp_path / "none")})


@pytest.mark.parametrize("how", [{"secret": SECRET}, {"sha256": SHA256}, {"sha256": SHA256.upper()}], ids=str.__call__)
@pytest.mark.parametrize(
    ("text", "code", "message", "outcome"),
    [
        pytest.param(SECRET, Code.OK, "", "admitted", id="known"),
        pytest.param("", Code.UNAUTHENTICATED, "API key is missing", "missing", id="missing"),
        pytest.param(SECRET + "x", Code.UNAUTHENTICATED, "API key is not valid", "unknown", id="longer"),
        pytest.param(SECRET[:-1], Code.UNAUTHENTICATED, "API key is not valid", "unknown", id="shorter"),
        pytest.param(SHA256, Code.UNAUTHENTICATED, "API key is not valid", "unknown", id="its-digest"),
        pytest.param("\ud800", Code.UNAUTHENTICATED, "API key is not valid", "unknown", id="no-text"),
    ],
)
async def test_key_is_looked_up(bench, how, text, code, message, outcome):
    handler = await bench.build(keys=[{"name": "shop", **how}])
    result = handler.handle_check(presented(text))
    assert (result.status.code, result.status.message) == (code, message)
    assert (result.valid_duration, result.valid_use_count) == (MINUTE, 1000)
    assert bench.outcomes() == {outcome: 1}


@pytest.mark.parametrize(
    ("allow", "admitted"),
    [
        ([], True),
        ([{}], True),
        ([{"api": "carts"}], True),
        ([{"api": "orders"}], False),
        ([{"api": "ca*"}], True),
        ([{"api": "carts", "versions": ["v1", "v2"]}], True),
        ([{"api": "carts", "versions": ["v2"]}], False),
        ([{"operations": ["GET /carts/*"]}], True),
        ([{"operations": ["PUT*"]}], False),
        ([{"operations": ["get /carts/1"]}], False),
        ([{"api": "orders"}, {"api": "carts", "operations": ["*"]}], True),
        ([{"api": "carts", "versions": ["v2"]}, {"api": "orders", "versions": ["v1"]}], False),
    ],
)
async def test_key_is_good_for_what_it_allows(bench, allow, admitted):
    handler = await bench.build(keys=[key(allow=allow)])
    result = handler.handle_check(presented(SECRET, api="carts", api_version="v1", api_operation="GET /carts/1"))
    if admitted:
        assert result.status.ok
    else:
        message = "the key of shop is not good for this operation"
        assert (result.status.code, result.status.message) == (Code.PERMISSION_DENIED, message)


async def test_key_ends_and_no_answer_outlives_it(bench):
    start_s = int(bench.clock.now()) // 10**9
    assert start_s == 1_000_000_000
    handler = await bench.build(keys=[key(notAfter="2001-09-09T01:48:40Z")], validUseCount=7)  # 120 s later
    assert handler.handle_check(presented(SECRET)).valid_duration == MINUTE
    await bench.clock.advance(90)
    result = handler.handle_check(presented(SECRET))
    assert (result.status.code, result.valid_duration, result.valid_use_count) == (Code.OK, Duration.parse("30s"), 7)
    await bench.clock.advance(30)
    result = handler.handle_check(presented(SECRET))
    assert (result.status.code, result.status.message) == (Code.UNAUTHENTICATED, "the key of shop has expired")
    assert bench.outcomes() == {"admitted": 2, "expired": 1}


@given(keys=st.lists(st.text(min_size=1), unique=True, max_size=8), other=st.text())
def test_table_finds_each_key_and_no_other(keys, other):
    table = KeyTable(Holder(str(number), digest_of(text)) for number, text in enumerate(keys))
    assert [table.find(text).name for text in keys] == [str(number) for number in range(len(keys))]
    if other not in keys:
        assert table.find(other) is None


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({}, ["keys"]),
        ({"keysFile": "/x"}, []),
        ({"keysFile": "a\0b"}, ["keysFile"]),
        ({"keys": [{"secret": SECRET}]}, ["keys.0.name"]),
        ({"keys": [{"name": "n"}]}, ["keys.0.secret"]),
        ({"keys": [key(sha256=SHA256)]}, ["keys.0.secret"]),
        ({"keys": [{"name": "n", "sha256": SECRET}]}, ["keys.0.sha256"]),
        ({"keys": [key(), {"name": "again", "sha256": SHA256}]}, ["keys.1"]),
        ({"keys": [key(notAfter="tomorrow")]}, ["keys.0.notAfter"]),
        ({"keys": [key(allow=[{"api": "a*b"}])]}, ["keys.0.allow.0.api"]),
        ({"keys": [key(allow=[{"operations": ["*", "**"]}])]}, ["keys.0.allow.0.operations"]),
        ({"keys": [key()], "refreshInterval": "10ms"}, ["refreshInterval"]),
        ({"keys": [key()], "validDuration": "-1s"}, ["validDuration"]),
        ({"keys": [key()], "validUseCount": -1}, ["validUseCount"]),
        ({"keys": [key(secret=5)]}, ["keys.0.secret"]),
    ],
)
def test_fault_names_the_field_and_shows_no_key(params, fields):
    found = faults(params)
    assert [path for path, _ in found] == fields
    assert SECRET not in str(found)
    assert SHA256 not in str(found)


def test_keys_are_never_shown():
    model, _ = decode(INFO.params, {"keys": [key(), {"name": "b", "sha256": SHA256}]})
    text = f"{model!r} {model} {Holder('n', digest_of(SECRET))!r}"
    assert SECRET not in text
    assert SHA256 not in text
    assert repr(digest_of(SECRET)) not in text


FILE = """
keys:
- name: robot
  secret: from-the-file
"""


async def test_file_is_read_again_when_it_changes(bench, tmp_path):
    path = tmp_path / "keys.yaml"
    path.write_text(FILE)
    handler = await bench.build(keys=[key()], keysFile=str(path))
    assert handler.handle_check(presented("from-the-file")).status.ok
    assert handler.handle_check(presented(SECRET)).status.ok
    assert bench.sample("keys") == 2
    other = tmp_path / "new"
    other.write_text(FILE.replace("from-the-file", "another"))
    os.replace(other, path)
    await bench.until(lambda: handler.handle_check(presented("another")).status.ok)
    assert not handler.handle_check(presented("from-the-file")).status.ok


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("keys: [{name: robot, secret: [", "neither YAML nor JSON", id="no-yaml"),
        pytest.param(f"keys:\n- name: r\n  secret: '{SECRET}\n", "neither YAML nor JSON", id="no-yaml-with-a-secret"),
        pytest.param(f"keys: [{{name: r, sha256: {SECRET}}}]", "not a SHA-256 digest", id="no-digest"),
        pytest.param("- a", "a list cannot be read here", id="no-mapping"),
        pytest.param(f"keys: [{{nam: r, secret: {SECRET}}}]", 'unknown field "nam"', id="unknown-field"),
        pytest.param("\0", "neither YAML nor JSON", id="binary"),
        pytest.param("keys: [{name: a}, {name: b}, {name: c}, {name: d}]", "and 1 more", id="many"),
        pytest.param(None, "No such file", id="gone"),
    ],
)
async def test_file_that_goes_wrong_keeps_the_former_keys(bench, tmp_path, content, reason):
    path = tmp_path / "keys.yaml"
    path.write_text(FILE)
    handler = await bench.build(keysFile=str(path))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    await bench.until(lambda: bench.sample("file_stale") == 1)
    assert handler.handle_check(presented("from-the-file")).status.ok
    warnings = [line["reason"] for line in bench.recording.logged if line["log_level"] == "warning"]
    assert len(warnings) == 1
    assert reason in warnings[0]
    path.write_text(FILE + "# sound again")
    await bench.until(lambda: bench.sample("file_stale") == 0)


async def test_file_that_was_never_there_denies_nobody_and_admits_nobody(bench, tmp_path):
    path = tmp_path / "keys.yaml"
    handler = await bench.build(keys=[key()], keysFile=str(path))
    assert handler.handle_check(presented(SECRET)).status.ok
    with pytest.raises(BackendUnavailableError, match="there are no keys"):
        handler.handle_check(presented("from-the-file"))
    assert bench.outcomes() == {"admitted": 1, "no_keys": 1}
    path.write_text(FILE)
    await bench.until(lambda: bench.sample("file_stale") == 0)
    assert handler.handle_check(presented("from-the-file")).status.ok


async def test_file_that_is_too_large_is_not_read(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("mixer.adapters.keychecker.file.MAX_BYTES", 10)
    path = tmp_path / "keys.yaml"
    path.write_text(FILE)
    handler = await bench.build(keysFile=str(path))
    with pytest.raises(BackendUnavailableError, match="more than 10 bytes"):
        handler.handle_check(presented("x"))
