"""redisquota on a real Redis, the test's clock in its scripts. Source: spec adapters 4.7; the numbers are those of its scenarios."""

import pytest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.redisquota import INFO
from mixer.adapters.testing import assert_handler_lifecycle
from mixer.api.codes import Code
from mixer.attributes import Duration
from mixer.templates import QUOTA

pytestmark = pytest.mark.e2e

FIXED = {"name": "fixed", "maxAmount": 10, "validDuration": "10s"}
ROLLING = {
    "name": "rolling",
    "max_amount": "10",
    "valid_duration": "100s",
    "bucket_duration": "10s",
    "rate_limit_algorithm": "ROLLING_WINDOW",
}
TOKENS = {"name": "tokens", "maxAmount": 10, "validDuration": "10s", "rateLimitAlgorithm": "TOKEN_BUCKET"}
LEASES = {"name": "leases", "maxAmount": 3, "validDuration": "60s", "rateLimitAlgorithm": "CONCURRENCY"}

ROWS = {
    "1 fixed best effort": (
        FIXED,
        True,
        "3@1(t)=3/10 3@2=3/9 3@3=3/8 3@4=1/7 3@5=0/0 3@6(t)=3/5 3@10=0 3@11=3/10 8@12=7/9 3@13=0 3@14=0 12@21(t)=10/10 1@22=0",
    ),
    "2 fixed strict": (
        FIXED,
        False,
        "3@1=3 3@2=3 3@3=3 3@4=0 1@5=1/6 3@6=0 3@10=0 3@11=3/10 8@12=0 7@13=7/8 3@14=0 10@30=10/10 10@31=0",
    ),
    "3 rolling best effort": (
        ROLLING,
        True,
        "3@0(t)=3/100 3@1=3 3@5(t)=3/95 3@10=3 3@11=1 3@12=0 3@20=0 3@85(t)=3/15 3@100=3 2@101(t)=2 2@102=1 "
        "1@110=1 1@111=1 1@112=1 1@113=1 1@114=0 1@150=0 10@200=6/100",
    ),
    "4 rolling strict": (
        ROLLING,
        False,
        "3@0=3 3@1=3 3@10=3 3@11=0 3@12=0 3@20=0 3@100=3 2@101=2 2@102=2 1@110=1 1@111=1 1@112=1 1@113=0 1@114=0 "
        "1@150=0 7@200=7",
    ),
}


@pytest.mark.parametrize(("quota", "best_effort", "row"), ROWS.values(), ids=ROWS)
async def test_redisquota_follows_the_scenario(clocked, quota, best_effort, row):
    take = clocked(quota)
    for step in row.split():
        asked, expected = step.split("=")
        amount, at = asked.removesuffix("(t)").split("@")
        await take.at(float(at))
        result = await take(
            quota["name"], int(amount), best_effort=best_effort, id="t" if asked.endswith("(t)") else None
        )
        granted, _, remaining = expected.partition("/")
        assert (step, result.amount) == (step, int(granted))
        assert result.status.code == (Code.OK if result.amount else Code.RESOURCE_EXHAUSTED)
        if remaining:
            assert (step, result.valid_duration.seconds) == (step, float(remaining))


async def test_override_needs_its_dimension_to_be_there(clocked):
    """Scenario 5: an absent dimension does not equal the empty text, unlike in memquota."""
    overrides = [
        {"dimensions": {"destination": "test"}, "maxAmount": 50},
        {"dimensions": {"source": ""}, "maxAmount": 5},
    ]
    take = clocked({**ROLLING, "overrides": overrides})
    assert [(await take("rolling", amount, source="")).amount for amount in (3, 3, 2, 1)] == [3, 0, 2, 0]
    assert (await take("rolling", 50, destination="test")).amount == 50
    assert (await take("rolling", 11)).amount == 0
    assert (await take("rolling", 10)).amount == 10


async def test_refusal_has_a_status_and_no_amount(clocked):
    """Scenarios 6 and 7."""
    overrides = [{"dimensions": {"source": "reviews", "destination": "ratings"}, "maxAmount": 12}]
    take = clocked({"name": "q", "maxAmount": 50, "validDuration": "30s", "overrides": overrides})
    first = await take("q", 30, best_effort=True)
    assert (first.amount, first.valid_duration.seconds, first.status.code) == (30, 30, Code.OK)
    assert (await take("q", 60, best_effort=True, source="other")).amount == 50
    refused = await take("q", 60)
    assert (refused.amount, refused.valid_duration) == (0, Duration(0))
    assert (refused.status.code, refused.status.message) == (Code.RESOURCE_EXHAUSTED, "redisquota: Resource exhausted")
    override = await take("q", 15, best_effort=True, source="reviews", destination="ratings")
    assert (override.amount, override.valid_duration.seconds) == (12, 30)


