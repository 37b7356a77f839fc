"""What the tests of the sidecar client share: a Mixer that does as it is told, and clients on a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixer.api.answer import CheckAnswer, QuotaAnswer, Referenced
from mixer.attributes import ABSENT, AttributeBag, AttributeValue, Condition, Duration, MappingBag
from proxy.client import HttpClientConfig, SidecarClient, Verdict, read_config
from proxy.mixer import CheckCall

SECOND = 10**9


def exact(*names: str) -> dict[tuple[str, str], Condition]:
    """References to values: ``name`` or ``name[key]``."""
    return {split(name): Condition.EXACT for name in names}


def absent(*names: str) -> dict[tuple[str, str], Condition]:
    return {split(name): Condition.ABSENCE for name in names}


def split(name: str) -> tuple[str, str]:
    head, _, key = name.partition("[")
    return head, key.removesuffix("]")


def answer(
    referenced: Referenced | None = None,
    code: int = 0,
    message: str = "",
    *,
    valid_s: float | None = 5.0,
    uses: int = 10_000,
    **more: Any,
) -> CheckAnswer:
    duration = None if valid_s is None else Duration(round(valid_s * SECOND))
    return CheckAnswer(code, message, duration, uses, referenced, more.get("directive"), more.get("quotas", {}))


def granted(amount: int, referenced: Referenced | None = None, valid_s: float = 10.0, code: int = 0) -> QuotaAnswer:
    return QuotaAnswer(amount, Duration(round(valid_s * SECOND)), code, referenced=referenced)


@dataclass
class Clock:
    """Seconds that pass when told."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeMixer:
    """Answers with ``reply`` (a value, an exception, or a function of the call); holds back while ``gate`` is closed."""

    reply: Any = field(default_factory=answer)
    calls: list[CheckCall] = field(default_factory=list)
    reports: list[list[AttributeBag]] = field(default_factory=list)
    report_error: Exception | None = None
    gate: asyncio.Event | None = None
    cancelled: int = 0

    async def check(self, call: CheckCall) -> CheckAnswer:
        self.calls.append(call)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        found = self.reply(call) if callable(self.reply) else self.reply
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, CheckAnswer)
        return found

    async def report(self, records: Sequence[AttributeBag]) -> None:
        self.reports.append(list(records))
        if self.gate is not None:
            await self.gate.wait()
        if self.report_error is not None:
            raise self.report_error

    @property
    def prefetches(self) -> list[CheckCall]:
        return [call for call in self.calls if any(demand.best_effort for demand in call.quotas.values())]


def config(
    service: Mapping[str, Any] | None = None, transport: Mapping[str, Any] | None = None, **client: Any
) -> HttpClientConfig:
    """A configuration with one service, which is the default."""
    data = {
        "service_configs": {"default": service or {}},
        "default_destination_service": "default",
        "transport": transport or {},
        **client,
    }
    found, problems = read_config(HttpClientConfig, data)
    assert found is not None, problems
    return found


def charging(charge: int = 1, *names: str) -> dict[str, Any]:
    """A service whose every request is charged."""
    quotas = [{"quota": name, "charge": charge} for name in names or ("RequestCount",)]
    return {"quota_spec": [{"rules": [{"quotas": quotas}]}]}


async def verdict_of(found: Verdict | Awaitable[Verdict]) -> Verdict:
    return found if isinstance(found, Verdict) else await found


async def ask(client: SidecarClient, /, service: str = "", **attributes: AttributeValue) -> Verdict:
    """Compose and check; ``__`` in names stands for a dot. What goes on in the background is let finish."""
    bag = bag_of(client, service, **attributes)
    verdict = await verdict_of(client.check(bag, service=service))
    await settle()
    return verdict


def bag_of(client: SidecarClient, service: str = "", **attributes: AttributeValue) -> AttributeBag:
    return client.compose(MappingBag({name.replace("__", "."): v for name, v in attributes.items()}), service=service)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let time pass until something has happened."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  what is waited for is not ours to signal
            await asyncio.sleep(0.002)


def values(bag: AttributeBag) -> dict[str, AttributeValue]:
    found = {name: bag.peek(name) for name in bag.names()}
    assert ABSENT not in found.values()
    return found  # type: ignore[return-value]


def tally(client: SidecarClient, *names: str) -> tuple[int, ...]:
    counted = client.counters()
    return tuple(getattr(counted, name) for name in names)
