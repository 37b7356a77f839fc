"""Keys in a form that answers quickly, and tells neither a reader of memory nor a clock what they are.

Kept are digests. They are found by a keyed hash that changes with each process, so how long a search takes depends on
nothing that a caller could choose, and what is found is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mixer.attributes import Timestamp
from mixer.templates.apikey import ApiKeyInstance

_INDEX_KEY: Final = secrets.token_bytes(32)


def digest_of(key: str) -> bytes:
    """The SHA-256 digest of a key's text."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Pattern:
    """An exact text, or all that begin with one."""

    text: str
    is_prefix: bool = False

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a text that may end with ``*``."""
        return cls(text[:-1], True) if text.endswith("*") else cls(text)

    def matches(self, value: str) -> bool:
        """Whether a value is meant."""
        return value.startswith(self.text) if self.is_prefix else value == self.text


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations of an API; no versions or operations means all."""

    api: Pattern
    versions: tuple[Pattern, ...] = ()
    operations: tuple[Pattern, ...] = ()

    def covers(self, instance: ApiKeyInstance) -> bool:
        """Whether it allows what a request is about."""
        return (
            self.api.matches(instance.api)
            and _any(self.versions, instance.api_version)
            and _any(self.operations, instance.api_operation)
        )


def _any(patterns: tuple[Pattern, ...], value: str) -> bool:
    return not patterns or any(pattern.matches(value) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a key, and what it is good for; no grants means everything."""

    name: str
    digest: bytes = field(repr=False)
    grants: tuple[Grant, ...] = ()
    not_after: Timestamp | None = None

    def may(self, instance: ApiKeyInstance) -> bool:
        """Whether the key is good for what a request is about."""
        return not self.grants or any(grant.covers(instance) for grant in self.grants)


class KeyTable:
    """All keys; of two that are the same the first counts."""

    def __init__(self, holders: Iterable[Holder]) -> None:
        self._by_index: dict[bytes, Holder] = {}
        for holder in holders:
            self._by_index.setdefault(_index(holder.digest), holder)

    def __len__(self) -> int:
        return len(self._by_index)

    def find(self, key: str) -> Holder | None:
        """Who holds a key."""
        digest = digest_of(key)
        holder = self._by_index.get(_index(digest))
        return holder if holder is not None and hmac.compare_digest(holder.digest, digest) else None


def _index(digest: bytes) -> bytes:
    return hashlib.blake2b(digest, key=_INDEX_KEY, digest_size=16).digest()
