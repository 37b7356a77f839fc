"""listchecker through its handler, with a source that the test plays. Source: spec adapters 4.5."""

import asyncio

import pytest

from mixer.adapters.base import CheckResult, Code, Status
from mixer.adapters.listchecker import INFO
from mixer.adapters.listchecker.handler import ListHandler
from mixer.adapters.testing import RecordingEnv, assert_handler_lifecycle, build_handler, parse_params, settle
from mixer.attributes import Duration
from mixer.errors import BackendUnavailableError
from mixer.store.protojson import decode
from mixer.templates.listentry import ListEntryInstance

FIVE_MINUTES = Duration.parse("300s")


class PlayedSource:
    """Answers with ``body``, fails when that is an exception, and waits while ``gate`` is closed."""

    def __init__(self, body):
        self.body, self.fetches, self.closed = body, 0, False
        self.gate = asyncio.Event()
        self.gate.set()

    def __str__(self):
        return "http://lists/"

    async def fetch(self):
        self.fetches += 1
        await self.gate.wait()
        if isinstance(self.body, Exception):
            raise self.body
        return self.body

    async def aclose(self):
        self.closed = True


DOWN = BackendUnavailableError("http://lists/ answers 500")


def fetched(source, env, **params):
    """A handler as ``build`` makes it, but for the source; params need not pass validation."""
    model, faults = decode(INFO.params, {"providerUrl": "http://lists/", **params})
    assert not faults
    return ListHandler(model, env.env(), source)


def check(handler, value):
    result = handler.handle_check(ListEntryInstance("i", value))
    assert (result.valid_duration, result.valid_use_count) == (FIVE_MINUTES, 10_000)
    return result.status.code, result.status.message


OK = (Code.OK, "")


def denied(message):
    return Code.PERMISSION_DENIED, message


def unusable(message):
    return Code.INVALID_ARGUMENT, message


async def test_listchecker_keeps_the_lifecycle():
    await assert_handler_lifecycle(INFO)
    await assert_handler_lifecycle(INFO, {"overrides": ["a"]})


async def test_whitelist_admits_what_is_in_it():
    """Scenario 1."""
    handler = await build_handler(INFO, {"overrides": ["src1", "src2"]})
    assert handler.handle_check(ListEntryInstance("i", "src1")) == CheckResult(Status(), FIVE_MINUTES, 10_000)
    assert check(handler, "src3") == denied("src3 is not whitelisted")
    assert check(handler, "") == denied(" is not whitelisted")


async def test_blacklist_denies_what_is_in_it():
    """Scenario 2."""
    handler = await build_handler(INFO, {"overrides": ["src1", "src2"], "blacklist": True})
    assert check(handler, "src1") == denied("src1 is blacklisted")
    assert check(handler, "src3") == OK


@pytest.mark.parametrize("form", [bytes, ".".join], ids=["bytes", "text"])
async def test_addresses_match_in_both_forms(form):
    """Scenarios 3 and 4."""

    def address(*parts):
        return form(parts) if form is bytes else form(map(str, parts))

    handler = await build_handler(INFO, {"overrides": ["10.57.0.0/16"], "entryType": "IP_ADDRESSES"})
    assert check(handler, address(10, 57, 0, 1)) == OK
    assert check(handler, address(10, 56, 0, 1)) == denied("10.56.0.1 is not whitelisted")


@pytest.mark.parametrize("blacklist", [False, True])
@pytest.mark.parametrize(
    ("value", "text"), [(42, "42"), (True, "true"), (None, ""), (Duration(5), "5ns"), ({"a": "b"}, "a=b")], ids=str
)
async def test_other_values_are_invalid(value, text, blacklist):
    """Scenario 16."""
    handler = await build_handler(INFO, {"overrides": ["42"], "blacklist": blacklist})
    assert check(handler, value) == unusable(f"{text} is not a valid string or IP address")


