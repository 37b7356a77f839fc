"""What to do about an expression that is wrong, in the words of someone who writes configuration."""

from __future__ import annotations

import re

from mixer.errors import ExprError

_BARE_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def expected_at(error: ExprError) -> str:
    """What was expected where an expression failed; names the usual slip when it is one."""
    if not error.source.strip():
        return "an expression; a text needs quotes of its own, such as '\"\"'"
    if error.message.startswith("unknown attribute") and _BARE_WORD.fullmatch(error.source.strip()):
        return f"an attribute; a text needs quotes of its own, '\"{error.source.strip()}\"'"
    return f"a valid expression; at column {error.offset + 1} of: {error.source}"
