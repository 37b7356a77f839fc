"""Who calls: from what Envoy says of certificates and tokens to ``source.*`` and ``request.auth.*``.

Source: spec envoy 3.4, spec proxy 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct

JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
_PAYLOAD: Final = "jwt_payload"
_SPIFFE: Final = "spiffe://"
_MAX_DEPTH: Final = 32


def principal(text: str) -> str:
    """The principal in an identity that Envoy names: a URI, a SPIFFE one without its scheme; empty for other forms.

    DNS names and subjects make no principal, as they made none in the sidecar.
    """
    if text.startswith(_SPIFFE):
        return text[len(_SPIFFE) :]
    scheme, colon, rest = text.partition("://")
    return text if colon and rest and scheme.isidentifier() else ""


def namespace_of(identity: str) -> str:
    """What follows ``/ns/`` in a principal, up to the next slash; empty when there is none."""
    _, found, rest = identity.partition("/ns/")
    return rest.partition("/")[0] if found else ""


@dataclass(frozen=True, slots=True)
class Token:
    """What a verified token tells; empty where it says nothing."""

    principal: str = ""
    audiences: str = ""
    presenter: str = ""
    claims: Mapping[str, str] = field(default_factory=dict)
    raw_claims: str = ""


NO_TOKEN: Final = Token()


def read_token(payload: Mapping[str, Any]) -> Token:
    """The token with this payload, given as plain values; whole numbers of the payload are integers."""
    issuer, subject, party = (payload.get(name) for name in ("iss", "sub", "azp"))
    audiences = payload.get("aud")
    if isinstance(audiences, list):
        audiences = next(iter(audiences), "")
    return Token(
        f"{issuer}/{subject}" if isinstance(issuer, str) and isinstance(subject, str) and issuer and subject else "",
        audiences if isinstance(audiences, str) else "",
        party if isinstance(party, str) else "",
        text_entries(payload.items()),
        json.dumps(payload, ensure_ascii=False, separators=(",", ":")),
    )


def token_of(metadata: Mapping[str, Struct]) -> Token:
    """The token that Envoy's JWT filter verified, from a request's metadata by filter."""
    if JWT_FILTER not in metadata:
        return NO_TOKEN
    for _, payload in sorted(plain(metadata[JWT_FILTER]).items(), key=lambda item: (item[0] != _PAYLOAD, item[0])):
        if isinstance(payload, dict) and ("iss" in payload or "sub" in payload):  # its key is the operator's choice
            return read_token(payload)
    return NO_TOKEN


def metadata_map(struct: Struct) -> dict[str, str]:
    """A filter's metadata as a string map: strings, and lists of strings joined by commas; the rest is dropped."""
    return text_entries(plain(struct).items())


def text_entries(items: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Those of the items that are strings, or lists of strings, which are joined by commas."""
    found = {}
    for name, value in items:
        if isinstance(value, str):
            found[name] = value
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            found[name] = ",".join(value)
    return found


def plain(struct: Struct, depth: int = 0) -> dict[str, Any]:
    """A struct as plain values; numbers that are whole become integers, and what is nested too deep is None."""
    return {name: _plain(value, depth) for name, value in struct.fields.items()}


def _plain(value: Any, depth: int) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 1 << 53 else number
        case "bool_value":
            return value.bool_value
        case "struct_value" if depth < _MAX_DEPTH:
            return plain(value.struct_value, depth + 1)
        case "list_value" if depth < _MAX_DEPTH:
            return [_plain(item, depth + 1) for item in value.list_value.values]
    return None
