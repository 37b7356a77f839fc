"""What holds for any headers and any order of events."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.answer import AppliedHeader, HeaderKind
from mixer.api.codes import Code
from proxy.headers import FIXED
from proxy.middleware import MixerMiddleware
from proxy.middleware.exclusion import exclusion
from proxy.middleware.operations import request_changes, response_changes
from proxy.middleware.request import one_form
from proxy.policy import Verdict
from tests.proxy.middleware.kit import FakePolicy, Wire, directed, http_scope, replace, socket_scope

NAMES = st.sampled_from(["a", "b", "x-c", "cookie", "set-cookie", "user-agent"])
TEXTS = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), max_size=4)
HEADERS = st.lists(st.tuples(NAMES, TEXTS), max_size=8)
OPERATIONS = st.lists(
    st.builds(AppliedHeader, NAMES.flatmap(lambda n: st.sampled_from([n, n.upper(), n.title()])), TEXTS, st.sampled_from(HeaderKind)),
    max_size=8,
)  # fmt: skip


def carried_out(headers: list[tuple[str, str]], operations: list[AppliedHeader]) -> list[tuple[str, str]]:
    """The model: each operation on the whole list, one after the other."""
    for operation in operations:
        name = operation.name.lower()
        if operation.kind != HeaderKind.APPEND:
            headers = [pair for pair in headers if pair[0] != name]
        if operation.kind != HeaderKind.REMOVE:
            headers = [*headers, (name, operation.value)]
    return headers


def by_name(headers: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


@given(headers=HEADERS, operations=OPERATIONS, of_request=st.booleans())
def test_operations_do_what_their_order_says(
    headers: list[tuple[str, str]], operations: list[AppliedHeader], of_request: bool
) -> None:
    make: Any = request_changes if of_request else response_changes
    changes = make(tuple(operations))

    changed = changes.applied([(name.encode(), value.encode()) for name, value in headers])

    assert by_name([(name.decode(), value.decode()) for name, value in changed]) == by_name(
        carried_out(headers, operations)
    )


@given(
    st.lists(st.builds(AppliedHeader, st.text(max_size=6) | st.sampled_from(sorted(FIXED)), st.text(max_size=6), st.integers(-1, 4)), max_size=6)
)  # fmt: skip
def test_whatever_operations_say_headers_stay_headers(operations: list[AppliedHeader]) -> None:
    before = [(b"host", b"h"), (b"content-length", b"3")]
    for changes in (request_changes(tuple(operations)), response_changes(tuple(operations))):
        for name, value in changes.applied(before):
            assert name == name.lower()
            assert not set(name) & set(b" \r\n\0:")
            assert not set(value) & set(b"\r\n\0")
    names = [name for name, _ in request_changes(tuple(operations)).applied(before)]
    assert (names.count(b"host"), names.count(b"content-length")) == (1, 1)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"/{text}"))
def test_path_has_one_form_however_it_is_written(path: str) -> None:
    spelt = "".join(f"%{byte:02x}" for byte in path.encode())

    form = one_form(path, spelt.encode())

    assert form == one_form(path, None)
    assert form.isascii()
    if path.isascii() and "%" not in path:
        assert one_form(path, path.encode()) == path


@given(
    st.lists(st.sampled_from(["/a", "/b*", "/b/*", "*"]), max_size=3),
    st.sampled_from(["/a", "/b", "/bc", "/b/c", "/c"]),
)
def test_exclusion_is_that_of_a_pattern_by_pattern_search(patterns: list[str], path: str) -> None:
    expected = any(path.startswith(p[:-1]) if p.endswith("*") else path == p for p in patterns)

    assert exclusion(patterns)(path) is expected


CHUNK = st.binary(max_size=3)
HTTP_STEPS = st.one_of(
    st.just(("receive",)),
    st.builds(
        lambda status, trailers: ("send", {"type": "http.response.start", "status": status, "headers": [], "trailers": trailers}),
        st.sampled_from([200, 404]), st.booleans(),
    ),
    st.builds(lambda b, more: ("send", {"type": "http.response.body", "body": b, "more_body": more}), CHUNK, st.booleans()),
    st.builds(lambda more: ("send", {"type": "http.response.trailers", "headers": [], "more_trailers": more}), st.booleans()),
    st.just(("raise", ValueError)),
    st.just(("raise", asyncio.CancelledError)),
    st.just(("raise", ConnectionResetError)),
)  # fmt: skip
SOCKET_STEPS = st.one_of(
    st.just(("receive",)),
    st.just(("send", {"type": "websocket.accept"})),
    st.builds(lambda b: ("send", {"type": "websocket.send", "bytes": b}), CHUNK),
    st.just(("send", {"type": "websocket.close"})),
    st.just(("send", {"type": "websocket.http.response.start", "status": 404, "headers": []})),
    st.just(("send", {"type": "websocket.http.response.body", "body": b""})),
    st.just(("raise", ValueError)),
)
HTTP_MESSAGES = st.one_of(
    st.builds(lambda b, more: {"type": "http.request", "body": b, "more_body": more}, CHUNK, st.booleans()),
    st.just({"type": "http.disconnect"}),
)
SOCKET_MESSAGES = st.one_of(
    st.just({"type": "websocket.connect"}),
    st.builds(lambda b: {"type": "websocket.receive", "bytes": b}, CHUNK),
    st.builds(lambda code: {"type": "websocket.disconnect", "code": code}, st.sampled_from([1000, 1006])),
)
VERDICTS = st.sampled_from(
    [
        Verdict(),
        Verdict(checked=False),
        Verdict(Code.PERMISSION_DENIED, "no"),
        Verdict(directive=directed(direct=200, body="x")),
        Verdict(directive=directed(request=[replace(":path", "/y")], response=[replace("x", "y")])),
    ]
)


def played(steps: list[Any]) -> Any:
    """An application that does just that."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step, *what in steps:
            if step == "receive":
                await receive()
            elif step == "send":
                await send(what[0])
            else:
                raise what[0]

    return app


