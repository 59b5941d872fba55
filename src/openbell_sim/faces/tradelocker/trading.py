"""What changes something: each function is one call of `/trade`, and gives its `d`, or None."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Refuse
from openbell_sim.faces.tradelocker import errors, render
from openbell_sim.faces.tradelocker.book import Bracket, Held, Note
from openbell_sim.faces.tradelocker.call import Call, check_trade_route
from openbell_sim.faces.tradelocker.errors import TradeLockerError
from openbell_sim.faces.tradelocker.markets import listing
from openbell_sim.faces.tradelocker.render import Json
from openbell_sim.ledger import Order
from openbell_sim.refusals import Reason, RefusedError

STRATEGY_ID_MAX = 32
"""The official client's; its reference says 31."""
_ORD_TYPES = {"market": OrdType.MARKET, "limit": OrdType.LIMIT, "stop": OrdType.STOP}


class Brackets(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    stop_loss: Decimal | None = None
    stop_loss_type: str | None = None
    take_profit: Decimal | None = None
    take_profit_type: str | None = None

    def check(self) -> None:
        """Offsets in pips and trailing stops are not simulated. Raises TradeLockerError."""
        for kind, price in (
            (self.stop_loss_type, self.stop_loss),
            (self.take_profit_type, self.take_profit),
        ):
            if price is not None and kind not in ("absolute", None):
                raise TradeLockerError(f"{kind} is not supported by the simulated venue")


class NewOrder(Brackets, frozen=True, kw_only=True, rename="camel"):
    """The body of `POST orders`. Numbers may come as text."""

    tradable_instrument_id: int | str
    route_id: int | str
    qty: Decimal
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop"]
    validity: Literal["GTC", "IOC"]
    price: Decimal | None = None
    stop_price: Decimal | None = None
    strategy_id: str | None = None


class Change(Brackets, frozen=True, kw_only=True, rename="camel"):
    """The body of `PATCH orders`."""

    qty: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None


class PositionChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of `PATCH positions`. Null takes a bracket away; what is not named stays."""

    stop_loss: Decimal | msgspec.UnsetType | None = msgspec.UNSET
    take_profit: Decimal | msgspec.UnsetType | None = msgspec.UNSET


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `DELETE positions`: how many lots; 0 closes all of it."""

    qty: Decimal = Decimal(0)


# Orders.


def place(call: Call) -> Json:
    given = call.decoded(NewOrder)
    try:
        request = _request(call, given)
    except TradeLockerError as error:
        _record_malformed(call, given, error)
        raise
    if not call.credentials.may_trade:
        call.exchange.turn_away(request, Reason.MAY_NOT_TRADE)
        raise errors.refused(Reason.MAY_NOT_TRADE)
    try:
        order = call.exchange.submit(request)
    except RefusedError as error:
        raise errors.refused(error.reason) from None
    return {"orderId": str(order.order_id)}


def _request(call: Call, given: NewOrder) -> OrderRequest:
    """Raises TradeLockerError."""
    given.check()
    item = call.instrument(_whole(given.tradable_instrument_id))
    check_trade_route(_whole(given.route_id))
    at_market = given.type == "market"
    if given.validity != ("IOC" if at_market else "GTC"):
        raise TradeLockerError(f"Invalid TIF: {given.validity} for a {given.type} order")
    if len(given.strategy_id or "") > STRATEGY_ID_MAX:
        raise TradeLockerError(f"strategyId has more than {STRATEGY_ID_MAX} characters")
    return OrderRequest(
        account=call.account,
        cl_ord_id=given.strategy_id or "",
        symbol=item.symbol,
        side=Side(given.side.upper()),
        ord_type=_ORD_TYPES[given.type],
        time_in_force=TimeInForce.GTC,
        qty=listing(item.symbol).units(given.qty),
        price=_price(given.price) if given.type == "limit" else None,
        stop_price=_price(given.stop_price) if given.type == "stop" else None,
        note=Note(stop_loss=given.stop_loss, take_profit=given.take_profit).text(),
        received_ns=call.received_ns,
    )


def _record_malformed(call: Call, given: NewOrder, error: TradeLockerError) -> None:
    """Puts on record an order that the exchange never saw, in the words it came in."""
    call.exchange.refuse(
        Refuse(
            order_id=0,
            account=call.account,
            cl_ord_id=given.strategy_id or "",
            symbol=str(given.tradable_instrument_id),
            side=given.side.upper(),
            ord_type=given.type.upper(),
            order_qty=str(given.qty),
            price=str(given.price or ""),
            received_ns=call.received_ns,
            reason=Reason.MALFORMED.value,
            text=str(error),
            at_ns=call.exchange.now_ns(),
        )
    )


def _whole(given: int | str) -> int:
    try:
        return int(given)
    except ValueError:
        raise errors.malformed("tradableInstrumentId and routeId are numbers") from None


def _price(given: Decimal | None) -> Decimal:
    if given is None:
        raise TradeLockerError("Invalid price: a limit order has a price, a stop order a stopPrice")
    return given


def change(call: Call) -> Json:
    if not call.credentials.may_trade:
        raise errors.refused(Reason.MAY_NOT_TRADE)
    order = _order(call)
    given = call.decoded(Change)
    given.check()
    if given.stop_loss is not None or given.take_profit is not None:
        raise TradeLockerError("brackets of a pending order cannot be changed in the simulation")
    try:
        call.exchange.amend(
            order,
            qty=None if given.qty is None else listing(order.symbol).units(given.qty),
            price=given.price,
            stop_price=given.stop_price,
        )
    except RefusedError as error:
        raise errors.refused(error.reason) from None
    return {"orders": [render.order(order, call.book)]}


def cancel(call: Call) -> None:
    try:
        call.exchange.cancel(_order(call))
    except RefusedError as error:
        raise errors.refused(error.reason) from None


def _order(call: Call) -> Order:
    number = call.number("order", of=call.parts)
    order = call.exchange.ledger.orders.get(number or 0)
    if order is None or order.account != call.account:
        raise errors.refused(Reason.UNKNOWN_ORDER)
    return order


def cancel_all(call: Call) -> None:
    """What cannot be cancelled stays; the answer does not say so."""
    symbol = call.filtered()
    for order in list(call.exchange.ledger.open.get(call.account, {}).values()):
        if symbol in (None, order.symbol):
            try:
                call.exchange.cancel(order)
            except RefusedError as error:
                if error.reason is Reason.HALTED:
                    raise errors.refused(error.reason) from None


# Positions.


def close(call: Call) -> None:
    held = _held(call)
    qty = call.decoded(Closing).qty
    if qty < 0:
        raise errors.malformed("qty must not be negative")
    _close(call, held, listing(held.symbol).units(qty) or abs(held.quantity))


def close_all(call: Call) -> Json:
    """`strategyId` is taken for a filter, as `tradableInstrumentId` is one: the reference lists
    both side by side."""
    symbol, strategy = call.filtered(), call.query.get("strategyId")
    closed: list[Held] = []
    for held in call.book.positions(call.account):
        if symbol in (None, held.symbol) and strategy in (None, held.strategy):
            _close(call, held, abs(held.quantity), strategy_id="")
            closed.append(held)
    hanging = call.book.hanging(call.account)
    markets = call.exchange.markets
    return {"positions": [render.position(h, markets[h.symbol], hanging) for h in closed]}


def _close(call: Call, held: Held, quantity: Decimal, strategy_id: str | None = None) -> None:
    """At the market, lot by lot. The reference names a `strategyId` for the close of one position
    and does not say what it does: here the closing order carries it."""
    name = call.query.get("strategyId", "") if strategy_id is None else strategy_id
    for lot in held.lots:
        if quantity <= 0:
            return
        part = min(abs(lot.quantity), quantity)
        quantity -= part
        try:
            call.exchange.close_lot(
                call.account,
                held.symbol,
                lot.exec_id,
                part,
                cl_ord_id=name,
                note=Note(position_id=held.id).text(),
                received_ns=call.received_ns,
            )
        except RefusedError as error:
            raise errors.refused(error.reason) from None


def protect(call: Call) -> None:
    held, given = _held(call), call.decoded(PositionChange)
    for kind, price in (
        (Bracket.STOP_LOSS, given.stop_loss),
        (Bracket.TAKE_PROFIT, given.take_profit),
    ):
        if not isinstance(price, msgspec.UnsetType):
            try:
                call.protections.set(call.account, held, kind, price)
            except RefusedError as error:
                raise errors.refused(error.reason) from None


def _held(call: Call) -> Held:
    held = call.book.position(call.account, call.number("position", of=call.parts) or 0)
    if held is None:
        raise errors.refused(Reason.REDUCE_ONLY)
    return held
