"""CPU of the sidecar client: a decision from the cache, with and without a quota, and one that Mixer has to make.

    python -m tests.bench.bench_sidecar [--seconds 2] [--profile]

The Mixer is a stand-in that answers at once, so what is measured is the client alone. Each line is the best of several
rounds, in microseconds for one request; "composed" includes making the bag from three layers.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import time
from collections.abc import Awaitable, Callable, Sequence

from loadtest.bookinfo import visits
from mixer.api.answer import CheckAnswer, QuotaAnswer
from mixer.attributes import AttributeBag, AttributeValue, Condition, Duration, MappingBag, Timestamp
from proxy.client import PASS_THROUGH, HttpClientConfig, SidecarClient, read_config
from proxy.mixer import CheckCall

_SECOND = 10**9
REFERENCED = {
    ("destination.service.host", ""): Condition.EXACT,
    ("destination.namespace", ""): Condition.EXACT,
    ("source.namespace", ""): Condition.EXACT,
    ("source.principal", ""): Condition.EXACT,
    ("context.reporter.kind", ""): Condition.EXACT,
    ("request.method", ""): Condition.EXACT,
    ("request.url_path", ""): Condition.EXACT,
    ("request.headers", "user-agent"): Condition.EXACT,
    ("request.headers", "x-debug"): Condition.ABSENCE,
    ("request.auth.principal", ""): Condition.ABSENCE,
}
STATICS = {
    "context.reporter.kind": "inbound",
    "context.reporter.uid": "kubernetes://reviews-v3.default",
    "destination.uid": "kubernetes://reviews-v3.default",
    "destination.namespace": "default",
    "destination.service.host": "reviews.default.svc.cluster.local",
    "destination.service.name": "reviews",
    "destination.service.namespace": "default",
    "destination.port": 9080,
}


class Stand:
    """A Mixer that knows its answer."""

    async def check(self, call: CheckCall) -> CheckAnswer:
        """Everything is fine for a long time."""
        quotas = {name: QuotaAnswer(demand.amount, Duration(_SECOND)) for name, demand in call.quotas.items()}
        return CheckAnswer(0, "", Duration(3600 * _SECOND), -1, REFERENCED, None, quotas)

    async def report(self, records: Sequence[AttributeBag]) -> None:
        """Thank you."""


def derived(number: int) -> MappingBag:
    """What a host finds in a request."""
    hop = next(iter(visits(1, number)))
    own: dict[str, AttributeValue] = dict(hop.check_attributes())
    own |= {
        "request.url_path": "/reviews",
        "source.principal": "cluster.local/ns/default/sa/productpage",
        "source.namespace": "default",
        "request.time": Timestamp(_SECOND * number),
    }
    return MappingBag({name: value for name, value in own.items() if name not in STATICS})


def client(quota: bool, **transport: object) -> SidecarClient:
    """A client with one service."""
    spec = [{"rules": [{"quotas": [{"quota": "requests", "charge": 1}]}]}] if quota else []
    config, problems = read_config(
        HttpClientConfig,
        {
            "mixer_attributes": STATICS,
            "service_configs": {"default": {"quota_spec": spec}},
            "default_destination_service": "default",
            "transport": transport,
        },
    )
    assert config is not None, problems
    return SidecarClient(Stand(), config)


async def best(call: Callable[[], Awaitable[None] | None], seconds: float, rounds: int = 5) -> float:
    """Microseconds of one call in the best round."""
    found = float("inf")
    for _ in range(rounds):
        count, began, spent = 0, time.process_time(), 0.0
        while spent < seconds / rounds:
            for _ in range(200):
                waiting = call()
                if waiting is not None:
                    await waiting
            await asyncio.sleep(0)
            count += 200
            spent = time.process_time() - began
        found = min(found, spent / count)
    return found * 1e6


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure each")
    parser.add_argument("--profile", action="store_true", help="print where the time of a decision goes")
    options = parser.parse_args()
    request = derived(1)

    async def measured(title: str, made: SidecarClient, composed: bool) -> None:
        bag = made.compose(request)
        first = made.check(bag)
        if isinstance(first, Awaitable):
            await first

        async def wait(found: Awaitable[object]) -> None:
            await found

        def one() -> Awaitable[None] | None:
            found = made.check(made.compose(request) if composed else bag)
            return wait(found) if isinstance(found, Awaitable) else None

        if options.profile:
            profile = cProfile.Profile()
            with profile:
                await best(one, options.seconds)
            pstats.Stats(profile).sort_stats("tottime").print_stats(15)
        print(f"{title:45} {await best(one, options.seconds):7.2f} us")
        await made.aclose()

    print(f"{len(list(client(False).compose(request).names()))} attributes, {len(REFERENCED)} referenced")
    await measured("check, decided by the cache", client(False), False)
    await measured("compose and check, decided by the cache", client(False), True)
    await measured("compose and check, quota from the pool", client(True), True)
    await measured("compose and check, Mixer asked, no caches", client(False, **PASS_THROUGH.model_dump()), True)
    reporter = client(False)
    bag = reporter.compose(request)
    print(f"{'report, batched':45} {await best(lambda: reporter.report([bag]), options.seconds):7.2f} us")
    await reporter.aclose(1.0)


if __name__ == "__main__":
    asyncio.run(main())
