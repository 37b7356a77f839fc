"""Problems: what is wrong with a resource, where, and what was expected. A result, never an exception."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mixer.store.resource import NOWHERE, Origin, Path, Resource, ResourceKey


class Severity(enum.Enum):
    """ERROR: the thing named is left out, or its last good version kept. WARNING: it is used as it is."""

    ERROR = "error"
    WARNING = "warning"


class FieldError(NamedTuple):
    """A fault of one field, path relative to what was decoded."""

    path: Path
    message: str
    expected: str = ""

    def below(self, *prefix: str | int) -> FieldError:
        """The same fault, seen from further up."""
        return self._replace(path=(*prefix, *self.path))


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of the configuration.

    ``field`` is a path such as ``spec.actions[0].handler``, empty for the object as a whole; ``expected``
    says in words what would have been right, empty when the message already does.
    """

    message: str
    resource: ResourceKey | None = None
    field: str = ""
    expected: str = ""
    origin: Origin = NOWHERE
    severity: Severity = Severity.ERROR

    @classmethod
    def of(
        cls,
        resource: Resource,
        path: Sequence[str | int],
        message: str,
        *,
        expected: str = "",
        severity: Severity = Severity.ERROR,
    ) -> Problem:
        """A problem of one field of a resource; ``path`` starts at the document's root (``"spec", ...``)."""
        return cls(message, resource.key, format_path(path), expected, resource.origin_of(path), severity)

    def __str__(self) -> str:
        where = f"{self.origin}: " if self.origin.file else ""
        what = f"{self.resource}: " if self.resource else ""
        field = f"{self.field}: " if self.field else ""
        expected = f" (expected {self.expected})" if self.expected else ""
        return f"{where}{self.severity.value}: {what}{field}{self.message}{expected}"


def format_path(path: Sequence[str | int]) -> str:
    """``("spec", "actions", 0, "a.b")`` -> ``spec.actions[0]["a.b"]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text
