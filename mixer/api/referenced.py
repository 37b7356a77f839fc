"""Referenced attributes on the wire: what an answer depended on.

Source: spec language 6.3.
"""

from __future__ import annotations

from collections.abc import Mapping

from mixer.api.encode import WordAllocator
from mixer.api.messages import ReferencedAttributes
from mixer.api.words import GLOBAL_WORD_COUNT, GLOBAL_WORDS
from mixer.attributes import Condition, Reference
from mixer.errors import WireError


def encode_referenced(
    referenced: Mapping[Reference | tuple[str, str], Condition], global_word_count: int
) -> ReferencedAttributes:
    """The record of a `TrackingBag`, in the words that the client knows; sorted by name and key.

    A ``map_key`` of 0 says "no key", so the key ``source.ip``, whose global index that is, is always spelled out.
    """
    allocator = WordAllocator(min(global_word_count, GLOBAL_WORD_COUNT))
    message = ReferencedAttributes()
    for (name, key), condition in sorted(referenced.items()):
        # The key before the name, as in the original; it shows in the order of the words.
        map_key = (allocator.index(key) or allocator.own_index(key)) if key else 0
        message.attribute_matches.add(name=allocator.index(name), condition=int(condition), map_key=map_key)
    message.words.extend(allocator.words)
    return message


def decode_referenced(message: ReferencedAttributes) -> dict[Reference, Condition]:
    """The other direction, for clients; a ``map_key`` of 0 is no key.

    Raises:
        WireError: An index without a word, or a condition that does not exist.
    """
    words = message.words

    def word(index: int, role: str) -> str:
        if -len(words) <= index < 0:
            return words[-index - 1]
        if 0 <= index < GLOBAL_WORD_COUNT:
            return GLOBAL_WORDS[index]
        raise WireError(f"attribute_matches: {role} index {index} is not defined; the message has {len(words)} words")

    referenced: dict[Reference, Condition] = {}
    for match in message.attribute_matches:
        reference = Reference(word(match.name, "name"), word(match.map_key, "map_key") if match.map_key else "")
        try:
            referenced[reference] = Condition(match.condition)
        except ValueError:
            raise WireError(
                f"attribute_matches: {reference.name} has the unknown condition {match.condition}"
            ) from None
    return referenced
