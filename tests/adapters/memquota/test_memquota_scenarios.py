"""memquota through its handler. Source: spec adapters 4.6; the numbers are those of its scenarios."""

import pytest

from mixer.adapters.base import Code, InstanceInfo, QuotaArgs
from mixer.adapters.memquota import INFO
from mixer.adapters.memquota.handler import counter_key
from mixer.adapters.testing import FakeClock, RecordingEnv, assert_handler_lifecycle, build_handler
from mixer.attributes import Duration, Timestamp
from mixer.errors import UnknownQuotaError
from mixer.store.protojson import decode
from mixer.templates import METRIC, QUOTA
from mixer.templates.quota import QuotaInstance

PARAMS = {
    "quotas": [
        {"name": "Q1", "maxAmount": 10},
        {"name": "Q2", "max_amount": "10", "validDuration": "1s"},
        {"name": "Q3", "maxAmount": 10, "validDuration": "60s"},
    ]
}


class Driver:
    """A handler under test, its clock, and ids that never repeat unless given."""

    def __init__(self, handler, clock):
        self.handler, self.clock, self._ids = handler, clock, 0

    async def at(self, seconds):
        await self.clock.advance(seconds - self.clock.monotonic())

    def __call__(self, name, amount, *, best_effort=False, id=None, **dimensions):
        self._ids += 1
        dedup_id = f"unique-{self._ids}" if id is None else id
        result = self.handler.handle_quota(QuotaInstance(name, dimensions), QuotaArgs(amount, best_effort, dedup_id))
        assert result.status.code == Code.OK
        return result.amount, result.valid_duration.seconds


async def driver(params=PARAMS):
    clock = FakeClock()
    return Driver(await build_handler(INFO, params, env=RecordingEnv(clock)), clock)


async def test_memquota_keeps_the_lifecycle():
    """Scenario 18, too: nothing runs in the background at all."""
    await assert_handler_lifecycle(INFO)
    await assert_handler_lifecycle(INFO, PARAMS, instances=[InstanceInfo("Q1", QUOTA, {"dimensions": {}})])


async def test_allocation_lasts_until_used_up_and_repeats_are_not_charged():
    """Scenario 1."""
    take = await driver()
    assert take("Q1", 2, id="a") == (2, 0)
    assert take("Q1", 2, id="a") == (2, 0)
    assert take("Q1", 6) == (6, 0)
    assert take("Q1", 2) == (2, 0)
    assert take("Q1", 2) == (0, 0)
    assert take("Q1", 1, best_effort=True) == (0, 0)


async def test_allocation_can_be_given_back():
    """Scenario 2."""
    take = await driver()
    assert take("Q1", 10) == (10, 0)
    assert take("Q1", -5, id="free") == (5, 0)
    assert take("Q1", -5, id="free") == (5, 0)
    assert take("Q1", -15) == (5, 0)
    assert take.handler.counters == 0
    assert take("Q1", -1) == (0, 0)


async def test_rate_comes_back_exactly_after_its_duration():
    """Scenarios 3 and 4."""
    take = await driver()
    await take.at(1)
    assert take("Q3", 10) == (10, 60)
    await take.at(2)
    assert take("Q3", 10) == (0, 0)
    await take.at(60)
    assert take("Q3", 10) == (0, 0)
    await take.at(61)
    assert take("Q3", 10) == (10, 60)
    await take.at(121)
    assert take("Q3", 100, best_effort=True) == (10, 60)
    await take.at(122)
    assert take("Q3", 100) == (0, 0)
    assert take("Q3", -10) == (10, 0)
    assert take("Q3", -1000) == (0, 0)


async def test_best_effort_of_nothing_still_tells_the_duration():
    take = await driver()
    assert take("Q3", 10) == (10, 60)
    assert take("Q3", 1, best_effort=True) == (0, 60)


async def test_asking_nothing_is_not_recorded():
    """Scenario 5."""
    take = await driver()
    assert take("Q1", 0, id="a") == (0, 0)
    assert take("Q1", 3, id="a") == (3, 0)


async def test_dimensions_of_every_type_make_a_key():
    """Scenario 8."""
    take = await driver()
    everything = {
        "string": "s",
        "int": 1,
        "double": 1.5,
        "nan": float("nan"),
        "bool": True,
        "time": Timestamp(5),
        "duration": Duration(5),
        "bytes": b"\x01\x02\x03\x04",
        "map": {"b": "2", "a": "1"},
        "none": None,
    }
    assert take("Q1", 6, **everything) == (6, 0)
    assert take("Q1", 6, **everything) == (0, 0)
    assert take("Q1", 4, **everything) == (4, 0)