@given(
    data=st.one_of(
        st.tuples(st.just(False), st.lists(HTTP_STEPS, max_size=8), st.lists(HTTP_MESSAGES, max_size=5)),
        st.tuples(st.just(True), st.lists(SOCKET_STEPS, max_size=8), st.lists(SOCKET_MESSAGES, max_size=5)),
    ),
    verdict=VERDICTS,
    fails_at=st.none() | st.integers(0, 4),
)
def test_any_order_of_events_makes_one_record(
    data: tuple[bool, list[Any], list[dict[str, Any]]], verdict: Verdict, fails_at: int | None
) -> None:
    socket, steps, incoming = data
    policy, wire = FakePolicy(verdict), Wire(list(incoming), fails_at=fails_at)
    middleware = MixerMiddleware(played(steps), policy)
    scope = socket_scope() if socket else http_scope()

    with contextlib.suppress(ValueError, ConnectionResetError, asyncio.CancelledError):
        asyncio.run(middleware(scope, wire.receive, wire.send))

    record = policy.record  # there is exactly one
    assert record["response.code"] in (101, 200, 403, 404, 500)
    assert record["context.proxy_error_code"] in ("-", "UAEX", "DC", "UC")
    assert record["request.size"] <= sum(len(message.get("body", message.get("bytes", b""))) for message in incoming)  # type: ignore[operator]
    assert record["response.duration"] >= 0  # type: ignore[operator]


@pytest.mark.parametrize("steps", [[], [("raise", SystemExit)]])
async def test_even_the_end_of_the_process_has_its_record(steps: list[Any]) -> None:
    policy, wire = FakePolicy(), Wire()
    with contextlib.suppress(SystemExit):
        await MixerMiddleware(played(steps), policy)(http_scope(), wire.receive, wire.send)

    assert policy.record["response.code"] == 500
