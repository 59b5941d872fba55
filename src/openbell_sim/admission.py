"""May this order come in? Asks the instrument, the book, the account and the venue's rules.

Nothing is changed here: the answer is the event that would be recorded, and what would match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec

from openbell_sim.account import ZERO
from openbell_sim.checks import (
    OrderRequest,
    check_closing,
    check_rules,
    check_trigger,
    funds_needed,
    worth,
)
from openbell_sim.events import Accept, Amend
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Ledger, Order
from openbell_sim.margin import Margin, held, order_price
from openbell_sim.markets import Market
from openbell_sim.matching.book import Taker
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.rules import ClOrdIdPolicy, ReduceOnlyPolicy
from openbell_sim.sessions import MarketState

_NO_ORDERS = {
    MarketState.CANCEL_ONLY: Reason.CANCEL_ONLY,
    MarketState.HALTED: Reason.HALTED,
    MarketState.CLOSED: Reason.MARKET_CLOSED,
}


def check_session(state: MarketState) -> None:
    """Raises RefusedError where no orders are taken."""
    if state is not MarketState.OPEN:
        raise RefusedError(_NO_ORDERS[state])


@dataclass(frozen=True, kw_only=True)
class Admission:
    markets: Mapping[str, Market]
    ledger: Ledger
    cl_ord_ids: ClOrdIdPolicy
    reduce_only: ReduceOnlyPolicy
    max_open_orders: int
    now_ns: Callable[[], int]

    def order(
        self, request: OrderRequest, order_id: int, closes: int | None = None
    ) -> tuple[Accept, Taker]:
        """`closes`: the lot that is to be closed. Raises RefusedError."""
        market = self.markets.get(request.symbol)
        if market is None:
            raise RefusedError(Reason.UNKNOWN_SYMBOL, request.symbol)
        check_session(market.state)
        mark = market.mark()
        taker = check_rules(request, market.instrument, market.book, mark)
        check_trigger(request, market.instrument, mark)
        if request.reduce_only:
            request, taker = self._closing(request, taker, market.instrument, closes)
        self._check_name(request)
        if self.ledger.working(request.account, request.symbol).count >= self.max_open_orders:
            raise RefusedError(Reason.TOO_MANY_ORDERS)
        locked = self._check_funds(request, market, taker)
        accept = Accept(
            order_id=order_id,
            account=request.account,
            cl_ord_id=request.cl_ord_id,
            symbol=request.symbol,
            side=request.side,
            ord_type=request.ord_type,
            time_in_force=request.time_in_force,
            order_qty=request.qty,
            quote_qty=request.quote_qty,
            price=request.price,
            stop_price=request.stop_price,
            post_only=request.post_only,
            reduce_only=request.reduce_only,
            closes=closes,
            prevention=request.prevention,
            locked=locked,
            origin=request.origin,
            note=request.note,
            received_ns=request.received_ns,
            at_ns=self.now_ns(),
        )
        return accept, taker

    def amendment(
        self,
        order: Order,
        *,
        qty: Decimal | None,
        price: Decimal | None,
        stop_price: Decimal | None,
        cl_ord_id: str | None,
    ) -> tuple[Amend, Taker]:
        """Raises RefusedError."""
        market = self.markets[order.symbol]
        instrument = market.instrument
        check_session(market.state)
        if price is not None and order.price is None:
            raise RefusedError(Reason.MALFORMED, "the order has no price")
        if stop_price is not None and not order.waits:
            raise RefusedError(Reason.MALFORMED, "the order waits for no stop price")
        wanted = OrderRequest(
            account=order.account,
            cl_ord_id=order.cl_ord_id if cl_ord_id is None else cl_ord_id,
            symbol=order.symbol,
            side=order.side,
            ord_type=order.ord_type,
            time_in_force=order.time_in_force,
            qty=order.order_qty if qty is None else qty,
            price=order.price if price is None else price,
            stop_price=order.stop_price if stop_price is None else stop_price,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            prevention=order.prevention,
            received_ns=order.received_ns,
        )
        mark = market.mark()
        # A price that stays is not measured again: the market may have gone far from it.
        moved = wanted.price != order.price
        taker = check_rules(wanted, instrument, market.book, mark if moved else None)
        if order.waits:
            check_trigger(wanted, instrument, mark)
        left = replace(wanted, qty=wanted.qty - order.cum_qty)
        if left.qty <= 0:
            raise RefusedError(Reason.QUANTITY_GRID, "no more than was filled already")
        taker = msgspec.structs.replace(taker, qty=instrument.lots(left.qty))
        if order.reduce_only:
            left, taker = self._closing(left, taker, instrument, order.closes)
        if wanted.cl_ord_id != order.cl_ord_id:
            self._check_name(wanted)
        locked = self._check_funds(left, market, taker, replaces=order)
        order_qty = order.cum_qty + left.qty
        amend = Amend(
            order_id=order.order_id,
            cl_ord_id=wanted.cl_ord_id,
            order_qty=order_qty,
            price=wanted.price,
            stop_price=wanted.stop_price,
            locked=locked,
            keeps_priority=not moved
            and wanted.stop_price == order.stop_price
            and order_qty <= order.order_qty,
            at_ns=self.now_ns(),
        )
        return amend, taker

    def margin(self, account: str, currency: str) -> Margin:
        """What the account has and holds in one currency."""
        balance = self.ledger.account(account).balances.get(currency)
        total, used = (ZERO, ZERO) if balance is None else (balance.total, balance.locked)
        unrealized = ZERO
        for symbol, working in self.ledger.working_of(account).items():
            market = self.markets[symbol]
            instrument = market.instrument
            if instrument.margin_rate is None or instrument.settle_currency != currency:
                continue
            position, mark = self.ledger.position(account, symbol), market.mark()
            used += held(instrument, position, working, mark)
            if position.quantity and mark is not None:
                unrealized += position.unrealized(instrument, mark)
        return Margin(balance=total, unrealized=unrealized, used=used)

    def _closing(
        self, request: OrderRequest, taker: Taker, instrument: Instrument, closes: int | None
    ) -> tuple[OrderRequest, Taker]:
        """A reduce-only order with the quantity that it may have."""
        position = self.ledger.position(request.account, request.symbol)
        qty = check_closing(request, position, closes, self.reduce_only)
        if qty == request.qty:
            return request, taker
        taker = msgspec.structs.replace(taker, qty=instrument.lots(qty))
        return replace(request, qty=qty), taker

    def _check_name(self, request: OrderRequest) -> None:
        name = request.cl_ord_id
        if not name or self.cl_ord_ids is ClOrdIdPolicy.NONE:
            return
        if self.cl_ord_ids is ClOrdIdPolicy.UNIQUE_FOR_EVER:
            taken = self.ledger.named(request.account, name) is not None
        else:
            newest = self.ledger.by_cl_ord_id(request.account, request.symbol, name)
            taken = newest is not None and newest.is_open and newest.cl_ord_id == name
        if taken:
            raise RefusedError(Reason.DUPLICATE_CL_ORD_ID)

    def _check_funds(
        self, request: OrderRequest, market: Market, taker: Taker, replaces: Order | None = None
    ) -> Decimal:
        """What is to be locked for the order. Raises RefusedError where there is less."""
        if market.instrument.margin_rate is not None:
            if not request.reduce_only:
                self._check_margin(request, market, taker, replaces)
            return ZERO
        currency, amount = funds_needed(request, market.instrument, market.book, taker)
        free = self.ledger.account(request.account).free(currency)
        if currency in self.ledger.settlement:
            free = min(free, self.margin(request.account, currency).available)
        if amount > free + (ZERO if replaces is None else replaces.locked):
            raise RefusedError(Reason.INSUFFICIENT_FUNDS)
        return amount

    def _check_margin(
        self, request: OrderRequest, market: Market, taker: Taker, replaces: Order | None
    ) -> None:
        instrument, mark = market.instrument, market.mark()
        position = self.ledger.position(request.account, request.symbol)
        now = self.ledger.working(request.account, request.symbol)
        after = now.with_order(request.side, *worth(request, instrument, market.book, taker))
        if replaces is not None and (price := order_price(replaces)) is not None:
            qty = -replaces.leaves_qty
            after = after.with_order(replaces.side, qty, qty * price)
        more = held(instrument, position, after, mark) - held(instrument, position, now, mark)
        # An order that holds nothing more is welcome whatever the account has lost.
        if more > 0 and more > self.margin(request.account, instrument.settle_currency).available:
            raise RefusedError(Reason.INSUFFICIENT_FUNDS)
