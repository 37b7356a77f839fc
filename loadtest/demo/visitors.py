"""People who read the product page, and a few requests that policy has something to say about; all of it real HTTP."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from loadtest.bookinfo import USERS
from loadtest.demo.programs import DemoError
from loadtest.demo.sidecars import Plan
from loadtest.demo.workloads import DETAILS, GATEWAY, PRODUCTPAGE, RATINGS, REVIEWS

AT_ONCE: Final = 4
IMPATIENT: Final = "tester"
"""The user whom the sample of rate limits gives two visits in ten seconds."""

_PATIENCE: Final = 6
_TIMEOUT_S: Final = 15.0
_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, as they were on the wire.

    Attributes:
        title: What it shows.
        request: Line and headers of the request.
        status: HTTP status.
        answer: Status line and headers of the answer.
        body: Of the answer.
    """

    title: str
    request: tuple[str, ...]
    status: int
    answer: tuple[str, ...]
    body: str


@dataclass
class Diary:
    """What came of the requests.

    Attributes:
        outcomes: Visits by user and status.
        asked: Requests by the workload through whose Envoy they began.
        exchanges: Those worth a look.
        seconds: Time that the visits took.
    """

    outcomes: Counter[tuple[str, int]] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    exchanges: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """All requests."""
        return self.asked.total()


def users(count: int, seed: int) -> Iterator[str]:
    """Who visits: the same seed gives the same users."""
    chance = random.Random(seed)
    return (chance.choice(USERS) for _ in range(count))


async def visit(plan: Plan, diary: Diary, count: int, seed: int, arrived: Callable[[], None]) -> None:
    """Let so many visits happen, a few at once.

    Raises:
        DemoError: The gateway gave no answer, or one that nobody expects.
    """
    people = users(count, seed)
    url = f"http://127.0.0.1:{plan.ports[GATEWAY].outbound}/productpage"

    async def visitor(session: aiohttp.ClientSession) -> None:
        for user in people:
            async with session.get(url, headers=_headers(user)) as answer:
                text = await answer.text()
            diary.asked[GATEWAY] += 1
            diary.outcomes[user, answer.status] += 1
            if answer.status not in (200, 429):
                raise DemoError(f"GET /productpage as {user} was answered {answer.status}: {text[:500]}")
            arrived()

    started = time.monotonic()
    async with _session() as session:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(visitor(session))
        except ExceptionGroup as failures:
            raise _as_ours(failures.exceptions[0]) from failures
    diary.seconds = time.monotonic() - started


async def provoke(plan: Plan, diary: Diary) -> None:
    """Requests that are refused, each by another policy.

    Raises:
        DemoError: One of them is not refused as it should be.
    """
    try:
        await _provoke(plan, diary)
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise _as_ours(exc) from exc
    statuses = [exchange.status for exchange in diary.exchanges]
    if statuses != [429, 403, 403, 403]:
        raise DemoError(f"answered {statuses}, not 429 and three times 403: {diary.exchanges}")


def _as_ours(exc: Exception) -> DemoError:
    return exc if isinstance(exc, DemoError) else DemoError(f"a request was not answered: {type(exc).__name__} {exc}")


async def _provoke(plan: Plan, diary: Diary) -> None:
    async with _session() as session:
        title = f"Rate limit: {IMPATIENT} may visit twice in ten seconds, and asks once more"
        for _ in range(_PATIENCE):
            refused = await _ask(session, plan, diary, GATEWAY, "", "/productpage", IMPATIENT, title)
            if refused.status == 429:
                break
        diary.exchanges.append(refused)
        for caller, callee, path, user, why in (
            (REVIEWS[2], RATINGS, "/ratings/0", "", "Deny: reviews-v3 asks ratings"),
            (REVIEWS[2], DETAILS, "/details/0", "", "White list: reviews-v3 asks details, which knows v1 and v2 only"),
            (PRODUCTPAGE, REVIEWS[0], "/reviews/0", "mallory", "Black list: the product page asks reviews for mallory"),
        ):
            host = plan.workloads[callee].authority
            diary.exchanges.append(await _ask(session, plan, diary, caller, host, path, user, why))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))


def _headers(user: str) -> dict[str, str]:
    return {"user-agent": _AGENT, **({} if user in ("", "anonymous") else {"end-user": user})}


async def _ask(
    session: aiohttp.ClientSession, plan: Plan, diary: Diary, caller: str, host: str, path: str, user: str, title: str
) -> Exchange:
    """A request through the outbound port of a workload's Envoy, as its service would send it."""
    port = plan.ports[caller].outbound
    headers: Mapping[str, str] = _headers(user) | ({"host": host} if host else {})
    async with session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
        body = await answer.text()
    diary.asked[caller] += 1
    if caller == GATEWAY:
        diary.outcomes[user, answer.status] += 1
    shown = (f"GET {path} HTTP/1.1", f"host: {host or f'127.0.0.1:{port}'}", *([f"end-user: {user}"] if user else []))
    status = f"HTTP/1.1 {answer.status} {answer.reason}"
    lines = (f"{name.decode()}: {value.decode()}" for name, value in answer.raw_headers)
    return Exchange(title, shown, answer.status, (status, *lines), body)
