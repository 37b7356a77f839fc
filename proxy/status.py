"""What the user of a proxy sees of a status: its HTTP code and its text. Source: spec proxy 11."""

from __future__ import annotations

from typing import Final

from mixer.api.codes import Code

_HTTP: Final = {
    Code.OK: 200, Code.CANCELLED: 499, Code.UNKNOWN: 500, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409, Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400, Code.ABORTED: 409, Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500, Code.UNAVAILABLE: 503, Code.DATA_LOSS: 500, Code.UNAUTHENTICATED: 401,
}  # fmt: skip
_NAMES: Final = {int(code): code.name for code in Code}


def http_code(code: int) -> int:
    """The HTTP code of a status code; 500 for one that there is not."""
    return _HTTP.get(code, 500)  # type: ignore[call-overload, no-any-return]


def status_text(code: int, message: str) -> str:
    """``CODE_NAME:message``, or the name alone when there is no message: a denial's body and ``check.error_message``."""
    name = _NAMES.get(code, "UNKNOWN")
    return f"{name}:{message}" if message else name
