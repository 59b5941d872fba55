"""Any exchange that ccxt knows: `adapter = "ccxt"`, `options = { exchange = "bybit" }`. Spot only.

Less is known of such a venue than of one with an adapter of its own, so less is promised: see
docs/reference/venues/ccxt.md. How exceptions are read is in `outcomes`, what is sent in `calls`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, TimeInForce
from openbell.service.logging import get_logger
from openbell.venues.credentials import Credentials
from openbell.venues.generic import unified
from openbell.venues.generic.calling import CcxtCalls, Done
from openbell.venues.generic.calls import Sending
from openbell.venues.generic.exchange import make_exchange
from openbell.venues.generic.paging import Pages, looks_cut
from openbell.venues.generic.quirks import TRIED, quirks_of
from openbell.venues.generic.unified import Unified
from openbell.venues.holdings import spot_positions
from openbell.venues.polling import polled_stream
from openbell.venues.port import (
    Accepted,
    AccountSummary,
    Balance,
    CancelOutcome,
    Capabilities,
    Listing,
    Rejected,
    StreamEvent,
    SubmitOutcome,
    Unknown,
    VenueError,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER
from openbell.venues.rest import NEVER_ARRIVED, NoSuchOrderError, not_looked_up
from openbell.venues.sent import SentOrders
from openbell.venues.settings import refuse_unusable

NO_SUCH_ORDER = "no_such_order"
LOOKUP_MARGIN_MS = 60_000
"""How far before its sending an order is looked for."""
HISTORY_MS = 24 * 3600 * 1000
"""How far back an order is looked for that this process did not send. Ours: every exchange lists a
day, few list all."""
log = get_logger()

WATCH_AGAIN_S = 5.0
"""Pause after a push stream that failed; asking goes on meanwhile."""


class GenericVenue(CcxtCalls):
    """An account at an exchange, by ccxt's unified methods."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        refuse_unusable(name, config, "ccxt")
        exchange_id = config.options["exchange"]
        self._quirks = quirks_of(exchange_id)
        exchange = make_exchange(exchange_id, config, credentials, self._quirks)
        super().__init__(
            name, config, credentials, exchange, one_at_a_time=self._quirks.one_at_a_time
        )
        self.capabilities = _capabilities(exchange)
        self._features: dict[str, Any] = (exchange.features or {}).get("spot") or {}
        self._rules: dict[str, InstrumentRules] = {}
        self._sent = SentOrders()

    # Connection.

    async def connect(self) -> None:
        await self.connect_public()
        await self.balances()

    async def connect_public(self) -> None:
        """What needs no credentials: the rules."""
        await self._ask(lambda exchange: exchange.load_markets(True))
        missing = [s for s in self.config.symbols if s not in self._exchange.markets]
        if missing:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(missing)}",
                hint=f"mend symbols in [venues.{self.name}]",
                symbols=missing,
            )
        mode = self._exchange.precisionMode
        with self._reading("rules"):
            self._rules = {
                symbol: unified.rules(self._exchange.market(symbol), mode)
                for symbol in self.config.symbols
            }

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    async def server_time_ns(self) -> int:
        if not self.capabilities.server_time:
            raise self._unsupported("server time")
        return int(await self._ask(lambda exchange: exchange.fetch_time())) * 1_000_000

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        wrong = self._what_is_wrong(order)
        if wrong:
            return Rejected(code=BAD_ORDER, text=wrong)
        theirs = self._quirks.to_exchange(order.cl_ord_id)
        if theirs is None:
            return Rejected(code=BAD_ORDER, text="the exchange has no form for this ClOrdID")
        again = self._sent.by_cl_ord_id(order.cl_ord_id) is not None
        quantity = unified.plain(order.order_qty)
        price = None if order.price is None else unified.plain(order.price)
        params = self._params(order, theirs, quantity)
        call = Sending(self._sent_hook(order.cl_ord_id), must_carry=theirs)
        self._sent.sending(order, time.time_ns())
        outcome = await self._effect(
            call,
            lambda exchange: exchange.create_order(
                order.symbol, order.ord_type.lower(), order.side.lower(), quantity, price, params
            ),
        )
        if call.withheld:
            return Rejected(
                code=BAD_ORDER,
                text=f"not sent: ccxt does not send client order ids to {self._exchange.id}",
            )
        if isinstance(outcome, Done):
            venue_order_id = outcome.order_id
            if not venue_order_id:
                return Unknown(why="an answer without an order id")
            self._sent.found(order.cl_ord_id, venue_order_id)
            return Accepted(venue_order_id=venue_order_id)
        if isinstance(outcome, Rejected) and again and call.sent:
            # It may say that the order of the first sending exists; only some exchanges' words for
            # that are known to ccxt.
            return Unknown(why=f"sent a second time, and {outcome.code}: {outcome.text}")
        return outcome

    def _what_is_wrong(self, order: NewOrder) -> str:
        """ccxt cuts prices and quantities to the grid in silence, so they are checked here."""
        rules = self._rules[order.symbol]
        if order.ord_type not in (OrdType.LIMIT, OrdType.MARKET):
            return f"{order.ord_type} orders are not sent"
        if order.order_qty % rules.lot_size or not (
            rules.min_qty <= order.order_qty <= rules.max_qty
        ):
            return f"quantity {order.order_qty} is off the grid or outside the bounds"
        if order.ord_type is OrdType.MARKET:
            if order.price is not None or order.post_only:
                return "a market order takes neither a price nor post-only"
            if self._needs_cost(order):
                return "ccxt can buy at the market only for an amount of the quote currency here"
            return ""
        if order.price is None:
            return "a limit order needs a price"
        if order.price % rules.tick_size:
            return f"price {order.price} is off the grid"
        if order.price * order.order_qty < rules.min_notional:
            return f"the order is worth less than {rules.min_notional}"
        if order.post_only and order.time_in_force is not TimeInForce.GTC:
            return f"post-only and {order.time_in_force} exclude each other"
        return ""

    def _needs_cost(self, order: NewOrder) -> bool:
        needs = (self._features.get("createOrder") or {}).get("marketBuyRequiresPrice")
        return order.side.sign > 0 and bool(needs) and self._quirks.market_buy is None

    def _params(self, order: NewOrder, cl_ord_id: str, quantity: str) -> dict[str, Any]:
        params: dict[str, Any] = {self._quirks.cl_ord_id_param: cl_ord_id}
        if order.ord_type is OrdType.MARKET:
            if order.side.sign > 0 and self._quirks.market_buy is not None:
                params |= self._quirks.market_buy(quantity)
            return params
        if order.post_only:
            return {**params, "postOnly": True}
        return {**params, "timeInForce": order.time_in_force.value}

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        """By the exchange's id. One that this process did not learn is looked for among the open
        orders first; where it is not there, or they cannot be listed, nothing is sent."""
        sent = self._sent.by_cl_ord_id(cl_ord_id)
        found = venue_order_id or (sent.venue_order_id if sent is not None else "")
        if not found:
            try:
                listing = await self.open_orders([symbol])
            except VenueError as error:
                return not_looked_up(error)
            ids = {order.cl_ord_id: order.venue_order_id for order in listing.orders}
            found = ids.get(cl_ord_id, "")
            if not found:
                code = NO_SUCH_ORDER if listing.complete else NEVER_ARRIVED
                return Rejected(code=code, text="not sent: no such order is listed as open")
        outcome = await self._effect(
            Sending(), lambda exchange: exchange.cancel_order(found, symbol)
        )
        return Accepted(venue_order_id=found) if isinstance(outcome, Done) else outcome

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        if not self.capabilities.mass_cancel_per_symbol:
            raise self._unsupported("mass cancel per symbol")
        outcome = await self._effect(Sending(), lambda exchange: exchange.cancel_all_orders(symbol))
        return Accepted(venue_order_id="") if isinstance(outcome, Done) else outcome

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """One request per symbol. A list as long as a page may be is taken for a cut one."""
        most = (self._features.get("fetchOpenOrders") or {}).get("limit")
        orders: list[VenueOrder] = []
        complete = True
        for symbol in symbols or self.config.symbols:
            told = await self._ask(partial(_open_orders, symbol=symbol, most=most))
            with self._reading("open orders"):
                orders += [self._order(each) for each in told]
            complete = complete and not looks_cut(len(told), most)
        open_ones = tuple(order for order in orders if not order.status.is_final)
        return Listing(orders=open_ones, complete=complete)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """By the exchange's id where this process learned it; else among its open orders, then the
        ended ones since it was sent, or since yesterday. What is not in these lists may be older, so
        None means no more than that; an exchange without such lists cannot be asked."""
        sent = self._sent.by_cl_ord_id(cl_ord_id)
        if sent is not None and sent.venue_order_id:
            venue_order_id = sent.venue_order_id
            with suppress(NoSuchOrderError):
                told = await self._ask(lambda e: e.fetch_order(venue_order_id, symbol))
                with self._reading("an order"):
                    # Some exchanges do not tell the ClOrdID of a single order.
                    return msgspec.structs.replace(self._order(told), cl_ord_id=cl_ord_id)
        found = await self._listed_order(symbol, cl_ord_id)
        if found is not None:
            self._sent.found(cl_ord_id, found.venue_order_id)
        return found

    async def _listed_order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        listing = await self.open_orders([symbol])
        for order in listing.orders:
            if order.cl_ord_id == cl_ord_id:
                return order
        if not listing.complete:
            raise VenueUnavailableError(f"{self.name}: not all open orders are listed")
        lists = _ended_lists(self._exchange.has)
        if not lists:
            raise VenueUnavailableError(f"{self.name}: ccxt cannot list ended orders here")
        sent = self._sent.by_cl_ord_id(cl_ord_id)
        since_ms = (
            sent.sent_ns // 1_000_000 - LOOKUP_MARGIN_MS
            if sent is not None
            else time.time_ns() // 1_000_000 - HISTORY_MS
        )
        for method, feature in lists:
            async for told in self._pages(method, feature, symbol).since(since_ms):
                if self._quirks.from_exchange(told.get("clientOrderId") or "") == cl_ord_id:
                    with self._reading("an order"):
                        return self._order(told)
        return None

    def _order(self, told: Unified) -> VenueOrder:
        """Raises ValueError."""
        order = unified.order(told)
        cl_ord_id = self._quirks.from_exchange(order.cl_ord_id)
        return msgspec.structs.replace(order, cl_ord_id=cl_ord_id)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        """Of one order from its making on; without a time, those of the last day."""
        since_ms = since_ns // 1_000_000
        if venue_order_id:
            told = await self._ask(lambda e: e.fetch_order(venue_order_id, symbol))
            with self._reading("an order"):
                since_ms = self._order(told).created_ns // 1_000_000
        if not since_ms:
            since_ms = time.time_ns() // 1_000_000 - HISTORY_MS
        found: dict[str, VenueFill] = {}
        async for trade in self._pages("fetch_my_trades", "fetchMyTrades", symbol).since(since_ms):
            with self._reading("a trade"):
                fill = self._with_cl_ord_id(unified.fill(trade))
            if venue_order_id in ("", fill.venue_order_id):
                found[fill.exec_id] = fill
        return sorted(
            (fill for fill in found.values() if fill.venue_time_ns >= since_ms * 1_000_000),
            key=lambda fill: fill.venue_time_ns,
        )

    def _pages(self, method: str, feature: str, symbol: str) -> Pages:
        known = self._features.get(feature) or {}
        return Pages(self._ask, method, symbol, known, self._quirks.offset_param)

    def _with_cl_ord_id(self, fill: VenueFill) -> VenueFill:
        """ccxt's trades do not carry it; of what this process sent it is known."""
        sent = self._sent.by_venue_order_id(fill.venue_order_id)
        return (
            fill if sent is None else msgspec.structs.replace(fill, cl_ord_id=sent.order.cl_ord_id)
        )

    async def stream(self) -> AsyncIterator[StreamEvent]:
        """Asked for; where the exchange pushes orders, a push makes the asking happen at once. What
        ccxt tells of a push is not used: of two events between two reads it keeps one, and it does
        not say that it was away."""
        nudge = asyncio.Event()
        watching = (
            asyncio.create_task(self._watch(nudge))
            if self._exchange.has.get("watchOrders")
            else None
        )
        try:
            async for event in polled_stream(self, self.config.poll_every, nudge):
                yield event
        finally:
            if watching is not None:
                watching.cancel()

    async def _watch(self, nudge: asyncio.Event) -> None:
        """Whatever it fails of, asking goes on without it; each failure of another kind is told once."""
        told = ""
        while True:
            try:
                await self._exchange.watch_orders()
                told = ""
            except Exception as error:  # noqa: BLE001
                kind = type(error).__name__
                if kind != told:
                    log.warning(
                        "order events are not watched: the venue is asked instead",
                        venue=self.name, every_s=self.config.poll_every, why=kind,
                    )  # fmt: skip
                told = kind
                await asyncio.sleep(WATCH_AGAIN_S)
            nudge.set()

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        told = await self._ask(lambda exchange: exchange.fetch_balance())
        with self._reading("balances"):
            return unified.balances(told)

    async def positions(self) -> list[VenuePosition]:
        """An account without any currency is no answer, and raises VenueUnavailableError rather than
        call every position zero."""
        balances = await self.balances()
        if not balances:
            raise VenueUnavailableError(f"{self.name}: the account's answer lists no currency")
        return spot_positions(self.config.symbols, balances, self.config.holdings)

    async def quote(self, symbol: str) -> Quote:
        book = await self._ask(lambda exchange: exchange.fetch_order_book(symbol))
        with self._reading("a quote"):
            quote = unified.quote(book, venue=self.name, symbol=symbol, received_ns=time.time_ns())
            return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        """ccxt unifies no list of accounts that says which one is traded on."""
        kind = str(self._exchange.options.get("defaultType", "spot"))
        return [AccountSummary(account_id=self._exchange.id, kind=kind, active=True)]


