"""The venues asked past the engine: `procedures.ports.VenueTruth` by the clerk's errands."""

from __future__ import annotations

from collections.abc import Sequence

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.venues.asking import VenueAnswer
from openbell.venues.clerk import ask_venues, cancel_own_orders


class Clerk:
    """Sends the clerk to every venue of the desk."""

    def __init__(self, layout: DeskLayout, desk: LoadedDesk) -> None:
        self._layout = layout
        self._desk = desk

    async def look(self, *, timeout_s: float) -> Sequence[VenueAnswer]:
        return await ask_venues(self._layout, self._desk, list(self._desk.file.venues), timeout_s)

    async def cancel(self, *, timeout_s: float) -> Sequence[VenueAnswer]:
        venues = list(self._desk.file.venues)
        return await cancel_own_orders(self._layout, self._desk, venues, timeout_s)
