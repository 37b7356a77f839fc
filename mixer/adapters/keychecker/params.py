"""What an operator writes to configure keychecker, and what can be wrong with it. No message ever shows a key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import Field, SecretStr

from mixer.adapters.base import InstanceInfo, Params
from mixer.adapters.keychecker.keys import digest_of
from mixer.attributes import Duration, Timestamp
from mixer.store.problem import FieldError
from mixer.store.protojson import DurationField, Int32

_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_SECOND: Final = Duration.parse("1s")


class Allowed(Params):
    """What a key is good for. Each text is exact, or ends with ``*`` and stands for all that begin like it."""

    api: str = "*"
    """The ``api`` of the instance; default: any."""

    versions: list[str] = Field(default_factory=list)
    """Its ``apiVersion``; default: any."""

    operations: list[str] = Field(default_factory=list)
    """Its ``apiOperation``; default: any."""


class Key(Params):
    """One key: itself or its SHA-256 digest, and who holds it."""

    name: str = ""
    """Who holds it; messages and logs say this and never the key. Required."""

    secret: SecretStr = SecretStr("")
    """The key itself."""

    sha256: SecretStr = SecretStr("")
    """Instead of the key, its SHA-256 digest in 64 hexadecimal digits: ``printf %s KEY | sha256sum``.

    Keys are random texts of some length; a word's digest is as good as the word.
    """

    allow: list[Allowed] = Field(default_factory=list)
    """What it is good for: anything on this list; default: everything."""

    not_after: str = ""
    """When it ends, such as ``2026-12-31T23:59:59Z``; default: never."""


class KeyList(Params):
    """The content of a file of keys, in YAML or JSON."""

    keys: list[Key] = Field(default_factory=list)
    """The keys."""


class KeyCheckerParams(Params):
    """Params of the keychecker adapter."""

    keys: list[Key] = Field(default_factory=list)
    """Keys that stand in the configuration."""

    keys_file: str = ""
    """A file with more of them, YAML or JSON: a mapping whose ``keys`` is a list like the one here.

    When it changes it is read again; while it cannot be read, or is wrong, the former keys hold. Default: none.
    """

    refresh_interval: DurationField = Duration.parse("10s")
    """How often to look whether the file has changed; at least 1s, default 10s."""

    valid_duration: DurationField = Duration.parse("60s")
    """How long a proxy may reuse an answer, also a denial: how long a key that is taken away goes on. Default 60s."""

    valid_use_count: Int32 = 1000
    """How often a proxy may reuse an answer, also a denial; default 1000."""


def validate(params: KeyCheckerParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    if not params.keys and not params.keys_file:
        yield FieldError(("keys",), "there are none", "keys or keysFile")
    yield from key_faults(params.keys)
    if "\0" in params.keys_file:
        yield FieldError(("keysFile",), "a path has no NUL")
    if params.refresh_interval < _SECOND:
        yield FieldError(("refreshInterval",), f"{params.refresh_interval} is too short", "at least 1s")
    if params.valid_duration < 0:
        yield FieldError(("validDuration",), "must not be negative")
    if params.valid_use_count < 0:
        yield FieldError(("validUseCount",), "must not be negative")


def key_faults(keys: Sequence[Key]) -> Iterator[FieldError]:
    """Every fault of keys that decode well, below ``keys``."""
    seen: dict[bytes, int] = {}
    for index, key in enumerate(keys):
        at = ("keys", index)
        if not key.name:
            yield FieldError((*at, "name"), "required field is missing")
        secret, sha256 = key.secret.get_secret_value(), key.sha256.get_secret_value()
        if bool(secret) == bool(sha256):
            yield FieldError((*at, "secret"), "expected the key or its digest, one of them", "secret or sha256")
        elif sha256 and _SHA256.fullmatch(sha256) is None:
            yield FieldError((*at, "sha256"), "not a SHA-256 digest", "64 hexadecimal digits")
        else:
            first = seen.setdefault(digest_of_key(key), index)
            if first != index:
                yield FieldError(at, f"the same key as keys[{first}]")
        if key.not_after:
            try:
                Timestamp.parse(key.not_after)
            except ValueError:
                yield FieldError((*at, "notAfter"), "not a time", "such as 2026-12-31T23:59:59Z")
        for number, allowed in enumerate(key.allow):
            for field, texts in (
                ("api", [allowed.api]), ("versions", allowed.versions), ("operations", allowed.operations),
            ):  # fmt: skip
                if any("*" in text[:-1] for text in texts):
                    yield FieldError((*at, "allow", number, field), 'a "*" can only be the last character')


def digest_of_key(key: Key) -> bytes:
    """The SHA-256 digest of a key, given or made."""
    sha256 = key.sha256.get_secret_value()
    return bytes.fromhex(sha256) if sha256 else digest_of(key.secret.get_secret_value())
