"""The venue itself, without any face: books, accounts, checks, and the record of what happened.

Every change goes the same way: the event is applied to the ledger, the events of one request (or
of one market event) are appended to the order log in one write, and only then listeners hear of
them and the caller gets an answer. All of it is synchronous: one request at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.account import FeeSchedule
from openbell_sim.checks import OrderRequest, check_rules, funds_needed
from openbell_sim.events import Accept, Cancel, Deposit, Event, Expire, Fill, Refuse
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Ledger, Order, OwnFill
from openbell_sim.market.events import BestSet, LevelsSet, MarketEvent, Snapshot, Traded
from openbell_sim.matching.book import Book, Match, Taker
from openbell_sim.matching.side import Entry
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.tape import PublicTrade, Tape


@dataclass(frozen=True)
class Report:
    """One event of one order, with the order as it was right after it."""

    event: Event
    order: Order
    fill: OwnFill | None = None


class Listener(Protocol):
    """A face that tells its clients. Called after the events are recorded."""

    def on_reports(self, reports: Sequence[Report]) -> None: ...
    def on_deposit(self, deposit: Deposit) -> None: ...
    def on_trade(self, trade: PublicTrade) -> None: ...
    def on_book(self, symbol: str) -> None: ...


class Record(Protocol):
    """Where events go before anybody hears of them."""

    def append(self, events: Sequence[Event]) -> None: ...


class Forgetful:
    """A record for a venue that lives in memory only."""

    def append(self, events: Sequence[Event]) -> None:
        pass


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


class Exchange:
    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        now_ns: Callable[[], int],
        fees: FeeSchedule | None = None,
        record: Record | None = None,
        max_open_orders: int = 200,
        keep_history: bool = False,
    ) -> None:
        """`max_open_orders` is per account and symbol; 200 is Binance's MAX_NUM_ORDERS.
        `keep_history`: for faces that number everything that ever happened."""
        self.now_ns = now_ns
        self.fees = fees or FeeSchedule()
        self.max_open_orders = max_open_orders
        started_ms = now_ns() // 1_000_000
        # Identifiers start at the clock's milliseconds, so that they grow over restarts even
        # where no log tells the last one.
        self.markets = {
            instrument.symbol: Market(
                instrument=instrument, book=Book(started_ms), next_trade_id=started_ms
            )
            for instrument in instruments
        }
        self.instruments = {name: market.instrument for name, market in self.markets.items()}
        self.ledger = Ledger(self.instruments)
        self.listeners: list[Listener] = []
        self.history: list[Event] | None = [] if keep_history else None
        """Every event since the order log began, in order; None where it is not kept."""
        self._record = record or Forgetful()
        self._events: list[Event] = []
        self._reports: list[Report] = []
        self._trades: list[PublicTrade] = []
        self._next_order_id = started_ms

    def restore(self, events: Iterable[Event]) -> int:
        """Takes up the state that an order log tells; the number of its events. To be called
        before anything else. Open orders rest again in the order of their acceptance."""
        count = 0
        for event in events:
            self.ledger.apply(event)
            if self.history is not None:
                self.history.append(event)
            count += 1
        self._next_order_id = max(self._next_order_id, self.ledger.last_order_id + 1)
        for market in self.markets.values():
            market.next_trade_id = max(market.next_trade_id, self.ledger.last_exec_id + 1)
        for order in self.ledger.orders.values():
            if order.is_open:
                self._rest(order)
        return count

    # Requests

    def deposit(self, account: str, currency: str, amount: Decimal) -> Deposit:
        event = Deposit(account=account, currency=currency, amount=amount, at_ns=self.now_ns())
        self._emit(event)
        self._commit(())
        for listener in self.listeners:
            listener.on_deposit(event)
        return event

    def submit(self, request: OrderRequest) -> Order:
        """Accepts and matches an order. Raises RefusedError, after the refusal is recorded."""
        try:
            accept, taker = self._check(request)
        except RefusedError as error:
            self.refuse(
                Refuse(
                    order_id=0,
                    account=request.account,
                    cl_ord_id=request.cl_ord_id,
                    symbol=request.symbol,
                    side=request.side.value,
                    ord_type=request.ord_type.value,
                    order_qty=str(request.qty or request.quote_qty or ""),
                    price=str(request.price or ""),
                    origin=request.origin,
                    note=request.note,
                    received_ns=request.received_ns,
                    reason=error.reason.value,
                    text=error.text,
                    at_ns=self.now_ns(),
                )
            )
            raise
        self._next_order_id += 1
        order = self._emit(accept)
        assert order is not None
        self._execute(order, taker)
        self._commit((order.symbol,))
        return order

    def test(self, request: OrderRequest) -> None:
        """All that `submit` checks, and nothing of what it does. Raises RefusedError."""
        self._check(request)

    def refuse(self, refusal: Refuse) -> None:
        """Records an order that was not accepted; its order id is given here."""
        self._emit(msgspec.structs.replace(refusal, order_id=self._next_order_id))
        self._next_order_id += 1
        self._commit(())

    def cancel(self, order: Order, request_id: str = "") -> None:
        """Raises RefusedError for an order that has ended."""
        if not order.is_open:
            raise RefusedError(Reason.UNKNOWN_ORDER)
        market = self.markets[order.symbol]
        assert order.price is not None
        market.book.remove(order.side, market.instrument.ticks(order.price), order.order_id)
        self._emit(Cancel(order_id=order.order_id, request_id=request_id, at_ns=self.now_ns()))
        self._commit((order.symbol,))

    def _check(self, request: OrderRequest) -> tuple[Accept, Taker]:
        market = self.markets.get(request.symbol)
        if market is None:
            raise RefusedError(Reason.UNKNOWN_SYMBOL, request.symbol)
        taker = check_rules(request, market.instrument, market.book, market.mark())
        open_here = [
            order
            for order in self.ledger.open.get(request.account, {}).values()
            if order.symbol == request.symbol
        ]
        if any(order.cl_ord_id == request.cl_ord_id for order in open_here):
            raise RefusedError(Reason.DUPLICATE_CL_ORD_ID)
        if len(open_here) >= self.max_open_orders:
            raise RefusedError(Reason.TOO_MANY_ORDERS)
        currency, amount = funds_needed(request, market.instrument, market.book, taker)
        if amount > self.ledger.account(request.account).free(currency):
            raise RefusedError(Reason.INSUFFICIENT_FUNDS)
        accept = Accept(
            order_id=self._next_order_id,
            account=request.account,
            cl_ord_id=request.cl_ord_id,
            symbol=request.symbol,
            side=request.side,
            ord_type=request.ord_type,
            time_in_force=request.time_in_force,
            order_qty=request.qty,
            quote_qty=request.quote_qty,
            price=request.price,
            post_only=request.post_only,
            prevention=request.prevention,
            locked=amount,
            origin=request.origin,
            note=request.note,
            received_ns=request.received_ns,
            at_ns=self.now_ns(),
        )
        return accept, taker

    def _execute(self, order: Order, taker: Taker) -> None:
        """Matches an accepted order; what is left rests or expires."""
        market = self.markets[order.symbol]
        fill_or_kill = order.time_in_force is TimeInForce.FOK
        if fill_or_kill and market.book.available(taker) < taker.qty:
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
        elif order.ord_type is OrdType.MARKET:
            self._expire(order.order_id, "no_liquidity")
        elif order.time_in_force is TimeInForce.IOC:
            self._expire(order.order_id, "time_in_force")
        else:
            self._rest(order)

    def _rest(self, order: Order) -> None:
        instrument = self.instruments[order.symbol]
        assert order.price is not None
        entry = Entry(order.order_id, order.account, instrument.lots(order.leaves_qty))
        self.markets[order.symbol].book.rest(order.side, instrument.ticks(order.price), entry)

    # The crowd

    def play(self, event: MarketEvent) -> None:
        """Applies what a market source says. Own orders that it fills are filled."""
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
        if book.update_id != before or self._trades:
            self._commit((event.symbol,))

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
            maker = self.ledger.orders[match.maker.order_id]
            self._fill(market, maker, trade_id, match, is_maker=True)
        if taker is not None:
            self._fill(market, taker, trade_id, match, is_maker=False, completes=completes)

    def _fill(
        self,
        market: Market,
        order: Order,
        trade_id: int,
        match: Match,
        *,
        is_maker: bool,
        completes: bool = False,
    ) -> None:
        instrument = market.instrument
        price, qty = instrument.price(match.price), instrument.quantity(match.qty)
        fee, fee_currency = self.fees.fee(
            instrument,
            order.side,
            qty,
            price,
            is_maker=is_maker,
            token_price=self._token_price(instrument.quote),
            token_free=self.ledger.account(order.account).free(self.fees.token),
        )
        self._emit(
            Fill(
                order_id=order.order_id,
                exec_id=trade_id,
                price=price,
                qty=qty,
                is_maker=is_maker,
                fee=fee,
                fee_currency=fee_currency,
                completes=completes,
                at_ns=self.now_ns(),
            )
        )

    def _token_price(self, quote: str) -> Decimal | None:
        if not self.fees.token:
            return None
        if self.fees.token == quote:
            return Decimal(1)
        market = self.markets.get(self.fees.token + quote)
        return market.mark() if market is not None else None

    def _expire(self, order_id: int, reason: str) -> None:
        self._emit(Expire(order_id=order_id, reason=reason, at_ns=self.now_ns()))

    def _print(self, market: Market, price: int, qty: int, aggressor: Side) -> int:
        """Puts a trade on the public tape; its trade id."""
        trade = PublicTrade(
            symbol=market.instrument.symbol,
            trade_id=market.next_trade_id,
            price=market.instrument.price(price),
            qty=market.instrument.quantity(qty),
            aggressor_is_buyer=aggressor is Side.BUY,
            at_ns=self.now_ns(),
        )
        market.next_trade_id += 1
        market.tape.add(trade)
        self._trades.append(trade)
        return trade.trade_id

    def _emit(self, event: Event) -> Order | None:
        order = self.ledger.apply(event)
        self._events.append(event)
        if order is not None:
            fill = self.ledger.fills_of(order.order_id)[-1] if isinstance(event, Fill) else None
            self._reports.append(Report(event, copy.copy(order), fill))
        return order

    def _commit(self, symbols: Sequence[str]) -> None:
        """Records what was emitted, then tells the listeners."""
        events, self._events = self._events, []
        reports, self._reports = self._reports, []
        trades, self._trades = self._trades, []
        if events:
            self._record.append(events)
            if self.history is not None:
                self.history += events
        for listener in self.listeners:
            for symbol in symbols:
                listener.on_book(symbol)
            for trade in trades:
                listener.on_trade(trade)
            if reports:
                listener.on_reports(reports)


def _level(instrument: Instrument, level: tuple[Decimal, Decimal]) -> tuple[int, int]:
    """In ticks and lots. What a source says off the grid is cut to it."""
    price, qty = level
    return int(price / instrument.tick), int(qty / instrument.lot)
