"""The rows of TradeLocker's lists, put into our words. Pure: cells in, port types out.

`/trade/config` names the columns (`Columns`). Amounts are taken from the text as it stands and become
Decimal; lots become base units by the instrument's lot size (`Market`). What cannot be read raises
ValueError: it is never taken for something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.finite import checked_rules
from openbell.venues.port import VenueFill, VenueOrder, VenuePosition
from openbell.venues.tradelocker.wire import (
    Cells,
    ColumnList,
    Instrument,
    InstrumentDetails,
    QuoteData,
)

ZERO = Decimal(0)
NO_MAXIMUM = Decimal(10) ** 12
"""Ours, where an instrument states no largest order."""

_STATUSES = {
    "new": OrdStatus.NEW,
    "accepted": OrdStatus.NEW,
    "pending": OrdStatus.NEW,
    "pendingnew": OrdStatus.NEW,
    "partiallyfilled": OrdStatus.PARTIALLY_FILLED,
    "filled": OrdStatus.FILLED,
    "cancelled": OrdStatus.CANCELED,
    "canceled": OrdStatus.CANCELED,
    "rejected": OrdStatus.REJECTED,
    "refused": OrdStatus.REJECTED,
    "unplaced": OrdStatus.REJECTED,
    "removed": OrdStatus.EXPIRED,
    "expired": OrdStatus.EXPIRED,
}
"""Those of the reference's examples, of the client's `order_history_statuses`, and their spellings."""


class Row:
    """Raises ValueError for a column that is not there, or holds something else."""

    def __init__(self, at: dict[str, int], cells: Cells) -> None:
        self._at = at
        self._cells = cells

    def text(self, name: str) -> str:
        """Empty for null; of a number, the number as it was written."""
        raw = bytes(self._raw(name))
        if raw == b"null":
            return ""
        return str(msgspec.json.decode(raw)) if raw.startswith(b'"') else raw.decode()

    def number(self, name: str) -> Decimal | None:
        """None for null, and for a text without anything."""
        text = self.text(name)
        return _decimal(text) if text else None

    def amount(self, name: str) -> Decimal:
        return self.number(name) or ZERO

    def count(self, name: str) -> int:
        number = self.number(name)
        if number is None:
            raise ValueError(f"{name} is not told")
        return int(number)

    def time_ns(self, name: str) -> int:
        return int(self.amount(name)) * 1_000_000

    def _raw(self, name: str) -> msgspec.Raw:
        if name not in self._at:
            raise ValueError(f"there is no column {name}")
        return self._cells[self._at[name]]


class Columns:
    """The columns of one list."""

    def __init__(self, listed: ColumnList) -> None:
        self._at = {column.id: index for index, column in enumerate(listed.columns)}

    def rows(self, listed: Sequence[Cells]) -> list[Row]:
        """Raises ValueError for a row of another length: its cells would be taken for others."""
        return [self.row(cells) for cells in listed]

    def row(self, cells: Cells) -> Row:
        if len(cells) != len(self._at):
            raise ValueError(f"{len(cells)} cells for {len(self._at)} columns")
        return Row(self._at, cells)


@dataclass(frozen=True)
class Market:
    """A declared symbol as TradeLocker names and measures it."""

    symbol: str
    """Unified."""
    tradable_id: int
    info_route: int
    trade_route: int
    lot_size: Decimal
    rules: InstrumentRules

    def lots(self, units: Decimal) -> Decimal:
        return units / self.lot_size

    def units(self, lots: Decimal) -> Decimal:
        return lots * self.lot_size

    # Each of these raises ValueError for a row that cannot be read.

    def order(self, row: Row, *, is_open: bool) -> VenueOrder:
        qty, filled = row.amount("qty"), row.amount("filledQty")
        created_ns = row.time_ns("createdDate")
        ord_type = _ord_type(row)
        return VenueOrder(
            venue_order_id=row.text("id"),
            cl_ord_id=ClOrdID(row.text("strategyId")),
            symbol=self.symbol,
            side=_side(row),
            ord_type=ord_type,
            status=_open_status(qty, filled) if is_open else _final_status(row, qty, filled),
            order_qty=self.units(qty),
            cum_qty=self.units(filled),
            # A market order tells the price it was sent at, or 0.
            price=None if ord_type in _WITHOUT_PRICE else row.number("price"),
            created_ns=created_ns,
            # It is told in whole seconds, and may so lie before the creation.
            updated_ns=max(created_ns, row.time_ns("lastModified")),
            stop_px=row.number("stopPrice") if ord_type in _STOPS else None,
            # What hangs on a position closes it: a stop loss, a take profit, a close that waits.
            reduce_only=is_open and bool(row.number("positionId")),
        )

    def fill(self, row: Row, cl_ord_id: ClOrdID, currency: str) -> VenueFill:
        return VenueFill(
            exec_id=row.text("id"),
            venue_order_id=row.text("orderId"),
            cl_ord_id=cl_ord_id,
            symbol=self.symbol,
            side=_side(row),
            last_qty=self.units(row.amount("qty")),
            last_px=row.amount("price"),
            fee=ZERO,  # commissions are told for a whole day only, in the account's state
            fee_currency=currency,
            is_maker=False,  # nor is this told
            venue_time_ns=row.time_ns("createdDate"),
        )

    def position(self, row: Row) -> VenuePosition:
        return VenuePosition(
            symbol=self.symbol,
            quantity=_side(row).sign * self.units(row.amount("qty")),
            leg=row.text("id"),
            avg_px=row.number("avgPrice"),
        )

    def quote(self, venue: str, said: QuoteData, received_ns: int) -> Quote:
        return Quote(
            venue=venue,
            symbol=self.symbol,
            bid_px=said.bp,
            bid_qty=self.units(said.bs or ZERO),
            ask_px=said.ap,
            ask_qty=self.units(said.as_ or ZERO),
            venue_time_ns=0,  # TradeLocker puts no time on it
            received_ns=received_ns,
        )


def market_of(symbol: str, listed: Instrument, said: InstrumentDetails) -> Market:
    """Raises ValueError for what cannot be traded by these rules."""
    base, _, quote = symbol.partition("/")
    if said.quoting_currency != quote:
        raise ValueError(f"{listed.name} is quoted in {said.quoting_currency}")
    if min(said.lot_size, said.lot_step, said.min_lot) <= 0 or not said.tick_size:
        raise ValueError(f"{listed.name} has no grid")
    return Market(
        symbol=symbol,
        tradable_id=listed.tradable_instrument_id,
        info_route=listed.route("INFO"),
        trade_route=listed.route("TRADE"),
        lot_size=said.lot_size,
        rules=checked_rules(
            InstrumentRules(
                symbol=symbol,
                base=base,
                quote=quote,
                # Where the step hangs on the price, the largest: its prices lie on the finer grids too.
                tick_size=max(each.tick_size for each in said.tick_size),
                lot_size=said.lot_step * said.lot_size,
                min_qty=said.min_lot * said.lot_size,
                max_qty=NO_MAXIMUM if said.max_lot is None else said.max_lot * said.lot_size,
                min_notional=ZERO,
            )
        ),
    )


_WITHOUT_PRICE = frozenset({OrdType.MARKET, OrdType.STOP})
_STOPS = frozenset({OrdType.STOP, OrdType.STOP_LIMIT})


def _ord_type(row: Row) -> OrdType:
    """Of TradeLocker's types, and of those that its platform knows besides ("stop limit",
    "trailing stop")."""
    words = row.text("type").lower()
    if "stop" in words:
        return OrdType.STOP_LIMIT if "limit" in words else OrdType.STOP
    return OrdType.LIMIT if words == "limit" else OrdType.MARKET


def _side(row: Row) -> Side:
    return Side(row.text("side").upper())


def _open_status(qty: Decimal, filled: Decimal) -> OrdStatus:
    """By the list that it is on: that holds what has not ended, whatever it is called."""
    if not filled:
        return OrdStatus.NEW
    return OrdStatus.PARTIALLY_FILLED if filled < qty else OrdStatus.FILLED


def _final_status(row: Row, qty: Decimal, filled: Decimal) -> OrdStatus:
    """UNKNOWN for a word that we do not know, or that is not final."""
    word = row.text("status").replace(" ", "").replace("_", "").lower()
    status = _STATUSES.get(word, OrdStatus.UNKNOWN)
    if status is OrdStatus.FILLED and filled < qty:
        return OrdStatus.UNKNOWN
    return status if status.is_final else OrdStatus.UNKNOWN


def _decimal(text: str) -> Decimal:
    """Raises ValueError for what is no finite number."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number") from None
    if not number.is_finite():
        raise ValueError(f"{text!r} is no number")
    return number
