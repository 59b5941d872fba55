"""One look at a venue: ask, compare (`domain.reconcile`), heal what can be healed.

Looking again without news changes nothing. What cannot be healed by asking and booking (a position
that no order of ours explains) stays a mismatch, and holds trading until a person has acted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    Order,
    OrderAccepted,
    OrderIntended,
    OrdType,
)
from openbell.domain.reconcile import (
    AdoptOrder,
    Agreement,
    ApplyFills,
    AskForOrder,
    BookFacts,
    CancelStray,
    FillFacts,
    OrderFacts,
    QuarantineForeign,
    ReconcileAction,
    Reconciliation,
    VenueFacts,
    reconcile,
)
from openbell.service.logging import get_logger
from openbell.trading.engine import core
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.tracker import Tracker
from openbell.venues.port import Rejected, Venue, VenueFill, VenueOrder, net_positions

log = get_logger()

OVERLAP_S = 60.0
"""How far before the last agreement executions are asked for again: clocks and lists may lag."""
_OVERLAP_NS = int(OVERLAP_S * 1e9)
ASKING_AT_ONCE = 32
"""Symbols whose executions are asked for at once."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Both sides of the last look, for who explains what it found."""

    ours: BookFacts
    venue: VenueFacts
    agreed_ns: int
    """The venue's clock when they last agreed before it."""