async def test_flushed_redis_starts_anew(clocked, redis):
    """Scenario 13, and scripts are gone, too: they are sent again."""
    take = clocked(FIXED)
    assert (await take("fixed", 10)).amount == 10
    redis.command("FLUSHALL")
    redis.command("SCRIPT", "FLUSH")
    assert (await take("fixed", 7)).amount == 7
    assert (await take("fixed", 7)).amount == 0
    assert take.env.logged == []


async def test_handlers_on_one_redis_share_counters(clocked):
    """Scenario 14."""
    one, other = clocked(FIXED), clocked(FIXED)
    assert (await one("fixed", 6)).amount == 6
    assert (await other("fixed", 6)).amount == 0
    assert (await other("fixed", 4)).amount == 4
    apart = clocked(FIXED, keyPrefix="apart:")
    assert (await apart("fixed", 10)).amount == 10


async def test_instance_without_limit_gets_nothing_and_no_objection(clocked):
    result = await clocked(FIXED)("other", 1)
    assert (result.amount, result.valid_duration, result.status.code) == (0, Duration(0), Code.OK)


@pytest.mark.parametrize("quota", [FIXED, ROLLING, TOKENS, LEASES], ids=lambda quota: quota["name"])
async def test_amount_of_zero_asks_nothing(clocked, redis, quota):
    result = await clocked(quota)(quota["name"], 0)
    assert (result.amount, result.status.code) == (0, Code.OK)
    assert redis.command("DBSIZE") == 0


@pytest.mark.parametrize("quota", [FIXED, ROLLING, TOKENS, LEASES], ids=lambda quota: quota["name"])
async def test_units_given_back_are_there_again_and_leave_no_key(clocked, redis, quota):
    take, name, limit = clocked(quota, deduplicationDuration="0s"), quota["name"], int(quota.get("maxAmount", 10))
    assert (await take(name, limit)).amount == limit
    assert (await take(name, 1)).amount == 0
    back = await take(name, -2)
    assert (back.amount, back.status.code, back.level.remaining) == (2, Code.OK, 2)
    assert (await take(name, limit, best_effort=True)).amount == 2
    assert (await take(name, -99)).amount == limit
    assert (await take(name, -1)).amount == 0
    assert redis.command("DBSIZE") == 0


@pytest.mark.parametrize("quota", [FIXED, ROLLING, TOKENS, LEASES], ids=lambda quota: quota["name"])
async def test_retry_gets_the_first_answer_also_when_it_was_a_refusal(clocked, quota):
    take, name, limit = clocked(quota), quota["name"], int(quota.get("maxAmount", 10))
    assert (await take(name, limit, id="grant")).amount == limit
    assert (await take(name, 1, id="refusal")).amount == 0
    assert (await take(name, -2, id="back")).amount == 2
    assert (await take(name, -2, id="back")).amount == 2
    await take.at(1.0)
    assert (await take(name, limit, id="grant")).amount == limit
    again = await take(name, 1, id="refusal")
    assert (again.amount, again.status.code) == (0, Code.RESOURCE_EXHAUSTED)
    assert again.level.remaining == (3 if name == "tokens" else 2), "the level is that of now"
    assert take.count("decisions", outcome="repeated") == 3


async def test_answers_are_forgotten(clocked):
    take = clocked(ROLLING, deduplicationDuration="20s")
    assert (await take("rolling", 6, id="a")).amount == 6
    assert (await take("rolling", 6, id="b")).amount == 0
    await take.at(11)
    assert (await take("rolling", -1, id="c")).amount == 1
    await take.at(12)
    assert (await take("rolling", 5, id="b")).amount == 5, "a refusal is forgotten after 10 s"
    assert (await take("rolling", 6, id="a")).amount == 6
    await take.at(21)
    assert (await take("rolling", 6, id="a")).amount == 0


async def test_level_tells_where_the_counter_stands(clocked):
    take = clocked(FIXED, ROLLING, TOKENS, LEASES)

    async def level(name, amount):
        level = (await take(name, amount)).level
        return level.limit, level.remaining, level.reset.seconds, level.window.seconds

    assert await level("fixed", 4) == (10, 6, 10, 10)
    assert await level("rolling", 4) == (10, 6, 100, 100)
    assert await level("tokens", 4) == (10, 6, 1, 10)
    assert await level("leases", 2) == (3, 1, 60, 0)
    await take.at(0.5)
    assert await level("fixed", 7) == (10, 6, 9.5, 10)
    assert await level("rolling", 7) == (10, 6, 99.5, 100)
    assert await level("tokens", 7) == (10, 6, 0.5, 10)
    assert await level("leases", -1) == (3, 2, 59.5, 0)


