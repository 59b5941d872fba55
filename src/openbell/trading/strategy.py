"""What a strategy is: a class that turns what it sees into actions, with no I/O of its own.

    class BuyOnce(Strategy):
        class Params(StrategyParams):
            quantity: Amount

        def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
            if not view.open_orders and view.position(quote.symbol) == 0:
                yield Submit(quote.symbol, Side.BUY, self.params.quantity, price=quote.bid_px)

A method that raises stops this strategy alone, with an alert line in the log; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.domain.orders import ClOrdID, Order, OrderEvent, OrdType, Side, TimeInForce


class StrategyParams(BaseModel):
    """Base of a strategy's parameters, read from `[strategies.NAME.params]`. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Submit:
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal | None = None
    """None: a market order."""
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False

    @property
    def ord_type(self) -> OrdType:
        return OrdType.MARKET if self.price is None else OrdType.LIMIT


@dataclass(frozen=True)
class Cancel:
    cl_ord_id: ClOrdID


Action = Submit | Cancel


@dataclass(frozen=True)
class View:
    """What the strategy owns, at the moment it is called."""

    now_ns: int
    positions: Mapping[str, Decimal]
    """Net quantity per symbol from this strategy's own fills."""
    open_orders: tuple[Order, ...]
    """Its own orders that are not final, sends without an answer included."""
    quotes: Mapping[str, Quote]
    rules: Mapping[str, InstrumentRules]

    def position(self, symbol: str) -> Decimal:
        return self.positions.get(symbol, Decimal(0))


class Strategy:
    """Base class. Override what is needed; every method may yield actions."""

    Params: ClassVar[type[StrategyParams]] = StrategyParams
    timer_s: ClassVar[float] = 1.0
    """How often `on_timer` is called."""

    def __init__(self, name: str, symbols: tuple[str, ...], params: Any) -> None:
        self.name = name
        self.symbols = symbols
        self.params = params

    def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
        return ()

    def on_trade(self, trade: Trade, view: View) -> Iterable[Action]:
        return ()

    def on_order_event(self, event: OrderEvent, view: View) -> Iterable[Action]:
        return ()

    def on_timer(self, view: View) -> Iterable[Action]:
        return ()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, JSON-able; handed to `restore` when the strategy starts again."""
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...