async def test_fetched_addresses_stay_when_a_later_list_is_bad():
    """Scenarios 5, 6 and 7."""
    env = RecordingEnv()
    source = PlayedSource(b"whitelist:\n- 10.10.11.2\n- 10.10.11.3\n- 9.9.9.9/28\n")
    handler = fetched(source, env, overrides=["11.11.11.11"], entryType="IP_ADDRESSES")
    await handler.refresh()
    for bad in (None, b"whitelist: [1.2.3.4, X]", b"- 1.2.3.4\n", b"\xff"):
        if bad is not None:
            source.body = bad
            await handler.refresh()
        assert check(handler, "9.9.9.1") == OK
        assert check(handler, "11.11.11.11") == OK
        assert check(handler, "120.10.11.2") == denied("120.10.11.2 is not whitelisted")
        assert check(handler, "1.2.3.4") == denied("1.2.3.4 is not whitelisted")
        assert check(handler, "XYZ") == unusable("XYZ is not a valid IP address")
    assert [line["reason"] for line in env.logged] == [
        "http://lists/: 'X' is not an IP address or CIDR block",
        "http://lists/: expected a mapping with a whitelist, got a list",
        "http://lists/: the list is not UTF-8 at byte 0",
    ]


@pytest.mark.parametrize(
    ("kind", "verdicts"),
    [
        ("STRINGS", {"ABC": True, "abc": False, "over": True, "OVER": False}),  # scenario 8
        ("CASE_INSENSITIVE_STRINGS", {"ABC": True, "abc": True, "OVER": True, "x": False}),  # scenario 9
        ("REGEX", {"xABCx": True, "abc": False, "moreover": True}),  # scenario 10
    ],
)
async def test_overrides_add_to_what_is_fetched(kind, verdicts):
    handler = fetched(PlayedSource(b"ABC\nDEF"), RecordingEnv(), overrides=["over"], entryType=kind)
    await handler.refresh()
    assert {value: check(handler, value)[0] == Code.OK for value in verdicts} == verdicts


@pytest.mark.parametrize("body", [b"a\n(\n", DOWN], ids=["bad pattern", "down"])
async def test_without_a_list_calls_fail_with_the_reason(body):
    """Scenarios 11 and 12."""
    env = RecordingEnv()
    handler = fetched(PlayedSource(body), env, overrides=["a"], entryType="REGEX")
    with pytest.raises(BackendUnavailableError, match="it has not been fetched yet"):
        check(handler, "a")
    await handler.refresh()
    with pytest.raises(BackendUnavailableError, match="there is no list: http://lists/"):
        check(handler, "a")
    assert check(handler, 5)[0] == Code.INVALID_ARGUMENT


async def test_an_unchanged_list_is_not_read_again(monkeypatch):
    """Scenario 18; but a failure between the two does not make it unknown."""
    source = PlayedSource(b"a")
    handler = fetched(source, RecordingEnv())
    reads = []
    monkeypatch.setattr(handler, "_list_of", lambda body, read=handler._list_of: reads.append(body) or read(body))
    for body in (b"a", b"a", DOWN, b"a", b"b", b"a"):
        source.body = body
        await handler.refresh()
    assert reads == [b"a", b"b", b"a"]


async def running(source, env, **params):
    handler = fetched(source, env, **params)
    await handler.refresh()
    env.env().spawn(handler.keep_fresh())
    await settle()
    return handler


async def test_list_is_fetched_at_every_interval():
    env, source = RecordingEnv(), PlayedSource(b"a")
    handler = await running(source, env)
    await env.clock.advance(59)
    assert source.fetches == 1
    source.body = b"b"
    await env.clock.advance(1)
    assert source.fetches == 2
    assert check(handler, "b") == OK
    await env.clock.advance(120)
    assert source.fetches == 4
    await handler.aclose()


async def test_list_is_dropped_when_its_time_is_over():
    """Scenario 15."""
    env, source = RecordingEnv(), PlayedSource(b"a")
    handler = await running(source, env, refreshInterval="1ms", ttl="2ms")
    await env.clock.advance(0.5005)
    assert check(handler, "a") == OK
    source.body = DOWN
    await env.clock.advance(0.001)
    assert check(handler, "a") == OK
    await env.clock.advance(0.001)
    with pytest.raises(BackendUnavailableError, match="there is no list: http://lists/ answers 500"):
        check(handler, "a")
    source.body = b"a"
    await env.clock.advance(0.001)
    assert check(handler, "a") == OK
    await handler.aclose()


