"""What a cache may conclude from an answer when generators add attributes: only what the server would say as well.

A generated attribute is seen where the caller sent none, so such an answer depends on that absence and on what the
generator read. Source: spec language 6.1 and 6.4, spec runtime 4.1 and 4.11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.adapters.base import CheckResult, Code, QuotaArgs, QuotaResult, Status
from mixer.api.answer import Referenced
from mixer.attributes import Condition
from mixer.runtime.results import CheckOutcome, DispatchError
from tests.runtime.fakes import Bench, fake, instance, rule

ABSENT, EXACT = Condition.ABSENCE, Condition.EXACT
UNSCOPED = {("context.reporter.kind", ""): ABSENT, ("destination.namespace", ""): ABSENT}

Bag = dict[str, Any]


def judge(entry: Any) -> CheckResult:
    """A handler whose answer tells what it was given."""
    value = dict(entry.value) if isinstance(entry.value, Mapping) else entry.value
    return CheckResult(Status(Code.PERMISSION_DENIED, repr(value)))


def meter(quota: Any, args: QuotaArgs) -> QuotaResult:
    return QuotaResult(args.amount, status=Status(Code.OK, repr(dict(quota.dimensions))))


class TestRow:
    """Case by case."""

    @pytest.fixture
    async def serving(self, bench: Bench) -> Bench:
        outputs = {"source_workload_name": "reviews", "source_labels": {"app": "reviews"}}
        bench.backend.answers = {"gen": outputs, "judge": judge}
        bindings = {
            "source.workload": '$out.source_workload_name | "unknown"',
            "source.labels": "$out.source_labels | emptyStringMap()",
        }
        await bench.serve(
            fake("gen"), fake("judge"),
            instance("kubernetes", "k8s", {"sourceUid": 'source.uid | ""'}, attributeBindings=bindings),
            instance("listentry", "workload", {"value": "source.workload"}),
            instance("listentry", "label", {"value": 'source.labels["app"] | "none"'}),
            instance("listentry", "labels", {"value": "source.labels"}),
            rule("gen", {"gen": "k8s"}),
            rule("workload", {"judge": "workload"}, 'request.path == "/workload"'),
            rule("label", {"judge": "label"}, 'request.path == "/label"'),
            rule("labels", {"judge": "labels"}, 'request.path == "/labels"'),
        )  # fmt: skip
        return bench

    @pytest.mark.parametrize(
        ("attributes", "message", "referenced"),
        [
            pytest.param(
                {"request.path": "/workload", "source.uid": "u"},
                "'reviews'",
                {("source.uid", ""): EXACT, ("source.workload", ""): ABSENT},
                id="generated value needs the attribute to be absent, and what the generator read",
            ),
            pytest.param(
                {"request.path": "/workload", "source.workload": "mine"},
                "'mine'",
                {("source.uid", ""): ABSENT, ("source.workload", ""): EXACT},
                id="what was sent hides what is generated",
            ),
            pytest.param(
                {"request.path": "/"}, "", {("source.uid", ""): ABSENT}, id="generated and not looked at"
            ),
            pytest.param(
                {"request.path": "/label"},
                "'reviews'",
                {("source.uid", ""): ABSENT, ("source.labels", ""): ABSENT},
                id="key of a generated map",
            ),
            pytest.param(
                {"request.path": "/label", "source.labels": {"app": "mine"}},
                "'mine'",
                {("source.uid", ""): ABSENT, ("source.labels", "app"): EXACT},
                id="key that was found in the map that was sent",
            ),
            pytest.param(
                {"request.path": "/label", "source.labels": {"zone": "z"}},
                "'none'",
                {("source.uid", ""): ABSENT, ("source.labels", "app"): ABSENT, ("source.labels", ""): EXACT},
                id="key that is missing in the map that was sent: without this map there would be another",
            ),
            pytest.param(
                {"request.path": "/labels"},
                "{'app': 'reviews'}",
                {("source.uid", ""): ABSENT, ("source.labels", ""): ABSENT},
                id="generated map as a whole",
            ),
        ],
    )  # fmt: skip
    async def test_answer_says_what_it_depends_on(
        self, serving: Bench, attributes: Bag, message: str, referenced: Referenced
    ) -> None:
        outcome = await serving.check(attributes)

        assert outcome.result.status.message == (f"judge.istio-system:{message}" if message else "")
        assert outcome.referenced == {**UNSCOPED, ("request.path", ""): EXACT, **referenced}

    async def test_missing_key_alone_is_recorded_where_no_generator_makes_the_map(self, serving: Bench) -> None:
        await serving.serve(
            fake("judge"),
            instance("listentry", "label", {"value": 'source.labels["app"] | "none"'}),
            rule("label", {"judge": "label"}),
        )

        outcome = await serving.check({"source.labels": {"zone": "z"}})

        assert outcome.referenced == {**UNSCOPED, ("source.labels", "app"): ABSENT}


# The law, for any policy: texts and maps of few values, so that bags and policies meet often.

WORDS = st.sampled_from(["a", "b"])
MAPS = st.dictionaries(st.sampled_from(["k", "l"]), WORDS, max_size=2)
TEXT_NAMES = ("source.uid", "source.user", "source.workload", "source.namespace", "destination.namespace")
BAGS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXT_NAMES, WORDS),
        "context.reporter.kind": st.sampled_from(["inbound", "outbound", "other"]),
        "source.labels": MAPS,
        "request.headers": MAPS,
    },
)
TEXTS = st.sampled_from(
    [
        *TEXT_NAMES,
        'source.workload | "none"',
        'source.user | source.workload | "none"',
        'source.labels["k"] | "none"',
        'source.labels["k"] | source.labels["l"] | "none"',
        'source.labels["k"] | source.namespace | "none"',
        'source.labels[source.workload | "k"] | "none"',
        'source.labels[""] | "none"',
        'request.headers["k"] | source.uid | "none"',
        'context.reporter.kind | "none"',
    ]
)
MATCHES = st.one_of(st.just(""), st.builds('({}) == "{}"'.format, TEXTS, st.sampled_from(["a", "b", "none"])))
OUTPUTS = st.fixed_dictionaries(
    {}, optional={"source_workload_name": WORDS, "source_namespace": WORDS, "source_labels": MAPS}
)
BINDINGS = st.fixed_dictionaries(
    {},
    optional={
        "source.workload": st.sampled_from(['$out.source_workload_name | "a"', '$out.source_workload_name | source.user | "b"']),
        "source.namespace": st.just('$out.source_namespace | "b"'),
        "destination.namespace": st.just('$out.source_namespace | source.labels["k"] | "a"'),
        "source.labels": st.just("$out.source_labels | emptyStringMap()"),
        "context.reporter.kind": st.just('"outbound"'),
    },
)  # fmt: skip
READ_BY_GENERATORS = st.sampled_from(
    ['source.uid | ""', 'source.labels["k"] | source.user | ""', 'source.workload | "a"', 'request.headers["k"] | "b"']
)


@st.composite
def policies(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any]]:
    """The resources of a policy, and the answers of its generators: tables from what they read to what they put out."""
    documents: list[Any] = [fake("judge"), fake("meter")]
    answers: dict[str, Any] = {"judge": judge, "meter": meter}
    for number in range(draw(st.integers(1, 2))):
        name = f"gen{number}"
        table = {word: draw(OUTPUTS) for word in ("a", "b")}
        answers[name] = lambda given, table=table: table.get(given.source_uid, {})
        documents += [
            fake(name),
            instance("kubernetes", f"of-{name}", {"sourceUid": draw(READ_BY_GENERATORS)}, attributeBindings=draw(BINDINGS)),
            rule(name, {name: f"of-{name}"}, draw(MATCHES)),
        ]  # fmt: skip
    for number in range(draw(st.integers(1, 3))):
        value = draw(st.one_of(TEXTS, st.just("source.labels | emptyStringMap()")))
        documents += [
            instance("listentry", f"entry{number}", {"value": value}),
            rule(
                f"judge{number}",
                {"judge.istio-system": f"entry{number}.istio-system"},
                draw(MATCHES),
                namespace=draw(st.sampled_from(["istio-system", "a", "b"])),
            ),
        ]
    documents += [
        instance("quota", "rate", {"dimensions": {"of": draw(TEXTS)}}),
        rule("meter", {"meter": "rate"}, draw(MATCHES)),
        rule("mark", {}, draw(MATCHES), requestHeaderOperations=[{"name": "x-who", "values": [draw(TEXTS)]}]),
    ]
    return documents, answers


def agreeing(referenced: Referenced, sent: Bag, noise: Bag) -> Bag:
    """A bag of which a cache would say that the answer holds for it, as different as that allows.

    Present attributes and entries are the same, absent ones are absent; a map that lacks an absent entry may be
    missing altogether.
    """
    other = {name: dict(value) if isinstance(value, Mapping) else value for name, value in noise.items()}
    for (name, key), condition in sorted(referenced.items(), key=lambda item: (item[0][1] == "", item[0])):
        if condition is EXACT and key:
            other.setdefault(name, {})[key] = sent[name][key]
        elif condition is EXACT:
            other[name] = sent[name]
        elif not key:
            other.pop(name, None)
        elif name in other:
            other[name].pop(key, None)
    return other


async def answered(bench: Bench, bag: Bag, **asked: Any) -> CheckOutcome | str:
    try:
        return await bench.check(bag, **asked)
    except DispatchError as exc:
        return str(exc)


async def _assert_cache_is_right(policy: tuple[list[Any], dict[str, Any]], pairs: list[tuple[Bag, Bag]]) -> None:
    bench = Bench()
    documents, bench.backend.answers = policy
    await bench.serve(*documents)
    try:
        for sent, noise in pairs:
            first = await answered(bench, sent)
            if isinstance(first, str):
                continue  # a failure is not cached
            other = agreeing(first.referenced, sent, noise)
            second = await answered(bench, other)
            assert not isinstance(second, str), (sent, other, first, second)
            assert (second.result, second.directive) == (first.result, first.directive), (sent, other, first)
            asked = {"quotas": {"rate": QuotaArgs(1)}, "quotas_only": True}
            metered = await bench.check(sent, **asked)
            quota = metered.quotas["rate"]
            other = agreeing(quota.referenced, sent, noise)
            assert (await bench.check(other, **asked)).quotas["rate"].result == quota.result, (sent, other, quota)
    finally:
        await bench.controller.aclose()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(policy=policies(), pairs=st.lists(st.tuples(BAGS, BAGS), min_size=8, max_size=16))
def test_cached_answer_is_one_that_the_server_would_have_given(
    policy: tuple[list[Any], dict[str, Any]], pairs: list[tuple[Bag, Bag]]
) -> None:
    asyncio.run(_assert_cache_is_right(policy, pairs))


async def _assert_references_change_nothing(policy: tuple[list[Any], dict[str, Any]], bags: list[Bag]) -> None:
    bench = Bench()
    documents, bench.backend.answers = policy
    await bench.serve(*documents)
    try:
        for bag in bags:
            asked: dict[str, Any] = {"quotas": {"rate": QuotaArgs(1)}}
            told, untold = await answered(bench, bag, **asked), await answered(bench, bag, references=False, **asked)
            if isinstance(told, str) or isinstance(untold, str):
                assert told == untold, bag
                continue
            assert (untold.result, untold.directive) == (told.result, told.directive), bag
            assert [q.result for q in untold.quotas.values()] == [q.result for q in told.quotas.values()], bag
            assert untold.answer().referenced is None
            assert all(quota.referenced is None for quota in untold.answer().quotas.values())
    finally:
        await bench.controller.aclose()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(policy=policies(), bags=st.lists(BAGS, min_size=8, max_size=16))
def test_answer_is_the_same_when_nobody_wants_to_know_what_it_depends_on(
    policy: tuple[list[Any], dict[str, Any]], bags: list[Bag]
) -> None:
    asyncio.run(_assert_references_change_nothing(policy, bags))
