"""Strategies that a person has disabled: one file each, whose existence stops their new orders.

    state/disabled-strategies/momentum.json

What the desk's halt is to the whole desk, this is to one strategy, and the files are of the same kind
(`halts`): the existence decides, the content says who and why, a full disk prevents none, and what is
unclear counts as disabled, a folder that is not there too (`DeskLayout.make` makes it). It outlives
every process; only a person enables a strategy again. An order of the desk itself, such as a flatten,
has no strategy and is never held here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from openbell.config.layout import DeskLayout
from openbell.errors import StorageError
from openbell.state.halts import Halt, clear_halt, is_halted, read_halt, set_halt


@dataclass(frozen=True)
class DisabledStrategies:
    """Of one desk."""

    folder: Path

    @classmethod
    def of(cls, layout: DeskLayout) -> DisabledStrategies:
        return cls(layout.disabled_strategies)

    def is_disabled(self, strategy: str) -> bool:
        """Asked before every send, about 3 µs. Every doubt counts as disabled."""
        return bool(strategy) and is_halted(_file(self.folder, strategy))

    def why(self, strategy: str) -> str:
        """In a sentence by whom, since when and why; empty where it is not disabled. Never raises."""
        if not self.is_disabled(strategy):
            return ""
        halt = self.read(strategy)
        return "" if halt is None else f"{strategy} is disabled {by_whom(halt)}"

    def read(self, strategy: str) -> Halt | None:
        """Who disabled it, and why; None where it is not disabled. Never raises."""
        halt = read_halt(_file(self.folder, strategy))
        if halt is None and self.is_disabled(strategy):
            gone = f"there is no folder {self.folder.name}; counted as disabled"
            return Halt(gone, "unknown", datetime.now(UTC), readable=False)
        return halt

    def rows(self, strategies: Iterable[str], *, opened: bool = True) -> list[dict[str, object]]:
        """Those of these that are disabled, as the API and the command line show them. `opened`: the
        desk was; of one of which that is not known, a folder that is not there says nothing."""
        if not opened and not os.path.lexists(self.folder):
            return []
        found = ((name, self.read(name)) for name in sorted(strategies))
        return [
            {
                "strategy": name,
                "reason": halt.reason,
                "by": halt.who,
                "since": halt.at.isoformat(),
                "readable": halt.readable,
            }
            for name, halt in found
            if halt is not None
        ]

    def disable(self, strategy: str, halt: Halt) -> None:
        """Durably. StorageError: the disk allows not even an empty file; the caller must stop the
        strategy by other means and say so."""
        set_halt(_file(self.folder, strategy), halt)

    def enable(self, strategy: str) -> None:
        """Durably; one that is not disabled stays so. StorageError: it still is."""
        clear_halt(_file(self.folder, strategy))
        if self.is_disabled(strategy):
            raise StorageError(
                f"{strategy} still counts as disabled",
                hint=f"make {self.folder} a folder of this user again",
            )


def by_whom(halt: Halt) -> str:
    """`by ann since 2026-01-31 12:00:00 UTC: odd fills`"""
    return f"by {halt.who} since {halt.at:%Y-%m-%d %H:%M:%S} UTC: {halt.reason}"


@functools.lru_cache(maxsize=4096)
def _file(folder: Path, strategy: str) -> Path:
    """A desk file's names are safe as they are; what else comes over the bus is made so."""
    return folder / f"{quote(strategy, safe='')}.json"
