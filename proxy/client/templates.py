"""URI templates in a trie: at most one matches a path, the most literal one.

A template is segments after ``/``: a literal, ``*`` for one segment, ``**`` for any number of them (only literals may
follow), or ``{field}`` and ``{field=segments}`` for the same with a name that does not matter here; ``:verb`` may end
it.

Source: spec proxy 9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

_FIELD: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)(?:=([^{}]*))?\}")
_MOST_SEGMENTS: Final = 100


class TemplateError(ValueError):
    """A template that cannot be used, or that another one stands for already."""


class _Node(Generic[Value]):
    __slots__ = ("any_one", "any_rest", "ends", "literals")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Value]] = {}
        self.any_one: _Node[Value] | None = None
        self.any_rest: _Node[Value] | None = None
        self.ends: dict[tuple[str, str], Value] = {}

    def end(self, verb: str, method: str) -> Value | None:
        found = self.ends.get((verb, method))
        return self.ends.get((verb, "*")) if found is None else found


class TemplateTrie(Generic[Value]):
    """Values by method and template. ``*`` as a method stands for those that have no pattern of their own."""

    __slots__ = ("_root", "_verbs")

    def __init__(self) -> None:
        self._root: _Node[Value] = _Node()
        self._verbs: set[str] = set()

    def add(self, method: str, template: str, value: Value) -> None:
        """Add a template.

        Raises:
            TemplateError: It breaks the grammar, or method and shape are taken; nothing was added.
        """
        segments, verb = parse_template(template)
        node = self._root
        for segment in segments:
            if segment == "*":
                node.any_one = node.any_one or _Node()
                node = node.any_one
            elif segment == "**":
                node.any_rest = node.any_rest or _Node()
                node = node.any_rest
            else:
                node = node.literals.setdefault(segment, _Node())
        if (verb, method) in node.ends:
            raise TemplateError("an earlier template of this method matches the same paths")
        node.ends[verb, method] = value
        if verb:
            self._verbs.add(verb)

    def find(self, method: str, path: str) -> Value | None:
        """The value for a path as a request gives it, query string included."""
        path = path.partition("?")[0]
        verb = ""
        head, slash, last = path.rpartition("/")
        stem, colon, candidate = last.rpartition(":")
        if colon and candidate in self._verbs:
            path, verb = f"{head}{slash}{stem}", candidate
        if not path.startswith("/"):
            return None
        segments = path[1:].split("/")
        while segments and not segments[-1]:
            segments.pop()
        return _find(self._root, segments, 0, verb, method, set())


def _find(
    node: _Node[Value], segments: Sequence[str], at: int, verb: str, method: str, failed: set[tuple[int, int]]
) -> Value | None:
    """Literals first, then one segment, then the rest; ``failed`` keeps the work from growing exponentially."""
    if (id(node), at) in failed:
        return None
    found: Value | None = None
    if at == len(segments):
        found = node.end(verb, method)
    else:
        child = node.literals.get(segments[at])
        if child is not None:
            found = _find(child, segments, at + 1, verb, method, failed)
        if found is None and node.any_one is not None:
            found = _find(node.any_one, segments, at + 1, verb, method, failed)
    if found is None and node.any_rest is not None:
        for position in range(at, len(segments)):
            child = node.any_rest.literals.get(segments[position])
            if child is not None:
                found = _find(child, segments, position + 1, verb, method, failed)
                if found is not None:
                    break
        if found is None:
            found = node.any_rest.end(verb, method)
    if found is None:
        failed.add((id(node), at))
    return found


def parse_template(template: str) -> tuple[list[str], str]:
    """Segments, with variables replaced by what they stand for, and the verb.

    Raises:
        TemplateError: The text is no template.
    """
    if not template.startswith("/"):
        raise TemplateError("a template begins with '/'")
    body, verb = template[1:], ""
    tail = body[body.rfind("}") + 1 :]
    colon = tail.rfind(":")
    if colon > tail.rfind("/"):
        verb = tail[colon + 1 :]
        body = body[: len(body) - len(verb) - 1]
        if not verb:
            raise TemplateError("nothing follows ':'")
    plain = _FIELD.sub(lambda field: field[2] if field[2] is not None else "*", body)
    if "{" in plain or "}" in plain:
        raise TemplateError("braces hold a field name, or a field name, '=' and segments, and do not nest")
    segments = plain.split("/") if plain else []
    if len(segments) > _MOST_SEGMENTS:
        raise TemplateError(f"more than {_MOST_SEGMENTS} segments")
    rest = False
    for segment in segments:
        if not segment:
            raise TemplateError("a segment is empty")
        if "*" in segment and segment not in ("*", "**"):
            raise TemplateError(f"'{segment}' mixes '*' with other characters")
        if rest and "*" in segment:
            raise TemplateError(f"'{segment}' follows '**'")
        rest = rest or segment == "**"
    for field in _FIELD.finditer(body):
        before, after = body[: field.start()], body[field.end() :]
        if (before and not before.endswith("/")) or (after and not after.startswith("/")):
            raise TemplateError("a variable stands for whole segments")
        if field[2] is not None and not field[2]:
            raise TemplateError("a variable without segments")
    return segments, verb
