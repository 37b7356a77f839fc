"""Reports are delivered, refused or dropped for a counted reason, and nothing else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.codes import Code
from mixer.errors import MixerCallError
from proxy.client.delivery import BUFFER_FULL, CRASHED, SHUT_DOWN, TOO_LARGE, Books, DeliveryLimits, ReportDelivery

QUICK = DeliveryLimits(records=100, in_flight=1, base_wait_s=0.001, max_wait_s=0.002)


class Backend:
    """Answers attempts by a script of codes, then with OK; ``open`` lets calls through."""

    def __init__(self, *codes: Code) -> None:
        self.codes = list(codes)
        self.taken: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, data: bytes, timeout_s: float) -> None:
        await self.open.wait()
        code = self.codes.pop(0) if self.codes else Code.OK
        if code is not Code.OK:
            raise MixerCallError(code, f"scripted {code.name}")
        self.taken.append(data)


def balance(delivery: ReportDelivery) -> int:
    books = delivery.books
    return books.delivered + books.refused + sum(books.dropped.values()) + delivery.pending


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  a condition of another object
            await asyncio.sleep(0.001)


async def test_batches_are_delivered_in_order() -> None:
    backend = Backend()
    delivery = ReportDelivery(backend.send, QUICK)
    for n in range(20):
        delivery.put(b"%d" % n, 1)

    await delivery.aclose(5)

    assert backend.taken == [b"%d" % n for n in range(20)]
    assert (delivery.books.accepted, delivery.books.delivered, delivery.pending) == (20, 20, 0)


async def test_batch_is_attempted_until_it_is_answered() -> None:
    backend = Backend(Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.RESOURCE_EXHAUSTED)
    delivery = ReportDelivery(backend.send, QUICK)
    delivery.put(b"a", 7)

    await delivery.aclose(5)

    assert backend.taken == [b"a"]
    assert delivery.books.attempts == {
        Code.UNAVAILABLE: 1, Code.DEADLINE_EXCEEDED: 1, Code.ABORTED: 1, Code.RESOURCE_EXHAUSTED: 1, Code.OK: 1,
    }  # fmt: skip


@pytest.mark.parametrize("code", [Code.UNKNOWN, Code.INVALID_ARGUMENT, Code.INTERNAL])
async def test_refused_batch_is_not_sent_again(code: Code) -> None:
    backend = Backend(code)
    delivery = ReportDelivery(backend.send, QUICK)
    delivery.put(b"a", 7)
    delivery.put(b"b", 1)

    await delivery.aclose(5)

    assert (backend.taken, delivery.books.refused, delivery.books.delivered) == ([b"b"], 7, 1)


async def test_oldest_batches_make_room() -> None:
    backend = Backend()
    backend.open.clear()
    delivery = ReportDelivery(backend.send, DeliveryLimits(records=10, in_flight=1))
    for n in range(8):
        delivery.put(b"%d" % n, 2)
        await asyncio.sleep(0)
    backend.open.set()

    await delivery.aclose(5)

    assert backend.taken == [b"0", b"4", b"5", b"6", b"7"], "the first was on its way"
    assert delivery.books.dropped == {BUFFER_FULL: 6}


async def test_batch_beyond_all_room_is_dropped() -> None:
    delivery = ReportDelivery(Backend().send, DeliveryLimits(bytes=10))
    delivery.put(b"x" * 11, 3)

    assert delivery.books == Books(accepted=3, dropped=delivery.books.dropped)
    assert delivery.books.dropped == {TOO_LARGE: 3}
    await delivery.aclose()


async def test_close_drops_what_cannot_be_delivered_in_time() -> None:
    backend = Backend()
    backend.open.clear()
    delivery = ReportDelivery(backend.send, QUICK)
    delivery.put(b"a", 2)
    delivery.put(b"b", 3)
    await until(lambda: delivery.pending == 5)

    await delivery.aclose(0.01)
    delivery.put(b"late", 1)
    await delivery.aclose(0.01)

    assert delivery.books.dropped == {SHUT_DOWN: 6}
    assert balance(delivery) == delivery.books.accepted == 6


async def test_call_that_crashes_costs_its_batch_and_no_other() -> None:
    backend = Backend()

    async def send(data: bytes, timeout_s: float) -> None:
        if data == b"bad":
            raise RuntimeError("the library's own fault")
        await backend.send(data, timeout_s)

    delivery = ReportDelivery(send, QUICK)
    delivery.put(b"bad", 7)
    delivery.put(b"good", 1)

    await delivery.aclose(1)

    assert (backend.taken, delivery.books.dropped) == ([b"good"], {CRASHED: 7})
    assert balance(delivery) == delivery.books.accepted == 8


async def test_taking_a_batch_costs_the_same_however_many_wait() -> None:
    backend = Backend()
    backend.open.clear()
    delivery = ReportDelivery(backend.send, DeliveryLimits(records=100_000))
    for _ in range(20_000):
        delivery.put(b"x", 1)
    began = time.perf_counter()
    for _ in range(1_000):
        delivery.put(b"x", 1)
    took_s = time.perf_counter() - began

    assert delivery.pending == 21_000
    assert took_s < 0.25, "it took 1 s and more when each put counted all that wait"
    await delivery.aclose()


batches = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from([Code.OK, Code.UNAVAILABLE, Code.UNKNOWN])), max_size=30
)


@given(batches, st.integers(1, 3), st.booleans())
def test_books_balance_whatever_happens(script: list[tuple[int, Code]], in_flight: int, patient: bool) -> None:
    async def run() -> None:
        backend = Backend(*(code for _, code in script))
        limits = DeliveryLimits(records=50, in_flight=in_flight, base_wait_s=0, max_wait_s=0)
        delivery = ReportDelivery(backend.send, limits, rng=random.Random(1))
        for number, (records, _) in enumerate(script):
            delivery.put(b"%d" % number, records)
            assert balance(delivery) == delivery.books.accepted
            if number % 3 == 0:
                await asyncio.sleep(0)
        await delivery.aclose(5 if patient else 0)
        assert delivery.pending == 0
        assert balance(delivery) == delivery.books.accepted == sum(records for records, _ in script)
        assert len(set(backend.taken)) == len(backend.taken)

    asyncio.run(run())
