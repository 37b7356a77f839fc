"""Attribute generators: they run first, on what the caller sent, and never override it. Source: spec runtime 4.1, 4.3."""

from __future__ import annotations

from typing import Any

import pytest

from mixer.adapters.base import CheckResult, QuotaArgs, QuotaResult
from mixer.attributes import Condition
from mixer.runtime.results import DispatchError
from tests.runtime.fakes import Bench, fake, instance, rule

BINDINGS = {
    "source.workload": '$out.source_workload_name | "unknown"',
    "source.namespace": '$out.source_namespace | "default"',
}
K8S = instance("kubernetes", "k8s", {"sourceUid": 'source.uid | ""'}, attributeBindings=BINDINGS)
ENTRY = instance("listentry", "entry", {"value": "source.workload"})


async def seen(bench: Bench, attributes: dict[str, Any]) -> Any:
    await bench.check(attributes)
    return bench.backend.calls_of("judge")[-1][0].value


@pytest.fixture
async def generating(bench: Bench) -> Bench:
    bench.backend.answers = {"gen": {"source_workload_name": "reviews"}, "judge": CheckResult()}
    await bench.serve(fake("gen"), fake("judge"), K8S, ENTRY, rule("r", {"gen": "k8s", "judge": "entry"}))
    return bench


async def test_generated_attribute_is_seen_by_checks(generating: Bench) -> None:
    assert await seen(generating, {"source.uid": "u"}) == "reviews"
    assert generating.backend.calls_of("gen")[0][0].source_uid == "u"


async def test_output_that_is_not_set_falls_through(generating: Bench) -> None:
    generating.backend.answers["gen"] = {}

    assert await seen(generating, {}) == "unknown"


async def test_generated_attribute_never_overrides_what_was_sent(generating: Bench) -> None:
    assert await seen(generating, {"source.workload": "mine"}) == "mine"


async def test_attribute_that_is_generated_is_referenced_as_absent(generating: Bench) -> None:
    """The generated value stands for what the generator read, as long as the caller sends none."""
    outcome = await generating.check({"source.uid": "u"})

    assert outcome.referenced == {
        ("context.reporter.kind", ""): Condition.ABSENCE,
        ("destination.namespace", ""): Condition.ABSENCE,
        ("source.uid", ""): Condition.EXACT,
        ("source.workload", ""): Condition.ABSENCE,
    }


async def test_first_generator_of_the_declaration_wins(bench: Bench) -> None:
    bench.backend.answers = {"a": {"source_workload_name": "of a"}, "b": {"source_workload_name": "of b"}}
    bench.backend.answers["judge"] = CheckResult()
    await bench.serve(
        fake("a"), fake("b"), fake("judge"), K8S, ENTRY, rule("r", {"b": "k8s", "a": "k8s", "judge": "entry"})
    )

    assert await seen(bench, {}) == "of b"


async def test_generators_do_not_see_each_other(bench: Bench) -> None:
    bench.backend.answers = {"a": {"source_workload_name": "w"}, "b": {}, "judge": CheckResult()}
    second = instance("kubernetes", "second", {"sourceUid": 'source.workload | "nothing yet"'})
    await bench.serve(fake("a"), fake("b"), K8S, second, rule("r", {"a": "k8s", "b": "second"}))

    await bench.check()

    assert bench.backend.calls_of("b")[0][0].source_uid == "nothing yet"


async def test_generated_namespace_selects_the_rules_of_later_phases(bench: Bench) -> None:
    """Generators see the namespace that was sent, checks the one that came out."""
    bench.backend.answers = {"gen": {"source_namespace": "bookinfo"}, "judge": CheckResult()}
    await bench.serve(
        fake("gen"), fake("judge"), K8S, instance("checknothing", "nothing"),
        rule("common", {"gen": "k8s"}),
        rule("own", {"judge.istio-system": "nothing.istio-system"}, namespace="bookinfo"),
    )  # fmt: skip

    await bench.check({"context.reporter.kind": "outbound"})

    assert len(bench.backend.calls_of("judge")) == 1


async def test_generator_runs_once_for_an_instance_that_two_rules_name(bench: Bench) -> None:
    bench.backend.answers = {"gen": {}}
    await bench.serve(fake("gen"), K8S, rule("a", {"gen": "k8s"}), rule("b", {"gen": "k8s"}, 'request.path == "/"'))

    await bench.check({"request.path": "/"})

    assert len(bench.backend.calls) == 1


async def test_generator_runs_before_reports_and_quotas(bench: Bench) -> None:
    bench.backend.answers = {"gen": {"source_workload_name": "reviews"}, "q": QuotaResult(1)}
    dimensions = {"dimensions": {"workload": "source.workload"}}
    await bench.serve(
        fake("gen"), fake("q"), fake("one"), K8S, instance("quota", "rc", dimensions), instance("metric", "m", dimensions),
        rule("r", {"gen": "k8s", "q": "rc", "one": "m"}),
    )  # fmt: skip

    await bench.check(quotas={"rc": QuotaArgs(1)})
    await bench.report({}, {"source.workload": "mine"})

    assert bench.backend.calls_of("q")[0][0].dimensions == {"workload": "reviews"}
    assert [i.dimensions["workload"] for i in bench.backend.calls_of("one")[0][0]] == ["reviews", "mine"]


@pytest.mark.parametrize(
    ("bindings", "outputs", "text"),
    [
        pytest.param(
            {"source.workload": "$out.source_owner", "source.user": '"set"'},
            {},
            "lookup failed: 'adapter_template_kubernetes.output.source_owner'",
            id="missing output",
        ),
        pytest.param(
            {"source.workload": "$out.source_owner"},
            {"source_owner": 5},
            "error converting value to string: '5'",
            id="output of another type",
        ),
        pytest.param(
            {"source.ip": "$out.source_pod_ip"}, {"source_pod_ip": "10.0.0.1"}, "10.0.0.1", id="not an address"
        ),
    ],
)
async def test_binding_that_fails_fails_the_request_and_binds_nothing(
    bench: Bench, bindings: dict[str, str], outputs: dict[str, Any], text: str
) -> None:
    bench.backend.answers = {"gen": outputs}
    await bench.serve(fake("gen"), instance("kubernetes", "k8s", attributeBindings=bindings), rule("r", {"gen": "k8s"}))

    with pytest.raises(DispatchError) as caught:
        await bench.check()

    assert str(caught.value).startswith(
        "preprocessing attributes failed: 1 error occurred:\n\t* attribute bindings of [k8s.instance.istio-system]: "
    )
    assert text in str(caught.value)
