"""Events of the USD-M venue's private stream that tell of orders.

Source: developers.binance.com, derivatives, usds-margined-futures, user-data-streams: "Event: Order
Update" and "Event: Algo Order Update".
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import ClOrdID, Side
from openbell.venues.binance.usdm_wire import AlgoOrder, plain_type
from openbell.venues.binance.wire import SymbolOf, status_of
from openbell.venues.finite import Finite
from openbell.venues.port import OrderReport, VenueFill, VenueOrder

_ZERO = Decimal(0)
_NS = 1_000_000


class OrderUpdate(
    Finite,
    frozen=True,
    rename={
        "symbol": "s",
        "client_order_id": "c",
        "side": "S",
        "type": "o",
        "quantity": "q",
        "price": "p",
        "execution": "x",
        "status": "X",
        "order_id": "i",
        "last_qty": "l",
        "cum_qty": "z",
        "last_px": "L",
        "commission": "n",
        "commission_asset": "N",
        "transaction_time": "T",
        "trade_id": "t",
        "is_maker": "m",
        "reduce_only": "R",
    },
):
    """`o` of the event `ORDER_TRADE_UPDATE`. It does not tell when the order was made."""

    symbol: str
    client_order_id: str
    side: Side
    type: str
    quantity: Decimal
    price: Decimal
    execution: str
    status: str
    order_id: int
    last_qty: Decimal
    cum_qty: Decimal
    last_px: Decimal
    transaction_time: int
    trade_id: int
    is_maker: bool
    reduce_only: bool
    commission: Decimal = _ZERO
    commission_asset: str = ""

    def to_port(self, symbol_of: SymbolOf) -> OrderReport:
        """Raises KeyError for a symbol that is not known."""
        symbol = symbol_of(self.symbol)
        time_ns = self.transaction_time * _NS
        order = VenueOrder(
            venue_order_id=str(self.order_id),
            cl_ord_id=ClOrdID(self.client_order_id),
            symbol=symbol,
            side=self.side,
            ord_type=plain_type(self.type),
            status=status_of(self.status),
            order_qty=self.quantity,
            cum_qty=self.cum_qty,
            price=self.price or None,
            created_ns=time_ns,
            updated_ns=time_ns,
            reduce_only=self.reduce_only,
        )
        if self.execution not in ("TRADE", "CALCULATED"):
            return OrderReport(order=order)
        fill = VenueFill(
            exec_id=str(self.trade_id),
            venue_order_id=order.venue_order_id,
            cl_ord_id=order.cl_ord_id,
            symbol=symbol,
            side=self.side,
            last_qty=self.last_qty,
            last_px=self.last_px,
            fee=self.commission,
            fee_currency=self.commission_asset,
            is_maker=self.is_maker,
            venue_time_ns=time_ns,
        )
        return OrderReport(order=order, fill=fill)


class AlgoUpdate(
    Finite,
    frozen=True,
    rename={
        "symbol": "s",
        "client_algo_id": "caid",
        "algo_id": "aid",
        "side": "S",
        "type": "o",
        "quantity": "q",
        "price": "p",
        "trigger_price": "tp",
        "status": "X",
        "reduce_only": "R",
        "close_position": "cp",
    },
):
    """`o` of the event `ALGO_UPDATE`."""

    symbol: str
    client_algo_id: str
    algo_id: int
    side: Side
    type: str
    status: str
    reduce_only: bool
    quantity: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    close_position: bool = False

    def to_port(self, symbol_of: SymbolOf, time_ms: int) -> OrderReport:
        """Raises KeyError for a symbol that is not known."""
        order = AlgoOrder(
            symbol=self.symbol,
            algo_id=self.algo_id,
            client_algo_id=self.client_algo_id,
            order_type=self.type,
            side=self.side,
            algo_status=self.status,
            quantity=self.quantity,
            trigger_price=self.trigger_price,
            price=self.price,
            create_time=time_ms,
            update_time=time_ms,
            reduce_only=self.reduce_only,
            close_position=self.close_position,
        )
        return OrderReport(order=order.to_port(symbol_of))


class UserEvent(msgspec.Struct, frozen=True):
    """Any event of the private stream."""

    e: str = ""
    T: int = 0
    o: msgspec.Raw = msgspec.Raw()
