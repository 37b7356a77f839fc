"""Sending: closed loop (the next request when the answer is there) and open loop (each request at its time).

In an open loop a latency counts from the moment at which the request was meant to be sent. A server that stalls is
thus charged for all requests that would have come meanwhile, not only for those that a polite client sent
(coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from grpc import aio

Call = Callable[[bytes], Awaitable[object]]

CALL_TIMEOUT_S = 20.0
"""No call takes longer; it then counts as DEADLINE_EXCEEDED."""


@dataclass(frozen=True, slots=True)
class Window:
    """When to send and what of it counts, on the clock of `time.monotonic`, which all processes share."""

    begins: float
    opens: float
    closes: float

    @classmethod
    def starting(cls, begins: float, warmup_s: float, seconds: float) -> Window:
        """A window that opens when the warm-up is over."""
        return cls(begins, begins + warmup_s, begins + warmup_s + seconds)


@dataclass(slots=True)
class Samples:
    """What one client saw.

    Attributes:
        latencies: Seconds, of the calls that count: in a closed loop those answered within the window, in an open
            loop those due within it, failed ones included.
        lags: Open loop: by how many seconds a request left later than it was due.
        completed: Calls answered well within the window.
        sent: All calls, those of the warm-up included; of them ``answered`` went well.
        errors: Failed calls among ``sent``, by status code.
    """

    latencies: array[float] = field(default_factory=lambda: array("d"))
    lags: array[float] = field(default_factory=lambda: array("d"))
    completed: int = 0
    sent: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def merge(self, other: Samples) -> None:
        """Add what another client saw."""
        self.latencies.extend(other.latencies)
        self.lags.extend(other.lags)
        self.completed += other.completed
        self.sent += other.sent
        self.answered += other.answered
        self.errors.update(other.errors)


async def closed_loop(calls: Sequence[Call], bodies: Sequence[bytes], window: Window, in_flight: int) -> Samples:
    """Keep ``in_flight`` calls going on each connection until the window closes, then let them finish."""
    samples = Samples()
    turn = itertools.cycle(bodies)

    async def one(call: Call) -> None:
        while True:
            started = time.monotonic()
            if started >= window.closes:
                return
            ended, ok = await _timed(call, next(turn), samples)
            if window.opens <= ended < window.closes:
                samples.latencies.append(ended - started)
                samples.completed += ok

    await _sleep_until(window.begins)
    await asyncio.gather(*(one(call) for call in calls for _ in range(in_flight)))
    return samples


async def open_loop(calls: Sequence[Call], bodies: Sequence[bytes], window: Window, times: Iterable[float]) -> Samples:
    """Send a request at each of the times, in turn over the connections; wait for all answers."""
    samples = Samples()
    loop = asyncio.get_running_loop()
    turn, body = itertools.cycle(calls), itertools.cycle(bodies)
    tasks: set[asyncio.Task[None]] = set()
    finished = asyncio.Event()

    async def one(due: float) -> None:
        left = time.monotonic()
        ended, ok = await _timed(next(turn), next(body), samples)
        if due >= window.opens:
            samples.latencies.append(ended - due)
            samples.lags.append(left - due)
        if window.opens <= ended < window.closes:
            samples.completed += ok

    def send(due: float) -> None:
        task = loop.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def keep_time() -> None:
        # A thread, because the timers of an event loop are rounded to milliseconds.
        try:
            for due in times:
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                loop.call_soon_threadsafe(send, due)
            loop.call_soon_threadsafe(finished.set)
        except RuntimeError:
            return  # the loop was closed: the run was given up

    threading.Thread(target=keep_time, name="schedule", daemon=True).start()
    await finished.wait()
    while tasks:
        await asyncio.wait(tasks)
    return samples


async def _timed(call: Call, body: bytes, samples: Samples) -> tuple[float, bool]:
    samples.sent += 1
    try:
        await call(body)
    except aio.AioRpcError as exc:
        samples.errors[exc.code().name] += 1
        return time.monotonic(), False
    ended = time.monotonic()
    samples.answered += 1
    return ended, True


async def _sleep_until(moment: float) -> None:
    wait = moment - time.monotonic()
    if wait > 0:
        await asyncio.sleep(wait)


def send_times(
    rate: float, window: Window, *, poisson: bool, seed: int, client: int = 0, clients: int = 1
) -> Iterator[float]:
    """When one of several clients sends, ascending, until the window closes.

    Together the clients send ``rate`` a second: evenly spaced, with the clients taking turns, or at random with
    exponential gaps (the sum of independent Poisson processes is one).

    Raises:
        ValueError: The rate is not positive.
    """
    if rate <= 0:
        raise ValueError(f"a rate must be positive, not {rate}")
    if not poisson:
        for number in itertools.count(client, clients):
            due = window.begins + number / rate
            if due >= window.closes:
                return
            yield due
    rng = random.Random(f"{seed} {client}")
    due = window.begins
    while (due := due + rng.expovariate(rate / clients)) < window.closes:
        yield due
