"""What the cache answers is what the server would answer, and it answers whenever the references say that it may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixer.adapters import memquota
from mixer.adapters.base import CheckResult, Status
from mixer.api.answer import CheckAnswer, Referenced
from mixer.api.codes import Code
from mixer.attributes import ABSENT, AttributeBag, Condition, Duration, MappingBag, TrackingBag
from mixer.errors import MixerCallError
from mixer.runtime.results import DispatchError
from proxy.client import SidecarClient, Verdict
from proxy.mixer import CheckCall
from tests.proxy.client.fakes import SECOND, Clock, FakeMixer, answer, config, granted, settle, verdict_of
from tests.runtime.fakes import Bench, fake, instance, rule

TEXTS = st.sampled_from(["", "x", "y"])
MAPS = st.dictionaries(st.sampled_from("jkl"), TEXTS, max_size=3)
SCALARS = st.one_of(TEXTS, st.sampled_from([0, 1, True, False, 1.0, 0.0, -0.0, b"x", Duration(1)]))
BAGS = st.fixed_dictionaries({}, optional={"a": SCALARS, "b": SCALARS, "m": MAPS, "n": MAPS})


@dataclass(frozen=True)
class Leaf:
    code: int


@dataclass(frozen=True)
class Look:
    """Goes one way when the look finds what it wants, and another when not; also another when there is nothing."""

    how: str
    name: str
    key: str
    wanted: Any
    ways: tuple[Any, Any, Any]


Policy = Leaf | Look


def looks(ways: st.SearchStrategy[Policy]) -> st.SearchStrategy[Policy]:
    three = st.tuples(ways, ways, ways)
    return st.one_of(
        st.builds(Look, st.just("value"), st.sampled_from("ab"), st.just(""), SCALARS, three),
        st.builds(Look, st.just("key"), st.sampled_from("mn"), st.sampled_from("jkl"), TEXTS, three),
        st.builds(Look, st.just("whole"), st.sampled_from("mn"), st.just(""), MAPS, three),
        st.builds(Look, st.just("either map"), st.just("m"), st.sampled_from("jkl"), TEXTS, three),
    )


POLICIES = st.recursive(st.builds(Leaf, st.sampled_from([0, 5, 7, 16])), looks, max_leaves=12)


def decide(policy: Policy, bag: AttributeBag) -> int:
    """What the server decides; all it knows of the bag goes through ``get``."""
    while isinstance(policy, Look):
        found: Any = bag.get(policy.name)
        if policy.how == "either map" and found is ABSENT:
            found = bag.get("n")
        if found is not ABSENT and policy.how in ("key", "either map"):
            found = found.get(policy.key, ABSENT)
        same = type(found) is type(policy.wanted) and repr(found) == repr(policy.wanted)
        if policy.how == "whole" and found is not ABSENT:
            same = dict(found) == policy.wanted
        policy = policy.ways[2 if found is ABSENT else 0 if same else 1]
    return policy.code


@dataclass
class ModelServer:
    policy: Policy
    valid_s: float | None = None
    uses: int = -1
    calls: int = 0
    learned: list[tuple[Mapping[str, Any], Referenced]] = field(default_factory=list)

    async def check(self, call: CheckCall) -> CheckAnswer:
        self.calls += 1
        tracked = TrackingBag(call.bag)
        code = decide(self.policy, tracked)
        names = {name: call.bag.peek(name) for name in call.bag.names()}
        self.learned.append((names, dict(tracked.referenced)))
        duration = None if self.valid_s is None else Duration(round(self.valid_s * SECOND))
        return CheckAnswer(code, "", duration, self.uses, dict(tracked.referenced))

    async def report(self, records: Sequence[AttributeBag]) -> None:
        raise AssertionError


def agree(learned: Mapping[str, Any], bag: Mapping[str, Any], referenced: Referenced) -> bool:
    """Whether a bag is the same as one whose answer is known, as far as the answer depended on it."""
    for (name, key), condition in referenced.items():
        old, new = learned.get(name, ABSENT), bag.get(name, ABSENT)
        if key:
            if old is ABSENT or new is ABSENT:
                return False
            old, new = old.get(key, ABSENT), new.get(key, ABSENT)
        if condition is Condition.ABSENCE:
            if new is not ABSENT:
                return False
        elif type(old) is not type(new) or (old != new if isinstance(old, dict) else repr(old) != repr(new)):
            return False
    return True


def run_model(server: ModelServer, bags: Sequence[Mapping[str, Any]], waits: Sequence[float]) -> None:
    async def main() -> None:
        clock = Clock()
        client = SidecarClient(server, config(), monotonic=clock, http_api=False)
        for number, bag in enumerate(bags):
            clock.now += waits[number % len(waits)]
            may_hit = any(agree(old, bag, referenced) for old, referenced in server.learned)
            found = client.check(client.compose(MappingBag(bag)))
            hit = isinstance(found, Verdict)
            verdict = await verdict_of(found)
            assert verdict.code == decide(server.policy, MappingBag(bag))
            if server.valid_s is None and server.uses < 0:
                assert hit == may_hit
        await client.aclose()

    asyncio.run(main())


@pytest.mark.slow
@given(POLICIES, st.lists(BAGS, max_size=30))
def test_cache_answers_as_the_server_would_and_whenever_it_can(policy: Policy, bags: list[dict[str, Any]]) -> None:
    run_model(ModelServer(policy), bags, [0.0])


@pytest.mark.slow
@given(
    POLICIES,
    st.lists(BAGS, max_size=30),
    st.lists(st.floats(0, 2), min_size=1, max_size=5),
    st.floats(0.1, 3),
    st.integers(0, 4),
)
def test_cache_answers_as_the_server_would_when_answers_expire(
    policy: Policy, bags: list[dict[str, Any]], waits: list[float], valid_s: float, uses: int
) -> None:
    run_model(ModelServer(policy, valid_s, uses), bags, waits)


ATOMS = [
    'request.path == "/a"',
    'source.user != "ada"',
    'request.path.startsWith("/")',
    'request.headers["k"] == "v"',
    '(request.headers["k"] | "none") == "none"',
    '(request.headers["k"] | source.user | "none") == "v"',
    '(request.headers | source.labels)["k"] == "v"',
    '(source.labels | emptyStringMap())["k"] == ""',
    "request.headers == source.labels",
    "(request.size | 0) == 1",
    'match(source.user | "", "a*")',
    'source.namespace == request.headers["ns"]',
]
MATCHES = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.builds("({}) && ({})".format, inner, inner), st.builds("({}) || ({})".format, inner, inner)
    ),
    max_leaves=4,
)
HEADERS = st.dictionaries(st.sampled_from(["k", "ns", "z"]), st.sampled_from(["", "v", "a"]), max_size=3)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "request.path": st.sampled_from(["/a", "/b", "a"]),
        "source.user": st.sampled_from(["ada", "bob", "v"]),
        "source.namespace": st.sampled_from(["a", "v"]),
        "request.size": st.integers(0, 2),
        "request.headers": HEADERS,
        "source.labels": HEADERS,
        "noise": st.text(max_size=1),
    },
)


class InProcess:
    """The dispatcher as a `Mixer`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.calls = 0

    async def check(self, call: CheckCall) -> CheckAnswer:
        self.calls += 1
        try:
            outcome = await self.bench.controller.dispatcher.check(
                call.bag, call.quotas, call.deduplication_id, quotas_only=call.quotas_only
            )
        except DispatchError as exc:
            raise MixerCallError(Code.INTERNAL, str(exc)) from exc
        return outcome.answer()

    async def report(self, records: Sequence[AttributeBag]) -> None:
        await self.bench.controller.dispatcher.report(records)


