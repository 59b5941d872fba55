"""Coinbase Advanced Trade, spot.

Facts and hazards of this venue: docs/reference/venues/coinbase.md. The rules of outcomes and errors
are in `venues.rest`, what refusals mean in `problems`, the shapes of answers in `wire`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus
from openbell.venues.ccxt_common import CcxtVenue, moved_to
from openbell.venues.coinbase import requests, wire
from openbell.venues.coinbase.pacing import CoinbasePacing
from openbell.venues.coinbase.problems import problem_in
from openbell.venues.coinbase.stream import UserChannel
from openbell.venues.credentials import Credentials
from openbell.venues.holdings import spot_positions
from openbell.venues.original import original
from openbell.venues.port import (
    Accepted,
    AccountSummary,
    Balance,
    CancelOutcome,
    Capabilities,
    KeyPermissions,
    Listing,
    Rejected,
    StreamEvent,
    SubmitOutcome,
    Unknown,
    VenueAuthError,
    VenueError,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER, Problem
from openbell.venues.rest import NoSuchOrderError, not_looked_up
from openbell.venues.sent import SentOrders
from openbell.venues.settings import refuse_unusable
from openbell.venues.transport import Reply, Request

T = TypeVar("T")

PUBLIC, PRIVATE = "v3/public", "v3/private"
"""Sections of the API, as ccxt calls them."""
USER_STREAM_URL = "wss://advanced-trade-ws-user.coinbase.com"
BATCH_CANCEL_MAX = 100
"""Coinbase documents no maximum; 100 is what its clients send at once."""
PAGE = 250
"""Orders, fills or accounts of one answer; 250 is the documented maximum of accounts."""
LOOKUP_MARGIN_NS = 60 * 1_000_000_000
"""How far before its sending an order is looked for: clocks are not measured better than that."""
NO_SUCH_ORDER = "no_such_order"
TOKEN_OVER_S = 2.0
"""Of a request's token over our time-out: it counts whole seconds."""
LEGACY_LIFE_S = 30.0
"""How far from Coinbase's time the time stamp of a legacy key's request may be."""


