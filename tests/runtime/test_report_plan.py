"""Whatever the plan remembers and leaves undecoded, handlers end up with what each record by itself gives them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from mixer.adapters.loading import by_name
from mixer.adapters.prometheus import INFO as PROMETHEUS
from mixer.adapters.testing import FakeClock
from mixer.api.decode import decode_report_bytes
from mixer.api.encode import encode_report
from mixer.attributes import AttributeValue, Duration, MappingBag
from mixer.errors import AdapterError, EvalError
from mixer.rules.build import SnapshotBuilder
from mixer.runtime.controller import Controller
from mixer.runtime.metrics import RuntimeMetrics
from mixer.runtime.results import ReportError
from mixer.store import Resource, ResourceKey, StoreContents

NS = "istio-system"
TYPES = {"s": "STRING", "u": "STRING", "n": "INT64", "b": "BOOL", "t": "DURATION", "m": "STRING_MAP", "q": "STRING_MAP"}
METRICS = {
    # name: (match, value, dimensions)
    "plain": ("", "1", {"s": 's | "none"', "k": 'm["k"] | "none"'}),
    "same": ("", 't | "1s"', {"s": 's | "none"', "k": 'm["k"] | "none"'}),
    "needs": ('s == "x"', "n", {"u": "u", "b": "b | false"}),
    "whole": ('(s | "") == "x" || (s | "") == "y"', "n | 1", {"k": 'm[u | "k"] | "none"', "n": "n | 0"}),
    "typed": ("b", "1", {"m": "m"}),
}


def contents() -> StoreContents:
    specs: dict[tuple[str, str], Any] = {
        ("attributemanifest", "a"): {"attributes": {name: {"valueType": kind} for name, kind in TYPES.items()}},
        ("handler", "prom"): {
            "compiledAdapter": "prometheus",
            "params": {
                "metrics": [
                    {
                        "name": name,
                        "instanceName": f"{name}.metric.{NS}",
                        "kind": kind,
                        "labelNames": sorted(dimensions),
                    }
                    for (name, (_, _, dimensions)), kind in zip(
                        METRICS.items(), ("COUNTER", "DISTRIBUTION") * 3, strict=False
                    )
                ]
            },
        },
    }
    for name, (match, value, dimensions) in METRICS.items():
        specs["metric", name] = {"value": value, "dimensions": dimensions}
        specs["rule", name] = {"match": match, "actions": [{"handler": "prom", "instances": [f"{name}.metric"]}]}
    keyed = {ResourceKey(kind, NS, name): spec for (kind, name), spec in specs.items()}
    return StoreContents({key: Resource(key, spec) for key, spec in keyed.items()})


async def controller_of(scrape: CollectorRegistry) -> Controller:
    builder = SnapshotBuilder(by_name([PROMETHEUS]))
    controller = Controller(builder, clock=FakeClock(), scrape=scrape, metrics=RuntimeMetrics())
    snapshot = await controller.apply(contents())
    assert snapshot.problems == ()
    return controller


RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "s": st.sampled_from(["x", "y", "", 1]),
            "u": st.sampled_from(["x", "k", b"\1"]),
            "n": st.sampled_from([0, 1, 5, True, "x", -3]),
            "b": st.sampled_from([True, False, 1]),
            "t": st.sampled_from([Duration(5_000_000), 3, "x"]),
            "m": st.sampled_from([{}, {"k": "v", "x": "w"}, {"k": ""}, "text"]),
            "q": st.just({"unread": "by anyone"}),
        },
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150)
@given(batches=st.lists(RECORDS, min_size=1, max_size=3))
async def test_planned_reports_equal_records_one_by_one(batches: list[list[dict[str, AttributeValue]]]) -> None:
    planned, single = CollectorRegistry(), CollectorRegistry()
    by_plan, by_record = await controller_of(planned), await controller_of(single)
    binding = by_record.dispatcher.binding
    handler = binding.live[f"prom.handler.{NS}"].handler

    for records in batches:
        # Through the wire, so that only what is wanted is decoded.
        batch = decode_report_bytes(encode_report(records).SerializeToString(), by_plan.snapshot.wanted)
        expected = 0
        for record in records:
            bag = MappingBag(record)
            for rule in by_record.snapshot.rules:
                try:
                    if rule.match is not None and rule.match.evaluate(bag) is not True:
                        continue
                except EvalError:
                    continue
                try:
                    handler.handle_report([rule.actions[0].instances[0].build(bag)])
                except (EvalError, AdapterError):
                    expected += 1
        if expected:
            with pytest.raises(ReportError):
                await by_plan.dispatcher.report(batch.bags)
        else:
            await by_plan.dispatcher.report(batch.bags)

    assert generate_latest(planned) == generate_latest(single)
    await by_plan.aclose()
    await by_record.aclose()