async def _open_orders(exchange: Any, *, symbol: str, most: int | None) -> list[Unified]:
    found: list[Unified] = await exchange.fetch_open_orders(symbol, None, most)
    return found


def _capabilities(exchange: Any) -> Capabilities:
    """From what ccxt says the exchange has; "emulated" counts as no. Where ccxt does not say enough
    (how many orders a batch takes, what a timer cancels, whether an id makes one order), no."""
    has = exchange.has
    return Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=has.get("cancelAllOrders") is True,
        batch_cancel=0,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=bool(_ended_lists(has)),
        positions=False,
        reduce_only=False,
        server_time=has.get("fetchTime") is True,
        order_stream=False,  # asked for; a push, where there is one, only makes it happen at once
        cl_ord_id_unique=False,
        conformance_tested=exchange.id in TRIED,
    )


def _ended_lists(has: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Methods that together list every ended order of a symbol, with their names in `features`;
    empty where the exchange has none."""
    if has.get("fetchOrders") is True:
        return [("fetch_orders", "fetchOrders")]
    if has.get("fetchClosedOrders") is not True:
        return []
    lists = [("fetch_closed_orders", "fetchClosedOrders")]
    if has.get("fetchCanceledOrders") is True:
        lists.append(("fetch_canceled_orders", "fetchCanceledOrders"))
    return lists
