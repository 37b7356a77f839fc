"""Checks and Reports at a steady rate, whatever the answers do, and what came of each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc
import grpc.aio

from mixer.api.encode import encode_check, encode_report
from mixer.api.messages import QuotaParams
from mixer.api.service import MixerStub
from mixer.attributes import Timestamp
from tests.e2e.backends.configuration import QUOTA

DEADLINE_S = 1.0
"""How long a client waits for a Check."""
TICK_S = 0.05
STALL_S = 0.1
REPORT_RECORDS = 5
VISIT_RECORDS = 2
KINDS = ("free", "opa", "guests", "redis")
_ASKS_OF_A_KEY = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """What a Check came to: a code of its precondition, or the name of gRPC's; ``took_s`` from sending to answer."""

    kind: str
    at: float
    took_s: float
    code: int | str
    user: str = ""
    key: str = ""
    granted: int = 0

    @property
    def is_given(self) -> bool:
        """Whether the client has waited for it."""
        return self.code != "DEADLINE_EXCEEDED"

    def overlaps(self, spans: Iterable[tuple[float, float]]) -> bool:
        """Whether it was awaited in one of these times."""
        return any(begin <= self.at + self.took_s and self.at <= end for begin, end in spans)


def trace_id(number: int) -> str:
    """What a record is known by at every receiver."""
    return f"{0xC0FFEE:016x}{number:016x}"


class Load:
    """An open loop: each tick starts one Report, a small one for the adapter out of process, and a Check of each kind.

    Attributes:
        sent: Ids of records for all telemetry backends; ``visits``: of those for the adapter out of process.
        failed: Reports by the status that they ended with, when it was not OK.
        stalls: From when to when the load itself did not get to run: the machine had other work, and what a
            Check took then says nothing about Mixer.
    """

    def __init__(self, target: str, key_prefix: Callable[[], str]) -> None:
        self._channel = grpc.aio.insecure_channel(target)
        self._stub = MixerStub(self._channel)
        self._key_prefix = key_prefix
        self.sent: list[str] = []
        self.visits: list[str] = []
        self.visit_reports = 0
        self.failed: Counter[str] = Counter()
        self.answers: list[Answer] = []
        self.stalls: list[tuple[float, float]] = []
        self._number = 0
        self._asked = 0
        self._started: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Load:
        await asyncio.wait_for(self._channel.channel_ready(), 10)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._channel.close()

    async def stop(self) -> None:
        """Start nothing more, and wait for what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._started)

    async def _run(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now - due > STALL_S:
                self.stalls.append((due - TICK_S, now + TICK_S))
                due = now
            self._start(self.report())
            self._start(self._visit())
            for kind in KINDS:
                self._start(self._check(kind))
            due += TICK_S
            await asyncio.sleep(max(due - time.monotonic(), 0))

    def _start(self, call: object) -> None:
        task = asyncio.ensure_future(call)  # type: ignore[arg-type]
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    def _records(self, path: str, count: int) -> tuple[list[str], object]:
        first, self._number = self._number + 1, self._number + count
        numbers = range(first, first + count)
        now = Timestamp(time.time_ns())
        records = [
            {
                "request.path": path,
                "request.id": trace_id(number),
                "request.time": now,
                "request.headers": {"x-b3-spanid": f"{number:016x}"},
            }
            for number in numbers
        ]
        return [trace_id(number) for number in numbers], encode_report(records)

    async def report(self) -> None:
        """One Report for all telemetry backends."""
        ids, request = self._records("/telemetry", REPORT_RECORDS)
        self.sent += ids
        await self._send(request)

    async def _visit(self) -> None:
        ids, request = self._records("/visits", VISIT_RECORDS)
        self.visits += ids
        self.visit_reports += 1
        await self._send(request)

    async def _send(self, request: object) -> None:
        try:
            await self._stub.Report(request, timeout=5)
        except grpc.aio.AioRpcError as exc:
            self.failed[exc.code().name] += 1

    async def _check(self, kind: str) -> None:
        self._asked += 1
        user = "eve" if self._asked // len(KINDS) % 2 else "ann"
        key, quotas = "", {}
        if kind == "redis":
            key = f"{self._key_prefix()}-{self._asked // len(KINDS) // _ASKS_OF_A_KEY}"
            quotas = {QUOTA: QuotaParams(amount=1)}
        headers = {"end-user": user, "key": key}
        request = encode_check(
            {"request.path": f"/{kind}", "request.headers": headers}, quotas=quotas, deduplication_id=f"{self._asked}"
        )
        at = time.monotonic()
        granted = 0
        try:
            answer = await self._stub.Check(request, timeout=DEADLINE_S)
            code: int | str = answer.precondition.status.code
            if quotas:
                granted = answer.quotas[QUOTA].granted_amount
        except grpc.aio.AioRpcError as exc:
            code = exc.code().name
        self.answers.append(Answer(kind, at, time.monotonic() - at, code, user, key, granted))

    async def until_well(self, kind: str, within_s: float) -> float:
        """Wait until Checks of a kind are answered as if nothing had happened; how long that took, or infinity."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            await asyncio.sleep(TICK_S)
            last = [answer for answer in self.answers[-60:] if answer.kind == kind and answer.at >= began][-4:]
            if len(last) == 4 and is_well(last):
                return last[0].at - began
        return float("inf")


def is_well(answers: list[Answer]) -> bool:
    """Whether answers in a row are those of backends that work."""
    if answers[0].kind == "redis":
        return any(answer.granted for answer in answers)
    if answers[0].kind == "free":
        return all(answer.code == 7 for answer in answers)
    return all(answer.code == (7 if answer.user == "eve" else 0) for answer in answers)
