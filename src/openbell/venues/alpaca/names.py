"""Which order has which id at Alpaca: cancels go by Alpaca's, everything of ours by ClOrdID."""

from __future__ import annotations

from openbell.domain.orders import ClOrdID

KEPT = 20_000
"""Orders; the oldest are forgotten, and asked for again if they are needed."""


class OrderNames:
    def __init__(self) -> None:
        self._venue_order_ids: dict[ClOrdID, str] = {}
        self._cl_ord_ids: dict[str, ClOrdID] = {}

    def note(self, cl_ord_id: ClOrdID, venue_order_id: str) -> None:
        self._venue_order_ids[cl_ord_id] = venue_order_id
        self._cl_ord_ids[venue_order_id] = cl_ord_id
        if len(self._venue_order_ids) > KEPT:
            oldest = next(iter(self._venue_order_ids))
            self._cl_ord_ids.pop(self._venue_order_ids.pop(oldest), None)

    def venue_order_id(self, cl_ord_id: ClOrdID) -> str:
        """Empty where it is not known."""
        return self._venue_order_ids.get(cl_ord_id, "")

    def cl_ord_id(self, venue_order_id: str) -> ClOrdID:
        """Empty where it is not known."""
        return self._cl_ord_ids.get(venue_order_id, ClOrdID(""))
