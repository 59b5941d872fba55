"""Market making: a bid and an offer around the fair price, leaning against the inventory."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import Field

from openbell.config.units import Amount
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import Order, Side
from openbell.trading.strategies.targets import BPS
from openbell.trading.strategy import Action, Cancel, Strategy, StrategyParams, Submit, View


class MarketMaking(Strategy):
    """Keeps one post-only order on each side of its (only) symbol.

        reservation price = fair * (1 - skew_bps * position / max_position)
        bid, offer        = reservation price -+ half_spread_bps

    So a long inventory lowers both quotes, and is sold sooner than added to. At `max_position` the
    side that would add to it is not quoted.

    The fair price is the mid of what *others* quote: where the best price is only our own order,
    the last price of others on that side is kept. Otherwise our skewed quotes would move the mid
    that they are computed from, and chase themselves.
    """

    class Params(StrategyParams):
        quantity: Annotated[Amount, Field(gt=0)]
        """Of each order, in the base currency."""
        max_position: Annotated[Amount, Field(gt=0)]
        """Largest absolute inventory, in the base currency."""
        half_spread_bps: Annotated[Amount, Field(ge=0)] = Decimal(5)
        """Distance of each quote from the reservation price; 1 bps is 0.01 %."""
        skew_bps: Annotated[Amount, Field(ge=0)] = Decimal(5)
        """How far the reservation price moves at full inventory."""
        requote_bps: Annotated[Amount, Field(ge=0)] = Decimal(2)
        """A resting order this far from its wanted price is replaced. Smaller: nearer to the
        market, more orders, later in the queue."""

    params: Params
    timer_s: ClassVar[float] = 1.0

    def __init__(self, name: str, symbols: tuple[str, ...], params: Params) -> None:
        if len(symbols) != 1:
            raise ValueError(f"market making takes one symbol, not {len(symbols)}")
        super().__init__(name, symbols, params)
        self._bid: Decimal | None = None
        self._ask: Decimal | None = None

    def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
        rules = view.rules.get(quote.symbol)
        if rules is None:
            return
        own = {
            side: tuple(order for order in view.open_orders if order.new.side is side)
            for side in Side
        }
        self._observe(quote, own)
        if self._bid is None or self._ask is None or self._bid >= self._ask:
            return
        fair = (self._bid + self._ask) / 2
        position = view.position(quote.symbol)
        for side in Side:
            wanted = self._wanted_price(side, fair, position, quote, rules)
            yield from self._keep_quote(side, wanted, own[side], rules)

    def _observe(self, quote: Quote, own: dict[Side, tuple[Order, ...]]) -> None:
        """Remember each side's best price as far as others stand behind it."""
        if not _only_ours(quote.bid_px, quote.bid_qty, own[Side.BUY]):
            self._bid = quote.bid_px
        if not _only_ours(quote.ask_px, quote.ask_qty, own[Side.SELL]):
            self._ask = quote.ask_px

    def _wanted_price(
        self,
        side: Side,
        fair: Decimal,
        position: Decimal,
        quote: Quote,
        rules: InstrumentRules,
    ) -> Decimal | None:
        """On the tick grid and not crossing; None where this side must not be quoted."""
        params = self.params
        if abs(position + side.sign * params.quantity) > params.max_position and (
            position * side.sign >= 0
        ):
            return None
        inventory = max(Decimal(-1), min(Decimal(1), position / params.max_position))
        reservation = fair * (1 - params.skew_bps * BPS * inventory)
        price = rules.round_price(reservation * (1 - side.sign * params.half_spread_bps * BPS))
        if side is Side.BUY:
            price = min(price, quote.ask_px - rules.tick_size)
        else:
            price = max(price, quote.bid_px + rules.tick_size)
        return price if rules.is_tradable(params.quantity, price) else None

    def _keep_quote(
        self, side: Side, wanted: Decimal | None, resting: tuple[Order, ...], rules: InstrumentRules
    ) -> Iterable[Action]:
        """Cancel what is wrong; send only when nothing of this side can still fill."""
        if wanted is None:
            yield from (Cancel(o.cl_ord_id) for o in resting if not o.cancel_requested)
            return
        if not resting:
            quantity = rules.round_qty(self.params.quantity)
            yield Submit(self.symbols[0], side, quantity, wanted, post_only=True)
            return
        for index, order in enumerate(resting):
            price = order.new.price
            off = price is None or abs(price - wanted) > wanted * self.params.requote_bps * BPS
            if (off or index > 0) and not order.cancel_requested:
                yield Cancel(order.cl_ord_id)


def _only_ours(price: Decimal, quantity: Decimal, own: tuple[Order, ...]) -> bool:
    ours = sum((order.leaves_qty for order in own if order.new.price == price), Decimal(0))
    return ours > 0 and ours >= quantity