class Reconciler:
    """Looks at one venue, and heals."""

    def __init__(
        self,
        venue: Venue,
        symbols: Sequence[str],
        ledger: Ledger,
        tracker: Tracker,
        *,
        desk_id: str,
        tolerance: Callable[[str], Decimal | None],
        skew_ns: Callable[[], int],
        is_busy: Callable[[ClOrdID], bool],
    ) -> None:
        self.foreign: tuple[OrderFacts, ...] = ()
        """Others' orders on the account, as of the last look: shown, and left alone."""
        self.seen: Seen | None = None
        self._venue = venue
        self._symbols = tuple(symbols)
        self._ledger = ledger
        self._tracker = tracker
        self._desk_id = desk_id
        self._tolerance = tolerance
        self._skew_ns = skew_ns
        self._is_busy = is_busy
        """Whether a send or cancel of the order is under way: its answer says more than asking."""
        self._fee_in_kind = not venue.capabilities.positions
        self._fills_since_ns = self._last_activity_ns()
        """Our clock; executions before it were in the books when books and venue last agreed."""
        ledger.keep(venue.name, lambda: self._fills_since_ns - _OVERLAP_NS)

    def begin_anew(self) -> None:
        """The books are no longer those this one was made with: a standby's follow the journal."""
        self._fills_since_ns = self._last_activity_ns()

    async def look(self, *, deep: bool) -> Reconciliation:
        """Asks and compares. `deep`: executions too, not only open orders and positions.

        Raises VenueError where the venue cannot be asked.
        """
        asked_ns = time.time_ns()
        listing, positions, fills = await asyncio.gather(
            self._venue.open_orders(), self._venue.positions(), self._fills() if deep else _none()
        )
        facts = VenueFacts(
            asked_ns=asked_ns,
            open_orders=tuple(_order_facts(order) for order in listing.orders),
            complete=listing.complete,
            positions=net_positions(positions),
            fills=tuple(_fill_facts(fill) for fill in fills),
        )
        ours = self._book_facts(facts)
        found = reconcile(ours, facts)
        self.seen = Seen(ours, facts, self._fills_since_ns + self._skew_ns())
        if found.foreign != self.foreign:
            self.foreign = found.foreign
            log.warning(
                "orders of others on this account",
                venue=self._venue.name,
                orders=[order.venue_order_id for order in found.foreign],
            )
        if deep and found.complete and found.status is not Agreement.MISMATCH:
            self._fills_since_ns = asked_ns
        return found

    async def heal(self, found: Reconciliation) -> None:
        """Does what the comparison calls for. VenueError where the venue stopped answering."""
        await asyncio.gather(*(self._act(action) for action in found.actions))

    def asks(self, found: Reconciliation) -> int:
        """After how many orders `heal` will ask."""
        return sum(
            isinstance(action, AskForOrder) and not self._is_asked_for(action.cl_ord_id)
            for action in found.actions
        )

    def _is_asked_for(self, cl_ord_id: ClOrdID) -> bool:
        """An answer is under way, or waited for: to ask beside it would only cost the venue's
        budget, and the look that finds agreement would have to wait for more of it."""
        return self._is_busy(cl_ord_id) or self._tracker.is_resolving(cl_ord_id)

    async def _act(self, action: ReconcileAction) -> None:
        match action:
            case AskForOrder():
                await self._ask(action)
            case ApplyFills():
                await self._apply_fills(action)
            case AdoptOrder():
                await self._adopt(action.order)
            case CancelStray():
                log.error(
                    "an order rests that the books hold final: cancelling it",
                    alert=True,
                    cl_ord_id=action.cl_ord_id,
                )
                outcome = await self._venue.cancel(action.symbol, action.cl_ord_id)
                if isinstance(outcome, Rejected):
                    await self._tracker.ask(action.symbol, action.cl_ord_id)
            case QuarantineForeign():
                pass  # listed by `look`; nothing is done to it

    async def _ask(self, action: AskForOrder) -> None:
        if self._is_asked_for(action.cl_ord_id):
            return
        known = self._ledger.books.orders.get(action.cl_ord_id)
        seen = await self._tracker.ask(action.symbol, action.cl_ord_id)
        if known is None and seen is not None:
            await self._adopt(_order_facts(seen), seen)
        elif known is not None and seen is None and not known.status.is_final:
            # Neither listed nor known by its id, and yet open here: in doubt, to be asked for
            # until it is certain.
            await self._tracker.doubt(known, "not found at the venue")

    async def _apply_fills(self, action: ApplyFills) -> None:
        if action.cl_ord_id not in self._ledger.books.orders:
            return
        now_ns = time.time_ns()
        for fill in action.fills:
            known = self._ledger.books.orders[action.cl_ord_id]
            if fill.exec_id in known.exec_ids:
                continue
            await self._ledger.record_surely(
                core.of_fill(action.cl_ord_id, fill, now_ns=now_ns, fee_in_kind=self._fee_in_kind)
            )
        order = self._ledger.books.orders[action.cl_ord_id]
        if not order.status.is_final:
            await self._tracker.ask(order.new.symbol, action.cl_ord_id)

    async def _adopt(self, facts: OrderFacts, seen: VenueOrder | None = None) -> None:
        """An order under our own id that the books never held: from now on they do."""
        if facts.cl_ord_id in self._ledger.books.orders:
            return
        log.error("an own order that the books did not hold: adopted", alert=True, order=facts)
        now_ns = time.time_ns()
        order = NewOrder(
            cl_ord_id=facts.cl_ord_id,
            venue=self._venue.name,
            symbol=facts.symbol,
            side=facts.side,
            ord_type=OrdType.MARKET if facts.price is None else OrdType.LIMIT,
            order_qty=facts.order_qty,
            price=facts.price,
        )
        await self._ledger.record_surely(
            OrderIntended(cl_ord_id=order.cl_ord_id, at_ns=now_ns, order=order),
            OrderAccepted(
                cl_ord_id=order.cl_ord_id, at_ns=now_ns, venue_order_id=facts.venue_order_id
            ),
        )
        if seen is not None:
            await self._tracker.book(seen)
        else:
            await self._tracker.ask(facts.symbol, facts.cl_ord_id)

    async def _fills(self) -> list[VenueFill]:
        since_ns = self._fills_since_ns + self._skew_ns() - _OVERLAP_NS
        waiting = iter(self._symbols)
        found: list[VenueFill] = []

        async def ask() -> None:
            for symbol in waiting:
                found.extend(await self._venue.fills(symbol, since_ns=max(since_ns, 1)))

        await asyncio.gather(*(ask() for _ in self._symbols[:ASKING_AT_ONCE]))
        return found

    def _last_activity_ns(self) -> int:
        """From where on executions may be missing in the books: the creation of the oldest order
        that is open, else the last change of any, else now."""
        books = self._ledger.books
        name = self._venue.name
        open_since = [order.created_ns for order in books.open_orders(venue=name)]
        changed = [o.updated_ns for o in books.orders.values() if o.new.venue == name]
        return min([*open_since, max(changed)]) if changed else time.time_ns()

    def _book_facts(self, venue: VenueFacts) -> BookFacts:
        books, name = self._ledger.books, self._venue.name
        return BookFacts(
            venue=name,
            desk_id=self._desk_id,
            orders=self._relevant(books.orders, venue),
            positions=books.quantities(name),
            tolerance={
                symbol: lot
                for symbol in self._symbols
                if (lot := self._tolerance(symbol)) is not None
            },
        )

    def _relevant(self, orders: Mapping[ClOrdID, Order], venue: VenueFacts) -> tuple[Order, ...]:
        """Open orders, those the venue speaks of, and those that changed while it was asked. The
        many that ended long ago say nothing, and cost a busy engine milliseconds."""
        named: Iterable[ClOrdID] = (
            *(order.cl_ord_id for order in venue.open_orders),
            *(fill.cl_ord_id for fill in venue.fills),
        )
        executed = {(fill.symbol, fill.venue_order_id) for fill in venue.fills}
        wanted = {key: orders[key] for key in named if key in orders}
        wanted |= {
            key: order
            for key, order in orders.items()
            if not order.status.is_final
            or order.updated_ns >= venue.asked_ns
            or (order.new.symbol, order.venue_order_id) in executed
        }
        return tuple(o for o in wanted.values() if o.new.venue == self._venue.name)


async def _none() -> list[VenueFill]:
    return []


def _order_facts(order: VenueOrder) -> OrderFacts:
    return OrderFacts(
        cl_ord_id=order.cl_ord_id,
        venue_order_id=order.venue_order_id,
        symbol=order.symbol,
        side=order.side,
        order_qty=order.order_qty,
        cum_qty=order.cum_qty,
        price=order.price,
    )


def _fill_facts(fill: VenueFill) -> FillFacts:
    return FillFacts(**msgspec.structs.asdict(fill))
