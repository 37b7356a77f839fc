"""The handler of every adapter that exports spans: takes instances, hands spans to a courier, keeps the books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixer.adapters.base import Env, Handler
from mixer.adapters.spans.courier import Courier, Receiver
from mixer.adapters.spans.ledger import Drop, Ledger, Skip, SpanMetrics
from mixer.adapters.spans.params import Limits, Sampling, SpanParams
from mixer.adapters.spans.span import Span, SpanMaker
from mixer.errors import AdapterError
from mixer.templates.tracespan import TraceSpanInstance

CLOSE_TIMEOUT_S: Final = 5.0


class SpanHandler(Handler):
    """Takes instances without ever waiting; every one of them is accounted for."""

    def __init__(self, maker: SpanMaker, courier: Courier, ledger: Ledger) -> None:
        self._maker, self._courier, self._ledger = maker, courier, ledger
        self._closed = False

    def handle_report(self, instances: Sequence[TraceSpanInstance], /) -> None:
        """Take spans; one without a trace, or with faulty ids or times, is counted and costs no error.

        Raises:
            AdapterError: The handler is closed.
        """
        ledger, make = self._ledger, self._maker.make
        ledger.accept(len(instances))
        if self._closed:
            ledger.drop(Drop.CLOSED, len(instances))
            raise AdapterError("the handler is closed; dropping spans")
        spans: list[Span] = []
        for instance in instances:
            span = make(instance)
            if isinstance(span, Span):
                spans.append(span)
            elif isinstance(span, Skip):
                ledger.skip(span)
            else:
                ledger.drop(span)
        if spans:
            self._courier.put(spans)

    async def aclose(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what waits, for the given time at most; the rest is dropped, and counted."""
        if self._closed:
            return
        self._closed = True
        await self._courier.aclose(timeout_s)


def start(adapter: str, params: SpanParams, receiver: Receiver, limits: Limits, env: Env) -> SpanHandler:
    """A handler with its task started. Nothing is sent yet, so a receiver that is away does no harm."""
    if not params.sample_probability and params.sampling is Sampling.PROBABILITY:
        env.log.warning("spans_disabled", reason="sampleProbability is 0", outcome="nothing is exported")
    ledger = Ledger(SpanMetrics.of(adapter, env), env.handler)
    courier = Courier(receiver, ledger, limits, clock=env.clock, log=env.log)
    env.spawn(courier.run())
    return SpanHandler(SpanMaker(params), courier, ledger)
