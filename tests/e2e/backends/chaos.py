"""All backends of one Mixer break, again and again, under load; then the books are compared.

For longer than CI allows::

    python -m tests.e2e.backends.chaos --rounds 10 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.e2e.backends import books
from tests.e2e.backends.books import Metrics, Row
from tests.e2e.backends.configuration import LIMIT, objects, write
from tests.e2e.backends.load import KINDS, Answer, Load
from tests.e2e.backends.programs import Backend, Mixs, RedisBackend, make_backend

NAMES = ("fluentd", "otlp", "zipkin", "statsd", "unix", "opa", "redis", "guests")
LAST_REPORTS = 4
WELL_AGAIN_S = 20.0
"""Within this time after a fault its backend's Checks are as before: time-outs, pauses that spare it, keepalive."""
INF = float("inf")


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to each backend, in this order and beside what happens to the others."""

    faults: dict[str, tuple[str, ...]]
    seed: int
    calm_s: float = 0.5
    """Between two faults of one backend, at most."""

    @classmethod
    def rounds(cls, rounds: int, seed: int, names: Sequence[str] = NAMES) -> Plan:
        """Every fault of every backend so many times, in random order."""
        chance = random.Random(seed)
        plan = {}
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                faults = list(make_backend(name, Path(folder)).faults) * rounds
                chance.shuffle(faults)
                plan[name] = tuple(faults)
        return cls(plan, seed, calm_s=2.0)


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    rows: list[Row]
    seconds: float
    drained_s: float
    well_s: dict[tuple[str, str], list[float]]
    """For each backend of Checks and each fault: how long after it all was well again."""
    answers: list[Answer]
    fair: list[Answer]
    calm: list[Answer]
    stalls: list[tuple[float, float]]
    code: int
    log: str = ""
    injected: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """All that does not hold; empty is good."""
        found = [f"{row.backend}: {text}" for row in self.rows for text in row.wrong]
        found += [
            f"{name}: never well after {fault}" for (name, fault), took in self.well_s.items() if max(took) == INF
        ]
        if self.drained_s == INF:
            found.append("buffers never became empty")
        if self.code:
            found.append(f"mixs ended with {self.code}")
        # grpcio itself logs one when a client gives up at the very moment of its answer.
        log = re.sub(r"^ERROR grpc\._cython.*?(?=^\d{4}-|\Z)", "", self.log, flags=re.DOTALL | re.MULTILINE)
        if "Traceback" in log:
            found.append(f"mixs logged a traceback:\n{log[max(log.index('Traceback') - 500, 0) :][:3000]}")
        return found

    def text(self) -> str:
        """The books as a table, and the latencies."""
        lines = ["| backend | faults | accepted | delivered | dropped | arrived | again | retries |", "|---" * 8 + "|"]
        for r in self.rows:
            dropped = ", ".join(f"{count} {reason}" for reason, count in sorted((+r.dropped).items())) or "0"
            lines.append(
                f"| {r.backend} | {r.faults} | {r.accepted} | {r.delivered} | {dropped} | {r.arrived} | {r.again} "
                f"| {r.retries} |"
            )
        lines += [
            "",
            "| Checks | count | p50 ms | p99 ms | p100 ms | calm: count | p50 | p99 | p100 |",
            "|---" * 9 + "|",
        ]
        for kind in ("free", "opa", "guests", "redis"):
            cells = []
            for answers in (self.fair, self.calm):
                took = sorted(a.took_s * 1000 for a in answers if a.kind == kind) or [0.0]
                cells += [len(took), *(f"{took[min(int(len(took) * q), len(took) - 1)]:.1f}" for q in (0.5, 0.99, 1))]
            lines.append(f"| {kind} | " + " | ".join(map(str, cells)) + " |")
        lines += ["", "| Checks well after | seconds: median | most |", "|---|---|---|"]
        for (name, fault), took in sorted(self.well_s.items()):
            lines.append(f"| {name}: {fault} | {median(took):.2f} | {max(took):.2f} |")
        lines.append(
            f"\n{self.seconds:.0f} s; buffers empty {self.drained_s:.2f} s after the last fault; "
            f"the load itself had to wait {len(self.stalls)} times, "
            f"{sum(end - begin for begin, end in self.stalls):.1f} s in all"
        )
        lines += [f"faults of {name}: {dict(sorted(done.items()))}" for name, done in self.injected.items()]
        lines += ["", *(self.wrong or ["all books balance"])]
        return "\n".join(lines)


class Run:
    """One Mixer, its backends and the load."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._backends = {name: make_backend(name, folder) for name in NAMES}
        self._troubled: list[tuple[str, float, float]] = []
        self._limits: dict[str, int] = {}
        self._well_s: dict[tuple[str, str], list[float]] = {}
        self._injected: dict[str, Counter[str]] = {name: Counter() for name in NAMES}

    async def __call__(self) -> Outcome:
        began = time.monotonic()
        config = self._folder / "config"
        config.mkdir()
        async with AsyncExitStack() as stack:
            for backend in self._backends.values():
                stack.push_async_callback(backend.stop)
            await asyncio.gather(*(backend.start() for backend in self._backends.values()))
            write(config, objects({name: backend.address for name, backend in self._backends.items()}))
            log = self._folder / "mixs.log"
            mixs = Mixs(config, log, "--handler-timeout", "800ms")
            stack.callback(mixs.stop, signal.SIGKILL)
            await asyncio.to_thread(mixs.start)
            load = await stack.enter_async_context(Load(mixs.target, self._key_prefix))
            for kind in KINDS:
                await load.until_well(kind, 10)
            await asyncio.gather(*(self._torment(backend, load) for backend in self._backends.values()))
            last = time.monotonic()
            await load.stop()
            drained_s = await self._drained(mixs, last)
            metrics = Metrics(await asyncio.to_thread(mixs.metrics))
            before = len(load.sent)
            await asyncio.gather(*(load.report() for _ in range(LAST_REPORTS)))
            code = await asyncio.to_thread(mixs.stop)
            await asyncio.gather(*(backend.stop() for backend in self._backends.values()))
        fair = [answer for answer in load.answers if not answer.overlaps(load.stalls)]
        calm = [answer for answer in fair if self._is_calm(answer)]
        return Outcome(
            self._rows(metrics, load, before, fair, calm),
            time.monotonic() - began,
            drained_s,
            self._well_s,
            load.answers,
            fair,
            calm,
            load.stalls,
            code,
            log.read_text(),
            self._injected,
        )

    def _key_prefix(self) -> str:
        redis = self._backends["redis"]
        assert isinstance(redis, RedisBackend)
        return f"g{redis.generation}"

    async def _torment(self, backend: Backend, load: Load) -> None:
        chance = random.Random(f"{self._plan.seed} {backend.name}")
        for fault in self._plan.faults.get(backend.name, ()):
            await asyncio.sleep(chance.uniform(0.1, self._plan.calm_s))
            began, prefix = time.monotonic(), self._key_prefix()
            await backend.suffer(fault, chance)
            self._injected[backend.name][fault] += 1
            if backend.name in KINDS:
                took_s = await load.until_well(backend.name, WELL_AGAIN_S)
                self._well_s.setdefault((backend.name, fault), []).append(took_s)
            self._troubled.append((backend.name, began, time.monotonic()))
            if self._key_prefix() != prefix:
                # The key of this moment may have been charged in two lives of Redis.
                await asyncio.sleep(1)
                used = [a.key for a in load.answers if a.kind == "redis" and a.key.startswith(f"{prefix}-")]
                self._limits |= dict.fromkeys(used[-1:], 2 * LIMIT)

    def _is_calm(self, answer: Answer) -> bool:
        return not any(
            name == answer.kind and began <= answer.at + answer.took_s and answer.at <= ended
            for name, began, ended in self._troubled
        )

    async def _drained(self, mixs: Mixs, since: float) -> float:
        give_up = time.monotonic() + 40
        while time.monotonic() < give_up:
            if not Metrics(await asyncio.to_thread(mixs.metrics)).waiting():
                return time.monotonic() - since
            await asyncio.sleep(0.1)
        return INF

    def _rows(self, metrics: Metrics, load: Load, before: int, fair: list[Answer], calm: list[Answer]) -> list[Row]:
        """The last Reports came after the metrics were read, and Mixer was told to end at once: they all arrive."""
        sent, burst = load.sent[:before], set(load.sent[before:])
        rows = []
        for name, faults in self._injected.items():
            backend = self._backends[name]
            if name in books.TELEMETRY:
                arrived = backend.arrived()
                row = books.telemetry_row(backend, metrics, sent, faults, burst)
                row.require(burst <= arrived, f"{len(burst - arrived)} of the last {len(burst)} did not arrive")
            elif name == "opa":
                row = books.opa_row(metrics, load.answers, faults)
            elif name == "redis":
                row = books.redis_row(metrics, load.answers, self._limits, faults)
            else:
                asked = [answer for answer in load.answers if answer.kind == "guests"]
                row = books.visits_row(backend, metrics, load.visits, load.visit_reports, asked, faults)
            rows.append(row)
        rows.append(books.answers_row(load.answers, fair, calm, load.failed))
        return rows


def main() -> None:
    """Run by hand; the exit code says whether all books balance."""
    parser = argparse.ArgumentParser(description="Break all backends of a Mixer under load, and compare the books.")
    parser.add_argument("--rounds", type=int, default=10, help="how often each fault happens to each backend")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", action="append", choices=NAMES, help="only this one breaks; may be repeated")
    flags = parser.parse_args()
    plan = Plan.rounds(flags.rounds, flags.seed, flags.backend or NAMES)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        found = asyncio.run(Run(plan, Path(folder))())
    print(found.text())
    raise SystemExit(bool(found.wrong))


if __name__ == "__main__":
    main()
