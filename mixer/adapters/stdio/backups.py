"""The renamed files of a rotated one: what they are called, and which of them go.

Source: spec adapters 4.3, "Files"; the original swaps the two limits, here each does what its name says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from mixer.attributes import Timestamp

_DAY_NS: Final = 86_400_000_000_000
_MS_NS: Final = 1_000_000


class Backups:
    """Files named ``<base>-<UTC time><ext>`` beside the file that they were.

    Deleting is best effort: a file that cannot be deleted is told to ``complain`` and tried again next time.
    """

    def __init__(self, path: Path, *, keep: int, max_days: int, complain: Callable[[str], object]) -> None:
        """Know the file.

        Args:
            path: The file that is rotated.
            keep: How many backups stay, the newest; 0 for all.
            max_days: How old a backup may be; 0 for any age.
            complain: Takes a message.
        """
        self._directory, self._prefix, self._suffix = path.parent, f"{path.stem}-", path.suffix
        self._keep, self._max_days, self._complain = keep, max_days, complain

    def path_for(self, now: Timestamp) -> Path:
        """A name for a backup made now that no file has yet; in the same millisecond, later ones come next."""
        while True:
            path = self._directory / f"{self._prefix}{_stamp(now)}{self._suffix}"
            if not path.exists():
                return path
            now = Timestamp(now + _MS_NS)

    def prune(self, now: Timestamp) -> None:
        """Delete the backups that are too old or too many."""
        try:
            newest_first = sorted(self._found(), reverse=True)
        except OSError as exc:
            self._complain(f"old files cannot be listed: {exc}")
            return
        for place, (made, path) in enumerate(newest_first):
            too_many = self._keep and place >= self._keep
            too_old = self._max_days and now - made > self._max_days * _DAY_NS
            if too_many or too_old:
                try:
                    path.unlink(missing_ok=True)
                except OSError as exc:
                    self._complain(f"{path} cannot be deleted: {exc}")

    def _found(self) -> list[tuple[Timestamp, Path]]:
        found = []
        for path in self._directory.iterdir():
            name = path.name
            if name.startswith(self._prefix) and name.endswith(self._suffix):
                made = _made_at(name[len(self._prefix) : len(name) - len(self._suffix)])
                if made is not None:
                    found.append((made, path))
        return found


def _stamp(time: Timestamp) -> str:
    """``2006-01-02T15-04-05.000``."""
    return time.label()[:-4].replace(":", "-")


def _made_at(stamp: str) -> Timestamp | None:
    """The time of a stamp; None for a text that is none."""
    date, _, clock = stamp.partition("T")
    try:
        time = Timestamp.parse(f"{date}T{clock.replace('-', ':')}Z")
    except ValueError:
        return None
    return time if _stamp(time) == stamp else None
