"""What Envoy is told for each verdict, judged by a model of what Envoy does with it (spec envoy 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.api.answer import AppliedHeader, HeaderKind, QuotaAnswer, QuotaLevel, RouteDirective
from mixer.api.codes import Code
from mixer.attributes import Duration
from proxy.envoy.answers import Asked, encode_check_response
from proxy.envoy.correlation import CheckRecord
from proxy.envoy.ext_authz_http import encode_http_answer
from proxy.envoy.gen.auth_pb2 import CheckResponse
from proxy.envoy.gen.core_pb2 import HeaderValueOption
from proxy.policy import Verdict

REPLACE, REMOVE, APPEND = HeaderKind.REPLACE, HeaderKind.REMOVE, HeaderKind.APPEND
SECOND = 1_000_000_000


def answer(verdict: Verdict, asked: Asked | None = None) -> CheckResponse:
    data, _ = encode_check_response(verdict, asked or Asked({}), CheckRecord())
    return CheckResponse.FromString(data)


def left_out(verdict: Verdict) -> list[str]:
    return list(encode_check_response(verdict, Asked({}), CheckRecord())[1])


def upstream(response: CheckResponse, before: Mapping[str, str]) -> dict[str, str]:
    """The request's headers as Envoy sends them on: sets, then appends to what exists, then removals."""
    assert response.status.code == 0
    after = dict(before)
    for option in response.ok_response.headers:
        if not option.append.value:
            after[option.header.key] = option.header.value
    for option in response.ok_response.headers:
        if option.append.value and option.header.key in after:
            after[option.header.key] += f",{option.header.value}"
    for name in response.ok_response.headers_to_remove:
        assert not name.startswith(":")
        assert name != "host"
        after.pop(name, None)
    return after


def downstream(response: CheckResponse, before: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The response's headers as the client gets them, with the Lua filter in place."""
    after = list(before)
    for option in response.ok_response.response_headers_to_add:
        name, value = option.header.key, option.header.value
        if option.append_action == HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD:
            after = [pair for pair in after if pair[0] != name]
        after.append((name, value))
    metadata = response.dynamic_metadata
    gone = list(metadata["remove_response_headers"]) if "remove_response_headers" in metadata else []
    return [pair for pair in after if pair[0] not in gone]


def ops(*operations: tuple[str, str, HeaderKind]) -> tuple[AppliedHeader, ...]:
    return tuple(AppliedHeader(*operation) for operation in operations)


# Denials


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (1, 499), (2, 500), (3, 400), (4, 504), (5, 404), (6, 409), (7, 403), (8, 429), (9, 400), (10, 409),
        (11, 400), (12, 501), (13, 500), (14, 503), (15, 500), (16, 401), (99, 500),
    ],
)  # fmt: skip
def test_a_denial_has_the_http_code_of_its_status(code: int, status: int) -> None:
    response = answer(Verdict(code, "why"))

    assert response.status.code == code
    assert response.status.message == "why"
    assert response.denied_response.status.code == status
    assert response.denied_response.body == f"{Code(code).name if code < 17 else 'UNKNOWN'}:why"
    assert not response.denied_response.headers


def test_a_denial_without_a_message_is_its_name() -> None:
    assert answer(Verdict(Code.UNAUTHENTICATED)).denied_response.body == "UNAUTHENTICATED"


def test_no_header_operation_is_applied_to_a_denial() -> None:
    directive = RouteDirective(ops(("a", "b", REPLACE)), ops(("c", "d", REPLACE)))
    response = answer(Verdict(Code.PERMISSION_DENIED, "no", directive))

    assert not response.denied_response.headers
    assert not response.HasField("ok_response")


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict(8, "used up"), "8"),
        (Verdict(0, "", RouteDirective((), (), 200, "hello")), "0"),
        (Verdict(0, "", RouteDirective((), (), 301, "")), None),
        (Verdict(7, "", RouteDirective((), (), 503, "")), "7"),
        (Verdict(7, "", RouteDirective((), ops(("Grpc-Status", "13", REPLACE)), 503, "")), "13"),
    ],
    ids=["denial", "direct 200", "direct 301", "direct denial", "the operator's own"],
)
def test_callers_of_grpc_get_the_code_itself(verdict: Verdict, status: str | None) -> None:
    response = answer(verdict, Asked({"content-type": "application/grpc"}, grpc=True))

    headers = {option.header.key: option.header.value for option in response.denied_response.headers}
    assert headers.get("grpc-status") == status