async def test_an_unchanged_list_lives_on():
    env, source = RecordingEnv(), PlayedSource(b"a")
    handler = await running(source, env, refreshInterval="100s", ttl="100s")
    await env.clock.advance(1000)
    assert check(handler, "a") == OK
    assert env.logged == []
    await handler.aclose()


async def test_a_fetch_under_way_decides_about_a_list_whose_time_is_over():
    env, source = RecordingEnv(), PlayedSource(b"a")
    handler = await running(source, env, refreshInterval="100s", ttl="100s")
    source.gate.clear()
    await env.clock.advance(104)
    assert check(handler, "a") == OK
    source.body = DOWN
    source.gate.set()
    await env.clock.advance(0)
    with pytest.raises(BackendUnavailableError):
        check(handler, "a")
    await handler.aclose()


async def test_an_outage_is_logged_once_and_counted_to_its_end():
    env, source = RecordingEnv(), PlayedSource(b"a")
    handler = await running(source, env, refreshInterval="1s", ttl="1h")

    def metrics():
        names = ("mixer_listchecker_fetches_total", "mixer_listchecker_list_stale")
        good, bad = (
            env.metrics.get_sample_value(names[0], {"handler": "test.istio-system", "outcome": outcome})
            for outcome in ("success", "failure")
        )
        return good, bad, env.metrics.get_sample_value(names[1], {"handler": "test.istio-system"})

    for source.body in (DOWN, BackendUnavailableError("http://lists/ did not answer in 5 s")):
        await env.clock.advance(10)
    assert metrics() == (1, 20, 1)
    source.body = b"a"
    await env.clock.advance(10)
    assert metrics() == (11, 20, 0)
    assert [(line["log_level"], line["event"], line.get("reason")) for line in env.logged] == [
        ("warning", "list_fetch_failed", "http://lists/ answers 500"),
        ("warning", "list_fetch_failed", "http://lists/ did not answer in 5 s"),
        ("info", "list_fetched_again", None),
    ]
    await handler.aclose()


async def test_a_large_list_is_read_as_well():
    source = PlayedSource(b"\n".join(b"entry-%d" % n for n in range(10_000)))
    handler = fetched(source, RecordingEnv())
    await handler.refresh()
    assert check(handler, "entry-9999") == OK


async def test_closing_stops_the_fetches():
    env, source = RecordingEnv(), PlayedSource(b"a")
    handler = await running(source, env)
    await handler.aclose()
    await handler.aclose()
    assert (env.running, source.closed, env.crashes) == (0, True, [])


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"refreshInterval": "0s"}, ["refreshInterval"]),
        ({"refreshInterval": "-1s"}, ["refreshInterval"]),
        ({"ttl": "59s"}, ["ttl"]),
        ({"fetchTimeout": "0"}, ["fetchTimeout"]),
        ({"maxListBytes": "0"}, ["maxListBytes"]),
        ({"cachingInterval": "-1s", "cachingUseCount": -1}, ["cachingInterval", "cachingUseCount"]),
        ({"overrides": ["1.2.3.4", "X"], "entryType": "IP_ADDRESSES"}, ["overrides.1"]),
        ({"overrides": ["a", "(", "["], "entryType": "REGEX"}, ["overrides.1", "overrides.2"]),
        ({"overrides": ["1.2.3.4", "::1"], "entryType": "IP_ADDRESSES"}, []),
        ({"overrides": ["("], "entryType": "STRINGS"}, []),
    ],
    ids=str,
)
def test_faults_are_found_where_they_are(params, fields):
    """Scenario 17."""
    model, _ = decode(INFO.params, {"providerUrl": "http://lists/", **params})
    assert [".".join(map(str, fault.path)) for fault in INFO.validate(model, ())] == fields


@pytest.mark.parametrize("url", ["Foo", ":", "http:", "http://", "http:///FOO", "file:///etc/passwd", "ftp://a/b"])
def test_provider_must_be_a_web_address(url):
    model, _ = decode(INFO.params, {"providerUrl": url})
    assert [fault.path for fault in INFO.validate(model, ())] == [("providerUrl",)]


def test_intervals_do_not_matter_without_a_provider():
    parse_params(INFO, {"refreshInterval": "0s", "ttl": "-1s", "fetchTimeout": "0"})