@pytest.mark.slow
@example(['(request.headers | source.labels)["k"] == "v"'], [{"request.headers": {}}, {"source.labels": {"k": "v"}}])
@settings(max_examples=60)
@given(st.lists(MATCHES, min_size=1, max_size=3), st.lists(REQUESTS, min_size=1, max_size=25))
def test_cache_in_front_of_the_real_dispatcher_changes_no_decision(
    matches: list[str], requests: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        bench = Bench()
        codes = [Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.ABORTED]
        documents: list[Any] = [instance("checknothing", "nothing")]
        for number, match in enumerate(matches):
            role = f"h{number}"
            bench.backend.answers[role] = CheckResult(Status(codes[number], role), Duration(60 * SECOND), 1000)
            documents += [fake(role), rule(f"r{number}", {role: "nothing"}, match)]
        await bench.serve(*documents)
        mixer = InProcess(bench)
        client = SidecarClient(mixer, config(), http_api=False)
        for attributes in requests * 2:
            verdict = await verdict_of(client.check(client.compose(MappingBag(attributes))))
            expected = (await bench.check(attributes)).answer()
            assert (verdict.code, verdict.message) == (expected.code, expected.message)
        # The second time round everything is known.
        assert mixer.calls <= len(requests)
        await client.aclose()
        await bench.controller.aclose()

    asyncio.run(main())


async def serve_memquota(**limits: int) -> Bench:
    bench = Bench([memquota.INFO])
    full = "{}.instance.istio-system".format
    params = {"quotas": [{"name": full(name), "maxAmount": limit} for name, limit in limits.items()]}
    await bench.serve(
        {"kind": "handler", "name": "mq", "spec": {"compiledAdapter": "memquota", "params": params}},
        *(instance("quota", name) for name in limits),
        rule("r", {"mq": list(limits)}),
    )
    return bench


async def test_refused_take_leaves_the_real_counters_as_they_were() -> None:
    bench = await serve_memquota(a=5, b=2)
    client = SidecarClient(InProcess(bench), config())
    bag = client.compose(MappingBag({}))
    for _ in range(20):
        refused = await verdict_of(client.take(bag, {"a": 5, "b": 3}))
        assert refused.message == "Quota is exhausted for: b"
        await settle()
    assert (await verdict_of(client.take(bag, {"a": 5, "b": 2}))).ok
    assert not (await verdict_of(client.take(bag, {"a": 1}))).ok
    await client.aclose()
    await bench.controller.aclose()


@pytest.mark.parametrize("transport", [{}, {"disableQuotaCache": True}, {"disableCheckCache": True}])
async def test_real_quota_lets_pass_what_it_has(transport: dict[str, bool]) -> None:
    bench = await serve_memquota(requests=25)
    spec = [{"rules": [{"quotas": [{"quota": "requests", "charge": 2}]}]}]
    client = SidecarClient(InProcess(bench), config({"quota_spec": spec}, transport))
    passed = 0
    for _ in range(100):
        passed += (await verdict_of(client.check(client.compose(MappingBag({}))))).ok
        await settle()
    assert passed == 12
    await client.aclose()
    await bench.controller.aclose()


@dataclass
class Meter:
    """A server's counters; units leave it only through grants."""

    left: dict[str, int]
    out: int = 0
    unanswered: int = 0
    failing: bool = False

    def __call__(self, call: CheckCall) -> CheckAnswer | MixerCallError:
        if self.failing:
            self.unanswered += sum(d.amount for d in call.quotas.values() if d.best_effort)
            return MixerCallError(Code.UNAVAILABLE, "away")
        quotas = {}
        for name, demand in call.quotas.items():
            amount = demand.amount
            if amount > 0:
                amount = min(amount, self.left[name]) if demand.best_effort else amount * (amount <= self.left[name])
            self.left[name] -= amount
            self.out += amount
            quotas[name] = granted(amount, {("user", ""): Condition.EXACT}, valid_s=1.0)
        return answer({("host", ""): Condition.EXACT}, valid_s=3.0, quotas=quotas)


REQUEST = st.tuples(st.sampled_from("xyz"), st.sampled_from("uv"), st.floats(0, 0.7), st.integers(0, 9))


@pytest.mark.slow
@given(st.lists(REQUEST, max_size=60), st.integers(0, 60), st.integers(0, 60), st.integers(1, 3))
def test_units_that_left_the_server_passed_or_are_in_pools(
    requests: list[tuple[str, str, float, int]], first: int, second: int, charge: int
) -> None:
    """Conservation, with two quotas that are charged together and a server that is away now and then."""

    async def main() -> None:
        meter, clock = Meter({"a": first, "b": second}), Clock()
        mixer = FakeMixer(reply=meter)
        spec = [{"rules": [{"quotas": [{"quota": "a", "charge": charge}, {"quota": "b", "charge": 1}]}]}]
        client = SidecarClient(mixer, config({"quota_spec": spec}), monotonic=clock)
        engine = client._http.engine
        assert engine.quotas is not None
        exact = pooled = 0
        for host, user, wait, luck in requests:
            clock.now += wait
            meter.failing = luck == 0
            verdict = await verdict_of(client.check(client.compose(MappingBag({"host": host, "user": user}))))
            await settle()
            if verdict.ok and not verdict.failed:
                pooled += (charge + 1) * verdict.quota_cache_hit
                exact += (charge + 1) * (not verdict.quota_cache_hit)
            pools = list(engine.quotas.pools())
            lost = client.counters().quota_units_not_given_back
            assert meter.out + meter.unanswered == exact + lost + sum(pool.granted for pool in pools)
            assert pooled == sum(pool.passed for pool in pools)
            # At most one provisional grant a pool was answered with less, after one request had used it.
            assert all(pool.in_flight == 0 for pool in pools)
        await client.aclose()

    asyncio.run(main())
