"""What differs between books and venue from look to look: since when, and whether it is certain.

A difference must stand, for fills are told by several ways, and one may be slow; and so must the absence of
any, for a busy symbol may be unclear at every look.
"""

from __future__ import annotations

import time

from openbell.domain.reconcile import (
    Agreement,
    OrderFinding,
    PositionFinding,
    Reconciliation,
)
from openbell.domain.standing import Standing, follow, told

LOOKS_BEFORE_MISMATCH = 3
"""A difference must stand in so many looks in a row. Ours."""
UNCLEAR_AT_MOST_S = 60.0
"""A busy symbol may move at every look. So long may books and venue not be seen to agree; then
trading stops until they are. Ours."""


class DifferenceKeeper:
    """One venue's."""

    def __init__(self) -> None:
        self.looks = 0
        """How many of the last ones, without one between, found something that differs."""
        self._from_s = 0.0
        self._standing: dict[str, Standing] = {}
        """Differences of position that orders in flight do not explain, by symbol."""
        self._last: Reconciliation | None = None
        self._clear_s: dict[str, float] = {}
        """When each symbol was last seen to agree."""

    def begin_anew(self) -> None:
        """The venue was lost, and is connected again."""
        self.looks = 0
        self._last = None
        self._standing.clear()
        self._clear_s.clear()

    def saw(self, found: Reconciliation) -> None:
        """One more look."""
        self._last = found
        self._standing = follow(self._standing, found.positions, complete=found.complete)
        now_s = time.monotonic()
        if not findings_of(found, Agreement.MISMATCH):
            self.looks = 0
        else:
            self._from_s = self._from_s if self.looks else now_s
            self.looks += 1
        if found.complete:
            agreed = (each for each in found.positions if each.status is Agreement.OK)
            self._clear_s |= {each.symbol: now_s for each in agreed}

    @property
    def lasting_s(self) -> float:
        """For how long every look found something that differs; 0: the last one did not."""
        return time.monotonic() - self._from_s if self.looks else 0.0

    @property
    def stands(self) -> bool:
        """Whether a position differs, or did when a look last told anything of it, if only once."""
        return bool(self._standing)

    def positions(self, looks: int) -> dict[str, str]:
        """Symbols whose position differs in so many looks, each with what."""
        return {} if self._last is None else told(self._standing, self._last.positions, looks=looks)

    @property
    def first(self) -> str:
        """Of what the last look found to differ; empty where it found nothing."""
        differing = [] if self._last is None else findings_of(self._last, Agreement.MISMATCH)
        return f"{differing[0].symbol}: {differing[0].why}" if differing else ""

    @property
    def standing(self) -> str:
        """The first position that is proven to differ though no looks in a row found it: on an account that
        trades all the time the looks between are not clear. Empty where none is."""
        proven = self.positions(LOOKS_BEFORE_MISMATCH)
        return next((f"{symbol}: {why}" for symbol, why in proven.items()), "")

    @property
    def certain(self) -> str:
        """What differs, once it stood in enough looks that nothing under way will clear it up; empty
        where nothing does."""
        return self.first if self.looks >= LOOKS_BEFORE_MISMATCH else self.standing

    def unclear(self) -> list[str]:
        """Symbols that were seen to agree, and not lately enough."""
        horizon_s = time.monotonic() - UNCLEAR_AT_MOST_S
        return [symbol for symbol, seen_s in self._clear_s.items() if seen_s < horizon_s]


def findings_of(found: Reconciliation, status: Agreement) -> list[OrderFinding | PositionFinding]:
    findings: list[OrderFinding | PositionFinding] = [*found.orders, *found.positions]
    return [finding for finding in findings if finding.status is status]
