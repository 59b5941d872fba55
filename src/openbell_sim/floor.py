"""Where orders meet: accepted orders are matched, the crowd is played, fills are booked.

Whoever calls commits (`recorder.Recorder.commit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import msgspec

from openbell.domain.orders import Side, TimeInForce
from openbell_sim.account import ZERO, FeeSchedule
from openbell_sim.events import Amend, Expire, Fill, Trigger
from openbell_sim.interventions import Interventions
from openbell_sim.ledger import Order
from openbell_sim.market.events import BestSet, LevelsSet, MarketEvent, Snapshot, Traded
from openbell_sim.markets import Market
from openbell_sim.matching.book import Match, Taker
from openbell_sim.recorder import Recorder
from openbell_sim.sessions import MarketState
from openbell_sim.tape import PublicTrade


class Floor:
    def __init__(
        self,
        markets: Mapping[str, Market],
        recorder: Recorder,
        *,
        fees: FeeSchedule,
        now_ns: Callable[[], int],
        interventions: Callable[[], Interventions],
    ) -> None:
        self.markets = markets
        self.fees = fees
        self._interventions = interventions
        self._now_ns = now_ns
        self._recorder = recorder
        self._ledger = recorder.ledger
        self._traded: dict[str, None] = {}
        """Accounts that traded the symbol at hand on margin since the last `_settle`."""
        self._overtaken: dict[int, Order] = {}
        """Reduce-only orders that got less than they matched since then: nothing was left."""

    # Own orders

    def enter(self, order: Order, taker: Taker) -> None:
        """Takes an accepted order: it waits, or it matches, and what is left rests or expires."""
        market = self.markets[order.symbol]
        if order.waits:
            self.rest(order)
            return
        self._match(market, order, taker)
        self._settle(market)

    def _match(self, market: Market, order: Order, wanted: Taker) -> None:
        taker = self._in_part(market, wanted) if self._interventions().partial_fills < 1 else wanted
        if order.time_in_force is TimeInForce.FOK and market.book.available(taker) < wanted.qty:
            self._expire(order.order_id, "time_in_force")
            return
        result = market.book.match(taker)
        bought_out = (
            order.quote_qty is not None
            and taker is wanted
            and not result.taker_expired
            and market.book.would_match(order.side, None)
        )
        for index, match in enumerate(result.matches, 1):
            self._book_match(
                market,
                match,
                aggressor=order.side,
                taker=order,
                completes=bought_out and index == len(result.matches),
            )
        for maker in result.expired_makers:
            self._expire(maker.order_id, "self_trade_prevention")
        if not order.is_open:
            return
        if result.taker_expired:
            self._expire(order.order_id, "self_trade_prevention")
        elif order.price is None:
            # Only a stop order may have too little for what there is to buy.
            short = (
                order.triggered and taker is wanted and market.book.would_match(order.side, None)
            )
            self._expire(order.order_id, "insufficient_funds" if short else "no_liquidity")
        elif order.time_in_force is TimeInForce.IOC:
            self._expire(order.order_id, "time_in_force")
        elif taker is not wanted and self._still_crosses(market, taker):
            self._expire(order.order_id, "no_liquidity")
        else:
            self.rest(order)

    def _in_part(self, market: Market, taker: Taker) -> Taker:
        """A taker that gets only a part of what it could."""
        part = self._interventions().partial_fills
        if taker.budget is not None:
            return msgspec.structs.replace(taker, budget=int(taker.budget * part))
        lots = int(market.book.available(taker) * part)
        return msgspec.structs.replace(taker, qty=max(1, lots))

    @staticmethod
    def _still_crosses(market: Market, taker: Taker) -> bool:
        """Whether own orders keep the rest of a taker from resting; the crowd makes way."""
        market.book.withdraw_crowd(taker.side.opposite, taker.limit)
        return market.book.would_match(taker.side, taker.limit)

    def rest(self, order: Order) -> None:
        """Puts an order where it waits: into the book, or among the stops."""
        self.markets[order.symbol].rest(order)

    def withdraw(self, order: Order) -> None:
        """Takes an order out from where it waits."""
        self.markets[order.symbol].withdraw(order)

    def amend(self, order: Order, amend: Amend, taker: Taker) -> None:
        """Gives an order its new terms; `taker` is what is left of it then."""
        if not amend.keeps_priority:
            self.withdraw(order)
            self._recorder.emit(amend)
            self.enter(order, taker)
            return
        self._recorder.emit(amend)
        self.markets[order.symbol].shrink(order, taker.qty)

    def fill(self, order: Order, part: float) -> None:
        """The crowd takes a part of a resting order, at least one lot."""
        market = self.markets[order.symbol]
        match = market.take(order, part)
        self._book_match(market, match, aggressor=order.side.opposite)
        self._settle(market)

    # The crowd

    def apply_sessions(self) -> list[str]:
        """Gives every market the state that the ledger tells; the symbols where it changed."""
        changed: list[str] = []
        for symbol, market in self.markets.items():
            state = self._ledger.sessions.state(symbol)
            if state is not market.state:
                market.state = state
                changed.append(symbol)
        return changed

    def reopen(self, symbol: str) -> None:
        """Plays what the source said while the market did not trade."""
        for event in self.markets[symbol].backlog.take(symbol):
            self.play(event)

    def play(self, event: MarketEvent) -> bool:
        """Applies what a market source says. Own orders that it fills are filled. Whether the
        book or the tape changed."""
        market = self.markets[event.symbol]
        book = market.book
        if market.state is not MarketState.OPEN and not (
            # A market that opens later has quotes from the start on all the same.
            book.is_empty and not isinstance(event, Traded)
        ):
            market.backlog.keep(event)
            return False
        before = book.update_id
        match event:
            case BestSet():
                bid = market.level(event.bid)
                ask = market.level(event.ask)
                self._book_own(market, book.set_best(bid, ask))
            case LevelsSet():
                for side, levels in ((Side.BUY, event.bids), (Side.SELL, event.asks)):
                    for level in levels:
                        matches = book.set_crowd(side, *market.level(level))
                        self._book_own(market, [(side.opposite, match) for match in matches])
            case Snapshot():
                bids = [market.level(level) for level in event.bids]
                asks = [market.level(level) for level in event.asks]
                self._book_own(market, book.reset_crowd(bids, asks))
            case Traded():
                self._play_trade(market, event)
        self._settle(market)
        return book.update_id != before or self._recorder.has_trades

    def _play_trade(self, market: Market, event: Traded) -> None:
        price, qty = market.level((event.price, event.qty))
        aggressor = Side.BUY if event.aggressor_is_buyer else Side.SELL
        matches = market.book.crowd_trade(aggressor, price, qty)
        self._book_own(market, [(aggressor.opposite, match) for match in matches])
        crowd_qty = qty - sum(match.qty for match in matches)
        if crowd_qty:
            self._print(market, price, crowd_qty, aggressor)

    def _book_own(self, market: Market, matches: Iterable[tuple[Side, Match]]) -> None:
        """Books what the crowd took of own orders; each comes with the own order's side."""
        for maker_side, match in matches:
            self._book_match(market, match, aggressor=maker_side.opposite)

    # Booking

    def _book_match(
        self,
        market: Market,
        match: Match,
        *,
        aggressor: Side,
        taker: Order | None = None,
        completes: bool = False,
    ) -> None:
        """One trade: the fill of each own order in it, and the public print."""
        trade_id = self._print(market, match.price, match.qty, aggressor)
        if not match.maker.is_crowd:
            maker = self._ledger.orders[match.maker.order_id]
            qty = self._due_to(maker, market.instrument.quantity(match.qty))
            if qty:
                self._fill(market, maker, trade_id, match.price, qty, is_maker=True)
        if taker is not None:
            qty = market.instrument.quantity(match.qty)
            self._fill(
                market, taker, trade_id, match.price, qty, is_maker=False, completes=completes
            )

    def _due_to(self, maker: Order, qty: Decimal) -> Decimal:
        """What of a match goes to its maker: all of it, unless the maker is reduce-only and
        another fill of the same sweep has closed the position meanwhile. The crowd then steps
        in, for the taker's match stands."""
        if not maker.reduce_only:
            return qty
        position = self._ledger.position(maker.account, maker.symbol)
        closable = position.closable(maker.side.sign)
        if qty <= closable:
            return qty
        self._overtaken[maker.order_id] = maker
        return closable

    def _fill(
        self,
        market: Market,
        order: Order,
        trade_id: int,
        ticks: int,
        qty: Decimal,
        *,
        is_maker: bool,
        completes: bool = False,
    ) -> None:
        instrument = market.instrument
        price = instrument.price(ticks)
        fee, fee_currency = self.fees.fee(
            instrument,
            order.side,
            qty,
            price,
            is_maker=is_maker,
            token_price=self._token_price(instrument.quote),
            token_free=self._token_free(order.account),
            quote_free=self._ledger.account(order.account).free(instrument.quote),
        )
        self._recorder.emit(
            Fill(
                order_id=order.order_id,
                exec_id=trade_id,
                price=price,
                qty=qty,
                is_maker=is_maker,
                fee=fee,
                fee_currency=fee_currency,
                completes=completes,
                at_ns=self._now_ns(),
            )
        )
        if instrument.margin_rate is not None:
            self._traded[order.account] = None

    def _token_free(self, account: str) -> Decimal:
        token = self.fees.token
        return self._ledger.account(account).free(token) if token else ZERO

    def _token_price(self, quote: str) -> Decimal | None:
        if not self.fees.token:
            return None
        if self.fees.token == quote:
            return Decimal(1)
        market = self.markets.get(self.fees.token + quote)
        return market.mark() if market is not None else None

    def _expire(self, order_id: int, reason: str) -> None:
        self._recorder.emit(Expire(order_id=order_id, reason=reason, at_ns=self._now_ns()))

    def _print(self, market: Market, price: int, qty: int, aggressor: Side) -> int:
        """Puts a trade on the public tape; its trade id."""
        trade = PublicTrade(
            symbol=market.instrument.symbol,
            trade_id=market.next_trade_id,
            price=market.instrument.price(price),
            qty=market.instrument.quantity(qty),
            aggressor_is_buyer=aggressor is Side.BUY,
            at_ns=self._now_ns(),
        )
        market.next_trade_id += 1
        market.tape.add(trade)
        if market.stops:
            market.stops.saw(price)
        self._recorder.print(trade)
        return trade.trade_id

    # What trades bring about

    def _settle(self, market: Market) -> None:
        """After the trades of a request or market event: reduce-only orders are cut, stops are
        triggered, and the same again after what these traded."""
        while True:
            overtaken, self._overtaken = self._overtaken, {}
            for order in overtaken.values():
                if order.is_open:
                    self.withdraw(order)
                    self._expire(order.order_id, "reduce_only")
            accounts, self._traded = self._traded, {}
            for account in accounts:
                self._trim_reduce_only(market, account)
            reached = market.stops.take_reached()
            if not reached:
                return
            for order_id in reached:
                self._trigger(market, self._ledger.orders[order_id])

    def _trim_reduce_only(self, market: Market, account: str) -> None:
        """Resting reduce-only orders are cut to what is left to close; several of them may each
        be as large as the position, as a stop loss beside a take profit is. Stops that wait are
        measured when they trigger."""
        symbol = market.instrument.symbol
        if not self._ledger.working(account, symbol).reduce_only:
            return
        position = self._ledger.position(account, symbol)
        for order in list(self._ledger.open[account].values()):
            if not order.reduce_only or order.symbol != symbol or order.waits:
                continue
            closable = position.closable(order.side.sign)
            if not closable:
                self.withdraw(order)
                self._expire(order.order_id, "reduce_only")
            elif closable < order.leaves_qty:
                taker = market.taker(order, closable)
                self.amend(order, self._cut(order, closable), taker)

    def _cut(self, order: Order, leaves_qty: Decimal) -> Amend:
        return Amend(
            order_id=order.order_id,
            cl_ord_id=order.cl_ord_id,
            order_qty=order.cum_qty + leaves_qty,
            price=order.price,
            stop_price=order.stop_price,
            locked=order.locked,
            keeps_priority=True,
            reason="reduce_only",
            at_ns=self._now_ns(),
        )

    def _trigger(self, market: Market, order: Order) -> None:
        """A stop order that was reached, and is no longer among the stops."""
        taker = market.taker(order, order.leaves_qty)
        locked = order.locked
        if order.price is None and locked:
            locked, taker = self._money_for(market, order, taker)
        self._recorder.emit(Trigger(order_id=order.order_id, locked=locked, at_ns=self._now_ns()))
        if order.reduce_only:
            position = self._ledger.position(order.account, order.symbol)
            closable = position.closable(order.side.sign)
            if not closable:
                self._expire(order.order_id, "reduce_only")
                return
            if closable < order.leaves_qty:
                self._recorder.emit(self._cut(order, closable))
                taker = market.taker(order, closable)
        if order.post_only and market.book.would_match(order.side, taker.limit):
            self._expire(order.order_id, "would_match")
            return
        self._match(market, order, taker)

    def _money_for(self, market: Market, order: Order, taker: Taker) -> tuple[Decimal, Taker]:
        """What a stop order on the spot holds once it is a market order, and what that gets. A
        buy may have triggered above its stop price: it takes what is free to pay for it."""
        if order.side is Side.SELL:
            return order.locked, taker
        unit = market.instrument.unit
        free = max(ZERO, self._ledger.account(order.account).free(market.instrument.quote))
        locked = min(market.book.cost(taker) * unit, order.locked + free)
        return locked, msgspec.structs.replace(taker, budget=int(locked / unit))
