"""Whether an emergency stop of the desk was pressed since somebody looked, be it over again or not.

Whoever is asked to open the desk looks when it is asked, and again before it begins: a stop that was
pressed in between is newer than that word, and is not taken back by it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.errors import ConflictError


@dataclass(frozen=True)
class Pressed:
    """What the disk says of emergency stops at one moment; only ever compared."""

    marker: tuple[int, int, int] | None
    """Of `state/emergency.json`: which file it is, and when it was written."""
    courses: frozenset[str]

    def to_wire(self) -> dict[str, Any]:
        """For a process that is to know what this one saw."""
        return {"marker": self.marker, "courses": sorted(self.courses)}


def pressed(layout: DeskLayout) -> Pressed:
    """Two system calls. Never raises: what cannot be told is no news."""
    try:
        stat = os.lstat(layout.emergency_marker)
        marker = (stat.st_dev, stat.st_ino, stat.st_mtime_ns)
    except OSError:
        marker = None
    try:
        courses = frozenset(each.name for each in layout.emergency.iterdir())
    except OSError:
        courses = frozenset()
    return Pressed(marker, courses)


def refuse_pressed_since(layout: DeskLayout, before: Pressed) -> None:
    """Raises ConflictError while a stop of the whole desk is under way, and where any was begun since
    `before`, though it be over."""
    # Not above: it loads what a command that only looks need not wait for.
    from openbell.kill.course import refuse_under_way

    refuse_under_way(layout)
    now = pressed(layout)
    if (now.marker is not None and now.marker != before.marker) or now.courses - before.courses:
        raise ConflictError(
            "an emergency stop was pressed meanwhile",
            hint="see what it came to with `openbell status`, then ask again",
        )
