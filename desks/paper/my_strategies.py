"""Strategies of this desk. desk.toml names one as `my_strategies:BuyTheDip`.

A strategy gets what it sees and yields what it wants; it does no I/O and reads no clock, so that the
same quotes always lead to the same orders, and a test needs no exchange. See
docs/how-to/write-a-strategy.md.
"""

from collections.abc import Iterable
from decimal import Decimal

from openbell.config.units import Amount
from openbell.domain.market import Quote
from openbell.domain.orders import Side
from openbell.trading.strategy import Action, Strategy, StrategyParams, Submit, View


class BuyTheDip(Strategy):
    """Buys when the price fell by `dip` below the highest one seen, sells when it is back there."""

    class Params(StrategyParams):
        quantity: Amount = Decimal("0.01")
        dip: Amount = Decimal("0.001")
        """As a ratio: 0.001 is 0.1 %."""

    params: Params

    def __init__(self, name: str, symbols: tuple[str, ...], params: Params) -> None:
        super().__init__(name, symbols, params)
        self._high = Decimal(0)

    def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
        self._high = max(self._high, quote.mid)
        if view.open_orders:
            return
        held = view.position(quote.symbol)
        if held <= 0 and quote.mid <= self._high * (1 - self.params.dip):
            yield Submit(quote.symbol, Side.BUY, self.params.quantity)
        elif held > 0 and quote.mid >= self._high:
            yield Submit(quote.symbol, Side.SELL, held)
