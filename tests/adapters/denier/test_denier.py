"""denier. Source: spec adapters 4.4; the combination of several answers (scenario 7) is the runtime's."""

import pytest

from mixer.adapters.base import CheckResult, Code, DirectResponse, QuotaArgs, QuotaResult, Status
from mixer.adapters.denier import INFO
from mixer.adapters.testing import assert_handler_lifecycle, build_handler
from mixer.attributes import Duration
from mixer.store.protojson import decode
from mixer.templates.listentry import ListEntryInstance
from mixer.templates.nothing import CheckNothingInstance
from mixer.templates.quota import QuotaInstance

DIRECT = "type.googleapis.com/istio.policy.v1beta1.DirectHttpResponse"


async def answer(params=None):
    return (await build_handler(INFO, params)).handle_check(CheckNothingInstance("i"))


async def test_denier_keeps_the_lifecycle():
    await assert_handler_lifecycle(INFO)


@pytest.mark.parametrize("instance", [CheckNothingInstance("i"), ListEntryInstance("i", "x")], ids=["nothing", "list"])
async def test_denier_denies_by_default(instance):
    """Scenario 1."""
    handler = await build_handler(INFO)
    expected = CheckResult(Status(Code.FAILED_PRECONDITION), Duration.parse("5s"), 1000)
    assert handler.handle_check(instance) == expected


async def test_denier_grants_nothing():
    """Scenario 2."""
    handler = await build_handler(INFO)
    assert handler.handle_quota(QuotaInstance("q"), QuotaArgs(amount=100)) == QuotaResult(0, Duration(0), Status())


async def test_denier_says_what_it_is_told():
    """Scenario 3."""
    result = await answer({"status": {"code": 7, "message": "Not allowed"}})
    assert result == CheckResult(Status(Code.PERMISSION_DENIED, "Not allowed"), Duration.parse("5s"), 1000)


async def test_status_keeps_the_default_code_beside_a_message():
    """Scenario 4."""
    assert (await answer({"status": {"message": "nope"}})).status == Status(Code.FAILED_PRECONDITION, "nope")


async def test_denier_with_code_zero_admits_and_limits_caching():
    """Scenario 5."""
    result = await answer({"status": {"code": 0}})
    assert result == CheckResult(Status(), Duration.parse("5s"), 1000)
    assert not result.is_default


@pytest.mark.parametrize("code", [302, "Found"])
async def test_denier_carries_a_direct_response(code):
    """Scenario 6."""
    detail = {"@type": DIRECT, "code": code, "body": "gone", "headers": {"Location": "https://example.com"}}
    result = await answer({"status": {"code": 16, "details": [detail]}})
    response = DirectResponse(302, "gone", {"Location": "https://example.com"})
    assert result.status == Status(Code.UNAUTHENTICATED, "", response)


async def test_direct_response_without_a_code_leaves_it_to_the_status():
    result = await answer({"status": {"details": [{"@type": DIRECT}]}})
    assert result.status.direct_response == DirectResponse()


async def test_denial_may_forbid_reuse():
    """Scenario 8."""
    result = await answer({"validDuration": "0s", "validUseCount": 0})
    assert result == CheckResult(Status(Code.FAILED_PRECONDITION), Duration(0), 0)


@pytest.mark.parametrize(
    ("detail", "field", "message"),
    [
        ({"@type": DIRECT, "code": "Nowhere"}, "code", 'unknown value "Nowhere" for enum HttpStatusCode'),
        ({"@type": DIRECT, "code": 7}, "code", "7 is not an HTTP status"),
        ({"@type": DIRECT, "code": True}, "code", "the boolean true is not an HTTP status"),
        ({"@type": "x/google.rpc.BadRequest"}, "@type", 'a detail of type "x/google.rpc.BadRequest" has no effect'),
        ({"code": 302}, "@type", "required field is missing"),
        ({"@type": DIRECT, "code": 302, "boddy": ""}, "boddy", 'unknown field "boddy" in DirectResponseDetail'),
    ],
    ids=lambda value: str(value)[:30],
)
def test_details_that_would_do_nothing_are_faults(detail, field, message):
    model, faults = decode(INFO.params, {"status": {"details": [detail]}})
    assert model is None
    assert [(fault.path, fault.message) for fault in faults] == [(("status", "details", 0, field), message)]
