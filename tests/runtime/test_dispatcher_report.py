"""Reports at the dispatcher: one call a handler and template, all else delivered. Source: spec runtime 4.8 and 10."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mixer.adapters.testing import settle
from mixer.attributes import MappingBag
from mixer.runtime.results import ReportError
from tests.runtime.fakes import Bench, fake, instance, rule

USERS = instance("metric", "users", {"value": "request.size | 0", "dimensions": {"user": 'source.user | "none"'}})


async def test_report_reaches_each_handler_in_one_call_a_template(bench: Bench) -> None:
    await bench.serve(
        fake("one"), fake("two"), USERS,
        instance("metric", "sizes", {"value": "request.size"}),
        instance("logentry", "line", {"severity": '"info"'}),
        rule("r", {"one": ["users", "line", "sizes"], "two": "users"}),
    )  # fmt: skip

    await bench.report({"source.user": "a", "request.size": 1}, {"source.user": "b", "request.size": 2})

    def names(batch: list[Any]) -> list[str]:
        return [f"{i.name.split('.')[0]}={getattr(i, 'value', '-')}" for i in batch]

    assert [(call[0], names(call[1])) for call in bench.backend.calls] == [
        ("one", ["users=1", "sizes=1", "users=2", "sizes=2"]),
        ("one", ["line=-", "line=-"]),
        ("two", ["users=1", "users=2"]),
    ]


async def test_records_stand_alone(bench: Bench) -> None:
    """Case 16, once decoded."""
    await bench.serve(fake("one"), USERS, rule("r", {"one": "users"}))

    await bench.report({"source.user": "a", "request.size": 1}, {"request.path": "/2"})

    assert [(i.dimensions["user"], i.value) for i in bench.backend.calls[0][1]] == [("a", 1), ("none", 0)]


async def test_record_that_lacks_an_attribute_costs_itself_only(bench: Bench) -> None:
    """Case 17."""
    await bench.serve(fake("one"), instance("metric", "m", {"value": "request.size"}), rule("r", {"one": "m"}))

    with pytest.raises(ReportError) as caught:
        await bench.report({"request.size": 1}, {}, {"request.size": 3})

    assert [i.value for i in bench.backend.calls[0][1]] == [1, 3]
    assert len(bench.backend.calls) == 1
    text = "evaluation failed at [m.instance.istio-system]'Value': 'lookup failed: 'request.size''"
    assert str(caught.value) == f"1 error occurred:\n\t* {text}\n\n"


async def test_matching_rules_each_report_the_same_instance(bench: Bench) -> None:
    await bench.serve(fake("one"), USERS, rule("a", {"one": "users"}), rule("b", {"one": ["users"]}))

    await bench.report({"source.user": "a"})

    assert len(bench.backend.calls[0][1]) == 2


async def test_records_of_several_namespaces_share_the_call(bench: Bench) -> None:
    await bench.serve(
        fake("one"),
        USERS,
        rule("common", {"one": "users"}),
        rule("own", {"one.istio-system": "users.istio-system"}, 'source.user != "a"', namespace="bookinfo"),
    )

    await bench.report(
        {"source.user": "a", "destination.namespace": "bookinfo"},
        {"source.user": "b", "destination.namespace": "bookinfo"},
        {"source.user": "c"},
    )

    assert [[i.dimensions["user"] for i in call[1]] for call in bench.backend.calls] == [["a", "b", "b", "c"]]


async def test_report_without_a_match_calls_nobody(bench: Bench) -> None:
    await bench.serve(fake("one"), USERS, rule("r", {"one": "users"}, 'request.path == "/"'))

    await bench.report({}, {"request.path": "/other"})
    await bench.report()

    assert bench.backend.calls == []


async def test_record_whose_preprocessing_fails_is_skipped(bench: Bench) -> None:
    bench.backend.answers["gen"] = {}
    await bench.serve(
        fake("gen"), fake("one"), USERS,
        instance("kubernetes", "k8s", {"sourceUid": "source.uid"}),
        rule("r", {"gen": "k8s", "one": "users"}),
    )  # fmt: skip

    with pytest.raises(ReportError, match="preprocessing attributes failed: 1 error occurred"):
        await bench.report({"source.uid": "u", "source.user": "a"}, {"source.user": "b"}, {"source.uid": "v"})

    assert [i.dimensions["user"] for i in bench.backend.calls_of("one")[0][0]] == ["a", "none"]


async def test_errors_of_records_and_handlers_are_all_told(bench: Bench) -> None:
    def refuse(_: Any) -> None:
        raise ValueError("full")

    bench.backend.answers["one"] = refuse
    await bench.serve(fake("one"), instance("metric", "m", {"value": "request.size"}), rule("r", {"one": "m"}))

    with pytest.raises(ReportError) as caught:
        await bench.report({"request.size": 1}, {})

    assert [error.partition(":")[0] for error in caught.value.errors] == [
        "evaluation failed at [m.instance.istio-system]'Value'",
        "failed to report all values",
    ]
    assert str(caught.value).startswith("2 errors occurred:\n\t* evaluation failed")


async def test_whole_string_map_is_given_as_a_plain_map(bench: Bench) -> None:
    await bench.serve(
        fake("one"), instance("metric", "m", {"dimensions": {"labels": "source.labels"}}), rule("r", {"one": "m"})
    )

    await bench.report({"source.labels": {"app": "x"}})

    assert bench.backend.calls[0][1][0].dimensions == {"labels": {"app": "x"}}


async def test_long_report_lets_others_run_in_between(bench: Bench) -> None:
    await bench.serve(fake("one"), USERS, rule("r", {"one": "users"}))
    seen: list[int] = []

    def records() -> Any:
        for i in range(1_000):
            seen.append(i)
            yield MappingBag({"request.size": i})

    report = asyncio.ensure_future(bench.controller.dispatcher.report(records()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(seen) < 500
    await report

    assert [i.value for i in bench.backend.calls[0][1]] == list(range(1_000))


async def test_configuration_that_changes_within_a_report_does_not_split_it(bench: Bench) -> None:
    """One report is served by one configuration, from its first record to its delivery."""
    await bench.serve(fake("one"), USERS, rule("r", {"one": "users"}))

    def records() -> Any:
        for i in range(300):
            yield MappingBag({"request.size": i})

    report = asyncio.ensure_future(bench.controller.dispatcher.report(records()))
    await asyncio.sleep(0)
    await bench.serve()
    await report
    await settle()

    assert [len(call[1]) for call in bench.backend.calls] == [300]
    assert [handler.closed for handler in bench.backend.built] == [1]
