"""What an order must satisfy before it is accepted: pure, from the request and the market."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.account import ZERO
from openbell_sim.instruments import Instrument
from openbell_sim.matching.book import Book, SelfTradePrevention, Taker
from openbell_sim.positions import Position
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.rules import ReduceOnlyPolicy

STOP_TYPES = frozenset({OrdType.STOP, OrdType.STOP_LIMIT})


@dataclass(frozen=True, kw_only=True)
class OrderRequest:
    """An order as a face understood it."""

    account: str
    cl_ord_id: str
    symbol: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce = TimeInForce.GTC
    qty: Decimal = ZERO
    quote_qty: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    """Of STOP and STOP_LIMIT: the last price that triggers it."""
    post_only: bool = False
    reduce_only: bool = False
    """Of a margined instrument: never more than closes the position."""
    prevention: SelfTradePrevention = SelfTradePrevention.EXPIRE_MAKER
    origin: str = "api"
    note: str = ""
    """Words of the face, kept with the order; the exchange does not read them."""
    received_ns: int


def check_rules(
    request: OrderRequest, instrument: Instrument, book: Book, mark: Decimal | None
) -> Taker:
    """The request on the instrument's grid. Raises RefusedError.

    `mark` is the price that market orders and the collar are measured by; None: not measured.
    """
    stops = request.ord_type in STOP_TYPES
    if stops != (request.stop_price is not None):
        raise RefusedError(Reason.MALFORMED, "stop orders have a stop price, and no others")
    price = request.price
    limit = None if price is None else _check_price(price, instrument)
    if limit is not None and mark is not None:
        assert price is not None
        if not mark * instrument.collar_down <= price <= mark * instrument.collar_up:
            raise RefusedError(Reason.PRICE_COLLAR)
    budget = None
    if request.quote_qty is not None:
        notional = request.quote_qty
        budget = int(notional / instrument.unit)
        lots = int(instrument.max_qty / instrument.lot)
    else:
        lots = _check_quantity(request, instrument)
        if price is None:
            price = request.stop_price or mark
        notional = request.qty * price if price is not None else instrument.min_notional
    # What closes a position may be of any size (as Binance exempts reduce-only orders).
    too_small = notional < instrument.min_notional and not request.reduce_only
    if too_small or notional > instrument.max_notional:
        raise RefusedError(Reason.NOTIONAL)
    if request.post_only and not stops and book.would_match(request.side, limit):
        raise RefusedError(Reason.WOULD_MATCH)
    return Taker(
        side=request.side,
        limit=limit,
        qty=lots,
        account=request.account,
        budget=budget,
        prevention=request.prevention,
    )


def check_trigger(request: OrderRequest, instrument: Instrument, mark: Decimal | None) -> None:
    """Raises RefusedError for a stop price off the grid, or one that is reached already."""
    stop_price = request.stop_price
    if stop_price is None:
        return
    _check_price(stop_price, instrument)
    if mark is not None and (mark - stop_price) * request.side.sign >= 0:
        raise RefusedError(Reason.WOULD_TRIGGER)


def _check_price(price: Decimal, instrument: Instrument) -> int:
    if not instrument.min_price <= price <= instrument.max_price:
        raise RefusedError(Reason.PRICE_GRID)
    try:
        return instrument.ticks(price)
    except ValueError:
        raise RefusedError(Reason.PRICE_GRID) from None


def _check_quantity(request: OrderRequest, instrument: Instrument) -> int:
    if not instrument.min_qty <= request.qty <= instrument.max_qty:
        raise RefusedError(Reason.QUANTITY_GRID)
    try:
        return instrument.lots(request.qty)
    except ValueError:
        raise RefusedError(Reason.QUANTITY_GRID) from None


def funds_needed(
    request: OrderRequest, instrument: Instrument, book: Book, taker: Taker
) -> tuple[str, Decimal]:
    """`(currency, amount)` to be held for the order: its worst case. Of a stop order to buy at the
    market nobody knows it: it is taken for a limit order at its stop price, and what that does
    not pay when it triggers is made up from what is free then, or not bought."""
    if request.side is Side.SELL:
        return instrument.base, request.qty
    if request.quote_qty is not None:
        return instrument.quote, request.quote_qty
    price = request.price if request.price is not None else request.stop_price
    if price is not None:
        return instrument.quote, price * request.qty
    return instrument.quote, book.cost(taker) * instrument.unit


def check_closing(
    request: OrderRequest, position: Position, closes: int | None, policy: ReduceOnlyPolicy
) -> Decimal:
    """What a reduce-only order may have of the quantity it asks for: at most the position, or the
    one lot that it closes. Raises RefusedError."""
    if request.quote_qty is not None:
        raise RefusedError(Reason.MALFORMED, "a reduce-only order names a quantity")
    if closes is None:
        closable = position.closable(request.side.sign)
    else:
        lot = position.lot(closes)
        closable = abs(lot.quantity) if lot is not None else ZERO
    if not closable:
        raise RefusedError(Reason.REDUCE_ONLY)
    if request.qty > closable and policy is ReduceOnlyPolicy.REJECT:
        raise RefusedError(Reason.REDUCE_ONLY)
    return min(request.qty, closable)


def worth(
    request: OrderRequest, instrument: Instrument, book: Book, taker: Taker
) -> tuple[Decimal, Decimal]:
    """`(quantity, value)` of an order on margin, the value in the quote currency and at least what
    it will be: a sale that matches at once may bring more than its limit."""
    price = request.price if request.price is not None else request.stop_price
    if price is None:
        value = book.cost(taker) * instrument.unit
        if request.quote_qty is None:
            return book.available(taker) * instrument.lot, value
        best = book.side(request.side.opposite).best
        value = min(value, request.quote_qty)
        return (value / (best * instrument.tick) if best is not None else ZERO), value
    if request.stop_price is None and request.side is Side.SELL and book.bids.best is not None:
        price = max(price, book.bids.best * instrument.tick)
    return request.qty, request.qty * price
