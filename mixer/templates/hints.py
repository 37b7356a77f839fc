"""What to do about an expression that is wrong, in the words of someone who writes configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from mixer.errors import ExprError

_QUOTED_DURATION = re.compile(r"""\(["'`].*["'`]\) typeError got DURATION, expected STRING""", re.DOTALL)
_BARE_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def expected_at(error: ExprError, vocabulary: Collection[str] = ()) -> str:
    """What was expected where an expression failed; names the usual slip when it is one.

    ``vocabulary`` is where the attribute is looked for that was probably meant.
    """
    source = error.source.strip()
    if not source:
        return "an expression; a text needs quotes of its own, such as '\"\"'"
    place = f"at column {error.offset + 1} of: {error.source}"
    if error.message.startswith("unknown attribute "):
        if _BARE_WORD.fullmatch(source):
            return f"an attribute; a text needs quotes of its own, '\"{source}\"'"
        close = difflib.get_close_matches(error.message.removeprefix("unknown attribute "), vocabulary, n=1)
        meant = f"probably {close[0]}" if close else "a name that an attributemanifest declares"
        return f"{meant}; {place}"
    if _QUOTED_DURATION.search(error.message):
        return f'a text; one that reads as a duration, such as "10s" or "0", is a DURATION; {place}'
    return f"a valid expression; {place}"
