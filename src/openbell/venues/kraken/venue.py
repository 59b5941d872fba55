"""Kraken spot.

Facts and hazards of this venue: docs/reference/venues/kraken.md. The rules of outcomes and errors
are in `venues.rest`, how requests are put in `calls`, the shapes of answers in `wire`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, Purpose
from openbell.venues.ccxt_common import moved_to
from openbell.venues.credentials import Credentials
from openbell.venues.holdings import spot_positions
from openbell.venues.kraken import errors, wire
from openbell.venues.kraken.budget import Budget
from openbell.venues.kraken.calls import KrakenCalls, held_back, result_of
from openbell.venues.kraken.ids import to_kraken
from openbell.venues.kraken.requests import DEADLINE_MIN_S, deadline, order_params
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
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER
from openbell.venues.rest import NoSuchOrderError

STREAM_URL = "wss://ws-auth.kraken.com/v2"
BATCH_MAX = 50
QUERY_TRADES_MAX = 20
"""Identifiers in one QueryTrades; "Query Trades Info"."""
DEAD_MAN_S = (1.0, 86_400.0)
HISTORY_COST = 2.0
"""On the call counter; all other queries cost 1. "Ledger/trade history calls"; whether the list of
closed orders counts among them is not said."""
_NO_SUCH_ID = "no order at Kraken has such an identifier"


class KrakenVenue(KrakenCalls):
    """A Kraken spot account. Positions are balances less the venue's `holdings`."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        super().__init__(name, config, credentials)
        self.capabilities = _capabilities(self._budget, len(config.symbols), config.timeout)
        self._rules: dict[str, InstrumentRules] = {}
        self._unified: dict[str, str] = {}
        """Our symbol by each of Kraken's names of it; empty until `connect`."""
        self._assets: dict[str, wire.AssetInfo] = {}
        self._histories: dict[int, asyncio.Future[dict[str, wire.Trade]]] = {}
        """Executions that are being asked for, by their start."""

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
        self._unified = {
            theirs: symbol
            for symbol, (pair_id, pair) in listed.items()
            for theirs in (pair_id, pair.altname, pair.v2_name)
        }
        with self._reading("rules"):
            self._rules = {symbol: pair.to_port() for symbol, (_, pair) in listed.items()}
        await self.balances()

    async def _listed(self, symbols: Sequence[str]) -> dict[str, tuple[str, wire.AssetPair]]:
        """Id and facts of those that the venue trades, by unified symbol. One that it does not
        know makes it refuse the whole list without a name, so then each is asked for by itself."""
        names = ",".join(wire.altname(symbol) for symbol in symbols)
        try:
            pairs = await self._public("AssetPairs", {"pair": names}, dict[str, wire.AssetPair])
        except VenueRefusedError as error:
            if error.facts["venue_code"] != errors.UNKNOWN_PAIR:
                raise
            if len(symbols) == 1:
                return {}
            parts = [await self._listed([symbol]) for symbol in symbols]
            return {symbol: found for part in parts for symbol, found in part.items()}
        return {pair.symbol: (pair_id, pair) for pair_id, pair in pairs.items()}

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    def _must_be_connected(self) -> None:
        """Kraken tells the account's orders, trades and balances of all pairs by names of its own:
        without these, ours look like none. Raises VenueUnavailableError."""
        if not self._unified:
            raise VenueUnavailableError(f"{self.name}: not connected yet")

    async def server_time_ns(self) -> int:
        """Kraken tells whole seconds; the middle of one is off by half of it at most."""
        sent_s = time.monotonic()
        answer = await self._public("Time", {}, wire.ServerTime)
        middle_ms = answer.unixtime * 1000 + 500
        self._clock.measured(middle_ms, sent_s, time.monotonic())
        return middle_ms * 1_000_000

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        params = order_params(order, self._deadline())
        if isinstance(params, str):
            return Rejected(code=BAD_ORDER, text=params)
        now_s = time.monotonic()
        closing = order.purpose is Purpose.FLATTEN
        wait_s = self._budget.order_wait_s(order.symbol, now_s, closing=closing)
        if wait_s > 0:
            return held_back(wait_s)
        self._budget.order_sent(order.symbol, order.cl_ord_id, now_s)
        outcome = await self._change("AddOrder", params, _added, cl_ord_id=order.cl_ord_id)
        if isinstance(outcome, Rejected) and outcome.code == errors.ORDERS_EXCEEDED:
            return held_back(self._budget.orders_exceeded(order.symbol, time.monotonic()))
        return outcome

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        named = {"txid": venue_order_id} if venue_order_id else _by_client_id(cl_ord_id)
        if named is None:
            return Rejected(code=BAD_ORDER, text=_NO_SUCH_ID)
        now_s = time.monotonic()
        wait_s = self._budget.cancel_wait_s(symbol, now_s)
        if wait_s > 0:
            return held_back(wait_s)
        self._budget.cancel_sent(symbol, cl_ord_id, now_s)
        outcome = await self._change("CancelOrder", named, _cancelled)
        if isinstance(outcome, Rejected) and outcome.code == errors.ORDERS_EXCEEDED:
            return held_back(self._budget.orders_exceeded(symbol, time.monotonic()))
        return outcome

    async def cancel_many(self, symbol: str, cl_ord_ids: Sequence[ClOrdID]) -> list[CancelOutcome]:
        """Kraken carries a batch out even beyond the rate limit, and answers with how many orders
        it cancelled: fewer than asked for leaves open which."""
        wanted = [to_kraken(cl_ord_id) for cl_ord_id in cl_ord_ids]
        known = [name for name in wanted if name is not None]
        if not known:
            return [Rejected(code=BAD_ORDER, text=_NO_SUCH_ID) for _ in wanted]
        now_s = time.monotonic()
        for cl_ord_id in cl_ord_ids:
            self._budget.cancel_sent(symbol, cl_ord_id, now_s)

        outcome = await self._change("CancelOrderBatch", {"cl_ord_ids": known}, _count)
        if isinstance(outcome, Accepted):
            count = int(outcome.venue_order_id)
            outcome = (
                Accepted(venue_order_id="")
                if count == len(known)
                else Unknown(why=f"{count} of {len(known)} were cancelled; it is not said which")
            )
        return [
            Rejected(code=BAD_ORDER, text=_NO_SUCH_ID) if name is None else outcome
            for name in wanted
        ]

    async def cancel_account(self) -> CancelOutcome:
        self._budget.called(1, time.monotonic())
        return await self._change("CancelAll", {}, _whatever_count)

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
        self._must_be_connected()
        asked = tuple(symbols) or self.config.symbols
        answer = await self._private("OpenOrders", {}, wire.OpenOrders)
        orders: list[VenueOrder] = []
        for txid, order in answer.open.items():
            symbol = self._unified.get(order.descr.pair)
            if symbol in asked:
                with self._reading("an order"):
                    orders.append(order.to_port(txid, self._unified.__getitem__))
        elsewhere = len(answer.open) - len(orders)
        return Listing(orders=tuple(orders), complete=True, elsewhere=elsewhere)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """First among the open ones, then among the ended: an order goes that way and not back, so
        one that ends between the questions is not missed. Neither by QueryOrders: it is documented
        for Kraken's own identifiers alone."""
        params = _by_client_id(cl_ord_id)
        if params is None:
            return None
        self._must_be_connected()
        opened = await self._private("OpenOrders", params, wire.OpenOrders)
        found = self._named(opened.open, symbol, cl_ord_id)
        if not found:
            ended = await self._private(
                "ClosedOrders",
                {**params, "without_count": "true"},
                wire.ClosedOrders,
                cost=HISTORY_COST,
            )
            found = self._named(ended.closed, symbol, cl_ord_id)
        return max(found, key=lambda each: each.created_ns, default=None)

    def _named(
        self, orders: Mapping[str, wire.Order], symbol: str, cl_ord_id: ClOrdID
    ) -> list[VenueOrder]:
        """The filter is Kraken's; that it was heeded is looked at here."""
        with self._reading("an order"):
            found = [
                order.to_port(txid, self._unified.__getitem__)
                for txid, order in orders.items()
                if self._unified.get(order.descr.pair) == symbol
            ]
        return [each for each in found if each.cl_ord_id == cl_ord_id]

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        self._must_be_connected()
        if venue_order_id:
            found = await self._trades_of(venue_order_id)
        else:
            found = await self._shared_trades_since(since_ns)
        with self._reading("a trade"):
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

    async def _shared_trades_since(self, since_ns: int) -> dict[str, wire.Trade]:
        """The history is of all pairs, and dear: who asks while the same is being asked shares the
        answer, as a look at all symbols does."""
        asked = self._histories.get(since_ns)
        if asked is None:
            asked = asyncio.ensure_future(self._trades_since(since_ns))
            self._histories[since_ns] = asked
            asked.add_done_callback(lambda _: self._histories.pop(since_ns))
        return await asyncio.shield(asked)

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
            # The names as of the event: `connect` may come later, and again.
            symbol_of=lambda theirs: self._unified[theirs],
            timeout_s=self.config.timeout,
            clean=self._clean,
        ).events()

    async def _stream_token(self) -> str:
        return (await self._private("GetWebSocketsToken", {}, wire.StreamToken)).token

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        self._must_be_connected()
        held = await self._private("BalanceEx", {}, dict[str, wire.Holding])
        with self._reading("balances"):
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
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        """The one that the key belongs to. Where Kraken does not tell about keys, it has no name."""
        info = await self._key_info()
        account_id = info.iban if info is not None and info.iban else "main"
        return [AccountSummary(account_id=account_id, kind="SPOT", active=True)]

    async def key_permissions(self) -> KeyPermissions:
        info = await self._key_info()
        if info is None:
            return KeyPermissions()
        trade = "modify-trades" in info.permissions
        notes = []
        if not trade:
            closes = "close-trades" in info.permissions
            notes.append("may cancel and close" if closes else "may not cancel either")
        if info.valid_until not in ("", "0"):
            until = datetime.fromtimestamp(int(info.valid_until), UTC)
            notes.append(f"expires {until:%Y-%m-%d %H:%M} UTC")
        if info.ip_allowlist:
            notes.append(f"from {', '.join(info.ip_allowlist)} only")
        return KeyPermissions(
            trade=trade,
            withdraw="withdraw-funds" in info.permissions,
            note="; ".join(notes),
        )

    async def _key_info(self) -> wire.KeyInfo | None:
        """None where Kraken does not offer the call: it does not everywhere."""
        try:
            return await self._private("GetApiKeyInfo", {}, wire.KeyInfo)
        except VenueRefusedError:
            return None

    def _deadline(self) -> str:
        return deadline(self._clock.now_ms(), self.config.timeout)