def test_counter_keys_tell_types_apart_and_ignore_the_order_of_dimensions():
    values = ["1", 1, 1.0, True, Duration(1), Timestamp(1), b"1", {"1": "1"}, {}, None, ""]
    keys = [counter_key(QuotaInstance("q", {"d": value})) for value in values]
    keys += [counter_key(QuotaInstance("q", {})), counter_key(QuotaInstance("q", {"d": "1", "e": "1"}))]
    keys += [counter_key(QuotaInstance("q", {"d": "1;e=1"})), counter_key(QuotaInstance("p", {"d": "1"}))]
    assert len(set(keys)) == len(keys)
    assert counter_key(QuotaInstance("q", {"a": "x", "b": "y"})) == counter_key(
        QuotaInstance("q", {"b": "y", "a": "x"})
    )


@pytest.mark.parametrize("duration", ["0", "-1s"])
def test_deduplication_must_last_a_while(duration):
    """Scenario 9, first half."""
    params, _ = decode(INFO.params, {"minDeduplicationDuration": duration})
    assert [fault.path for fault in INFO.validate(params, ())] == [("minDeduplicationDuration",)]


def test_every_routed_quota_needs_a_limit():
    """Scenario 9, second half; all of them are named, and other templates do not matter."""
    params, _ = decode(INFO.params, PARAMS)
    routed = [InstanceInfo(name, QUOTA, {}) for name in ("Q1", "Foo", "Bar")] + [InstanceInfo("metric", METRIC, {})]
    assert [(fault.path, fault.message) for fault in INFO.validate(params, routed)] == [
        (("quotas",), "did not find limit defined for quota Foo"),
        (("quotas",), "did not find limit defined for quota Bar"),
    ]


def test_negative_durations_are_faults_where_they_stand():
    quotas = [{"name": "a", "validDuration": "-1s", "overrides": [{}, {"validDuration": "-1ns"}]}]
    params, _ = decode(INFO.params, {"quotas": quotas})
    assert [fault.path for fault in INFO.validate(params, ())] == [
        ("quotas", 0, "validDuration"),
        ("quotas", 0, "overrides", 1, "validDuration"),
    ]


async def test_limitless_quota_is_an_error_of_the_call():
    take = await driver()
    with pytest.raises(UnknownQuotaError, match="did not find limit defined for quota Foo"):
        take("Foo", 1)


async def test_an_id_is_forgotten_after_two_turns():
    """Scenario 10."""
    take = await driver()
    assert take("Q1", 10, id="0") == (10, 0)
    assert take("Q1", 10, id="0") == (10, 0)
    await take.at(1)
    assert take("Q1", 10, id="2") == (0, 0)
    assert take("Q1", 10, id="0") == (10, 0)
    await take.at(2)
    assert take("Q1", 10, id="0") == (0, 0)


async def test_an_id_is_forgotten_after_silence():
    """Scenario 11, and that silence makes up for as many turns as it lasted."""
    take = await driver()
    assert take("Q1", 10, id="0") == (10, 0)
    await take.at(3)
    assert take("Q1", 10, id="0") == (0, 0)


async def test_an_id_is_remembered_for_more_than_one_period_when_it_came_late_in_one():
    take = await driver()
    await take.at(0.9)
    assert take("Q1", 10, id="0") == (10, 0)
    await take.at(1.9)
    assert take("Q1", 10, id="0") == (10, 0)
    await take.at(2.0)
    assert take("Q1", 10, id="0") == (0, 0)


async def test_refusals_are_remembered_for_all_quotas():
    take = await driver()
    assert take("Q1", 11, id="same") == (0, 0)
    assert take("Q1", 1, id="same") == (0, 0)
    assert take("Q2", 1, id="same") == (0, 0)


OVERRIDES = {
    "quotas": [
        {
            "name": "q",
            "maxAmount": 42,
            "validDuration": "1s",
            "overrides": [
                {"dimensions": {"destination": "dest1"}, "maxAmount": 75, "validDuration": "2s"},
                {"dimensions": {"source.ip": "192.10.1.118"}, "maxAmount": 7},
                {"dimensions": {"version": "", "destination": "bare"}, "maxAmount": 3, "validDuration": "1s"},
            ],
        },
        {"name": "always", "maxAmount": 42, "overrides": [{"maxAmount": 1, "validDuration": "5s"}]},
    ]
}


@pytest.mark.parametrize(
    ("name", "dimensions", "grant"),
    [
        ("q", {"destination": "dest1"}, (75, 2)),
        ("q", {"destination": "dest2"}, (42, 1)),
        ("q", {}, (42, 1)),
        ("q", {"source.ip": bytes([192, 10, 1, 118])}, (7, 0)),  # scenario 15: no duration means no expiry
        ("q", {"source.ip": bytes([192, 10, 1, 119])}, (42, 1)),
        ("q", {"destination": "bare"}, (3, 1)),
        ("q", {"destination": "bare", "version": "v1"}, (42, 1)),
        ("always", {"destination": "any"}, (1, 5)),
    ],
    ids=str,
)
async def test_the_first_override_that_fits_gives_limit_and_duration(name, dimensions, grant):
    """Scenarios 12 and 15."""
    take = await driver(OVERRIDES)
    assert take(name, 1000, best_effort=True, **dimensions) == grant


