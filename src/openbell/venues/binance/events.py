"""The event of the spot venue's user data stream that tells of orders.

Source: github.com/binance/binance-spot-api-docs, user-data-stream.md, "Order Update".
"""

from __future__ import annotations

from decimal import Decimal

from openbell.domain.orders import ClOrdID, Side
from openbell.venues.binance.wire import SymbolOf, ord_type_of, status_of
from openbell.venues.finite import Finite
from openbell.venues.port import OrderReport, VenueFill, VenueOrder

_ZERO = Decimal(0)


class ExecutionReport(
    Finite,
    frozen=True,
    rename={
        "symbol": "s",
        "client_order_id": "c",
        "orig_client_order_id": "C",
        "side": "S",
        "type": "o",
        "quantity": "q",
        "price": "p",
        "stop_price": "P",
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
        "created": "O",
    },
):
    """The user data stream's `executionReport`."""

    symbol: str
    client_order_id: str
    orig_client_order_id: str
    """Filled only when the order is being cancelled: then `client_order_id` is the cancel's."""
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
    commission: Decimal
    commission_asset: str | None
    transaction_time: int
    trade_id: int
    is_maker: bool
    created: int
    stop_price: Decimal = _ZERO

    def to_port(self, symbol_of: SymbolOf) -> OrderReport:
        """Raises KeyError for a symbol that is not known."""
        symbol = symbol_of(self.symbol)
        cl_ord_id = ClOrdID(self.orig_client_order_id or self.client_order_id)
        time_ns = self.transaction_time * 1_000_000
        order = VenueOrder(
            venue_order_id=str(self.order_id),
            cl_ord_id=cl_ord_id,
            symbol=symbol,
            side=self.side,
            ord_type=ord_type_of(self.type),
            status=status_of(self.status),
            order_qty=self.quantity,
            cum_qty=self.cum_qty,
            price=self.price or None,
            stop_px=self.stop_price or None,
            created_ns=self.created * 1_000_000,
            updated_ns=time_ns,
        )
        if self.execution != "TRADE":
            return OrderReport(order=order)
        fill = VenueFill(
            exec_id=str(self.trade_id),
            venue_order_id=order.venue_order_id,
            cl_ord_id=cl_ord_id,
            symbol=symbol,
            side=self.side,
            last_qty=self.last_qty,
            last_px=self.last_px,
            fee=self.commission,
            fee_currency=self.commission_asset or "",
            is_maker=self.is_maker,
            venue_time_ns=time_ns,
        )
        return OrderReport(order=order, fill=fill)
