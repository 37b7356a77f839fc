"""Handlers that open series get the same from a Report as those that take instances. Source: spec runtime 4.8 and 8."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mixer.adapters.base import AdapterInfo, Env, Handler, InstanceInfo, Params
from mixer.attributes import Duration, Timestamp, stringify
from mixer.errors import AdapterError
from mixer.runtime.results import ReportError
from mixer.templates import METRIC
from tests.runtime.fakes import Bench, instance, rule

Measurement = tuple[str, tuple[tuple[str, str], ...], str]


class Keeper(Handler):
    """Keeps whole instances."""

    def __init__(self) -> None:
        self.kept: list[Measurement] = []
        self.opened: Counter[Measurement | str] = Counter()

    def handle_report(self, instances: Sequence[Any], /) -> None:
        self.kept += (measured(i.name, i.dimensions, i.value) for i in instances)


class SeriesKeeper(Keeper):
    """Opens series, but for the zone "shut" (an error) and the zone "slow" (whole instances)."""

    def open_series(self, instance: str, dimensions: Mapping[str, Any], /) -> Any:
        zone = stringify(dimensions.get("zone"))
        if zone == "shut":
            raise AdapterError("no series for this zone")
        if zone == "slow":
            return None
        self.opened[instance] += 1
        return instance, dict(dimensions)

    def handle_samples(self, samples: Sequence[tuple[Any, Any]], /) -> None:
        self.kept += (measured(name, dimensions, value) for (name, dimensions), value in samples)


def measured(name: str, dimensions: Mapping[str, Any], value: object) -> Measurement:
    return name, tuple(sorted((key, stringify(v)) for key, v in dimensions.items())), repr(value)


def info(name: str, handler: Keeper) -> AdapterInfo:
    async def build(params: Params, instances: Sequence[InstanceInfo], env: Env) -> Keeper:
        return handler

    return AdapterInfo(name, (METRIC,), Params, build)


ZONE = 'source.labels["zone"] | request.headers["zone"] | "none"'
METRICS = [
    instance("metric", "count", {"value": "1", "dimensions": {"zone": ZONE, "user": 'source.user | ""'}}),
    instance("metric", "size", {"value": "request.size", "dimensions": {"zone": ZONE, "user": 'source.user | ""'}}),
    instance("metric", "strict", {"value": "request.size | 0", "dimensions": {"zone": "source.user", "ip": "source.ip"}}),
    instance("metric", "computed", {"dimensions": {"big": "request.size > 5", "size": "request.size | 3"}}),
    instance("metric", "whole", {"value": "1", "dimensions": {"zone": "source.labels"}}),
    instance("metric", "bare", {"value": "request.size"}),
]  # fmt: skip
NAMES = [metric["name"] for metric in METRICS]


def served(handlers: Mapping[str, Keeper]) -> tuple[Bench, list[dict[str, Any]]]:
    documents = [*METRICS]
    for name in handlers:
        documents.append({"kind": "handler", "name": name, "spec": {"compiledAdapter": name}})
        documents.append(rule(f"all-{name}", {name: NAMES}, 'request.path != "/quiet"'))
        documents.append(rule(f"again-{name}", {name: ["count", "size"]}, 'request.path == "/twice"'))
    return Bench([info(name, handler) for name, handler in handlers.items()]), documents


maps = st.fixed_dictionaries({}, optional={"zone": st.sampled_from(["a", "b", "", "shut", "slow"])})
records = st.fixed_dictionaries(
    {"request.path": st.sampled_from(["/", "/", "/twice", "/quiet"])},
    optional={
        "source.labels": st.one_of(maps, maps, st.sampled_from(["no map", 5])),
        "request.headers": maps,
        "source.user": st.sampled_from(["u", "v", "shut", "slow", 1, True, 1.0]),
        "source.ip": st.sampled_from([b"\x0a\0\0\1", "10.0.0.1", b""]),
        "request.size": st.sampled_from([1, 7, True, Duration(7), Timestamp(7), "7", 1.0, 0.0, -0.0]),
    },
)


@given(st.lists(st.lists(records, max_size=8), max_size=4))
def test_series_get_what_instances_would(reports: list[list[dict[str, Any]]]) -> None:
    """Of every record, also of those with values of the wrong type; and errors are the same."""

    async def run() -> None:
        handlers = {"plain": Keeper(), "series": SeriesKeeper()}
        bench, documents = served(handlers)
        await bench.serve(*documents)
        for report in reports:
            errors: Counter[str] = Counter()
            try:
                await bench.report(*report)
            except ReportError as exc:
                errors.update(exc.errors)
            assert all(count % 2 == 0 for count in errors.values()), errors
            assert Counter(handlers["series"].kept) == Counter(handlers["plain"].kept)
        await bench.controller.aclose()

    asyncio.run(run())


async def test_series_of_dimensions_seen_before_are_not_opened_again() -> None:
    handlers = {"series": SeriesKeeper()}
    bench, documents = served(handlers)
    await bench.serve(*documents)
    alike = {"request.path": "/", "source.labels": {"zone": "a"}, "source.user": "u", "source.ip": b"\1\2\3\4"}

    for size in range(20):
        await bench.report({**alike, "request.size": size, "request.headers": {"x": str(size)}})
    await bench.controller.aclose()

    opened = handlers["series"].opened
    assert opened["count.instance.istio-system"] == opened["size.instance.istio-system"] == 1
    assert opened["bare.instance.istio-system"] == 1
    assert opened["computed.instance.istio-system"] == 20  # its labels change with every record
    assert len(handlers["series"].kept) == 20 * len(NAMES)
