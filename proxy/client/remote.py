"""A Mixer at the other end of a gRPC connection: encoding, attempts within a deadline, and delivery of Reports.

Source: spec proxy 10.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import grpc
import structlog
from grpc import aio

from mixer.api.answer import CheckAnswer
from mixer.api.codes import Code
from mixer.api.decode import decode_report, parse_report
from mixer.api.encode import encode_check, encode_report
from mixer.api.messages import CheckResponse, QuotaParams
from mixer.api.wire_answer import decode_answer
from mixer.api.words import GLOBAL_WORD_COUNT
from mixer.attributes import ABSENT, AttributeBag, AttributeValue
from mixer.errors import MixerCallError
from mixer.tls import ClientCertificates, ClientTls
from proxy.client.delivery import NOT_ENCODABLE, TOO_LARGE, TRANSIENT, DeliveryLimits, ReportDelivery
from proxy.client.line import Line
from proxy.mixer import CheckCall

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.remote")

FIRST_WORD_COUNT: Final = 111
"""Words of the first dictionary that was published; every server knows these."""

_UNKNOWN_WORDS: Final = "inconsistent global dictionary versions used"
_DICTIONARY_FAULTS: Final = ("Request could not be processed due to invalid", _UNKNOWN_WORDS)
_NOBODY: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
FORWARDED: Final = "x-istio-attributes"


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """How to talk to a Mixer.

    Attributes:
        check_address: ``host:port`` or ``unix:///path``.
        report_address: The same for Reports; empty for the same Mixer.
        check_timeout_s: For all attempts of one Check, unless its caller has less time.
        max_retries: Of a Check that got no answer.
        base_retry_wait_s: Before the first retry; later ones wait up to twice as long each.
        max_retry_wait_s: Before any retry.
        message_bytes: No Report is larger; Mixer's own limit is 1 MiB unless told otherwise.
        forward: The value of ``x-istio-attributes`` on each call, for a proxy on the way.
        delivery: Bounds of the buffer of Reports.
        tls: Whom to trust and what to show; None for cleartext, which a socket file has in any case.
    """

    check_address: str
    report_address: str = ""
    check_timeout_s: float = 5.0
    max_retries: int = 0
    base_retry_wait_s: float = 0.08
    max_retry_wait_s: float = 1.0
    message_bytes: int = 1 << 20
    forward: str = ""
    delivery: DeliveryLimits = field(default_factory=DeliveryLimits)
    tls: ClientTls | None = None


class RemoteMixer:
    """`proxy.mixer.Mixer` over gRPC.

    A Report is taken once it is in the buffer; `ReportDelivery` says what becomes of it. Must be made and closed
    within one running event loop.
    """

    def __init__(self, options: RemoteOptions, *, rng: random.Random | None = None) -> None:
        """Prepare; nothing is connected before the first call.

        Raises:
            CertificateError: The files of ``options.tls`` are not fit for use.
        """
        self._options = options
        self.certificates: Final = ClientCertificates(options.tls) if options.tls is not None else None
        self._rng = rng or random.Random()
        self._checks = Line(options.check_address, self.certificates)
        same = options.report_address in ("", options.check_address)
        self._reports = self._checks if same else Line(options.report_address, self.certificates)
        self._metadata = ((FORWARDED, options.forward),) if options.forward else ()
        self._words = GLOBAL_WORD_COUNT
        self._batch_ids = (f"{prefix}{number}" for prefix in [uuid.uuid4()] for number in count())
        self.delivery: Final = ReportDelivery(self._send_report, options.delivery, rng=self._rng)
        self.check_attempts: Final[Counter[Code]] = Counter()
        self.check_retries = 0

    @property
    def tls_fault(self) -> str:
        """Why TLS with Mixer does not come about, as it was last found; empty when it does."""
        return self._checks.tls_fault or self._reports.tls_fault

    @property
    def tls_faults(self) -> int:
        """How often it was found not to; by handshakes beside the calls, a few seconds apart."""
        same = self._reports is self._checks
        return self._checks.tls_faults + (0 if same else self._reports.tls_faults)

    @property
    def dictionary_words(self) -> int:
        """How many global words are used; fewer than there are once a server has shown that it knows no more."""
        return self._words

    async def check(self, call: CheckCall) -> CheckAnswer:
        """Decide on a request, in several attempts if need be; all of them together keep the time limit.

        Raises:
            MixerCallError: There is no decision. INVALID_ARGUMENT when the bag cannot be encoded.
        """
        limit_s = self._options.check_timeout_s
        if call.timeout_s is not None:
            limit_s = min(limit_s, call.timeout_s)
        deadline = asyncio.get_running_loop().time() + limit_s
        retries, shrunk = 0, False
        while True:
            words = self._words
            try:
                data = await self._attempt(_encode(call, words), deadline - asyncio.get_running_loop().time())
                return decode_answer(CheckResponse.FromString(data))
            except MixerCallError as exc:
                if _is_dictionary_fault(exc) and not shrunk and words > FIRST_WORD_COUNT:
                    shrunk = True
                    self._shrink()
                    continue
                if exc.code not in TRANSIENT or retries >= self._options.max_retries:
                    raise
                wait_s = self._retry_wait_s(retries)
                if asyncio.get_running_loop().time() + wait_s >= deadline:
                    raise
                retries += 1
                self.check_retries += 1
                await asyncio.sleep(wait_s)

    async def report(self, records: Sequence[AttributeBag]) -> None:
        """Put records into the buffer; what cannot be encoded is dropped and counted there."""
        self._put([_values(record) for record in records])

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Deliver what is buffered for so long, drop the rest, and hang up; safe twice."""
        await self.delivery.aclose(grace_s)
        await self._checks.aclose()
        if self._reports is not self._checks:
            await self._reports.aclose()

    def _put(self, records: Sequence[Mapping[str, AttributeValue]]) -> None:
        """Encode records as one batch, or as several when one would be too large."""
        if not records:
            return
        try:
            request = encode_report(records, global_word_count=self._words)
        except (ValueError, TypeError) as exc:
            if len(records) == 1:
                log.debug("record_not_encodable", error=str(exc))
                self.delivery.drop(NOT_ENCODABLE, 1)
            else:
                for record in records:
                    self._put([record])
            return
        request.deduplication_id = next(self._batch_ids)
        data = request.SerializeToString()
        if len(data) <= self._options.message_bytes:
            self.delivery.put(data, len(records))
        elif len(records) == 1:
            log.debug("record_too_large", bytes=len(data))
            self.delivery.drop(TOO_LARGE, 1)
        else:
            middle = len(records) // 2
            self._put(records[:middle])
            self._put(records[middle:])

    async def _attempt(self, data: bytes, timeout_s: float) -> bytes:
        if timeout_s <= 0:
            raise MixerCallError(Code.DEADLINE_EXCEEDED, "no time is left for an attempt")
        try:
            answer: bytes = await self._checks.check(data, timeout=timeout_s, metadata=self._metadata)
        except aio.AioRpcError as exc:
            error = _error(exc, self._checks)
            self.check_attempts[Code(error.code)] += 1
            raise error from exc
        self.check_attempts[Code.OK] += 1
        self._checks.worked()
        return answer

    async def _send_report(self, data: bytes, timeout_s: float) -> None:
        try:
            await self._attempt_report(data, timeout_s)
        except MixerCallError as exc:
            if not _is_dictionary_fault(exc):
                raise
            self._shrink()
            # Such a server took nothing of it; after the other fault it may have taken some.
            fewer = _with_fewer_words(data) if str(exc).startswith(_UNKNOWN_WORDS) else None
            if fewer is None:
                raise
            await self._attempt_report(fewer, timeout_s)

    async def _attempt_report(self, data: bytes, timeout_s: float) -> None:
        try:
            await self._reports.report(data, timeout=timeout_s, metadata=self._metadata)
        except aio.AioRpcError as exc:
            raise _error(exc, self._reports) from exc
        self._reports.worked()

    def _shrink(self) -> None:
        """Use only words that every server knows from now on; a dictionary never grows again."""
        if self._words > FIRST_WORD_COUNT:
            log.warning("dictionary_shrunk", words=FIRST_WORD_COUNT)
            self._words = FIRST_WORD_COUNT

    def _retry_wait_s(self, retry: int) -> float:
        """Uniform between the base and twice as much for each earlier retry; the first wait is exactly the base."""
        base = self._options.base_retry_wait_s
        return self._rng.uniform(base, max(base, min(self._options.max_retry_wait_s, base * 2**retry)))


