"""Kraken spot.

Facts and hazards of this venue: docs/reference/venues/kraken.md. The rules of outcomes and errors
are in `venues.rest`, the shapes of answers in `wire`, nonces in `nonces`, the rate counters in
`budget`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, TimeInForce
from openbell.errors import ConfigError
from openbell.venues.ccxt_common import CcxtVenue, moved_to
from openbell.venues.credentials import Credentials
from openbell.venues.holdings import spot_positions
from openbell.venues.kraken import wire
from openbell.venues.kraken.budget import Budget, tier_of
from openbell.venues.kraken.ids import to_kraken
from openbell.venues.kraken.nonces import ATTEMPTS, Line, Nonces
from openbell.venues.kraken.stream import Executions
from openbell.venues.port import (
    Accepted,
    AccountSummary,
    Balance,
    CancelOutcome,
    Capabilities,
    DeadMansSwitch,
    KeyPermissions,
    Listing,
    QueryCosts,
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
    VenueThrottledError,
    VenueUnavailableError,
)
from openbell.venues.problem import Meaning, Problem
from openbell.venues.rest import THROTTLED, NoSuchOrderError
from openbell.venues.transport import Reply, Request

T = TypeVar("T")

STREAM_URL = "wss://ws-auth.kraken.com/v2"
BATCH_MAX = 50
QUERY_TRADES_MAX = 20
"""Identifiers in one QueryTrades; "Query Trades Info"."""
DEAD_MAN_S = (1.0, 86_400.0)
DEADLINE_S = (3.0, 60.0)
"""What a deadline may lie ahead: "Add Order" says 2 to 60 s; one more for the whole seconds in
which the venue tells its time."""
HISTORY_COST = 2.0
"""On the call counter; all other queries cost 1. "Ledger/trade history calls"; whether the list of
closed orders counts among them is not said."""
BAD_ORDER = "bad_order"


class KrakenVenue(CcxtVenue):
    """A Kraken spot account. Positions are balances less the venue's `holdings`."""

    exchange_id = "kraken"

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        if config.environment == "practice" and config.url is None:
            raise ConfigError(
                f"{name}: Kraken has no test system for its spot market",
                hint='use environment = "simulated" with a url, or "live"',
            )
        self._nonces = Nonces()
        self._line = Line()
        self._budget = Budget(tier_of(config.options))
        super().__init__(name, config, credentials)
        self.capabilities = _capabilities(self._budget, len(config.symbols))
        self._rules: dict[str, InstrumentRules] = {}
        self._pairs: dict[str, wire.AssetPair] = {}
        self._unified: dict[str, str] = {}
        self._assets: dict[str, wire.AssetInfo] = {}

    def _make_exchange(self) -> Any:
        exchange = super()._make_exchange()
        exchange.incrementing_nonce = self._nonces.next
        return exchange

    # Connection.

    async def connect(self) -> None:
        await self.server_time_ns()
        listed = await self._listed(self.config.symbols)
        missing = [symbol for symbol in self.config.symbols if symbol not in listed]
        if missing:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(missing)}",
                hint=f"mend symbols in [venues.{self.name}]",
                symbols=missing,
            )
        self._assets = await self._public("Assets", {}, dict[str, wire.AssetInfo])
        self._pairs = {symbol: pair for symbol, (_, pair) in listed.items()}
        self._unified = {
            theirs: symbol
            for symbol, (pair_id, pair) in listed.items()
            for theirs in (pair_id, pair.altname, pair.v2_name)
        }
        self._rules = {symbol: pair.to_port() for symbol, pair in self._pairs.items()}
        await self.balances()

    async def _listed(self, symbols: Sequence[str]) -> dict[str, tuple[str, wire.AssetPair]]:
        """Id and facts of those that the venue trades, by unified symbol. One that it does not
        know makes it refuse the whole list without a name, so then each is asked for by itself."""
        names = ",".join(wire.altname(symbol) for symbol in symbols)
        try:
            pairs = await self._public("AssetPairs", {"pair": names}, dict[str, wire.AssetPair])
        except VenueRefusedError as error:
            if error.facts["venue_code"] != wire.UNKNOWN_PAIR:
                raise
            if len(symbols) == 1:
                return {}
            parts = [await self._listed([symbol]) for symbol in symbols]
            return {symbol: found for part in parts for symbol, found in part.items()}
        return {pair.symbol: (pair_id, pair) for pair_id, pair in pairs.items()}

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    async def server_time_ns(self) -> int:
        """Kraken tells whole seconds; the middle of one is off by half of it at most."""
        sent_s = time.monotonic()
        answer = await self._public("Time", {}, wire.ServerTime)
        middle_ms = answer.unixtime * 1000 + 500
        self._clock.measured(middle_ms, sent_s, time.monotonic())
        return middle_ms * 1_000_000

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        params = self._order_params(order)
        if isinstance(params, str):
            return Rejected(code=BAD_ORDER, text=params)
        now_s = time.monotonic()
        wait_s = self._budget.order_wait_s(order.symbol, now_s)
        if wait_s > 0:
            return _held_back(wait_s)
        self._budget.order_sent(order.symbol, order.cl_ord_id, now_s)
        outcome = await self._change("AddOrder", params, _added, cl_ord_id=order.cl_ord_id)
        if isinstance(outcome, Rejected) and outcome.code == wire.ORDERS_EXCEEDED:
            return _held_back(self._budget.orders_exceeded(order.symbol, time.monotonic()))
        return outcome

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        named = {"txid": venue_order_id} if venue_order_id else _by_client_id(cl_ord_id)
        if named is None:
            return Rejected(code=BAD_ORDER, text="no order at Kraken has such an identifier")
        self._budget.cancel_sent(symbol, cl_ord_id, time.monotonic())
        outcome = await self._change("CancelOrder", named, _cancelled)
        if isinstance(outcome, Rejected) and outcome.code == wire.ORDERS_EXCEEDED:
            return _held_back(self._budget.orders_exceeded(symbol, time.monotonic()))
        return outcome

    async def cancel_many(self, symbol: str, cl_ord_ids: Sequence[ClOrdID]) -> list[CancelOutcome]:
        """Kraken carries a batch out even beyond the rate limit, and answers with how many orders
        it cancelled: fewer than asked for leaves open which."""
        wanted = [to_kraken(cl_ord_id) for cl_ord_id in cl_ord_ids]
        known = [name for name in wanted if name is not None]
        if not known:
            return [Rejected(code=BAD_ORDER, text="no such identifier") for _ in wanted]
        now_s = time.monotonic()
        for cl_ord_id in cl_ord_ids:
            self._budget.cancel_sent(symbol, cl_ord_id, now_s)

        def read(body: bytes) -> str:
            count = _result(body, wire.Cancelled).count
            if count != len(known):
                raise ValueError(f"{count} of {len(known)} were cancelled")
            return ""

        outcome = await self._change("CancelOrderBatch", {"cl_ord_ids": known}, read)
        if isinstance(outcome, Unknown):
            outcome = Unknown(why=f"not each of the batch is known to be cancelled: {outcome.why}")
        return [
            Rejected(code=BAD_ORDER, text="no such identifier") if name is None else outcome
            for name in wanted
        ]

    async def cancel_account(self) -> CancelOutcome:
        self._budget.called(1, time.monotonic())
        return await self._change("CancelAll", {}, _cancelled_all)

    async def arm_dead_mans_switch(self, timeout_s: float, symbols: Sequence[str] = ()) -> None:
        """Kraken's timer is of the whole account and counts whole seconds: a fraction is rounded
        up, so that it never fires before a refresh is due."""
        whole_s = -int(-timeout_s // 1)
        self._budget.called(1, time.monotonic())
        armed = await self._private(
            "CancelAllOrdersAfter", {"timeout": whole_s}, wire.Armed, cost=0, urgent=True
        )
        if (armed.trigger_time == "0") != (whole_s == 0):
            raise VenueUnavailableError(f"{self.name}: the dead-man's switch is not as asked for")

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """One request lists the account's; Kraken does not page it."""
        asked = tuple(symbols) or self.config.symbols
        answer = await self._private("OpenOrders", {}, wire.OpenOrders)
        orders: list[VenueOrder] = []
        for txid, order in answer.open.items():
            symbol = self._unified.get(order.descr.pair)
            if symbol in asked:
                orders.append(order.to_port(txid, self._unified.__getitem__))
        return Listing(orders=tuple(orders), complete=True)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """First among the open ones, then among the ended: an order goes that way and not back, so
        one that ends between the questions is not missed. QueryOrders wants Kraken's own id."""
        params = _by_client_id(cl_ord_id)
        if params is None:
            return None
        opened = await self._private("OpenOrders", params, wire.OpenOrders)
        ended = {}
        if not opened.open:
            answer = await self._private(
                "ClosedOrders",
                {**params, "without_count": "true"},
                wire.ClosedOrders,
                cost=HISTORY_COST,
            )
            ended = answer.closed
        found = [
            order.to_port(txid, self._unified.__getitem__)
            for txid, order in (opened.open | ended).items()
            if order.descr.pair in self._unified
        ]
        named = [each for each in found if each.cl_ord_id == cl_ord_id and each.symbol == symbol]
        return max(named, key=lambda each: each.created_ns, default=None)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        if venue_order_id:
            found = await self._trades_of(venue_order_id)
        else:
            found = await self._trades_since(since_ns)
        fills = [
            trade.to_port(txid, symbol)
            for txid, trade in found.items()
            if self._unified.get(trade.pair) == symbol
        ]
        late_enough = [fill for fill in fills if fill.venue_time_ns >= since_ns]
        return sorted(late_enough, key=lambda fill: (fill.venue_time_ns, fill.exec_id))

    async def _trades_of(self, txid: str) -> dict[str, wire.Trade]:
        params = {"txid": txid, "trades": "true", "consolidate_taker": "false"}
        try:
            orders = await self._private("QueryOrders", params, dict[str, wire.Order])
        except NoSuchOrderError:
            return {}
        names = [name for order in orders.values() for name in order.trades]
        found: dict[str, wire.Trade] = {}
        for start in range(0, len(names), QUERY_TRADES_MAX):
            some = ",".join(names[start : start + QUERY_TRADES_MAX])
            found |= await self._private(
                "QueryTrades", {"txid": some}, dict[str, wire.Trade], cost=HISTORY_COST
            )
        if len(found) < len(names):
            raise VenueUnavailableError(
                f"{self.name}: {len(names) - len(found)} executions of an order are not told"
            )
        return found

    async def _trades_since(self, since_ns: int) -> dict[str, wire.Trade]:
        """Pages of 50, the newest first, until as many are there as the venue counts. Executions
        that happen meanwhile push others onto the next page, where they are seen twice; a page
        that was cut is seen as one that leaves too few."""
        params: dict[str, str | int] = {"consolidate_taker": "false"}
        if since_ns > 0:
            # The start is exclusive, and in seconds.
            params["start"] = since_ns // 1_000_000_000 - 1
        found: dict[str, wire.Trade] = {}
        while True:
            page = await self._private(
                "TradesHistory",
                {**params, "ofs": len(found)},
                wire.TradesHistory,
                cost=HISTORY_COST,
            )
            before = len(found)
            found |= page.trades
            if len(found) >= page.count:
                return found
            if len(found) == before:
                raise VenueUnavailableError(
                    f"{self.name}: {page.count - before} executions are counted and not told"
                )

    def stream(self) -> AsyncIterator[StreamEvent]:
        return Executions(
            transport=self._transport,
            url=moved_to(self.config.url, STREAM_URL) if self.config.url else STREAM_URL,
            token=self._stream_token,
            symbol_of=self._unified.__getitem__,
            timeout_s=self.config.timeout,
            clean=self._clean,
        ).events()

    async def _stream_token(self) -> str:
        return (await self._private("GetWebSocketsToken", {}, wire.StreamToken)).token

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        held = await self._private("BalanceEx", {}, dict[str, wire.Holding])
        return wire.balances(held, self._assets)

    async def positions(self) -> list[VenuePosition]:
        """Kraken lists what the account ever held, so an account without any currency is no
        answer, and raises VenueUnavailableError rather than call every position zero."""
        balances = await self.balances()
        if not balances:
            raise VenueUnavailableError(f"{self.name}: the account's answer lists no currency")
        return spot_positions(self.config.symbols, balances, self.config.holdings)

    async def quote(self, symbol: str) -> Quote:
        """`venue_time_ns` is 0: Kraken puts a time on levels, none on the best of them."""
        params: dict[str, str | int] = {"pair": wire.altname(symbol), "count": 1}
        books = await self._public("Depth", params, dict[str, wire.Depth])
        quotes = (
            book.to_port(venue=self.name, symbol=symbol, received_ns=time.time_ns())
            for book in books.values()
        )
        quote = next(quotes, None)
        if quote is None:
            raise VenueUnavailableError(f"{self.name}: no quote in {symbol}")
        return quote

    async def accounts(self) -> list[AccountSummary]:
        """The one that the key belongs to. Where Kraken does not tell about keys, it has no name."""
        info = await self._key_info()
        account_id = info.iban if info is not None and info.iban else "main"
        return [AccountSummary(account_id=account_id, kind="SPOT", active=True)]

    async def key_permissions(self) -> KeyPermissions:
        info = await self._key_info()
        if info is None:
            return KeyPermissions()
        notes = []
        if info.valid_until not in ("", "0"):
            until = datetime.fromtimestamp(int(info.valid_until), UTC)
            notes.append(f"expires {until:%Y-%m-%d %H:%M} UTC")
        if info.ip_allowlist:
            notes.append(f"from {', '.join(info.ip_allowlist)} only")
        return KeyPermissions(
            trade="modify-trades" in info.permissions,
            withdraw="withdraw-funds" in info.permissions,
            note="; ".join(notes),
        )

    async def _key_info(self) -> wire.KeyInfo | None:
        """None where Kraken does not offer the call: it does not everywhere."""
        try:
            return await self._private("GetApiKeyInfo", {}, wire.KeyInfo)
        except VenueRefusedError:
            return None

    # How Kraken differs from other venues over ccxt.

    def _problem_in(self, reply: Reply) -> Problem | None:
        problem = wire.problem_in(reply.status, reply.body)
        if problem is None:
            self._nonces.taken()
        elif problem.code == wire.INVALID_NONCE:
            self._nonces.refused()
        return problem

    def _outcome_of(self, problem: Problem, reply: Reply) -> Rejected | Unknown:
        if problem.meaning is Meaning.THROTTLED:
            if problem.code.startswith("EOrder:"):
                # Of one pair; whoever sent it knows which.
                return Rejected(code=wire.ORDERS_EXCEEDED, text=self._clean(problem.text))
            return _held_back(self._throttled(problem))
        return super()._outcome_of(problem, reply)

    def _error_of(self, problem: Problem, reply: Reply) -> VenueError:
        if problem.meaning is Meaning.THROTTLED:
            return VenueThrottledError(
                f"{self.name}: {self._clean(problem.text)}",
                retry_after_s=self._throttled(problem),
            )
        return super()._error_of(problem, reply)

    def _throttled(self, problem: Problem) -> float:
        now_s = time.monotonic()
        if problem.code == wire.LOCKOUT:
            return self._budget.locked_out(now_s)
        return self._budget.calls_exceeded(now_s)

    def _sign(self, path: str, params: Mapping[str, Any]) -> Request:
        """Takes a nonce: to be sent at once."""
        try:
            return self._signed("POST", "private", path, params)
        except ValueError as error:  # binascii.Error: the secret is no base64
            raise VenueAuthError(
                f"{self.name}: the secret cannot be used to sign",
                hint="a Kraken private key is base64; copy it whole",
            ) from error

    async def _change(
        self,
        path: str,
        params: Mapping[str, Any],
        read: Callable[[bytes], str],
        *,
        cl_ord_id: ClOrdID | None = None,
    ) -> Accepted | Rejected | Unknown:
        shut_s = self._budget.shut_s(time.monotonic())
        if shut_s > 0:
            return _held_back(shut_s)
        async with self._line.effect():
            return await self._effect(self._sign(path, params), read, cl_ord_id=cl_ord_id)

    async def _private(
        self,
        path: str,
        params: Mapping[str, str | int],
        shape: type[T],
        *,
        cost: float = 1.0,
        urgent: bool = False,
    ) -> T:
        """A signed query, asked again while its nonce is refused: then it was not even read.
        `urgent`: ahead of other queries, and whatever the call counter says. Raises VenueError."""
        attempts = 0
        while True:
            attempts += 1
            now_s = time.monotonic()
            wait_s = self._budget.shut_s(now_s)
            if not urgent:
                wait_s = max(wait_s, self._budget.query_wait_s(cost, now_s))
            if wait_s > 0:
                raise VenueThrottledError(
                    f"{self.name}: held back to stay inside the call counter", retry_after_s=wait_s
                )
            self._budget.called(cost, now_s)
            try:
                async with self._line.effect() if urgent else self._line.query():
                    # mypy cannot tell what a generic struct is made of.
                    reply: wire.Reply[T] = await self._ask(
                        self._sign(path, params),
                        wire.Reply[shape],  # type: ignore[valid-type]
                    )
                return reply.result
            except VenueAuthError as error:
                if wire.INVALID_NONCE not in error.message or attempts == ATTEMPTS:
                    raise

    async def _public(self, path: str, params: Mapping[str, str | int], shape: type[T]) -> T:
        reply: wire.Reply[T] = await self._ask(
            self._signed("GET", "public", path, params),
            wire.Reply[shape],  # type: ignore[valid-type]
        )
        return reply.result

    def _order_params(self, order: NewOrder) -> dict[str, str | int] | str:
        """The parameters of a new order, or what is wrong with it."""
        cl_ord_id = to_kraken(order.cl_ord_id)
        if cl_ord_id is None:
            return "Kraken takes no such client order id"
        flags = ["post"] if order.post_only else []
        params: dict[str, str | int] = {
            "pair": wire.altname(order.symbol),
            "type": order.side.value.lower(),
            "ordertype": order.ord_type.value.lower(),
            "volume": wire.plain(order.order_qty),
            "cl_ord_id": cl_ord_id,
            # Fees in the quote currency, so that what is bought is what is held.
            "oflags": ",".join([*flags, "fciq"]),
            "deadline": self._deadline(),
        }
        if order.ord_type is OrdType.MARKET:
            if order.price is not None or order.post_only:
                return "a market order takes neither a price nor post-only"
            return params
        if order.ord_type is not OrdType.LIMIT:
            return f"{order.ord_type} is not sent"
        if order.price is None:
            return "a limit order needs a price"
        if order.time_in_force is TimeInForce.FOK:
            return "Kraken has no fill-or-kill"
        if order.post_only and order.time_in_force is not TimeInForce.GTC:
            return f"post-only and {order.time_in_force} exclude each other"
        return {
            **params,
            "price": wire.plain(order.price),
            "timeinforce": order.time_in_force.value,
        }

    def _deadline(self) -> str:
        """No later than our own time-out, as far as Kraken allows: a request that is still on its
        way when we have given it up is refused, so what asking finds afterwards stays true."""
        least_s, most_s = DEADLINE_S
        ahead_s = min(max(self.config.timeout, least_s), most_s - 1)
        moment = datetime.fromtimestamp(self._clock.now_ms() / 1000 + ahead_s, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _capabilities(budget: Budget, symbols: int) -> Capabilities:
    minute = budget.calls_per_minute
    return Capabilities(
        mass_cancel=True,
        mass_cancel_per_symbol=False,
        batch_cancel=BATCH_MAX,
        dead_mans_switch=DeadMansSwitch(scope="account", min_s=DEAD_MAN_S[0], max_s=DEAD_MAN_S[1]),
        lookup_by_cl_ord_id=True,
        positions=False,
        reduce_only=False,
        server_time=True,
        order_stream=True,
        # What two looks cost together: open orders and balances are one request each, whatever the
        # number of symbols; executions are a page of the history, an order may take both lists.
        costs=QueryCosts(
            open_orders=1 / minute / symbols,
            positions=1 / minute,
            fills=HISTORY_COST / minute,
            order=(1 + HISTORY_COST) / minute,
        ),
    )


def _by_client_id(cl_ord_id: ClOrdID) -> dict[str, str | int] | None:
    name = to_kraken(cl_ord_id)
    return None if name is None else {"cl_ord_id": name}


def _held_back(wait_s: float) -> Rejected:
    return Rejected(code=THROTTLED, text=f"retry after {wait_s:.1f} s")


def _result(body: bytes, shape: type[T]) -> T:
    reply: wire.Reply[T] = msgspec.json.decode(
        body,
        type=wire.Reply[shape],  # type: ignore[valid-type]
    )
    return reply.result


def _added(body: bytes) -> str:
    (txid,) = _result(body, wire.Added).txid
    return txid


def _cancelled(body: bytes) -> str:
    answer = _result(body, wire.Cancelled)
    if answer.count < 1 and not answer.pending:
        raise ValueError("no order was cancelled, and none refused")
    return ""


def _cancelled_all(body: bytes) -> str:
    _result(body, wire.Cancelled)
    return ""
