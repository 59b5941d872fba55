"""Where orders meet: accepted orders are matched, the crowd is played, fills are booked.

Whoever calls commits (`recorder.Recorder.commit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from openbell.domain.orders import Side, TimeInForce
from openbell_sim.account import ZERO, FeeSchedule
from openbell_sim.events import Amend, Expire, Fill
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order
from openbell_sim.market.events import BestSet, LevelsSet, MarketEvent, Snapshot, Traded
from openbell_sim.matching.book import Book, Match, Taker
from openbell_sim.matching.side import Entry
from openbell_sim.recorder import Recorder
from openbell_sim.tape import PublicTrade, Tape


@dataclass(kw_only=True)
class Market:
    """One symbol."""

    instrument: Instrument
    book: Book
    next_trade_id: int
    tape: Tape = field(default_factory=Tape)

    def mark(self) -> Decimal | None:
        """The last price, before the first trade the middle of the book; None: nobody knows."""
        if self.tape.last is not None:
            return self.tape.last.price
        bid, ask = self.book.bids.best, self.book.asks.best
        if bid is None or ask is None:
            return None
        return self.instrument.tick * (bid + ask) / 2


class Floor:
    def __init__(
        self,
        markets: Mapping[str, Market],
        recorder: Recorder,
        *,
        fees: FeeSchedule,
        now_ns: Callable[[], int],
    ) -> None:
        self.markets = markets
        self.fees = fees
        self._now_ns = now_ns
        self._recorder = recorder
        self._ledger = recorder.ledger
        self._shrunk: dict[str, None] = {}
        """Accounts whose position in the symbol at hand shrank since the last `_settle`."""

    # Own orders

    def execute(self, order: Order, taker: Taker) -> None:
        """Matches an accepted order; what is left rests or expires."""
        market = self.markets[order.symbol]
        self._match(market, order, taker)
        self._settle(market)

    def _match(self, market: Market, order: Order, taker: Taker) -> None:
        if order.time_in_force is TimeInForce.FOK and market.book.available(taker) < taker.qty:
            self._expire(order.order_id, "time_in_force")
            return
        result = market.book.match(taker)
        bought_out = (
            order.quote_qty is not None
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
            self._expire(order.order_id, "no_liquidity")
        elif order.time_in_force is TimeInForce.IOC:
            self._expire(order.order_id, "time_in_force")
        else:
            self.rest(order)

    def rest(self, order: Order) -> None:
        instrument = self.markets[order.symbol].instrument
        assert order.price is not None
        entry = Entry(order.order_id, order.account, instrument.lots(order.leaves_qty))
        self.markets[order.symbol].book.rest(order.side, instrument.ticks(order.price), entry)

    def withdraw(self, order: Order) -> None:
        """Takes a resting order out of its book."""
        market = self.markets[order.symbol]
        assert order.price is not None
        market.book.remove(order.side, market.instrument.ticks(order.price), order.order_id)

    def shrink(self, order: Order, order_qty: Decimal, reason: str) -> None:
        """Makes a resting order on margin smaller in its place."""
        market = self.markets[order.symbol]
        instrument = market.instrument
        leaves_qty = order_qty - order.cum_qty
        assert order.price is not None
        market.book.resize(
            order.side,
            instrument.ticks(order.price),
            order.order_id,
            instrument.lots(leaves_qty),
        )
        self._recorder.emit(
            Amend(
                order_id=order.order_id,
                cl_ord_id=order.cl_ord_id,
                order_qty=order_qty,
                price=order.price,
                stop_price=order.stop_price,
                locked=ZERO,
                keeps_priority=True,
                reason=reason,
                at_ns=self._now_ns(),
            )
        )

    # The crowd

    def play(self, event: MarketEvent) -> bool:
        """Applies what a market source says. Own orders that it fills are filled. Whether the
        book or the tape changed."""
        market = self.markets[event.symbol]
        book = market.book
        before = book.update_id
        match event:
            case BestSet():
                bid = _level(market.instrument, event.bid)
                ask = _level(market.instrument, event.ask)
                self._book_own(market, book.set_best(bid, ask))
            case LevelsSet():
                for side, levels in ((Side.BUY, event.bids), (Side.SELL, event.asks)):
                    for level in levels:
                        matches = book.set_crowd(side, *_level(market.instrument, level))
                        self._book_own(market, [(side.opposite, match) for match in matches])
            case Snapshot():
                bids = [_level(market.instrument, level) for level in event.bids]
                asks = [_level(market.instrument, level) for level in event.asks]
                self._book_own(market, book.reset_crowd(bids, asks))
            case Traded():
                self._play_trade(market, event)
        self._settle(market)
        return book.update_id != before or self._recorder.has_trades

    def _play_trade(self, market: Market, event: Traded) -> None:
        price, qty = _level(market.instrument, (event.price, event.qty))
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
        return min(qty, position.closable(maker.side.sign))

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
            token_free=self._ledger.account(order.account).free(self.fees.token),
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
            self._shrunk[order.account] = None

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
        self._recorder.print(trade)
        return trade.trade_id

    # What fills bring about

    def _settle(self, market: Market) -> None:
        if self._shrunk:
            accounts, self._shrunk = self._shrunk, {}
            for account in accounts:
                self._trim_reduce_only(market, account)

    def _trim_reduce_only(self, market: Market, account: str) -> None:
        """Resting reduce-only orders are cut to what is left to close; several of them may each
        be as large as the position, as a stop loss beside a take profit is."""
        symbol = market.instrument.symbol
        if not self._ledger.working(account, symbol).reduce_only:
            return
        position = self._ledger.position(account, symbol)
        for order in list(self._ledger.open[account].values()):
            if not order.reduce_only or order.symbol != symbol:
                continue
            closable = position.closable(order.side.sign)
            if not closable:
                self.withdraw(order)
                self._expire(order.order_id, "reduce_only")
            elif closable < order.leaves_qty:
                self.shrink(order, order.cum_qty + closable, "reduce_only")


def _level(instrument: Instrument, level: tuple[Decimal, Decimal]) -> tuple[int, int]:
    """In ticks and lots. What a source says off the grid is cut to it."""
    price, qty = level
    return int(price / instrument.tick), int(qty / instrument.lot)
