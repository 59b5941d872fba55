"""What this process sent, for venues that find orders by their own ids only."""

from __future__ import annotations

from dataclasses import dataclass

from openbell.domain.orders import ClOrdID, NewOrder

KEPT = 20_000
"""Older ones are found by listing, as those of an earlier process are."""


@dataclass
class SentOrder:
    order: NewOrder
    sent_ns: int
    """Since the epoch: by the venue's clock where the adapter knows it."""
    venue_order_id: str = ""
    """Empty while no answer told it."""


class SentOrders:
    """The newest of them, by ClOrdID and by the venue's id."""

    def __init__(self) -> None:
        self._by_cl_ord_id: dict[ClOrdID, SentOrder] = {}
        self._by_venue_order_id: dict[str, SentOrder] = {}

    def sending(self, order: NewOrder, sent_ns: int) -> None:
        """A second sending of the same intent keeps the first one's time."""
        if order.cl_ord_id in self._by_cl_ord_id:
            return
        self._by_cl_ord_id[order.cl_ord_id] = SentOrder(order, sent_ns)
        if len(self._by_cl_ord_id) > KEPT:
            oldest = next(iter(self._by_cl_ord_id))
            forgotten = self._by_cl_ord_id.pop(oldest)
            self._by_venue_order_id.pop(forgotten.venue_order_id, None)

    def found(self, cl_ord_id: ClOrdID, venue_order_id: str) -> None:
        sent = self._by_cl_ord_id.get(cl_ord_id)
        if sent is not None:
            sent.venue_order_id = venue_order_id
            self._by_venue_order_id[venue_order_id] = sent

    def by_cl_ord_id(self, cl_ord_id: ClOrdID) -> SentOrder | None:
        return self._by_cl_ord_id.get(cl_ord_id)

    def by_venue_order_id(self, venue_order_id: str) -> SentOrder | None:
        return self._by_venue_order_id.get(venue_order_id)
