"""External authorization in its HTTP form: a copy of the request in, 200 or the denial out.

Envoy sends the method, the path behind a prefix and the headers that it is told to send; what headers cannot tell it
adds as ``x-mixer-*``. Exactly 200 lets pass, a code of 5xx means that nobody could decide and Envoy's failure mode has
the last word, and any other code denies. So a verdict that denies is never a 5xx: it is answered 403 then, with its
body as it is; 503 is left for the time before there is a configuration. A request that makes no sense is denied with
400, not failed, for else whoever finds one that we do not understand and Envoy does passes wherever failures pass.

Beyond that the form is the poorer one: no header can be removed or appended to, no claims or certificates come in,
and one set of headers goes both to the upstream and to the client, by patterns in Envoy's configuration.
Source: spec envoy 8.1.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from mixer.attributes import AttributeValue, Timestamp
from proxy.envoy.check_bag import FORWARDED_HEADER, HTTP_SOURCES, OWN_HEADERS
from proxy.envoy.correlation import HTTP_FORM_KEY, CheckRecord, http_form_text
from proxy.envoy.ext_authz import Decider
from proxy.envoy.http1 import Answer, HttpServer, Request
from proxy.envoy.identity import NO_TOKEN, Token
from proxy.envoy.metrics import AnswerCounter, PolicyMetrics
from proxy.envoy.question import (
    CONNECTION_HEADER,
    DEADLINE_HEADER,
    LISTENER_HEADER,
    STREAM_HEADER,
    known_principal,
    static_of_listener,
)
from proxy.envoy.values import read_texts
from proxy.headers import FIXED, fates, quota_headers
from proxy.policy import Verdict
from proxy.replies import BODILESS, local_reply

PREFIX: Final = "/check"
SOURCE_HEADER: Final = "x-mixer-source"
DESTINATION_HEADER: Final = "x-mixer-dest"
PEER_HEADER: Final = "x-mixer-peer"
SERVER_NAME_HEADER: Final = "x-mixer-sni"
SERVICE_HEADER: Final = "x-mixer-service"
CONTEXT_HEADER: Final = "x-mixer-context"
"""Static attributes as ``name=value;name=value``; names as in context extensions."""

_OWN_PREFIX: Final = "x-mixer-"
_URI_PREFIX: Final = "uri="
"""May stand before the identity: a value that is never empty is one that Envoy always puts in place of a client's."""

_NOT_PASSED_ON: Final = frozenset((*OWN_HEADERS, DEADLINE_HEADER, "host", "content-length", "connection", "keep-alive"))
_ADDRESS: Final = re.compile(r"(?:\[([^\]]+)\]|([^:]*)):([0-9]{1,5})")
_SERVICE: Final = "ext_authz_http"
_NO_STATIC: Final[Mapping[str, AttributeValue]] = {}
_TEXT: Final = ("content-type", "text/plain")


def _may_be_told(name: str) -> bool:
    """Whether `CONTEXT_HEADER` may give an attribute: who calls, and what the request is, are never told that way."""
    return name in ("destination.ip", "destination.port") or not (
        name in HTTP_SOURCES or name.startswith(("source.", "origin.", "request.", "connection."))
    )


@lru_cache(maxsize=1024)  # a listener says the same each time
def _told(context: str) -> tuple[Mapping[str, AttributeValue], tuple[str, ...]]:
    """The attributes in a `CONTEXT_HEADER`, and what is wrong with the rest."""
    pairs = (pair.partition("=") for pair in context.split(";") if pair)
    values, faults = read_texts((name, value) for name, _, value in pairs)
    return {name: value for name, value in values.items() if _may_be_told(name)}, faults