def test_a_connection_is_denied_without_an_http_answer() -> None:
    response = answer(Verdict(Code.PERMISSION_DENIED, "no"), Asked({}, tcp=True))

    assert response.status.code == 7
    assert response.WhichOneof("http_response") is None


# Direct responses


def test_a_direct_response_of_an_ok_verdict_does_not_let_the_request_pass() -> None:
    directive = RouteDirective((), ops(("Content-Type", "text/html", REPLACE)), 200, "<p>hello</p>")
    response = answer(Verdict(directive=directive))

    assert response.status.code == Code.PERMISSION_DENIED
    assert response.denied_response.status.code == 200
    assert response.denied_response.body == "<p>hello</p>"
    assert [(o.header.key, o.header.value) for o in response.denied_response.headers] == [("content-type", "text/html")]


def test_a_direct_response_wins_over_a_denial_and_keeps_its_code() -> None:
    cookies = ops(
        ("set-cookie", "a=1", APPEND), ("set-cookie", "b=2", APPEND), ("x", "gone", APPEND), ("x", "", REMOVE)
    )
    response = answer(Verdict(Code.UNAUTHENTICATED, "m", RouteDirective((), cookies, 401, "log in")))

    assert (response.status.code, response.denied_response.status.code) == (16, 401)
    assert [(option.header.key, option.header.value) for option in response.denied_response.headers] == [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]


@pytest.mark.parametrize(
    ("code", "status", "body"),
    [
        (204, 204, ""),
        (304, 304, ""),
        (100, 500, "b"),
        (999, 500, "b"),
        (-1, 500, "b"),
        (418, 418, "b"),
        (302, 302, "b"),
    ],
)
def test_only_answers_that_http_allows_are_sent(code: int, status: int, body: str) -> None:
    response = answer(Verdict(directive=RouteDirective((), (), code, "b")))

    assert (response.denied_response.status.code, response.denied_response.body) == (status, body)


# Header operations on the request


@pytest.mark.parametrize(
    ("operations", "before", "after"),
    [
        ([("x", "1", REPLACE)], {}, {"x": "1"}),
        ([("X-Up", "1", REPLACE)], {"x-up": "0"}, {"x-up": "1"}),
        ([("x", "1", REPLACE), ("x", "2", REPLACE)], {}, {"x": "2"}),
        ([("x", "1", APPEND)], {"x": "0"}, {"x": "0,1"}),
        ([("x", "1", APPEND), ("x", "2", APPEND), ("x", "3", APPEND)], {}, {"x": "1,2,3"}),
        ([("x", "1", REPLACE), ("x", "2", APPEND)], {"x": "0"}, {"x": "1,2"}),
        ([("x", "1", APPEND), ("x", "2", REPLACE)], {"x": "0"}, {"x": "2"}),
        ([("x", "", REMOVE)], {"x": "0", "y": "1"}, {"y": "1"}),
        ([("x", "", REMOVE), ("x", "1", APPEND)], {"x": "0"}, {"x": "1"}),
        ([("x", "", REMOVE), ("x", "1", REPLACE)], {"x": "0"}, {"x": "1"}),
        ([("x", "1", REPLACE), ("x", "", REMOVE)], {"x": "0"}, {}),
        ([("x", "", REPLACE)], {"x": "0"}, {"x": ""}),
        ([(":path", "/new", REPLACE)], {":path": "/old"}, {":path": "/new"}),
        ([(":path", "/new", APPEND)], {":path": "/old"}, {":path": "/new"}),
        ([(":path", "", REMOVE)], {":path": "/old"}, {":path": "/old"}),
        ([(":path", "a b", REPLACE)], {":path": "/old"}, {":path": "/old"}),
        ([(":method", "", REPLACE)], {":method": "GET"}, {":method": "GET"}),
        ([(":scheme", "x", REPLACE)], {":scheme": "http"}, {":scheme": "http"}),
        ([("host", "other", REPLACE)], {}, {"host": "other"}),
        ([("host", "", REMOVE), ("content-length", "5", REPLACE)], {"host": "h"}, {"host": "h"}),
        ([("x", "a\r\nevil: 1\0", REPLACE)], {}, {"x": "a  evil: 1"}),
        ([("bad name", "1", REPLACE), ("", "1", APPEND), ("x\n", "1", REMOVE)], {"x": "0"}, {"x": "0"}),
    ],
)
def test_operations_on_the_request(
    operations: list[tuple[str, str, HeaderKind]], before: dict[str, str], after: dict[str, str]
) -> None:
    response = answer(Verdict(directive=RouteDirective(ops(*operations))), Asked(before))

    assert upstream(response, before) == after


