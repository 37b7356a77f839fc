"""What an operator writes to configure opa, and what can be wrong with it. Source: spec adapters 4.11.

Beyond the original: ``serverUrl`` and what belongs to it, and ``regoV1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

from pydantic import Field, SecretStr
from yarl import URL

from mixer.adapters.base import InstanceInfo, Params
from mixer.adapters.opa.rego import MISSING, compile_policies, is_installed
from mixer.attributes import Duration
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField

_REFERENCE: Final = re.compile(r'data((?:\.[A-Za-z_]\w*|\["[^"\\\x00-\x1f]+"\])+)', re.ASCII)
_STEP: Final = re.compile(r'\.(\w+)|\["([^"]+)"\]', re.ASCII)
_TOKEN: Final = re.compile(r"[\x21-\x7e]*", re.ASCII)


class OpaParams(Params):
    """Params of the opa adapter."""

    policy: list[str] = Field(default_factory=list)
    """The texts of Rego modules, which may import each other. They need the extra ``mixer[rego]``, whose
    interpreter knows Rego but for deprecated functions (``re_match``; write ``regex.match``) and ``http.send``.

    Without ``serverUrl`` required. Messages call them ``opa_policy.0`` and so on.
    """

    check_method: str = ""
    """The query that decides, such as ``data.mixerauthz.allow``; true admits, false denies. Required.

    It sees ``input.action`` (namespace, service, method, path, properties) and ``input.subject`` (user, groups, which is
    a list of one text, properties); what is empty is left out.
    """

    fail_close: bool = False
    """Deny when there is no decision: the query is undefined or no boolean, its evaluation fails, OPA is away; default false.

    Then faults of ``policy`` and ``checkMethod`` are no faults of the configuration: they are logged and all is denied.
    """

    rego_v1: bool = False
    """The modules are written in Rego v1 (``allow if ...``); default false: v0, as of the time of Istio.

    In v0, ``import rego.v1`` does the same for one module. Not in the original.
    """

    server_url: str = ""
    """Ask this Open Policy Agent, which keeps the policies: ``http`` or ``https``, a host, perhaps a path before ``/v1/data``.

    Then ``checkMethod`` is a plain reference and ``policy`` stays empty. Default: policies in this process. Not in the
    original.
    """

    timeout: DurationField = Duration.parse("500ms")
    """How long the agent may take to answer; above 0, default 500ms. Several failures in a row spare it for a while."""

    token: SecretStr = SecretStr("")
    """Shown to the agent as ``Authorization: Bearer``; default none."""


def data_path(check_method: str) -> str:
    """The path below ``/v1/data`` that a plain reference means: ``data.a["b c"]`` is ``/a/b%20c``.

    Raises:
        ValueError: It is no plain reference.
    """
    reference = _REFERENCE.fullmatch(check_method.strip())
    if reference is None:
        raise ValueError("an agent can be asked for a plain reference only")
    return "".join(f"/{quote(step[1] or step[2], safe='')}" for step in _STEP.finditer(reference[1]))


def policy_faults(params: OpaParams) -> list[FieldError]:
    """Every fault of the policies and the query, whatever ``failClose`` says of them; not of a server's."""
    faults: list[FieldError] = []
    if not params.check_method:
        faults.append(FieldError(("checkMethod",), "check method is not configured", "such as data.mixerauthz.allow"))
    if not params.policy:
        faults.append(FieldError(("policy",), "policies are not configured"))
    else:
        compiled = compile_policies(params.policy, params.check_method, v1=params.rego_v1)
        faults += [
            FieldError(("checkMethod",) if at is None else ("policy",) if at < 0 else ("policy", at), message)
            for at, message in compiled.faults
        ]
    return faults


def validate(params: OpaParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    if params.server_url:
        yield from _server_faults(params)
        return
    if params.token.get_secret_value():
        yield FieldError(("token",), "of no use without serverUrl")
    if params.policy and not is_installed():
        yield FieldError(("policy",), MISSING, "the extra mixer[rego], or serverUrl")
    elif not params.fail_close:
        yield from policy_faults(params)


def _server_faults(params: OpaParams) -> Iterator[FieldError]:
    try:
        url = URL(params.server_url)
        sound = url.scheme in ("http", "https") and bool(url.host) and not url.query_string and not url.fragment
    except ValueError:
        sound = False
    if not sound:
        yield FieldError(("serverUrl",), "not the URL of an agent", "http:// or https://, a host, perhaps a path")
    if params.policy:
        yield FieldError(("policy",), "the policies are the agent's when serverUrl is given")
    if params.timeout <= 0:
        yield FieldError(("timeout",), "must be positive")
    if _TOKEN.fullmatch(params.token.get_secret_value()) is None:
        yield FieldError(("token",), "no text of printable ASCII characters without blanks")
    try:
        data_path(params.check_method)
    except ValueError as exc:
        if params.check_method:
            yield FieldError(("checkMethod",), str(exc), "such as data.mixerauthz.allow")
        else:
            yield FieldError(("checkMethod",), "check method is not configured", "such as data.mixerauthz.allow")
