"""The rate limit service: descriptors become charges, which are made all or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.answer import QuotaAnswer, QuotaLevel
from mixer.api.codes import Code
from mixer.api.rpc import ServiceError
from mixer.attributes import AttributeBag, Duration
from proxy.envoy import paths
from proxy.envoy.gen.ratelimit_pb2 import RateLimitRequest, RateLimitResponse
from proxy.envoy.metrics import PolicyMetrics
from proxy.envoy.rate_limit import MAX_DESCRIPTORS, RateLimits
from proxy.policy import QUOTA_EXHAUSTED, Verdict

OK, OVER = RateLimitResponse.OK, RateLimitResponse.OVER_LIMIT
MINUTE = Duration(60 * 1_000_000_000)
Attributes = tuple[tuple[str, Any], ...]


class Head:
    def header(self, name: str, /) -> str:
        return {"x-envoy-expected-rq-timeout-ms": "250"}.get(name, "")


class Counters:
    """A policy client that counts: ``limits`` per quota, one counter for each set of attributes."""

    def __init__(self, limits: Mapping[str, int], *, later: bool = False) -> None:
        self.limits = limits
        self.later = later
        self.used: dict[tuple[str, Attributes], int] = {}
        self.calls: list[tuple[Attributes, dict[str, int]]] = []
        self.services: set[str] = set()
        self.timeouts: list[float | None] = []
        self.failing: Verdict | None = None

    def compose(self, derived: AttributeBag, *, service: str = "", **_: Any) -> AttributeBag:
        self.services.add(service)
        return derived

    def take(self, bag: AttributeBag, charges: Mapping[str, int], *, timeout_s: float | None = None) -> Any:
        self.timeouts.append(timeout_s)
        return self._later(bag, charges) if self.later else self._take(bag, charges)

    async def _later(self, bag: AttributeBag, charges: Mapping[str, int]) -> Verdict:
        return self._take(bag, charges)

    def _take(self, bag: AttributeBag, charges: Mapping[str, int]) -> Verdict:
        attributes = tuple(sorted((name, str(bag.peek(name))) for name in bag.names()))
        self.calls.append((attributes, dict(charges)))
        if self.failing is not None:
            return self.failing
        answers, refused = {}, []
        for name, amount in charges.items():
            limit = self.limits.get(name, 1 << 70)
            fits = self.used.get((name, attributes), 0) + amount <= limit
            if not fits:
                refused.append(name)
            left = limit - self.used.get((name, attributes), 0) - (amount if fits else 0)
            answers[name] = QuotaAnswer(amount if fits else 0, level=QuotaLevel(limit, left, Duration(5), MINUTE))
        if refused:
            return Verdict(Code.RESOURCE_EXHAUSTED, QUOTA_EXHAUSTED + ",".join(refused), quotas=answers)
        for name, amount in charges.items():
            self.used[name, attributes] = self.used.get((name, attributes), 0) + amount
        return Verdict(quotas=answers)

    def check(self, bag: AttributeBag, **_: Any) -> Verdict:
        raise AssertionError("no rule is asked")

    def report(self, records: Any, **_: Any) -> None:
        raise AssertionError("nothing is reported")

    def forward(self, *, service: str = "") -> str:
        return ""


def request(
    *descriptors: Mapping[str, str] | tuple[Mapping[str, str], int], domain: str = "mixer-quota", hits: int = 0
) -> RateLimitRequest:
    message = RateLimitRequest(domain=domain, hits_addend=hits)
    for given_one in descriptors:
        entries, addend = given_one if isinstance(given_one, tuple) else (given_one, None)
        descriptor = message.descriptors.add()
        for key, value in entries.items():
            descriptor.entries.add(key=key, value=value)
        if addend is not None:
            descriptor.hits_addend.value = addend
    return message


async def ask(client: Counters, message: RateLimitRequest, metrics: PolicyMetrics | None = None) -> RateLimitResponse:
    service = RateLimits(client, metrics or PolicyMetrics())
    return RateLimitResponse.FromString(await service.should_rate_limit(message.SerializeToString(), Head()))


async def test_a_descriptor_is_a_charge_with_attributes() -> None:
    client = Counters({})
    message = request(
        {
            "quota": "RequestCount",
            "request.headers[x-user]": "bob",
            "destination.port": "80",
            "remote_address": "10.0.0.1",
            "md": "tok123",
        },
        hits=7,
    )

    response = await ask(client, message)

    assert response.overall_code == OK
    assert client.calls == [
        (
            (
                ("destination.port", "80"),
                ("md", "tok123"),
                ("origin.ip", str(bytes((10, 0, 0, 1)))),
                ("request.headers", "{'x-user': 'bob'}"),
            ),
            {"RequestCount": 7},
        )
    ]
    assert client.services == {"mixer-quota"}
    assert client.timeouts == [0.25]


@pytest.mark.parametrize(
    ("entries", "quota", "attributes"),
    [
        ({"quota": "A", "generic_key": "B"}, "A", {"generic_key"}),
        ({"generic_key": "B", "user": "bob"}, "B", {"user"}),
        ({"user": "bob"}, "the-domain", {"user"}),
        ({"quota": "", "generic_key": "B"}, "B", {"quota"}),
        ({}, "the-domain", set()),
    ],
)
async def test_a_quota_is_named_by_entry_or_constant_or_domain(
    entries: dict[str, str], quota: str, attributes: set[str]
) -> None:
    client = Counters({})

    await ask(client, request(entries, domain="the-domain"))

    [(seen, charges)] = client.calls
    assert charges == {quota: 1}
    assert {name for name, _ in seen} == attributes


@pytest.mark.parametrize(
    ("addend", "hits", "amount"),
    [(None, 0, 1), (None, 7, 7), (5, 7, 5), (0, 7, None), (2**64 - 1, 0, 2**63 - 1)],
)
async def test_the_charge_is_the_descriptors_or_the_requests_or_one(
    addend: int | None, hits: int, amount: int | None
) -> None:
    client = Counters({})
    descriptor: Any = {"quota": "q"} if addend is None else ({"quota": "q"}, addend)

    response = await ask(client, request(descriptor, hits=hits))

    assert [charges for _, charges in client.calls] == ([] if amount is None else [{"q": amount}])
    assert [status.code for status in response.statuses] == [OK]


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_one_over_limit_descriptor_denies_and_the_others_are_not_charged(later: bool) -> None:
    client = Counters({"scarce": 1}, later=later)
    message = request({"quota": "plenty", "user": "bob"}, {"quota": "scarce"}, {"quota": "other", "user": "eve"})

    first, second = await ask(client, message), await ask(client, message)

    assert first.overall_code == OK
    assert second.overall_code == OVER
    assert [status.code for status in second.statuses] == [OK, OVER, OK]
    assert second.raw_body == b"RESOURCE_EXHAUSTED:Quota is exhausted for: scarce"
    assert set(client.used.values()) == {1}


async def test_charges_of_the_same_attributes_are_made_at_once_and_of_the_same_quota_summed() -> None:
    client = Counters({"a": 10, "b": 0})
    message = request(({"quota": "a"}, 2), ({"quota": "b"}, 1), ({"quota": "a"}, 3))

    response = await ask(client, message)

    assert client.calls == [((), {"a": 5, "b": 1})]
    assert [status.code for status in response.statuses] == [OK, OVER, OK]


async def test_statuses_tell_where_quotas_stand() -> None:
    client = Counters({"q": 2})

    response = await ask(client, request({"quota": "q"}))

    [status] = response.statuses
    assert (status.current_limit.name, status.current_limit.requests_per_unit) == ("q", 2)
    assert status.current_limit.unit == RateLimitResponse.RateLimit.MINUTE
    assert status.limit_remaining == 1
    assert status.duration_until_reset.nanos == 5
    assert not response.response_headers_to_add


async def test_a_refusal_says_when_to_come_back() -> None:
    response = await ask(Counters({"q": 0}), request({"quota": "q"}))

    assert [(header.key, header.value) for header in response.response_headers_to_add] == [("retry-after", "1")]


@pytest.mark.parametrize(
    ("verdict", "code", "body"),
    [
        (Verdict(failed=True), OK, b""),
        (Verdict(Code.UNAVAILABLE, "gone", failed=True), OVER, b"UNAVAILABLE:gone"),
    ],
    ids=["fail open", "fail closed"],
)
async def test_the_fail_policy_has_the_last_word(verdict: Verdict, code: int, body: bytes) -> None:
    client = Counters({})
    client.failing = verdict

    response = await ask(client, request({"quota": "q"}, {"quota": "r", "user": "bob"}))

    assert (response.overall_code, response.raw_body) == (code, body)
    assert [status.code for status in response.statuses] == [code, code]


@pytest.mark.parametrize(
    ("passed", "given_back"),
    [
        (Verdict(failed=True), []),
        (Verdict(quotas={"plenty": QuotaAnswer(0, code=Code.UNAVAILABLE)}), []),
        (Verdict(quotas={"plenty": QuotaAnswer(2)}), [{"plenty": -2}]),
        (Verdict(quotas={"plenty": QuotaAnswer(9)}), [{"plenty": -5}]),
    ],
    ids=["nobody answered", "no backend", "granted in part", "granted too much"],
)
async def test_only_what_was_granted_is_given_back(passed: Verdict, given_back: list[dict[str, int]]) -> None:
    class Half(Counters):
        def _take(self, bag: AttributeBag, charges: Mapping[str, int]) -> Verdict:
            verdict = super()._take(bag, charges)
            return passed if charges == {"plenty": 5} else verdict

    client = Half({"scarce": 0})

    response = await ask(client, request(({"quota": "plenty", "user": "bob"}, 5), {"quota": "scarce"}))

    assert response.overall_code == OVER
    assert [charges for _, charges in client.calls[2:]] == given_back


async def test_entries_that_are_no_attributes_are_left_out_and_counted() -> None:
    client, metrics = Counters({}), PolicyMetrics()

    await ask(client, request({"quota": "q", "destination.port": "many", "": "x"}), metrics)

    assert client.calls == [((), {"q": 1})]
    assert (
        metrics.registry.get_sample_value(
            "mixer_envoy_left_out_total", {"service": "rate_limit", "reason": "bad_entry"}
        )
        == 2
    )


async def test_no_descriptors_are_no_limit() -> None:
    response = await ask(Counters({}), request())

    assert response.overall_code == OK
    assert not response.statuses


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"\x12\x05abc", request(*({"quota": "q"} for _ in range(MAX_DESCRIPTORS + 1))).SerializeToString()],
    ids=["no message", "cut off", "too many"],
)
async def test_bad_requests_are_refused(data: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        await RateLimits(Counters({}), PolicyMetrics()).should_rate_limit(data, Head())

    assert caught.value.code is Code.INVALID_ARGUMENT


@given(st.binary(max_size=200))
async def test_any_bytes_get_an_answer_or_a_refusal(data: bytes) -> None:
    code = Code.OK
    try:
        RateLimitResponse.FromString(await RateLimits(Counters({}), PolicyMetrics()).should_rate_limit(data, Head()))
    except ServiceError as exc:
        code = exc.code

    assert code in (Code.OK, Code.INVALID_ARGUMENT)


CHARGES = st.lists(
    st.tuples(
        st.fixed_dictionaries({"quota": st.sampled_from("abc")}, optional={"user": st.sampled_from(["x", "y"])}),
        st.integers(0, 3),
    ),
    max_size=5,
)


@given(st.lists(CHARGES, max_size=6), st.dictionaries(st.sampled_from("abc"), st.integers(0, 6)))
async def test_nothing_is_charged_for_what_is_denied(requests: list[Any], limits: dict[str, int]) -> None:
    client = Counters(limits)
    expected: dict[tuple[str, Attributes], int] = {}
    for descriptors in requests:
        after = dict(expected)
        for entries, amount in descriptors:
            key = entries["quota"], tuple((name, value) for name, value in entries.items() if name != "quota")
            if amount:
                after[key] = after.get(key, 0) + amount
        asked = {
            (d["quota"], tuple((n, v) for n, v in d.items() if n != "quota")) for d, amount in descriptors if amount
        }
        fits = all(after[key] <= limits.get(key[0], 1 << 70) for key in asked)
        if fits:
            expected = after

        response = await ask(client, request(*descriptors))

        assert response.overall_code == (OK if fits else OVER)
        assert {key: used for key, used in client.used.items() if used} == expected


def test_the_service_is_where_envoy_looks_for_it() -> None:
    methods = RateLimits(Counters({}), PolicyMetrics()).methods

    assert (
        list(methods.unary)
        == [paths.SHOULD_RATE_LIMIT]
        == ["/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"]
    )