NAMES = st.sampled_from(["a", "B", "c"])
OPERATIONS = st.lists(st.builds(AppliedHeader, NAMES, st.sampled_from(["1", "2", ""]), st.sampled_from(HeaderKind)))
BEFORE = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y"]))


@given(OPERATIONS, BEFORE)
def test_envoy_ends_up_with_what_the_operations_in_their_order_say(
    operations: list[AppliedHeader], before: dict[str, str]
) -> None:
    expected = dict(before)
    for operation in operations:
        name = operation.name.lower()
        if operation.kind == REMOVE:
            expected.pop(name, None)
        elif operation.kind == REPLACE or name not in expected:
            expected[name] = operation.value
        else:
            expected[name] += f",{operation.value}"

    response = answer(Verdict(directive=RouteDirective(tuple(operations))), Asked(before))

    assert upstream(response, before) == expected


@given(OPERATIONS, st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]))))
def test_the_client_gets_what_the_operations_in_their_order_say(
    operations: list[AppliedHeader], before: list[tuple[str, str]]
) -> None:
    expected = list(before)
    for operation in operations:
        name = operation.name.lower()
        if operation.kind != APPEND:
            expected = [pair for pair in expected if pair[0] != name]
        if operation.kind != REMOVE:
            expected.append((name, operation.value))

    response = answer(Verdict(directive=RouteDirective((), tuple(operations))))

    assert sorted(downstream(response, before)) == sorted(expected)


def test_what_cannot_be_sent_is_told() -> None:
    directive = RouteDirective(
        ops(("b d", "", REPLACE), (":status", "1", REPLACE), ("connection", "", REMOVE)),
        ops((":status", "200", REPLACE), ("content-length", "1", REPLACE)),
    )

    assert left_out(Verdict(directive=directive)) == [
        "bad_name", "pseudo_header", "fixed_header", "pseudo_header", "fixed_header",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("forwarded", "forward", "after"),
    [(True, "", {}), (True, "new", {"x-istio-attributes": "new"}), (False, "new", {"x-istio-attributes": "new"})],
)
def test_forwarded_attributes_do_not_go_on(forwarded: bool, forward: str, after: dict[str, str]) -> None:
    before = {"x-istio-attributes": "old"} if forwarded else {}
    response = answer(Verdict(), Asked({}, forwarded=forwarded, forward=forward))

    assert upstream(response, before) == after


# Where quotas stand


def level(limit: int, remaining: int, reset_s: float, window_s: float) -> QuotaAnswer:
    return QuotaAnswer(
        1, level=QuotaLevel(limit, remaining, Duration(int(reset_s * SECOND)), Duration(int(window_s * SECOND)))
    )


@pytest.mark.parametrize(
    ("quotas", "headers"),
    [
        ({}, {}),
        ({"q": QuotaAnswer(1)}, {}),
        (
            {"q": level(10, 4, 59.2, 60)},
            {"x-ratelimit-limit": '10, 10;w=60;name="q"', "x-ratelimit-remaining": "4", "x-ratelimit-reset": "60"},
        ),
        (
            {"b": level(5, 2, 0, 0), "a": level(10, 2, 3, 60), "none": QuotaAnswer(1)},
            {
                "x-ratelimit-limit": '10, 10;w=60;name="a", 5;name="b"',
                "x-ratelimit-remaining": "2",
                "x-ratelimit-reset": "3",
            },
        ),
        (
            {'we"ird\n': level(1, -3, -1, 1)},
            {"x-ratelimit-limit": '1, 1;w=1;name="we_ird_"', "x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"},
        ),
    ],
    ids=["no quotas", "no level", "one", "the tightest leads", "odd"],
)
def test_an_answer_says_where_the_tightest_quota_stands(
    quotas: dict[str, QuotaAnswer], headers: dict[str, str]
) -> None:
    assert (
        dict(downstream(answer(Verdict(quotas=quotas)), [("x-ratelimit-limit", "the service's")] if headers else []))
        == headers
    )


