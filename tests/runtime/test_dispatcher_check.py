"""A Check at the dispatcher: what is asked, of whom, and what comes back. Source: spec runtime 4.2 to 4.5 and 10."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.adapters import denier, noop
from mixer.adapters.base import CheckResult, DirectResponse, Status
from mixer.attributes import Condition, Duration
from mixer.runtime.results import DispatchError
from tests.runtime.fakes import Bench, fake, instance, rule

SECONDS = 1_000_000_000

DENIERS = """
kind: handler
name: d7
spec: {compiledAdapter: denier, params: {status: {code: 7, message: seven}, validDuration: 7s, validUseCount: 11}}
---
kind: denier
name: d5
spec: {status: {code: 5, message: five}, validDuration: 3s, validUseCount: 30}
---
kind: handler
name: silent
spec: {compiledAdapter: noop}
---
kind: instance
name: nothing
spec: {compiledTemplate: checknothing}
---
kind: rule
name: seven
spec: {match: 'request.path.startsWith("/7") || request.path == "/both"', actions: [{handler: d7, instances: [nothing]}]}
---
kind: rule
name: five
spec: {match: 'request.path.startsWith("/5") || request.path == "/both"',
       actions: [{handler: d5.denier, instances: [nothing]}]}
---
kind: rule
name: noop
spec: {match: 'request.path == "/noop"', actions: [{handler: silent, instances: [nothing]}]}
"""

ABSENT, EXACT = Condition.ABSENCE, Condition.EXACT
NO_NAMESPACE = {("context.reporter.kind", ""): ABSENT, ("destination.namespace", ""): ABSENT}


@pytest.fixture
async def deniers(make_bench: Any) -> Bench:
    bench = make_bench([denier.INFO, noop.INFO])
    await bench.serve(DENIERS)
    return bench


@pytest.mark.parametrize(
    ("attributes", "code", "message", "duration_s", "uses"),
    [
        pytest.param({"request.path": "/7"}, 7, "d7.istio-system:seven", 7, 11, id="1: handler of the generic kind"),
        pytest.param({"request.path": "/5"}, 5, "d5.denier.istio-system:five", 3, 30, id="2: handler of a legacy kind"),
        pytest.param(
            {"request.path": "/both"}, 7, "d7.istio-system:seven, d5.denier.istio-system:five", 3, 11, id="3: both"
        ),
        pytest.param({}, 0, "", 60, 10_000, id="4: no attributes"),
        pytest.param({"request.path": "/noop"}, 0, "", 10**9, 10**9, id="5: noop only"),
        pytest.param({"request.path": "/other"}, 0, "", 60, 10_000, id="nobody objects"),
    ],
)
async def test_check_answers_as_the_reference_does(
    deniers: Bench, attributes: dict[str, str], code: int, message: str, duration_s: int, uses: int
) -> None:
    outcome = await deniers.check(attributes)

    assert outcome.result == CheckResult(Status(code, message), Duration(duration_s * SECONDS), uses)
    path = EXACT if attributes else ABSENT
    assert outcome.referenced == {**NO_NAMESPACE, ("request.path", ""): path}


async def test_check_fails_when_an_instance_needs_a_missing_attribute(bench: Bench) -> None:
    """Case 6; the sibling handler is called all the same, and its denial does not count."""
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"))
    await bench.serve(
        fake("judge"),
        instance("listentry", "le", {"value": "source.user"}),
        instance("checknothing", "nothing"),
        rule("r", {"judge": ["le", "nothing"]}),
    )

    with pytest.raises(DispatchError) as caught:
        await bench.check()

    assert str(caught.value) == (
        "performing check operation failed: 1 error occurred:\n\t* "
        "evaluation failed at [le.instance.istio-system]'Value': 'lookup failed: 'source.user''\n\n"
    )
    assert [call[0].name for call in bench.backend.calls_of("judge")] == ["nothing.instance.istio-system"]
    assert bench.sample("mixer_dispatcher_instance_errors_total", instance="le.instance.istio-system") == 1


@pytest.mark.parametrize(
    ("attributes", "applied"),
    [
        pytest.param({}, False, id="no namespace"),
        pytest.param({"destination.namespace": "bookinfo"}, True, id="inbound by default"),
        pytest.param({"context.reporter.kind": "inbound", "destination.namespace": "bookinfo"}, True, id="inbound"),
        pytest.param({"context.reporter.kind": 5, "destination.namespace": "bookinfo"}, True, id="kind is no string"),
        pytest.param({"context.reporter.kind": "outbound", "source.namespace": "bookinfo"}, True, id="outbound"),
        pytest.param(
            {"context.reporter.kind": "outbound", "destination.namespace": "bookinfo"},
            False,
            id="outbound, by source only",
        ),
        pytest.param({"context.reporter.kind": "local", "destination.namespace": "bookinfo"}, False, id="local"),
        pytest.param({"destination.namespace": 7}, False, id="namespace is no string"),
        pytest.param({"destination.namespace": "istio-system"}, False, id="the default namespace"),
    ],
)
async def test_rule_of_a_namespace_sees_the_requests_of_its_namespace(
    bench: Bench, attributes: dict[str, Any], applied: bool
) -> None:
    """Case 7."""
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"), valid_use_count=1)
    await bench.serve(
        fake("judge"),
        instance("checknothing", "nothing"),
        rule("r", {"judge.istio-system": "nothing.istio-system"}, namespace="bookinfo"),
    )

    assert bool((await bench.check(attributes)).result.status.code) is applied


@pytest.mark.parametrize("namespace", ["bookinfo", "istio-system", "elsewhere", ""])
async def test_rule_of_the_default_namespace_sees_every_request(bench: Bench, namespace: str) -> None:
    """Case 8."""
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"), valid_use_count=1)
    await bench.serve(
        fake("judge"),
        instance("checknothing", "nothing"),
        rule("common", {"judge": "nothing"}),
        rule("own", {"judge.istio-system": "nothing.istio-system"}, namespace="bookinfo"),
    )

    outcome = await bench.check({"destination.namespace": namespace})

    assert outcome.result.status.code == 7
    assert len(bench.backend.calls) == 1  # the same handler and instance, asked for by two rules


async def test_denials_stand_in_order_of_declaration_with_the_default_namespace_first(bench: Bench) -> None:
    for role in ("zeta", "alpha", "own"):
        bench.backend.answers[role] = CheckResult(Status(len(role), role), valid_use_count=1)
    await bench.serve(
        instance("checknothing", "nothing"),
        rule("a-own", {"own.istio-system": "nothing.istio-system"}, namespace="bookinfo"),
        rule("z", {"zeta": "nothing"}),
        rule("a", {"alpha": "nothing"}),
        fake("own"),
        fake("alpha"),
        fake("zeta"),
    )

    status = (await bench.check({"destination.namespace": "bookinfo"})).result.status

    assert status.message == "zeta.istio-system:zeta, alpha.istio-system:alpha, own.istio-system:own"
    assert status.code == 4


async def test_match_that_cannot_be_evaluated_does_not_hold(bench: Bench) -> None:
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"))
    await bench.serve(
        fake("judge"), instance("checknothing", "nothing"), rule("r", {"judge": "nothing"}, 'source.user == "a"')
    )

    assert (await bench.check()).result.status.ok
    assert bench.backend.calls == []
    assert bench.sample("mixer_dispatcher_match_errors_total") == 1


async def test_condition_of_many_rules_is_evaluated_once_a_phase(bench: Bench) -> None:
    bench.backend.answers["judge"] = CheckResult(Status())
    rules = [rule(f"r{i}", {"judge": f"n{i}"}, 'source.user == "a"') for i in range(5)]
    await bench.serve(fake("judge"), *(instance("checknothing", f"n{i}") for i in range(5)), *rules)

    await bench.check()

    assert bench.sample("mixer_dispatcher_match_errors_total") == 1


async def test_handler_is_asked_once_for_an_instance_that_several_rules_name(bench: Bench) -> None:
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"), valid_use_count=1)
    await bench.serve(
        fake("judge"),
        instance("checknothing", "nothing"),
        instance("checknothing", "other"),
        rule("a", {"judge": "nothing"}),
        rule("b", {"judge": ["nothing", "other"]}),
        rule("c", {"judge": "nothing"}, 'request.path == "/"'),
    )

    outcome = await bench.check({"request.path": "/"})

    assert [call[0].name.split(".")[0] for call in bench.backend.calls_of("judge")] == ["nothing", "other"]
    assert outcome.result.status.message == "judge.istio-system:no, judge.istio-system:no"


async def test_rule_that_does_not_match_does_not_keep_another_from_asking(bench: Bench) -> None:
    """The deduplication is by what was asked, not by what is configured."""
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"), valid_use_count=1)
    await bench.serve(
        fake("judge"),
        instance("checknothing", "nothing"),
        rule("a", {"judge": "nothing"}, 'request.path == "/never"'),
        rule("b", {"judge": "nothing"}),
    )

    assert (await bench.check({"request.path": "/"})).result.status.code == 7


async def test_denial_with_a_direct_response_becomes_a_directive(bench: Bench) -> None:
    detail = DirectResponse(302, "away", {"Location": "/login", "Set-Cookie": "a=1; Path=/,b=2"})
    bench.backend.answers["first"] = CheckResult(Status(16, "who?", detail), valid_use_count=1)
    bench.backend.answers["second"] = CheckResult(Status(7, "no", DirectResponse(599)), valid_use_count=1)
    await bench.serve(
        fake("first"), fake("second"), instance("checknothing", "nothing"),
        rule("r", {"first": "nothing", "second": "nothing"}),
    )  # fmt: skip

    directive = (await bench.check()).directive

    assert directive is not None
    assert (directive.direct_response_code, directive.direct_response_body) == (302, "away")
    headers = [(h.name, h.value, h.kind.name) for h in directive.response_headers]
    assert headers == [
        ("Location", "/login", "REPLACE"),
        ("Set-Cookie", "a=1; Path=/", "APPEND"),
        ("Set-Cookie", "b=2", "APPEND"),
    ]


async def test_only_the_first_denial_can_give_a_direct_response(bench: Bench) -> None:
    bench.backend.answers["first"] = CheckResult(Status(7, "no"), valid_use_count=1)
    bench.backend.answers["second"] = CheckResult(Status(7, "no", DirectResponse(302)), valid_use_count=1)
    await bench.serve(
        fake("first"), fake("second"), instance("checknothing", "nothing"),
        rule("r", {"first": "nothing", "second": "nothing"}),
    )  # fmt: skip

    assert (await bench.check()).directive is None


@pytest.mark.parametrize(
    ("code", "http"),
    [(0, 0), (1, 408), (2, 500), (3, 400), (4, 504), (5, 404), (6, 409), (7, 403), (8, 429), (9, 412), (10, 409),
     (11, 400), (12, 501), (13, 500), (14, 503), (15, 500), (16, 401), (99, 500)],
)  # fmt: skip
async def test_direct_response_without_a_code_takes_that_of_the_status(bench: Bench, code: int, http: int) -> None:
    bench.backend.answers["judge"] = CheckResult(Status(code, "", DirectResponse(body="b")), valid_use_count=1)
    await bench.serve(fake("judge"), instance("checknothing", "nothing"), rule("r", {"judge": "nothing"}))

    directive = (await bench.check()).directive

    assert (directive.direct_response_code if directive else 0) == http


async def test_referenced_attributes_name_map_keys_and_whole_maps(bench: Bench) -> None:
    bench.backend.answers["judge"] = CheckResult(Status())
    await bench.serve(
        fake("judge"),
        instance("listentry", "key", {"value": 'request.headers["a"] | request.headers["b"] | ""'}),
        instance("listentry", "whole", {"value": "source.labels"}),
        rule("r", {"judge": ["key", "whole"]}),
    )

    outcome = await bench.check({"request.headers": {"b": "1"}, "source.labels": {"app": "x"}})

    assert outcome.referenced == {
        **NO_NAMESPACE,
        ("request.headers", "a"): ABSENT,
        ("request.headers", "b"): EXACT,
        ("source.labels", ""): EXACT,
    }
    assert type(bench.backend.calls[1][1].value) is dict


async def test_check_before_any_configuration_has_no_objection(bench: Bench) -> None:
    assert (await bench.check({"request.path": "/"})).result.status.ok
