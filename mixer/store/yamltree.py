"""One YAML document as a tree, built from parser events.

Events give positions, leave keys as they are written, and let depth and size be refused while they grow
(aliases included). No tag ever makes an object.

Source: spec runtime 1.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from mixer.store.resource import Path
from mixer.store.yamlscalar import TAG_PREFIX, UnknownTagError, resolve

MAX_DEPTH: Final = 64
"""Mappings and lists inside each other; real objects need about ten."""
MAX_WEIGHT: Final = 200_000
"""Values of one document with its aliases expanded; a long text counts once more per 256 characters."""


class Fault(NamedTuple):
    """What is wrong with a document; line and column count from 1 in the whole text."""

    message: str
    line: int
    column: int = 0
    expected: str = ""


class RefusedError(Exception):
    """Reading stops here."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(slots=True)
class ScalarNode:
    """A text and what it means; ``height`` is how deep a node nests, ``weight`` its share of `MAX_WEIGHT`."""

    line: int
    text: str
    value: Any
    weight: int
    height: int = 0


@dataclass(slots=True)
class ListNode:
    """A list."""

    line: int
    items: list[Node] = field(default_factory=list)
    weight: int = 0
    height: int = 1


@dataclass(slots=True)
class MapNode:
    """A mapping: key as written -> line of the key, value; merge keys are already resolved."""

    line: int
    entries: dict[str, tuple[int, Node]] = field(default_factory=dict)
    weight: int = 0
    height: int = 1


Node: TypeAlias = ScalarNode | ListNode | MapNode


class Composer:
    """Builds the tree of one document from parser events, within the limits."""

    def __init__(self, text: str, first_line: int) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._first_line = first_line
        self._anchors: dict[str, Node | None] = {}  # None: still being read
        self._spent = 0
        self.faults: list[Fault] = []
        """Faults that do not stop the reading."""

    def compose(self) -> Node | None:
        """The root, or None when there is no document."""
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._refused(event, "a second document starts here", "a line of three dashes before it")
                root = self._node(next(self._events), 1)
        return root

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if depth > MAX_DEPTH:
            raise self._refused(event, f"nested deeper than {MAX_DEPTH} levels")
        before = self._spent
        self._spend(event, 1)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._map(event, depth)
        node.weight = self._spent - before
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, depth: int) -> Node:
        if event.anchor not in self._anchors:
            raise self._refused(event, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._refused(event, f"the alias *{event.anchor} stands inside of what it names")
        if depth + node.height > MAX_DEPTH + 1:
            raise self._refused(event, f"nested deeper than {MAX_DEPTH} levels")
        self._spend(event, node.weight)
        return node

    def _scalar(self, event: Any) -> ScalarNode:
        self._spend(event, len(event.value) // 256)
        value: Any = None
        try:
            value = resolve(event.value, event.tag, plain=not event.style)
        except UnknownTagError as exc:
            self.faults.append(self._fault(event, str(exc), "plain data without tags"))
        except ValueError as exc:
            self.faults.append(self._fault(event, str(exc)))
        return ScalarNode(self._line(event), event.value, value, 0)

    def _list(self, event: Any, depth: int) -> ListNode:
        self._open(event, "seq")
        node = ListNode(self._line(event))
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, depth + 1)
            node.items.append(item)
            node.height = max(node.height, item.height + 1)
        return node

    def _map(self, event: Any, depth: int) -> MapNode:
        self._open(event, "map")
        node = MapNode(self._line(event))
        merged: list[MapNode] = []
        while not isinstance(key_event := next(self._events), yaml.MappingEndEvent):
            key = self._node(key_event, depth + 1)
            if not isinstance(key, ScalarNode):
                raise self._refused(key_event, "a mapping or list cannot be a key", "a text as key")
            is_merge = isinstance(key_event, yaml.ScalarEvent) and key.text == "<<" and not key_event.style
            value_event = next(self._events)
            value = self._node(value_event, depth + 1)
            if is_merge:
                merged += self._merge_sources(value_event, value)
            elif key.text in node.entries:
                first = node.entries[key.text][0]
                self.faults.append(
                    self._fault(
                        key_event, f'duplicate key "{shortened(key.text)}", first on line {first}', "each key once"
                    )
                )
            else:
                line = key.line if isinstance(key_event, yaml.ScalarEvent) else self._line(key_event)
                node.entries[key.text] = (line, value)
        for source in merged:  # what stands in the mapping itself wins, then the earlier source
            for name, entry in source.entries.items():
                node.entries.setdefault(name, entry)
        node.height = 1 + max((value.height for _, value in node.entries.values()), default=0)
        return node

    def _merge_sources(self, event: Any, value: Node) -> list[MapNode]:
        sources = value.items if isinstance(value, ListNode) else [value]
        maps = [source for source in sources if isinstance(source, MapNode)]
        if len(maps) != len(sources):
            raise self._refused(event, "<< takes a mapping or a list of mappings", "an alias to a mapping")
        return maps

    def _open(self, event: Any, kind: str) -> None:
        if event.anchor:
            self._anchors[event.anchor] = None
        if event.tag not in (None, "!", TAG_PREFIX + kind):
            tag = event.tag.replace(TAG_PREFIX, "!!")
            self.faults.append(
                self._fault(event, f"the tag {shortened(tag)} is not known here", "plain data without tags")
            )

    def _spend(self, event: Any, weight: int) -> None:
        self._spent += weight
        if self._spent > MAX_WEIGHT:
            raise self._refused(
                event,
                f"the document is too large (over {MAX_WEIGHT} values with its aliases)",
                "several smaller documents",
            )

    def _line(self, event: Any) -> int:
        return self._first_line + int(event.start_mark.line)

    def _fault(self, event: Any, message: str, expected: str = "") -> Fault:
        return Fault(message, self._line(event), event.start_mark.column + 1, expected)

    def _refused(self, event: Any, message: str, expected: str = "") -> RefusedError:
        return RefusedError(self._fault(event, message, expected))


def expand(node: Node, path: Path, lines: dict[Path, int]) -> Any:
    """The plain data of a tree, nothing shared between the places of an alias; ``lines`` is filled on the way."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        items = []
        for i, item in enumerate(node.items):
            lines[*path, i] = item.line
            items.append(expand(item, (*path, i), lines))
        return items
    mapping = {}
    for key, (line, value) in node.entries.items():
        lines[*path, key] = line
        mapping[key] = expand(value, (*path, key), lines)
    return mapping


def shortened(text: str) -> str:
    """The text, cut to what a message can hold."""
    return text if len(text) <= 60 else f"{text[:57]}..."
