"""Header operations. Source: spec runtime 4.6 and 10."""

from __future__ import annotations

from typing import Any

from mixer.adapters.base import CheckResult, Status
from mixer.attributes import Condition
from tests.runtime.fakes import Bench, fake, instance, rule


def header(name: str, *values: str, operation: str = "REPLACE") -> dict[str, Any]:
    return {"name": name, "values": list(values), "operation": operation}


def applied(outcome: Any) -> tuple[list[str], list[str]]:
    directive = outcome.directive
    if directive is None:
        return [], []
    request, response = (
        [f"{h.kind.name} {h.name}={h.value}" for h in headers]
        for headers in (directive.request_headers, directive.response_headers)
    )
    return request, response


async def test_operations_are_applied_as_the_reference_does(bench: Bench) -> None:
    """Case 9."""
    request = [
        header("x-user", 'source.user | ""'),
        header("x-many", '"a"', '"b"', operation="APPEND"),
        header("x-gone", operation="REMOVE"),
    ]
    await bench.serve(rule("headers", {}, requestHeaderOperations=request))

    outcome = await bench.check()

    assert applied(outcome) == (["APPEND x-many=a", "APPEND x-many=b", "REMOVE x-gone="], [])
    assert (outcome.result.status.code, outcome.result.valid_duration.seconds, outcome.result.valid_use_count) == (
        0, 60, 10_000,
    )  # fmt: skip
    assert outcome.referenced[("source.user", "")] is Condition.ABSENCE


async def test_value_that_cannot_be_evaluated_is_passed_over(bench: Bench) -> None:
    await bench.serve(
        rule("headers", {}, responseHeaderOperations=[header("x-user", "source.user"), header("x-ok", '"1"')])
    )

    assert applied(await bench.check()) == ([], ["REPLACE x-ok=1"])


async def test_operations_stand_in_order_of_the_rules_default_namespace_first(bench: Bench) -> None:
    def of(name: str, **extra: Any) -> dict[str, Any]:
        return rule(name, {}, requestHeaderOperations=[header("x", f'"{name}"', operation="APPEND")], **extra)

    await bench.serve(of("own", namespace="bookinfo"), of("zeta"), of("alpha"), of("other", namespace="elsewhere"))

    request, _ = applied(await bench.check({"destination.namespace": "bookinfo"}))

    assert request == ["APPEND x=zeta", "APPEND x=alpha", "APPEND x=own"]


async def test_namespace_with_checks_of_its_own_inherits_header_operations(bench: Bench) -> None:
    bench.backend.answers["judge"] = CheckResult()
    await bench.serve(
        fake("judge"),
        instance("checknothing", "nothing"),
        rule("headers", {}, requestHeaderOperations=[header("x", '"1"')]),
        rule("own", {"judge.istio-system": "nothing.istio-system"}, namespace="bookinfo"),
    )

    assert applied(await bench.check({"destination.namespace": "bookinfo"})) == (["REPLACE x=1"], [])


async def test_rule_that_does_not_match_has_no_operations(bench: Bench) -> None:
    operations = {"requestHeaderOperations": [header("x", '"1"')]}
    await bench.serve(
        rule("no", {}, 'request.path == "/other"', **operations),
        rule("error", {}, 'source.user == "a"', **operations),
    )

    assert (await bench.check({"request.path": "/"})).directive is None


async def test_denied_request_has_no_operations(bench: Bench) -> None:
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"), valid_use_count=1)
    await bench.serve(
        fake("judge"),
        instance("checknothing", "nothing"),
        rule("r", {"judge": "nothing"}, requestHeaderOperations=[header("x", '"1"')]),
    )

    assert (await bench.check()).directive is None


async def test_operation_may_use_generated_attributes(bench: Bench) -> None:
    bench.backend.answers["gen"] = {"source_workload_name": "reviews"}
    k8s = instance("kubernetes", "k8s", attributeBindings={"source.workload": "$out.source_workload_name"})
    await bench.serve(
        fake("gen"), k8s, rule("r", {"gen": "k8s"}, responseHeaderOperations=[header("x-from", "source.workload")])
    )

    assert applied(await bench.check()) == ([], ["REPLACE x-from=reviews"])
