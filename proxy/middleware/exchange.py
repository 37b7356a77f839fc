"""One request from its verdict to its record: what is counted on the way, and the one report at its end.

Source: spec proxy 2.2, 3.2 and 11.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mixer.attributes import AttributeBag, AttributeValue, Duration, Timestamp
from proxy.client.bags import with_report
from proxy.client.outcome import check_attributes, http_status
from proxy.envoy.check_bag import Seen, SeenBag
from proxy.envoy.values import ip_bytes
from proxy.middleware.metrics import ProtocolCounter
from proxy.policy import PolicyClient, Verdict

NONE: Final = "-"
DENIED: Final = "UAEX"
CLIENT_GONE: Final = "DC"
CUT: Final = "UC"
"""Words of ``context.proxy_error_code``: nothing, refused here, the client left, the response broke off."""

NO_ANSWER: Final = 500
"""``response.code`` of a request that ended without an answer. Source: spec proxy 3.2."""

_left_behind: set[asyncio.Future[None]] = set()


@dataclass(frozen=True, slots=True)
class Host:
    """What the requests of one middleware have in common.

    Attributes:
        service: Key of the service's configuration.
        check_timeout_s: How long a decision may take; None leaves it to the client's configuration.
        counter: Counts verdicts.
        now: Nanoseconds since 1970.
        monotonic_ns: Nanoseconds of a clock that is never set.
    """

    service: str
    check_timeout_s: float | None
    counter: ProtocolCounter
    now: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns


class Exchange:
    """A request and its response, as far as they went.

    Attributes:
        verdict: None until there is one.
        over: Its record was made.
        request_bytes: Of the body, as far as it was read.
        request_header_bytes: Names and values, trailers included.
        response_bytes: Of the body, as far as it was sent.
        status: The status that was sent, 0 for none yet.
        reported_status: What is reported in place of it; 0 for nothing else.
        headers: Of the response, with trailers over them.
        grpc_status: The number, None where there is none.
        error: Of this, ``context.proxy_error_code`` is made.
    """

    __slots__ = (
        "_bag", "_client", "_delivery", "_host", "_server", "_started", "error", "grpc_message", "grpc_status",
        "headers", "over", "reported_status", "request_bytes", "request_header_bytes", "response_bytes",
        "response_header_bytes", "status", "verdict",
    )  # fmt: skip

    def __init__(self, host: Host, client: PolicyClient, seen: Seen, request_header_bytes: int) -> None:
        self._host = host
        self._client = client
        self._started = host.monotonic_ns()
        self._bag: AttributeBag = client.compose(SeenBag(seen), service=host.service, forwarded=seen.forwarded)
        self._server: tuple[str, int | None] | None = None
        self._delivery: asyncio.Future[None] | None = None
        self.verdict: Verdict | None = None
        self.over = False
        self.request_bytes = 0
        self.request_header_bytes = request_header_bytes
        self.response_bytes = 0
        self.response_header_bytes = 0
        self.status = 0
        self.reported_status = 0
        self.headers: dict[str, str] = {}
        self.grpc_status: str | None = None
        self.grpc_message = ""
        self.error = NONE

    async def decide(self) -> Verdict:
        """Ask for the verdict."""
        host = self._host
        given = self._client.check(self._bag, service=host.service, timeout_s=host.check_timeout_s)
        verdict = await given if isinstance(given, Awaitable) else given
        self.verdict = verdict
        host.counter.count(verdict)
        if not verdict.ok:
            directive = verdict.directive
            if directive is None or not directive.direct_response_code:
                self.reported_status = http_status(verdict.code)
        return verdict

    def denied_here(self) -> None:
        """The answer is not the service's."""
        if self.verdict is not None and not self.verdict.ok:
            self.error = DENIED

    def goes_on(self, server: tuple[str, int | None] | None) -> None:
        """The service gets the request, at this address."""
        self._server = server

    def begins(self, status: int, headers: Mapping[str, str], header_bytes: int) -> None:
        """The head of the response was sent."""
        self.status = status
        self.headers = {":status": str(status), **headers}
        self.response_header_bytes += header_bytes
        if "grpc-status" in headers:
            self.grpc_status, self.grpc_message = headers["grpc-status"], headers.get("grpc-message", "")

    def trailers(self, trailers: Mapping[str, str], trailer_bytes: int) -> None:
        """Trailers were sent."""
        self.headers.update(trailers)
        self.response_header_bytes += trailer_bytes
        if "grpc-status" in trailers:
            self.grpc_status, self.grpc_message = trailers["grpc-status"], trailers.get("grpc-message", "")

    def client_gone(self) -> None:
        """The client left before the end."""
        if not self.over and self.error == NONE:
            self.error = CLIENT_GONE

    def complete(self) -> None:
        """The response was sent to its end."""
        if not self.over:
            took = 0 if self.error == CLIENT_GONE else self._host.monotonic_ns() - self._started
            self._report(max(0, took))

    def close(self) -> None:
        """Nothing more will come; whatever has no record yet gets it now."""
        if not self.over:
            if self.status and self.error == NONE:
                self.error = CUT
            self._report(0)

    def left_alone(self) -> None:
        """Let the record's delivery go on by itself: whoever served the request does not wait."""
        if self._delivery is not None and not self._delivery.done():
            _left_behind.add(self._delivery)
            self._delivery.add_done_callback(_left_behind.discard)

    async def wait_delivered(self) -> None:
        """Wait until the record is taken, where the client wants that."""
        if self._delivery is not None:
            try:
                await asyncio.shield(self._delivery)
            except asyncio.CancelledError:
                self.left_alone()
                raise

    def _report(self, duration_ns: int) -> None:
        self.over = True
        host = self._host
        record = with_report(self._bag, self._values(duration_ns))
        waiting = self._client.report([record], service=host.service)
        if waiting is not None:
            self._delivery = asyncio.ensure_future(waiting)

    def _values(self, duration_ns: int) -> dict[str, AttributeValue]:
        values: dict[str, AttributeValue] = {} if self.verdict is None else check_attributes(self.verdict)
        values["response.code"] = self.reported_status or self.status or NO_ANSWER
        values["response.time"] = Timestamp(self._host.now())
        values["response.duration"] = Duration(duration_ns)
        values["request.size"] = self.request_bytes
        values["response.size"] = self.response_bytes
        values["request.total_size"] = self.request_header_bytes + self.request_bytes
        values["response.total_size"] = self.response_header_bytes + self.response_bytes
        values["context.proxy_error_code"] = self.error
        if self.headers:
            values["response.headers"] = self.headers
        if self.grpc_status is not None:
            values["response.grpc_status"] = self.grpc_status
            values["response.grpc_message"] = self.grpc_message
        if self._server is not None:
            name, port = self._server
            try:
                values["destination.ip"] = ip_bytes(name)
            except ValueError:  # a path, or a name
                return values
            if port:
                values["destination.port"] = port
        return values


def bytes_of(headers: Iterable[tuple[bytes | str, bytes | str]]) -> int:
    """Bytes of names and values."""
    return sum(len(name) + len(value) for name, value in headers)


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as attributes have them: names in lower case, values of one name joined.

    Source: spec proxy 3.1; cookies are joined as RFC 9113 8.2.3 says.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("utf-8", "replace")
        if name in found:
            value = f"{found[name]}{'; ' if name == 'cookie' else ','}{value}"
        found[name] = value
    return found
