"""The params of denier: a status in the shape of ``google.rpc.Status``. Source: spec adapters 4.4 and 1.2."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mixer.adapters.base import Code, DirectResponse, Params, Status
from mixer.api.gen.policy.v1beta1.http_response_pb2 import HttpStatusCode
from mixer.attributes import Duration
from mixer.store.protojson import DurationField, Int32, bad_value, describe

_DIRECT_RESPONSE = "istio.policy.v1beta1.DirectHttpResponse"


def _http_code(value: Any) -> int:
    expected = "an HTTP status such as 302, or its name in HttpStatusCode such as Found"
    if isinstance(value, str):
        if value not in HttpStatusCode.keys():  # noqa: SIM118  an enum wrapper, not a dict
            raise bad_value(f'unknown value "{value}" for enum HttpStatusCode', expected)
        return int(HttpStatusCode.Value(value))
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_value(f"{describe(value)} is not an HTTP status", expected)
    if value != 0 and not 100 <= value <= 599:
        raise bad_value(f"{value} is not an HTTP status", expected)
    return value


def _detail_type(value: Any) -> str:
    if not isinstance(value, str) or value.rpartition("/")[2] != _DIRECT_RESPONSE:
        shown = f'"{value}"' if isinstance(value, str) else describe(value)
        raise bad_value(f"a detail of type {shown} has no effect", f'"type.googleapis.com/{_DIRECT_RESPONSE}"')
    return value


class DirectResponseDetail(Params):
    """What the proxy answers in place of the service."""

    type: Annotated[str, BeforeValidator(_detail_type), Field(alias="@type")]
    """``type.googleapis.com/istio.policy.v1beta1.DirectHttpResponse``, required: no other detail has an effect."""

    code: Annotated[int, BeforeValidator(_http_code)] = 0
    """HTTP status, by number or by name; 0 or ``Empty``, the default: what belongs to the status code."""

    body: str = ""
    """Body of the answer; empty by default."""

    headers: dict[str, str] = Field(default_factory=dict)
    """Headers of the answer, name -> value; none by default."""


class StatusParams(Params):
    """The status; a field that is left out keeps its default, also when others are given."""

    code: Int32 = Code.FAILED_PRECONDITION
    """A ``google.rpc`` code as a number; 0 admits. Default 9, FAILED_PRECONDITION."""

    message: str = ""
    """What the client is told, after the name of the handler; empty by default."""

    details: list[DirectResponseDetail] = Field(default_factory=list)
    """At most one has an effect, the first: a ``DirectHttpResponse``. None by default."""

    def as_status(self) -> Status:
        """The status as handlers give it."""
        if not self.details:
            return Status(self.code, self.message)
        detail = self.details[0]
        return Status(self.code, self.message, DirectResponse(detail.code, detail.body, detail.headers))


class DenierParams(Params):
    """Params of the denier adapter."""

    status: StatusParams = StatusParams()
    """The answer to every check."""

    valid_duration: DurationField = Duration.parse("5s")
    """How long a proxy may reuse the answer; default 5s. With 0 uses and 0 duration a denial is not reused."""

    valid_use_count: Int32 = 1000
    """How often a proxy may reuse the answer; default 1000."""