def _capabilities(budget: Budget, symbols: int, timeout_s: float) -> Capabilities:
    minute = budget.calls_per_minute
    return Capabilities(
        mass_cancel=True,
        mass_cancel_per_symbol=False,
        batch_cancel=BATCH_MAX,
        # Orders that wait for a trigger are among Kraken's open orders, which it cancels all.
        dead_mans_switch=DeadMansSwitch(
            scope="account", min_s=DEAD_MAN_S[0], max_s=DEAD_MAN_S[1], conditional=True
        ),
        lookup_by_cl_ord_id=True,
        positions=False,
        reduce_only=False,
        server_time=True,
        order_stream=True,
        refuses_late_by_s=max(0.0, DEADLINE_MIN_S - timeout_s),
        # Open orders, balances and executions are one request each, whatever the number of symbols;
        # an order may take both lists.
        conformance_tested=True,
        costs=QueryCosts(
            open_orders=1 / minute / symbols,
            positions=1 / minute,
            fills=HISTORY_COST / minute / symbols,
            order=(1 + HISTORY_COST) / minute,
        ),
    )


def _by_client_id(cl_ord_id: ClOrdID) -> dict[str, str | int] | None:
    name = to_kraken(cl_ord_id)
    return None if name is None else {"cl_ord_id": name}


def _added(body: bytes) -> str:
    (txid,) = result_of(body, wire.Added).txid
    return txid


def _cancelled(body: bytes) -> str:
    answer = result_of(body, wire.Cancelled)
    if answer.count < 1 and not answer.pending:
        raise ValueError("no order was cancelled, and none refused")
    return ""


def _count(body: bytes) -> str:
    return str(result_of(body, wire.Cancelled).count)


def _whatever_count(body: bytes) -> str:
    result_of(body, wire.Cancelled)
    return ""
