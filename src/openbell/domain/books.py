"""The desk's books: the fold of all order events, and of what was adopted from the venues.

Orders, positions per instrument and per strategy, cash where its opening is known, and which intents
have already made an order. Two folds of the same events are equal; a snapshot and the events after it
are as good as all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import overload

import msgspec

from openbell.domain import cash, external, order_book, positions
from openbell.domain.cash import Account, Cash, CashBooked
from openbell.domain.external import (
    EXTERNAL,
    Baseline,
    Change,
    JournalEvent,
    OfVenue,
    PositionAdopted,
)
from openbell.domain.market import base_quote
from openbell.domain.orders import (
    ClOrdID,
    Order,
    OrderEvent,
    OrderFilled,
    OrderIntended,
    OrdStatus,
    Side,
)
from openbell.domain.positions import Instrument, Position

RECENT_INTENTS = 20_000
"""So many intents are remembered for finding duplicates. A sender repeats an intent within seconds
of a lost reply; at 200 orders a second this is the last 100 s."""

ZERO = Decimal(0)


class StrategyPosition(msgspec.Struct, frozen=True, kw_only=True):
    strategy: str
    position: Position


class RecentIntent(msgspec.Struct, frozen=True, kw_only=True):
    strategy: str
    intent_id: str
    cl_ord_id: ClOrdID


class BooksSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Books as plain data, in a fixed order: equal books give equal snapshots."""

    orders: tuple[Order, ...] = ()
    positions: tuple[Position, ...] = ()
    strategy_positions: tuple[StrategyPosition, ...] = ()
    intents: tuple[RecentIntent, ...] = ()
    """Oldest first."""
    adopted: tuple[Baseline, ...] = ()
    cash: tuple[Cash, ...] = ()


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A position with the open orders that could still change it, orders in doubt included."""

    position: Decimal = ZERO
    open_buys: Decimal = ZERO
    """Quantity that open buy orders could still add; not negative."""
    open_sells: Decimal = ZERO

    @property
    def longest(self) -> Decimal:
        return self.position + self.open_buys

    @property
    def shortest(self) -> Decimal:
        return self.position - self.open_sells

    @property
    def largest(self) -> Decimal:
        """Largest absolute position that fills of open orders could lead to."""
        return max(abs(self.longest), abs(self.shortest))


class Books:
    """Mutable, and changed by `apply` and `forget` alone. What it gives out is immutable."""

    def __init__(self) -> None:
        self._orders: dict[ClOrdID, Order] = {}
        self._open: dict[ClOrdID, Order] = {}
        self._positions: dict[Instrument, Position] = {}
        self._by_strategy: dict[tuple[str, Instrument], Position] = {}
        self._intents: dict[tuple[str, str], ClOrdID] = {}
        self._adopted: dict[Instrument, Baseline] = {}
        self._cash: dict[Account, Cash] = {}

    @overload
    def apply(self, event: OrderEvent) -> Order: ...
    @overload
    def apply(self, event: OfVenue) -> None: ...
    @overload
    def apply(self, event: JournalEvent) -> Order | None: ...
    def apply(self, event: JournalEvent) -> Order | None:
        """Folds one event in and returns its order; None for what a venue told. Raises
        ImpossibleEventError, or ValueError where a symbol is not one, with nothing changed."""
        if isinstance(event, PositionAdopted):
            self._adopt(event)
            return None
        if isinstance(event, CashBooked):
            self._cash[event.account] = cash.opened(event)
            return None
        before = self._orders.get(event.cl_ord_id)
        after = order_book.apply(before, event)
        if isinstance(event, OrderIntended):
            base_quote(after.new.symbol)
            self._remember(after)
        if isinstance(event, OrderFilled) and before is not None:
            self._count(before, event)
        self._orders[after.cl_ord_id] = after
        if order_book.is_open(after):
            self._open[after.cl_ord_id] = after
        else:
            self._open.pop(after.cl_ord_id, None)
        return after

    def forget(
        self, *, final_before_ns: int, needed_since_ns: Mapping[str, int] | None = None
    ) -> int:
        """Drops final orders last changed before that time; returns how many. Positions and
        remembered intents stay. A fill later than that is an impossible event: choose a time
        beyond the venue's longest delay. `needed_since_ns`: by venue, from when on its orders stay
        though they are older."""
        needed = needed_since_ns or {}
        old = [
            cl_ord_id
            for cl_ord_id, order in self._orders.items()
            if order.status.is_final
            and order.updated_ns
            < min(final_before_ns, needed.get(order.new.venue, final_before_ns))
        ]
        for cl_ord_id in old:
            del self._orders[cl_ord_id]
        return len(old)

    @property
    def orders(self) -> Mapping[ClOrdID, Order]:
        """All that are not forgotten, final ones included, oldest first."""
        return MappingProxyType(self._orders)

    def open_orders(
        self, venue: str | None = None, symbol: str | None = None, strategy: str | None = None
    ) -> tuple[Order, ...]:
        """Orders that could still trade, those in doubt included, oldest first."""
        found = (
            order
            for order in self._open.values()
            if (venue is None or order.new.venue == venue)
            and (symbol is None or order.new.symbol == symbol)
            and (strategy is None or order.new.strategy == strategy)
        )
        return tuple(sorted(found, key=lambda order: (order.created_ns, order.cl_ord_id)))

    def in_doubt(self) -> tuple[Order, ...]:
        """Orders the venue must be asked for. Right after a restart PENDING_NEW and PENDING_CANCEL
        orders are in doubt as well: whatever was under way is lost."""
        return tuple(o for o in self._open.values() if o.status is OrdStatus.UNKNOWN)

    @property
    def positions(self) -> Mapping[Instrument, Position]:
        """Per (venue, symbol), flat ones included once traded."""
        return MappingProxyType(self._positions)

    def quantities(self, venue: str) -> dict[str, Decimal]:
        """By symbol: what is held at one venue, zero included once traded."""
        return {s: held.quantity for (at, s), held in self._positions.items() if at == venue}

    def position(self, venue: str, symbol: str) -> Position:
        return self._positions.get((venue, symbol)) or Position(venue=venue, symbol=symbol)

    @property
    def strategy_positions(self) -> Mapping[tuple[str, Instrument], Position]:
        """Per (strategy, (venue, symbol)); the strategy is empty for orders of the desk itself, such
        as those of a flatten, and `EXTERNAL` for what was adopted."""
        return MappingProxyType(self._by_strategy)

    def adopted_at(self, venue: str) -> dict[str, Baseline]:
        """By symbol: what the last adoption left behind."""
        return {symbol: each for (at, symbol), each in self._adopted.items() if at == venue}

    def cash_at(self, venue: str) -> dict[str, Cash]:
        """By currency: what is held of those whose opening is known."""
        return {currency: each for (at, currency), each in self._cash.items() if at == venue}

    def gives_way(self, event: JournalEvent) -> tuple[Change, ...]:
        """What this event, once applied, will change in the external position."""
        if isinstance(event, PositionAdopted):
            return tuple(external.changes_of(event))
        if isinstance(event, CashBooked):
            return ()
        order = self._orders.get(event.cl_ord_id)
        if not isinstance(event, OrderFilled) or order is None:
            return ()
        baseline = self._adopted.get((order.new.venue, order.new.symbol))
        counted = order_book.count(order, event) if baseline is not None else None
        if baseline is None or counted is None:
            return ()
        return external.give_way(baseline, order, event, counted)[1]

    def worst_case(self, venue: str, symbol: str) -> WorstCase:
        """The position of an instrument and what its open orders could still make of it."""
        return self.worst_cases().get((venue, symbol), WorstCase())

    def worst_cases(self) -> dict[Instrument, WorstCase]:
        """`worst_case` of every instrument that has a position or an open order."""
        sides: dict[Instrument, dict[Side, Decimal]] = {
            key: {} for key, position in self._positions.items() if not position.is_flat
        }
        for order in self._open.values():
            leaves = sides.setdefault((order.new.venue, order.new.symbol), {})
            leaves[order.new.side] = leaves.get(order.new.side, ZERO) + order.leaves_qty
        return {
            key: WorstCase(
                self.position(*key).quantity,
                leaves.get(Side.BUY, ZERO),
                leaves.get(Side.SELL, ZERO),
            )
            for key, leaves in sorted(sides.items())
        }

    def order_of_intent(self, strategy: str, intent_id: str) -> ClOrdID | None:
        """The order that this intent has already made, if it is recent."""
        return self._intents.get((strategy, intent_id))

    def to_snapshot(self) -> BooksSnapshot:
        return BooksSnapshot(
            orders=tuple(self._orders.values()),
            positions=tuple(self._positions[key] for key in sorted(self._positions)),
            strategy_positions=tuple(
                StrategyPosition(strategy=key[0], position=self._by_strategy[key])
                for key in sorted(self._by_strategy)
            ),
            intents=tuple(
                RecentIntent(strategy=strategy, intent_id=intent_id, cl_ord_id=cl_ord_id)
                for (strategy, intent_id), cl_ord_id in self._intents.items()
            ),
            adopted=tuple(self._adopted[key] for key in sorted(self._adopted)),
            cash=tuple(self._cash[key] for key in sorted(self._cash)),
        )

    @classmethod
    def from_snapshot(cls, snapshot: BooksSnapshot) -> Books:
        books = cls()
        books._orders = {order.cl_ord_id: order for order in snapshot.orders}
        books._open = {key: o for key, o in books._orders.items() if order_book.is_open(o)}
        books._positions = {position.instrument: position for position in snapshot.positions}
        books._by_strategy = {
            (held.strategy, held.position.instrument): held.position
            for held in snapshot.strategy_positions
        }
        books._intents = {
            (intent.strategy, intent.intent_id): intent.cl_ord_id for intent in snapshot.intents
        }
        books._adopted = {baseline.instrument: baseline for baseline in snapshot.adopted}
        books._cash = {each.account: each for each in snapshot.cash}
        return books

    def _remember(self, order: Order) -> None:
        if not order.new.intent_id:
            return
        self._intents.setdefault((order.new.strategy, order.new.intent_id), order.cl_ord_id)
        while len(self._intents) > RECENT_INTENTS:
            del self._intents[next(iter(self._intents))]

    def _count(self, order: Order, event: OrderFilled) -> None:
        counted = order_book.count(order, event)
        if counted is None:
            return
        new = order.new
        instrument = (new.venue, new.symbol)
        key = (new.strategy, instrument)
        self._positions[instrument] = _counted(
            self._positions.get(instrument), order, event, counted
        )
        self._by_strategy[key] = _counted(self._by_strategy.get(key), order, event, counted)
        if self._cash:
            self._cash |= cash.after_fill(self._cash, order, event, counted)
        baseline = self._adopted.get(instrument)
        if baseline is not None:
            after, changes = external.give_way(baseline, order, event, counted)
            self._adopted[instrument] = after
            self._change(instrument, changes)

    def _adopt(self, event: PositionAdopted) -> None:
        external.check(event)
        earlier = self._adopted.get(event.instrument)
        self._adopted[event.instrument] = external.baseline_of(
            event, earlier, self._orders.values()
        )
        self._change(event.instrument, external.changes_of(event))
        if self._cash and event.fee_in_kind:
            self._cash |= cash.after_trades(
                self._cash,
                event.venue,
                event.symbol,
                (
                    cash.Trade(t.side, t.qty, t.px, t.fee, t.fee_currency, t.venue_time_ns)
                    for t in event.trades
                ),
            )

    def _change(self, instrument: Instrument, changes: Iterable[Change]) -> None:
        venue, symbol = instrument
        for change in changes:
            held = self._positions.get(instrument) or Position(venue=venue, symbol=symbol)
            self._positions[instrument] = change.to(held)
            theirs = external.external_position(self._by_strategy, instrument)
            self._by_strategy[EXTERNAL, instrument] = change.to(theirs)


def _counted(
    position: Position | None, order: Order, event: OrderFilled, counted: order_book.Counted
) -> Position:
    new = order.new
    base, quote = base_quote(new.symbol)
    position = position or Position(venue=new.venue, symbol=new.symbol)
    for quantity, price in counted.replaced:
        position = positions.revert_fill(
            position, side=new.side, quantity=quantity, price=price, base=base, quote=quote
        )
    return positions.apply_fill(
        position,
        side=new.side,
        quantity=counted.qty,
        price=counted.px,
        fee=event.fee,
        fee_currency=event.fee_currency,
        fee_in_kind=event.fee_in_kind,
        base=base,
        quote=quote,
    )