class BadQuestionError(ValueError):
    """A request that is no question of Envoy's; ``status`` is the HTTP code of its denial."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status, self.reason = status, reason


class HttpSeen:
    """See `proxy.envoy.check_bag.Seen`."""

    __slots__ = (
        "_headers", "_method", "_now", "_own", "_path", "faults", "forwarded", "service", "static", "stream",
        "timeout_s",
    )  # fmt: skip

    tcp = False

    def __init__(self, request: Request, now: Callable[[], int]) -> None:
        """Take a request.

        Raises:
            BadQuestionError: It is not below `PREFIX`, or somebody else set headers that are Envoy's to set.
        """
        path = request.url.decode("utf-8", "replace")
        if not path.startswith(PREFIX) or path[len(PREFIX) : len(PREFIX) + 1] not in ("/", "?", ""):
            raise BadQuestionError(
                404, "no_check", f"checks are below {PREFIX}: set path_prefix in Envoy's http_service"
            )
        path = path[len(PREFIX) :]
        headers = {":method": request.method, ":path": path, ":authority": ""}
        own: dict[str, str] = {}
        forwarded = ""
        for name, value in request.headers:
            if name[:8] == _OWN_PREFIX or name in _NOT_PASSED_ON:
                if name in own and (name.startswith(_OWN_PREFIX) or name == "host"):
                    raise BadQuestionError(400, "doubled_header", f"header {name} comes twice")
                own[name] = value
            elif name in headers:
                headers[name] = f"{headers[name]},{value}"
            else:
                headers[name] = value
        headers[":authority"] = own.get("host", "")
        forwarded = own.get(FORWARDED_HEADER, "")
        self._headers, self._own, self._method, self._path, self._now = headers, own, request.method, path, now
        self.forwarded = forwarded
        self.stream = own.get(STREAM_HEADER, "")
        listener = own.get(LISTENER_HEADER, "")
        self.service = own.get(SERVICE_HEADER, "") or listener
        self.static = static_of_listener(listener) if listener else _NO_STATIC
        self.faults: tuple[str, ...] = ()
        if context := own.get(CONTEXT_HEADER, ""):
            told, self.faults = _told(context)
            self.static = {**self.static, **told} if self.static else told
        deadline = own.get(DEADLINE_HEADER, "")
        self.timeout_s = int(deadline) / 1000 if deadline.isdecimal() and len(deadline) < 10 and int(deadline) else None

    def headers(self) -> Mapping[str, str]:
        """Headers, with the pseudo headers that they had."""
        return self._headers

    def method(self) -> str:
        """The method."""
        return self._method

    def path(self) -> str:
        """The path behind the prefix."""
        return self._path

    def host(self) -> str:
        """The authority."""
        return self._headers[":authority"]

    def scheme(self) -> str:
        """As the connection manager sets it."""
        return self._headers.get("x-forwarded-proto", "")

    def time(self) -> Timestamp:
        """Now."""
        return Timestamp(self._now())

    def peer_ip(self) -> str:
        """The TCP peer."""
        return _address(self._own.get(SOURCE_HEADER, ""))[0]

    def local_ip(self) -> str:
        """The listener's address."""
        return _address(self._own.get(DESTINATION_HEADER, ""))[0]

    def local_port(self) -> int:
        """The listener's port."""
        return _address(self._own.get(DESTINATION_HEADER, ""))[1]

    def _peer(self) -> str:
        peer = self._own.get(PEER_HEADER, "").removeprefix(_URI_PREFIX).partition(",")[0]
        return "" if peer == "-" else peer

    def peer_principal(self) -> str:
        """The first URI of the caller's certificate."""
        return known_principal(self._peer())

    def local_principal(self) -> str:
        """Nobody says."""
        return ""

    def has_peer_certificate(self) -> bool:
        """Whether it has a URI; others do not show."""
        return bool(self._peer())

    def server_name(self) -> str:
        """The SNI."""
        name = self._own.get(SERVER_NAME_HEADER, "")
        return "" if name == "-" else name

    def token(self) -> Token:
        """Nobody says."""
        return NO_TOKEN

    def local_labels(self) -> Mapping[str, str]:
        """Nobody says."""
        return {}

    def filter_metadata(self, name: str) -> Mapping[str, str]:
        """Nobody says."""
        return {}


def _address(text: str) -> tuple[str, int]:
    """IP and port in ``ip:port`` or ``[ip]:port``; nothing in other texts, such as those of socket files."""
    match = _ADDRESS.fullmatch(text)
    return (match[1] or match[2], int(match[3])) if match else ("", 0)


def encode_http_answer(verdict: Verdict, record: CheckRecord) -> tuple[Answer, list[str]]:
    """The answer to Envoy, and what had to be left out of it, in words."""
    left_out: list[str] = []
    headers = [(HTTP_FORM_KEY, http_form_text(record))]
    reply = local_reply(verdict)
    if reply is not None:
        left_out += reply.refused
        status = reply.status
        if status == 200 or status >= 500:  # the one would let pass, the others mean that nobody decided
            left_out.append("status_not_in_http_form")
            status = 403
        sent = [pair for pair in reply.headers if pair[0] not in FIXED]
        headers += sent
        if reply.body and not any(name == "content-type" for name, _ in sent):
            headers.append(_TEXT)
        return Answer(status, headers, "" if status in BODILESS else reply.body), left_out
    directive = verdict.directive
    if directive is not None:
        wanted, refused = fates((*directive.request_headers, *directive.response_headers))
        left_out += refused
        for fate in wanted:
            if fate.values and fate.name not in FIXED:
                headers += ((fate.name, value) for value in fate.values)
            else:
                left_out.append("removal_not_in_http_form")
    if verdict.quotas:
        headers += quota_headers(verdict.quotas, denied=False)
    return Answer(200, headers), left_out


class HttpAuthorization:
    """The service in its HTTP form; ``server`` listens for it."""

    def __init__(
        self,
        decider: Decider,
        metrics: PolicyMetrics,
        ready: Callable[[], bool] = lambda: True,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """Serve what a decider decides.

        Args:
            decider: Gives verdicts.
            metrics: Where to count.
            ready: Whether there is a configuration to decide by.
            now: Nanoseconds since 1970.
        """
        self._decider = decider
        self._metrics = metrics
        self._answers = AnswerCounter(metrics, _SERVICE)
        self._ready = ready
        self._now = now
        self.server = HttpServer(self.check, lambda reason: metrics.bad_requests.labels(reason).inc())

    async def check(self, request: Request) -> Answer:
        """Answer a check of Envoy's."""
        if not self._ready():
            return Answer(503, (_TEXT,), "no configuration has been loaded yet")
        try:
            seen = HttpSeen(request, self._now)
        except BadQuestionError as exc:
            self._metrics.bad_requests.labels(exc.reason).inc()
            return Answer(exc.status, (_TEXT,), str(exc))
        decided = self._decider.decide(seen, seen.timeout_s)
        verdict, record = decided if isinstance(decided, tuple) else await decided
        self._answers.count(verdict)
        answer, left_out = encode_http_answer(verdict, record)
        for reason in (*left_out, *("bad_context_extension" for _ in seen.faults)):
            self._metrics.left_out.labels(_SERVICE, reason).inc()
        return answer


__all__ = ["CONNECTION_HEADER", "BadQuestionError", "HttpAuthorization", "HttpSeen", "encode_http_answer"]
