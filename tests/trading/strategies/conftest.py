"""A market for one strategy: give it quotes, see its actions, let its orders fill."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, Order, OrdStatus
from openbell.trading.strategy import Action, Cancel, Strategy, Submit, View

D = Decimal


def rules(symbol: str, tick: str = "0.01", lot: str = "0.00001") -> InstrumentRules:
    base, quote = symbol.split("/")
    return InstrumentRules(
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=D(tick),
        lot_size=D(lot),
        min_qty=D(lot),
        max_qty=D(9000),
        min_notional=D(5),
    )


class Bench:
    """Keeps the view as a host would. Time counts in seconds from the first quote on."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.at_s = 0.0
        self.positions: dict[str, Decimal] = {}
        self.orders: dict[str, Order] = {}
        self.quotes: dict[str, Quote] = {}
        self.rules = {symbol: rules(symbol) for symbol in strategy.symbols}
        self._count = 0

    def view(self) -> View:
        return View(
            now_ns=int(self.at_s * 1e9),
            positions=self.positions,
            open_orders=tuple(self.orders.values()),
            quotes=self.quotes,
            rules=self.rules,
        )

    def quote(
        self,
        symbol: str,
        bid: str | Decimal,
        ask: str | Decimal,
        *,
        bid_qty: str = "10",
        ask_qty: str = "10",
        after_s: float = 1.0,
    ) -> list[Action]:
        """Show a quote `after_s` later than the last; its actions become open orders."""
        self.at_s += after_s
        self.quotes[symbol] = quote = Quote(
            venue="sim",
            symbol=symbol,
            bid_px=D(bid),
            bid_qty=D(bid_qty),
            ask_px=D(ask),
            ask_qty=D(ask_qty),
            venue_time_ns=0,
            received_ns=int(self.at_s * 1e9) + 10**18,
        )
        return self.do(self.strategy.on_quote(quote, self.view()))

    def do(self, yielded: Iterable[Action]) -> list[Action]:
        actions = list(yielded)
        for action in actions:
            if isinstance(action, Cancel):
                del self.orders[action.cl_ord_id]
            else:
                self._open(action)
        return actions

    def fill_all(self) -> None:
        """Every open order fills wholly."""
        for order in self.orders.values():
            held = self.positions.get(order.new.symbol, D(0))
            self.positions[order.new.symbol] = held + order.new.side.sign * order.leaves_qty
        self.orders.clear()

    def expire_all(self) -> None:
        self.orders.clear()

    def _open(self, submit: Submit) -> None:
        self._count += 1
        cl_ord_id = ClOrdID(f"ob00000000-1-{self._count}")
        self.orders[cl_ord_id] = Order(
            new=NewOrder(
                cl_ord_id=cl_ord_id,
                venue="sim",
                symbol=submit.symbol,
                side=submit.side,
                ord_type=submit.ord_type,
                order_qty=submit.quantity,
                price=submit.price,
                post_only=submit.post_only,
            ),
            status=OrdStatus.NEW,
            created_ns=0,
            updated_ns=0,
            leaves_qty=submit.quantity,
        )


@pytest.fixture
def bench() -> Any:
    """Makes a Bench around a strategy class with these parameters."""

    def make(cls: type[Strategy], symbols: tuple[str, ...], **params: object) -> Bench:
        return Bench(cls("s", symbols, cls.Params.model_validate(params)))

    return make