class CoinbaseVenue(CcxtVenue):
    """A Coinbase account (a portfolio). Positions are balances less the venue's `holdings`."""

    exchange_id = "coinbase"
    capabilities = Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=False,
        batch_cancel=BATCH_CANCEL_MAX,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=False,
        reduce_only=False,
        server_time=True,
        order_stream=True,
        cancels_per_s=float(wire.REQUESTS_PER_S),
        conformance_tested=True,
        costs=wire.QUERY_COSTS,
    )

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        refuse_unusable(name, config, "coinbase")
        super().__init__(name, config, credentials)
        self._pacing: CoinbasePacing = CoinbasePacing()
        self._rules: dict[str, InstrumentRules] = {}
        self._sent = SentOrders()
        self._listed: dict[ClOrdID, str] = {}
        """Coinbase's ids of the open orders that were listed last, whoever sent them."""
        self._clock_doubtful = True
        over_s = TOKEN_OVER_S
        if not _signs_tokens(self._exchange):
            over_s = max(0.0, LEGACY_LIFE_S - config.timeout)
        self.capabilities = msgspec.structs.replace(self.capabilities, refuses_late_by_s=over_s)

    # Connection.

    async def connect(self) -> None:
        await self.server_time_ns()
        ids = [wire.product_id(symbol) for symbol in self.config.symbols]
        request = self._signed("GET", PUBLIC, "brokerage/market/products", {"product_ids": ids})
        answer = await self._ask(request, wire.Products)
        listed = {product.product_id: product for product in answer.products}
        missing = [wire.unified(each) for each in ids if each not in listed]
        if missing:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(missing)}",
                hint=f"mend symbols in [venues.{self.name}]",
                symbols=missing,
            )
        with self._reading("rules"):
            self._rules = {wire.unified(each): listed[each].to_port() for each in ids}
        key = await self._permissions()
        if self.config.account is not None and key.portfolio_uuid != self.config.account:
            raise VenueRefusedError(
                f"{self.name}: the key trades on portfolio {key.portfolio_uuid}",
                hint=f"a key belongs to one portfolio; mend account in [venues.{self.name}]",
            )

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    async def server_time_ns(self) -> int:
        sent_s = time.monotonic()
        answer = await self._ask(self._signed("GET", PUBLIC, "brokerage/time"), wire.ServerTime)
        self._clock.measured(answer.milliseconds, sent_s, time.monotonic())
        self._clock_doubtful = False
        return answer.milliseconds * 1_000_000

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        """Where an order of this ClOrdID exists, Coinbase makes none and answers with that one:
        then it is Accepted again, with the same venue order id."""
        params = requests.new_order(order)
        if isinstance(params, str):
            return Rejected(code=BAD_ORDER, text=params)
        request = self._signed("POST", PRIVATE, "brokerage/orders", params)
        self._sent.sending(order, self._clock.now_ms() * 1_000_000)
        outcome = await self._effect(request, requests.placed(order), cl_ord_id=order.cl_ord_id)
        if isinstance(outcome, Accepted):
            self._sent.found(order.cl_ord_id, outcome.venue_order_id)
        return outcome

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        if venue_order_id:
            return (await self._cancel_ids([venue_order_id]))[0]
        return (await self.cancel_many(symbol, [cl_ord_id]))[0]

    async def cancel_many(self, symbol: str, cl_ord_ids: Sequence[ClOrdID]) -> list[CancelOutcome]:
        """Coinbase cancels by its own ids. One that this process did not learn is looked for among
        the open orders first; where it is not there, or they cannot be listed, nothing is sent."""
        ids = {each: self._venue_order_id(each) for each in cl_ord_ids}
        why: Rejected | None = None
        if not all(ids.values()):
            why = await self._look_up(symbol, ids)
        known = [venue_order_id for venue_order_id in ids.values() if venue_order_id]
        answered = await self._cancel_ids(known) if known else []
        outcomes = dict(zip(known, answered, strict=True))
        unknown = why or Rejected(code=NO_SUCH_ORDER, text="not sent: no such order is open")
        return [outcomes.get(ids[each], unknown) for each in cl_ord_ids]

    async def _look_up(self, symbol: str, ids: dict[ClOrdID, str]) -> Rejected | None:
        """Fills in what open orders tell of `ids`; why they cannot be asked."""
        try:
            listing = await self._open_orders([symbol], for_cancel=True)
        except VenueError as error:
            return not_looked_up(error)
        for order in listing.orders:
            if order.cl_ord_id in ids:
                ids[order.cl_ord_id] = order.venue_order_id
                self._sent.found(order.cl_ord_id, order.venue_order_id)
        return None

    async def _cancel_ids(self, venue_order_ids: Sequence[str]) -> list[CancelOutcome]:
        """One request; an outcome each."""
        results: list[wire.CancelResult] = []

        def read(body: bytes) -> str:
            results.extend(msgspec.json.decode(body, type=wire.CancelResults).results)
            return ""

        request = self._signed(
            "POST", PRIVATE, "brokerage/orders/batch_cancel", {"order_ids": list(venue_order_ids)}
        )
        outcome = await self._effect(request, read)
        if not isinstance(outcome, Accepted):
            return [outcome] * len(venue_order_ids)
        told = {result.order_id: result for result in results}
        if len(venue_order_ids) == len(results) == 1:
            told = {venue_order_ids[0]: results[0]}
        return [requests.cancelled(each, told.get(each)) for each in venue_order_ids]

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """Asks for the states of an open order one after the other. Raises VenueError where one of
        them is not told."""
        return await self._open_orders(symbols or self.config.symbols)

    async def _open_orders(self, symbols: Sequence[str], *, for_cancel: bool = False) -> Listing:
        ids = [wire.product_id(symbol) for symbol in symbols]
        found: dict[str, VenueOrder] = {}
        for states in wire.OPEN_STATES:
            params = {"order_status": list(states), "product_ids": ids}
            async for page in self._order_pages(params, for_cancel=for_cancel):
                found |= {order.venue_order_id: order for order in page}
        orders = tuple(order for order in found.values() if not order.status.is_final)
        self._listed = {order.cl_ord_id: order.venue_order_id for order in orders}
        return Listing(orders=orders, complete=True)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """By the venue's id where this process learned it; else among the listed orders, newest
        first, from its sending on (without that from the beginning on), to the last page."""
        venue_order_id = self._venue_order_id(cl_ord_id)
        if venue_order_id:
            try:
                return await self._order_by_id(venue_order_id)
            except NoSuchOrderError:
                pass  # it had one: its list is asked before anything is concluded
        params: dict[str, object] = {"product_ids": [wire.product_id(symbol)]}
        sent = self._sent.by_cl_ord_id(cl_ord_id)
        if sent is not None:
            params["start_date"] = wire.when(sent.sent_ns - LOOKUP_MARGIN_NS)
        async for page in self._order_pages(params):
            for order in page:
                if order.cl_ord_id == cl_ord_id:
                    self._sent.found(cl_ord_id, order.venue_order_id)
                    return order
        return None

    async def _order_by_id(self, venue_order_id: str) -> VenueOrder:
        path = "brokerage/orders/historical/{order_id}"
        answer = await self._private(path, {"order_id": venue_order_id}, wire.OneOrder)
        with self._reading("an order"):
            return answer.order.to_port()

    async def _order_pages(
        self, params: Mapping[str, object], *, for_cancel: bool = False
    ) -> AsyncIterator[list[VenueOrder]]:
        """Pages to the last one. Raises VenueError, also for pages that do not end."""
        path = "brokerage/orders/historical/batch"
        cursor, seen = "", {""}
        while True:
            paged = {**params, "limit": PAGE, **({"cursor": cursor} if cursor else {})}
            answer = await self._private(path, paged, wire.Orders, for_cancel=for_cancel)
            with self._reading("orders"):
                page = [order.to_port() for order in answer.orders]
            yield page
            if not answer.has_next:
                return
            cursor = self._next(answer.cursor, seen)

    def _next(self, cursor: str, seen: set[str]) -> str:
        if cursor in seen:
            raise VenueUnavailableError(f"{self.name}: a list that does not end")
        seen.add(cursor)
        return cursor

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        params: dict[str, object] = {"product_ids": [wire.product_id(symbol)], "limit": PAGE}
        if venue_order_id:
            params["order_ids"] = [venue_order_id]
        elif since_ns:
            params["start_sequence_timestamp"] = wire.when(since_ns)
        found: dict[str, VenueFill] = {}
        seen = {""}
        while True:
            answer = await self._private("brokerage/orders/historical/fills", params, wire.Fills)
            with self._reading("fills"):
                for each in answer.fills:
                    if each.trade_type == wire.FILL:
                        found[each.trade_id] = each.to_port(self._rules[symbol])
            if not answer.cursor:
                break
            params["cursor"] = self._next(answer.cursor, seen)
        oldest_first = list(found.values())[::-1]
        oldest_first.sort(key=lambda fill: fill.venue_time_ns)  # stable: pages may overlap
        return [fill for fill in oldest_first if fill.venue_time_ns >= since_ns // 1000 * 1000]

    def stream(self) -> AsyncIterator[StreamEvent]:
        url = self.config.url
        return UserChannel(
            transport=self._transport,
            url=moved_to(url, USER_STREAM_URL) if url else USER_STREAM_URL,
            subscriptions=self._subscriptions,
            symbols=frozenset(self.config.symbols),
            order_of=self._pushed_order,
            fills_of=lambda order: self.fills(order.symbol, venue_order_id=order.venue_order_id),
            timeout_s=self.config.timeout,
            clean=self._clean,
        ).events()

    async def _pushed_order(self, venue_order_id: str) -> VenueOrder:
        sent = self._sent.by_venue_order_id(venue_order_id)
        if sent is None:
            return await self._order_by_id(venue_order_id)
        new = sent.order
        return VenueOrder(
            venue_order_id=venue_order_id,
            cl_ord_id=new.cl_ord_id,
            symbol=new.symbol,
            side=new.side,
            ord_type=new.ord_type,
            status=OrdStatus.NEW,
            order_qty=new.order_qty,
            cum_qty=Decimal(0),
            price=new.price,
            created_ns=sent.sent_ns,
            updated_ns=self._clock.now_ms() * 1_000_000,
        )

    def _venue_order_id(self, cl_ord_id: ClOrdID) -> str:
        sent = self._sent.by_cl_ord_id(cl_ord_id)
        known = sent.venue_order_id if sent is not None else ""
        return known or self._listed.get(cl_ord_id, "")

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        """Where a currency has several wallets, their sum."""
        found: dict[str, Balance] = {}
        params: dict[str, object] = {"limit": PAGE}
        seen = {""}
        while True:
            answer = await self._private("brokerage/accounts", params, wire.Accounts)
            with self._reading("accounts"):
                for entry in answer.accounts:
                    balance = entry.to_port()
                    before = found.get(balance.currency)
                    found[balance.currency] = balance if before is None else _sum(before, balance)
            if not answer.has_next:
                return found
            params["cursor"] = self._next(answer.cursor, seen)

    async def positions(self) -> list[VenuePosition]:
        """Every portfolio has a wallet of its own currency, so an account without any is no answer,
        and raises VenueUnavailableError rather than call every position zero."""
        balances = await self.balances()
        if not balances:
            raise VenueUnavailableError(f"{self.name}: the account's answer lists no currency")
        return spot_positions(self.config.symbols, balances, self.config.holdings)

    async def quote(self, symbol: str) -> Quote:
        """From the private list of best prices: the public ones are up to a second old."""
        wanted = wire.product_id(symbol)
        params = {"product_ids": [wanted]}
        answer = await self._private("brokerage/best_bid_ask", params, wire.PriceBooks)
        with self._reading("a quote"):
            book = next((b for b in answer.pricebooks if b.product_id == wanted), None)
            if book is None:
                raise ValueError(f"no quote in {symbol}")
            quote = book.to_port(venue=self.name, received_ns=time.time_ns())
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        """Portfolios. A key trades on the one that it was made for."""
        key = await self._permissions()
        answer = await self._private("brokerage/portfolios", {}, wire.Portfolios)
        return [
            AccountSummary(
                account_id=each.uuid, kind=each.type, active=each.uuid == key.portfolio_uuid
            )
            for each in answer.portfolios
            if not each.deleted
        ]

    async def key_permissions(self) -> KeyPermissions:
        key = await self._permissions()
        return KeyPermissions(
            trade=key.can_trade,
            withdraw=key.can_transfer,
            note=f"portfolio {key.portfolio_uuid} ({key.portfolio_type})",
        )

    async def _permissions(self) -> wire.KeyPermissions:
        return await self._private("brokerage/key_permissions", {}, wire.KeyPermissions)

    # How Coinbase differs from other venues over ccxt.

    def _make_exchange(self) -> Any:
        exchange = super()._make_exchange()
        # Keys come with their line breaks written out where they passed through an env file.
        exchange.secret = self._credentials.secret.replace("\\n", "\n")
        exchange.seconds = lambda: self._clock.now_ms() // 1000
        sign = exchange.jwt
        # ccxt's tokens live for two minutes. With one that lives no longer than our own time-out, a
        # request that is still on its way when we have given it up is refused, so what asking
        # finds afterwards stays true.
        life_s = math.ceil(self.config.timeout) + 1
        exchange.jwt = lambda claims, *rest: sign({**claims, "exp": claims["nbf"] + life_s}, *rest)
        return exchange

    def _use_test_system(self, exchange: Any) -> None:
        """There is none, and no adapter is made for it."""

    def _signed(
        self, method: str, api: str, path: str, params: Mapping[str, object] | None = None
    ) -> Request:
        if api == PRIVATE and not (self._credentials.key and self._credentials.secret):
            raise VenueAuthError(f"{self.name}: key or secret is missing")
        try:
            return super()._signed(method, api, path, params)
        except ValueError as error:
            raise VenueAuthError(f"{self.name}: the secret is no private key") from original(error)

    def _problem_in(self, reply: Reply) -> Problem | None:
        if reply.status == 401:
            self._clock_doubtful = True
        return problem_in(reply.status, reply.body)

    async def _effect(
        self, request: Request, read: Callable[[bytes], str], *, cl_ord_id: ClOrdID | None = None
    ) -> Accepted | Rejected | Unknown:
        self._pacing.took_turn(time.monotonic())
        return await super()._effect(request, read, cl_ord_id=cl_ord_id)

    async def _ask(self, request: Request, shape: type[T], *, for_cancel: bool = False) -> T:
        if for_cancel:
            self._pacing.took_turn(time.monotonic())
        elif (wait_s := self._pacing.turn_s(time.monotonic())) > 0:
            await asyncio.sleep(wait_s)
        return await super()._ask(request, shape, for_cancel=for_cancel)

    async def _private(
        self,
        path: str,
        params: Mapping[str, object],
        shape: type[T],
        *,
        for_cancel: bool = False,
    ) -> T:
        """A signed query. After a refused key the venue's clock is read again first, since Coinbase
        does not say whether it was the time; orders wait for nothing."""
        if self._clock_doubtful:
            await self.server_time_ns()
        request = self._signed("GET", PRIVATE, path, params)
        return await self._ask(request, shape, for_cancel=for_cancel)

    def _subscriptions(self) -> list[dict[str, object]]:
        """`user` for all products, and the heartbeats that keep the connection open."""
        user: dict[str, object] = {"type": "subscribe", "product_ids": [], "channel": "user"}
        seconds = self._clock.now_ms() // 1000
        exchange = self._exchange
        if _signs_tokens(exchange):
            user["jwt"] = exchange.create_auth_token(seconds)
        else:
            text = f"{seconds}user"  # then the product ids, of which there are none
            signature = exchange.hmac(text.encode(), exchange.secret.encode(), hashlib.sha256)
            user |= {
                "api_key": exchange.apiKey, "timestamp": str(seconds), "signature": signature,
            }  # fmt: skip
        return [user, {"type": "subscribe", "product_ids": [], "channel": "heartbeats"}]


def _signs_tokens(exchange: Any) -> bool:
    """As ccxt tells a CDP key, whose requests carry tokens, from a legacy one."""
    return "organizations/" in exchange.apiKey or exchange.secret.startswith("-----BEGIN")


def _sum(one: Balance, other: Balance) -> Balance:
    return msgspec.structs.replace(
        one, free=one.free + other.free, locked=one.locked + other.locked
    )
