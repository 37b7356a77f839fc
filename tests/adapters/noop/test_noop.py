"""noop. Source: spec adapters 4.14."""

import pytest

from mixer.adapters.base import Code, QuotaArgs, Status
from mixer.adapters.noop import INFO
from mixer.adapters.testing import assert_handler_lifecycle, build_handler
from mixer.attributes import Duration
from mixer.templates import Variety
from mixer.templates.quota import QuotaInstance

CHECKS = [t for t in INFO.templates if t.variety is Variety.CHECK]
REPORTS = [t for t in INFO.templates if t.variety is Variety.REPORT]


async def test_noop_keeps_the_lifecycle():
    await assert_handler_lifecycle(INFO)


def test_noop_takes_every_template_of_the_catalogue():
    assert {t.name for t in INFO.templates} == {
        "authorization",
        "checknothing",
        "reportnothing",
        "listentry",
        "logentry",
        "metric",
        "quota",
        "tracespan",
    }


@pytest.mark.parametrize("template", CHECKS, ids=lambda t: t.name)
async def test_noop_agrees_with_every_check(template):
    handler = await build_handler(INFO)
    result = handler.handle_check(template.instance_type(name="i"))
    assert result.status == Status(Code.OK)
    assert (result.valid_duration, result.valid_use_count) == (Duration.parse("1000000000s"), 1_000_000_000)


@pytest.mark.parametrize("template", REPORTS, ids=lambda t: t.name)
async def test_noop_takes_every_report_also_an_empty_one(template):
    handler = await build_handler(INFO)
    assert handler.handle_report([template.instance_type(name="i")]) is None
    assert handler.handle_report([]) is None


async def test_noop_grants_what_is_asked():
    handler = await build_handler(INFO)
    result = handler.handle_quota(QuotaInstance("q"), QuotaArgs(amount=100))
    assert (result.amount, result.valid_duration, result.status.code) == (100, Duration.parse("1000000000s"), Code.OK)