async def test_overrides_limit_some_callers_only():
    """Scenario 13."""
    overrides = [
        {"dimensions": {"destination": "reviews"}, "maxAmount": 1, "validDuration": "5s"},
        {
            "dimensions": {"destination": "productpage", "source": "10.28.11.20"},
            "maxAmount": 500,
            "validDuration": "1s",
        },
        {"dimensions": {"destination": "productpage"}, "maxAmount": 2, "validDuration": "5s"},
    ]
    quota = {"name": "q", "maxAmount": 500, "validDuration": "1s", "overrides": overrides}
    take = await driver({"quotas": [quota]})
    other = {"destination": "productpage", "source": "10.0.0.1"}
    friend = {"destination": "productpage", "source": "10.28.11.20"}
    assert [take("q", 1, **other)[0] for _ in range(3)] == [1, 1, 0]
    assert [take("q", 1, **friend)[0] for _ in range(3)] == [1, 1, 1]
    assert [take("q", 1, destination="reviews", source="x")[0] for _ in range(2)] == [1, 0]
    await take.at(5)
    assert take("q", 1, **other) == (1, 5)


async def test_dimensions_never_share_a_counter():
    """Scenario 14."""
    take = await driver()
    assert take("Q3", 10, source="a") == (10, 60)
    assert take("Q3", 10, source="b") == (10, 60)
    assert take("Q3", 1, source="a") == (0, 0)


async def test_a_new_handler_starts_from_full_counters():
    """Scenario 16."""
    for _ in range(2):
        take = await driver()
        assert take("Q1", 10) == (10, 0)
        await take.handler.aclose()


async def test_a_repeat_tells_how_long_the_grant_still_holds():
    """Scenario 17."""
    take = await driver({**PARAMS, "minDeduplicationDuration": "100s"})
    assert take("Q3", 4, id="a") == (4, 60)
    await take.at(20)
    assert take("Q3", 4, id="a") == (4, 40)
    await take.at(70)
    assert take("Q3", 4, id="a") == (4, 0)


async def test_the_last_limit_of_a_name_wins():
    take = await driver({"quotas": [{"name": "q", "maxAmount": 1}, {"name": "q", "maxAmount": 5}]})
    assert take("q", 5) == (5, 0)


@pytest.mark.parametrize("limit", [0, -3])
@pytest.mark.parametrize("duration", ["0", "1s"])
async def test_a_limit_of_nothing_grants_nothing(limit, duration):
    take = await driver({"quotas": [{"name": "q", "maxAmount": limit, "validDuration": duration}]})
    assert take("q", 1)[0] == 0
    assert take("q", 1, best_effort=True)[0] == 0
    assert take.handler.counters == 0


async def test_short_durations_count_by_the_second():
    take = await driver({"quotas": [{"name": "q", "maxAmount": 1, "validDuration": "500ms"}]})
    assert take("q", 1) == (1, 0.5)
    await take.at(0.9)
    assert take("q", 1) == (0, 0)
    await take.at(1)
    assert take("q", 1) == (1, 0.5)


async def test_idle_counters_are_forgotten():
    take = await driver()
    for number in range(50):
        assert take("Q2", 1, source=str(number)) == (1, 1)
    assert take.handler.counters == 50
    await take.at(2)
    assert take("Q1", 1) == (1, 0)
    assert take.handler.counters == 1


async def test_requests_without_an_id_are_no_retries_of_each_other():
    handler = await build_handler(INFO, {"quotas": [{"name": "q", "maxAmount": 3}]})

    amounts = [handler.handle_quota(QuotaInstance("q"), QuotaArgs(2)).amount for _ in range(2)]

    assert amounts == [2, 0]


async def test_answers_tell_where_the_counter_stands():
    run = await driver()

    async def level(name, amount, at):
        await run.at(at)
        found = run.handler.handle_quota(QuotaInstance(name, {}), QuotaArgs(amount)).level
        return found.limit, found.remaining, found.reset.seconds, found.window.seconds

    assert await level("Q3", 4, at=0) == (10, 6, 60, 60)
    assert await level("Q3", 6, at=20) == (10, 0, 40, 60), "units come back when the first charge is over"
    assert await level("Q3", 1, at=30) == (10, 0, 30, 60), "refused"
    assert await level("Q3", -10, at=31) == (10, 10, 0, 60), "given back"
    assert await level("Q1", 3, at=31) == (10, 7, 0, 0), "nothing comes back by itself"
