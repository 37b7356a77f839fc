"""Verdicts as ``CheckResponse``: the one place that knows what Envoy makes of each part of it.

Rules that are easily broken: only ``status.code`` decides; the HTTP code of a denial is 403 unless it is given; of the
two ways to say "append", requests heed one and responses the other; names of response headers to remove go into dynamic
metadata, because there is no other way. Source: spec envoy 5.1 and 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mixer.api.codes import Code
from proxy.envoy.check_bag import FORWARDED_HEADER
from proxy.envoy.correlation import CheckRecord, record_bytes, sized, write_removals
from proxy.envoy.gen.auth_pb2 import CheckResponse, OkHttpResponse
from proxy.envoy.gen.core_pb2 import HeaderValueOption
from proxy.headers import REQUEST_PSEUDO, Fate, fates
from proxy.policy import Verdict
from proxy.replies import LocalReply, local_reply, quota_pairs

_PLAIN_OK: Final = CheckResponse(ok_response=OkHttpResponse()).SerializeToString()
_METADATA_TAG: Final = bytes((CheckResponse.DYNAMIC_METADATA_FIELD_NUMBER << 3 | 2,))
_OVERWRITE: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_APPEND: Final = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer needs to know of its question.

    Attributes:
        headers: Of the request; appending depends on which there are.
        tcp: It is a connection.
        grpc: It is a gRPC call, whose client wants a ``grpc-status``.
        forwarded: It came with an ``x-istio-attributes`` header, which must not go on.
        forward: The value of that header for the next hop, empty for none.
    """

    headers: Mapping[str, str]
    tcp: bool = False
    grpc: bool = False
    forwarded: bool = False
    forward: str = ""


def encode_check_response(verdict: Verdict, asked: Asked, record: CheckRecord) -> tuple[bytes, Sequence[str]]:
    """A serialized ``CheckResponse``, and what had to be left out of it, in words."""
    metadata, fits = record_bytes(record)
    left_out: list[str] = [] if fits else ["attributes_too_large"]
    tail = _METADATA_TAG + sized(metadata)
    says_nothing = verdict.directive is None and not verdict.quotas and not asked.forward and not asked.forwarded
    if says_nothing and not verdict.code:
        return _PLAIN_OK + tail, left_out
    response = CheckResponse()
    reply = local_reply(verdict)
    if reply is not None:
        left_out += reply.refused
        response.status.code = reply.rpc_code or Code.PERMISSION_DENIED  # with OK Envoy would let it pass
        response.status.message = verdict.message
        if not asked.tcp:
            _write_denied(response.denied_response, reply, asked)
    elif asked.tcp:
        response.ok_response.SetInParent()
    else:
        _write_ok(response, verdict, asked, left_out)
    return response.SerializeToString() + tail, left_out  # a field that comes twice is merged


def _write_denied(denied: Any, reply: LocalReply, asked: Asked) -> None:
    denied.status.code = reply.status
    denied.body = reply.body
    for name, value in reply.headers:
        _add(denied.headers, name, value)
    if not asked.grpc or any(name == "grpc-status" for name, _ in reply.headers):
        return
    if reply.rpc_code or 200 <= reply.status < 300:  # of other codes Envoy makes the better guess
        _add(denied.headers, "grpc-status", str(int(reply.rpc_code)))


def _write_ok(response: Any, verdict: Verdict, asked: Asked, left_out: list[str]) -> None:
    ok = response.ok_response
    ok.SetInParent()
    directive = verdict.directive
    removals: list[str] = []
    if directive is not None and directive.request_headers:
        wanted, refused = fates(directive.request_headers, REQUEST_PSEUDO)
        left_out += refused
        removals = [fate.name for fate in wanted if not fate.values]
        for fate in wanted:
            _write_request_header(ok.headers, fate, asked.headers)
    if asked.forward:
        _add(ok.headers, FORWARDED_HEADER, asked.forward)
    elif asked.forwarded:
        removals.append(FORWARDED_HEADER)
    if removals:
        ok.headers_to_remove.extend(removals)
    taken: Sequence[Fate] = ()
    if directive is not None and directive.response_headers:
        taken, refused = fates(directive.response_headers)
        left_out += refused
        for fate in taken:
            for position, value in enumerate(fate.values):
                _add(ok.response_headers_to_add, fate.name, value).append_action = (
                    _APPEND if position or fate.onto else _OVERWRITE
                )
        if gone := tuple(fate.name for fate in taken if fate.was_removed and not fate.values):
            write_removals(gone, response.dynamic_metadata)
    if verdict.quotas:
        for name, value in quota_pairs(verdict, taken):
            _add(ok.response_headers_to_add, name, value).append_action = _OVERWRITE


def _write_request_header(headers: Any, fate: Fate, present: Mapping[str, str]) -> None:
    """Envoy sets first and appends afterwards, and appends only to what exists."""
    joins = fate.onto and fate.name in present
    for position, value in enumerate(fate.values):
        option = _add(headers, fate.name, value)
        if joins or position:
            option.append.value = True


def _add(headers: Any, name: str, value: str) -> Any:
    option = headers.add()
    option.header.key = name
    option.header.value = value
    return option