def test_a_refusal_says_when_to_come_back() -> None:
    verdict = Verdict(Code.RESOURCE_EXHAUSTED, "Quota is exhausted for: q", quotas={"q": level(5, 0, 1.5, 60)})
    denied = answer(verdict).denied_response

    assert (denied.status.code, denied.body) == (429, "RESOURCE_EXHAUSTED:Quota is exhausted for: q")
    assert {option.header.key: option.header.value for option in denied.headers} == {
        "x-ratelimit-limit": '5, 5;w=60;name="q"',
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "2",
        "retry-after": "2",
    }


def test_headers_of_the_operator_win_over_ours() -> None:
    directive = RouteDirective((), ops(("Retry-After", "99", REPLACE)), 429, "later")
    verdict = Verdict(Code.RESOURCE_EXHAUSTED, "", directive, quotas={"q": level(5, 0, 1, 60)})
    headers = [(o.header.key, o.header.value) for o in answer(verdict).denied_response.headers]

    assert [value for name, value in headers if name == "retry-after"] == ["99"]


# The HTTP form


@pytest.mark.parametrize(
    ("verdict", "status", "body"),
    [
        (Verdict(), 200, ""),
        (Verdict(Code.PERMISSION_DENIED, "shish"), 403, "PERMISSION_DENIED:shish"),
        (Verdict(Code.RESOURCE_EXHAUSTED, "q"), 429, "RESOURCE_EXHAUSTED:q"),
        (Verdict(Code.INTERNAL, "x"), 403, "INTERNAL:x"),
        (Verdict(Code.UNAVAILABLE, "", failed=True), 403, "UNAVAILABLE"),
        (Verdict(directive=RouteDirective((), (), 200, "direct")), 403, "direct"),
        (Verdict(directive=RouteDirective((), (), 503, "direct")), 403, "direct"),
        (Verdict(directive=RouteDirective((), (), 302, "")), 302, ""),
        (Verdict(directive=RouteDirective((), (), 204, "b")), 204, ""),
    ],
)
def test_in_the_http_form_only_an_allowed_request_gets_200_and_no_verdict_is_a_failure(
    verdict: Verdict, status: int, body: str
) -> None:
    found, _ = encode_http_answer(verdict, CheckRecord())

    assert (found.status, found.body) == (status, body)


def test_in_the_http_form_headers_are_set_and_what_it_cannot_do_is_told() -> None:
    directive = RouteDirective(
        ops(("X-User", "bob", REPLACE), (":path", "/new", REPLACE), ("cookie", "", REMOVE)),
        ops(("x-resp", "1\n2", APPEND), ("content-length", "9", REPLACE)),
    )
    found, told = encode_http_answer(Verdict(directive=directive, quotas={"q": level(2, 1, 0, 1)}), CheckRecord("id"))

    assert list(found.headers) == [
        ("x-mixer-md-mixer", '{"id":"id"}'),
        ("x-user", "bob"),
        ("x-resp", "1 2"),
        ("x-ratelimit-limit", '2, 2;w=1;name="q"'),
        ("x-ratelimit-remaining", "1"),
        ("x-ratelimit-reset", "0"),
    ]
    assert told == ["pseudo_header", "fixed_header", "removal_not_in_http_form"]


def test_dynamic_metadata_is_there_for_every_verdict() -> None:
    verdicts: list[Any] = [Verdict(), Verdict(7), Verdict(directive=RouteDirective((), (), 200, ""))]
    for verdict in verdicts:
        data, _ = encode_check_response(verdict, Asked({}), CheckRecord("the id"))
        assert CheckResponse.FromString(data).dynamic_metadata["mixer"]["id"] == "the id"