async def test_token_bucket_refills_evenly(clocked):
    take = clocked(TOKENS)
    assert (await take("tokens", 10)).amount == 10
    await take.at(0.999999)
    assert (await take("tokens", 1)).amount == 0
    await take.at(1)
    assert (await take("tokens", 2, best_effort=True)).amount == 1
    await take.at(5.5)
    assert (await take("tokens", 9, best_effort=True)).amount == 4
    await take.at(6)
    assert (await take("tokens", 1)).amount == 1
    await take.at(500)
    assert (await take("tokens", 11)).amount == 0
    assert (await take("tokens", 10)).amount == 10


async def test_leases_end_by_themselves_and_the_oldest_is_given_back_first(clocked):
    take = clocked(LEASES)
    for at in (0, 10, 20):
        await take.at(at)
        assert (await take("leases", 1)).amount == 1
    await take.at(59)
    assert (await take("leases", 1)).amount == 0
    assert (await take("leases", -1)).amount == 1, "the one of 0 s: those that stay may be held still"
    await take.at(69.999999)
    assert (await take("leases", 2)).amount == 0
    await take.at(70)
    assert (await take("leases", 2)).amount == 2


async def test_huge_amounts_are_exact_enough(clocked):
    take = clocked({"name": "q", "maxAmount": str(2**63 - 1), "validDuration": "10s"})
    assert (await take("q", 2**63 - 1)).amount == 0
    assert (await take("q", 2**52 - 1)).amount == 2**52 - 1
    assert (await take("q", 2, best_effort=True)).amount == 1


async def test_limit_of_nothing_grants_nothing_without_asking(clocked, redis):
    take = clocked({"name": "q", "validDuration": "10s"})
    result = await take("q", 1, best_effort=True)
    assert (result.amount, result.status.code, result.level.limit) == (0, Code.RESOURCE_EXHAUSTED, 0)
    assert (await take("q", -1)).amount == 0
    assert redis.command("DBSIZE") == 0


async def test_window_that_is_no_whole_millisecond_works(clocked):
    take = clocked({"name": "q", "maxAmount": 1, "validDuration": "1500us"})
    assert (await take("q", 1)).amount == 1
    await take.at(0.001499)
    assert (await take("q", 1)).amount == 0
    await take.at(0.0015)
    assert (await take("q", 1)).amount == 1


@pytest.mark.parametrize("quota", [FIXED, TOKENS, ROLLING], ids=lambda quota: quota["name"])
async def test_clock_that_steps_back_holds_units_a_window_at_most(clocked, quota):
    take = clocked(quota)
    await take.at(10_000)
    assert (await take(quota["name"], 10)).amount == 10
    take.env.clock._elapsed = 5_000.0
    assert (await take(quota["name"], 1)).amount == 0
    if quota is not ROLLING:  # its charges keep their time
        assert (await take(quota["name"], 1)).level.reset.seconds <= 10


@pytest.mark.parametrize("quota", [FIXED, ROLLING, TOKENS, LEASES], ids=lambda quota: quota["name"])
async def test_shipped_scripts_go_by_the_clock_of_redis_and_all_keys_expire(redis, running, quota):
    short = {
        **quota,
        "validDuration": "300ms",
        "valid_duration": None,
        "bucketDuration": "10ms",
        "bucket_duration": None,
    }
    take = await running(redisServerUrl=redis.address, quotas=[short], requestTimeout="5s")
    name, limit = quota["name"], int(quota.get("maxAmount", 10))
    assert (await take(name, limit)).amount == limit
    assert (await take(name, limit)).amount == 0
    assert redis.command("DBSIZE") > 1
    assert all(redis.command("PTTL", key) > 0 for key in redis.command("KEYS", "*"))
    await take.env.clock.sleep(0.32)
    assert (await take(name, limit)).amount == limit


async def test_redisquota_keeps_the_lifecycle(redis):
    params = {"redisServerUrl": redis.address, "quotas": [FIXED]}
    await assert_handler_lifecycle(INFO, params, instances=[InstanceInfo("fixed", QUOTA, {"dimensions": {}})])
    await assert_handler_lifecycle(INFO, {**params, "redisServerUrl": "127.0.0.1:1"})