def _values(bag: AttributeBag) -> dict[str, AttributeValue]:
    values = {}
    for name in bag.names():
        value = bag.peek(name)
        if value is not ABSENT:
            values[name] = value
    return values


def _encode(call: CheckCall, words: int) -> bytes:
    try:
        return encode_check(
            _values(call.bag),
            quotas={n: QuotaParams(amount=q.amount, best_effort=q.best_effort) for n, q in call.quotas.items()},
            deduplication_id=call.deduplication_id,
            quotas_only=call.quotas_only,
            global_word_count=words,
        ).SerializeToString()
    except (ValueError, TypeError) as exc:
        raise MixerCallError(Code.INVALID_ARGUMENT, f"the attributes cannot be sent: {exc}") from exc


def _with_fewer_words(data: bytes) -> bytes | None:
    """A Report in words that every server knows; None when it is that already."""
    request = parse_report(data)
    if request.global_word_count <= FIRST_WORD_COUNT:
        return None
    again = encode_report([_values(bag) for bag in decode_report(request).bags], global_word_count=FIRST_WORD_COUNT)
    again.deduplication_id = request.deduplication_id
    return again.SerializeToString()


def _error(exc: aio.AioRpcError, line: Line) -> MixerCallError:
    status: grpc.StatusCode = exc.code()
    text = exc.details() or status.name
    if status in _NOBODY:
        line.failed()
        if line.tls_fault:
            text = f"TLS with {line.address}: {line.tls_fault}"
    return MixerCallError(status.value[0], text)


def _is_dictionary_fault(exc: MixerCallError) -> bool:
    return exc.code in (Code.INVALID_ARGUMENT, Code.INTERNAL) and str(exc).startswith(_DICTIONARY_FAULTS)
