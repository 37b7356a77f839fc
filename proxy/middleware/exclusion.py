"""Paths that nobody asks about, such as those of health checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def exclusion(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A test for paths that are left alone: no Check, no Report.

    Args:
        patterns: Whole paths, or beginnings that end with ``*``.

    Raises:
        ValueError: A pattern that no path can match.
    """
    whole: set[str] = set()
    beginnings: list[str] = []
    for pattern in patterns:
        if not pattern.startswith(("/", "*")) or "*" in pattern[:-1]:
            raise ValueError(
                f"exclude: {pattern!r} is neither a path such as '/healthz' nor a beginning such as '/static/*'"
            )
        if pattern.endswith("*"):
            beginnings.append(pattern[:-1])
        else:
            whole.add(pattern)
    prefixes = tuple(beginnings)
    if not prefixes:
        return whole.__contains__
    return lambda path: path in whole or path.startswith(prefixes)
