"""A thousand configurations in a row, with requests all the time: none fails, and what does not change keeps its state."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from mixer.adapters import memquota
from mixer.adapters.base import CheckResult, QuotaArgs, Status
from mixer.adapters.testing import settle
from tests.runtime.fakes import Bench, fake, instance, rule

RELOADS = 1_000
PAUSE_S = 0.0005
"""Between two requests of one caller: the thread that builds the next configuration must get its turn."""
LIMIT = {"name": "rc.instance.istio-system", "maxAmount": 10**9}
QUOTA = [
    {"kind": "memquota", "name": "mq", "spec": {"quotas": [LIMIT]}},
    instance("quota", "rc"),
    rule("quota", {"mq.memquota": "rc"}),
]
SINK = [fake("sink"), instance("metric", "m", {"value": "1"}), rule("sink", {"sink": "m"})]


@pytest.mark.slow
async def test_requests_do_not_notice_a_thousand_reloads(make_bench: type[Bench]) -> None:
    bench = make_bench([memquota.INFO])
    bench.backend.answers["judge"] = CheckResult(Status(7, "no"), valid_use_count=1)
    changing = [instance("checknothing", "nothing"), rule("judge", {"judge": "nothing"}, 'request.path == "/denied"')]
    done = asyncio.Event()
    served: Counter[str] = Counter()

    async def checks(path: str, code: int) -> None:
        while not done.is_set():
            outcome = await bench.check({"request.path": path}, quotas={"rc": QuotaArgs(1)}, dedup_id=str(served))
            assert outcome.result.status.code == code
            if not code:
                assert outcome.quotas["rc"].result.amount == 1
            served[path] += 1
            await asyncio.sleep(PAUSE_S)

    async def reports() -> None:
        while not done.is_set():
            await bench.report({}, {})
            served["records"] += 2
            await asyncio.sleep(PAUSE_S)

    await bench.serve(*QUOTA, *SINK, *changing, fake("judge", mark="first"))
    requests = [asyncio.ensure_future(work) for work in (checks("/ok", 0), checks("/denied", 7), reports())]
    for i in range(RELOADS):
        await bench.serve(*QUOTA, *SINK, *changing, fake("judge", mark=str(i)))
    done.set()
    await asyncio.gather(*requests)
    await settle()

    judges = [handler for handler in bench.backend.built if handler.role == "judge"]
    sinks = [handler for handler in bench.backend.built if handler.role == "sink"]
    assert [handler.closed for handler in judges] == [1] * RELOADS + [0]
    assert [handler.closed for handler in sinks] == [0]
    assert sum(len(call[0]) for call in bench.backend.calls_of("sink")) == served["records"]
    assert min(served["/ok"], served["/denied"], served["records"]) > RELOADS / 10
    assert bench.sample("mixer_handler_handlers") == 3
