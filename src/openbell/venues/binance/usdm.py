"""Binance USD-M futures: perpetual contracts in one-way mode.

Facts and hazards of this venue: docs/reference/venues/binance.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from openbell.domain.market import Quote
from openbell.domain.orders import ClOrdID, NewOrder, Purpose
from openbell.venues.binance import usdm_wire as wire
from openbell.venues.binance.usdm_stream import PrivateStream
from openbell.venues.binance.venue import (
    BinanceRest,
    always,
    binance_symbol,
    order_id_in,
    order_params,
)
from openbell.venues.binance.wire import ApiRestrictions, meaning_of, weight_budget
from openbell.venues.ccxt_common import moved_to
from openbell.venues.port import (
    Accepted,
    AccountSummary,
    Balance,
    CancelOutcome,
    Capabilities,
    DeadMansSwitch,
    Listing,
    Rejected,
    StreamEvent,
    SubmitOutcome,
    Unknown,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER, Meaning

STREAM_URL = {
    "live": "wss://fstream.binance.com/private/ws",
    "practice": "wss://fstream.binancefuture.com/private/ws",
}
BATCH_MAX = 10
"""Orders in one cancel; "Cancel Multiple Orders"."""


class BinanceUsdmVenue(BinanceRest):
    """An account of USD-M futures. Symbols are perpetual contracts: `BTC/USDT` is BTCUSDT."""

    exchange_id = "binanceusdm"
    capabilities = Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=True,
        batch_cancel=BATCH_MAX,
        # Binance states no bounds; it checks about every 10 ms and advises against small values.
        dead_mans_switch=DeadMansSwitch(scope="symbol", min_s=1, max_s=3600),
        reduce_only=True,
        lookup_by_cl_ord_id=True,
        positions=True,
        server_time=True,
        order_stream=True,
        refuses_late_by_s=0.0,  # recvWindow
        cancels_per_s=wire.CANCELS_PER_S,
        cancel_burst=wire.WEIGHT_PER_MINUTE,
        conformance_tested=True,
        costs=wire.QUERY_COSTS,
    )
    public_api, private_api = "fapiPublic", "fapiPrivate"
    order_shape = wire.Order
    trades_path, trade_shape = "userTrades", wire.Trade
    trades_window_ms = 7 * 24 * 3600 * 1000

    # Connection.

    async def connect(self) -> None:
        """Refuses an account in hedge mode: there a plain order is refused, and what closes one
        leg would be told from what opens the other by a side that the desk does not send."""
        await self.server_time_ns()
        request = self._signed("GET", self.public_api, "exchangeInfo")
        info = await self._ask(request, wire.ExchangeInfo)
        listed = info.perpetuals
        missing = [symbol for symbol in self.config.symbols if symbol not in listed]
        if missing:
            raise self._not_traded(missing)
        with self._reading("rules"):
            self._rules = {symbol: listed[symbol].to_port() for symbol in self.config.symbols}
        self._pacing.budget = weight_budget(info.rate_limits)
        mode = await self._private("positionSide/dual", {}, wire.PositionMode)
        if mode.dual_side_position:
            raise VenueRefusedError(
                f"{self.name}: the account is in hedge mode",
                hint="set its position mode to one-way at Binance",
            )

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        params = order_params(order, post_only={"timeInForce": "GTX"})
        if isinstance(params, str):
            return Rejected(code=BAD_ORDER, text=params)
        if order.purpose is Purpose.FLATTEN:
            params["reduceOnly"] = "true"
        request = self._signed("POST", self.private_api, "order", params)
        return await self._effect(request, order_id_in, cl_ord_id=order.cl_ord_id)

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        if venue_order_id.startswith(wire.ALGO):
            algo_id = venue_order_id.removeprefix(wire.ALGO)
            request = self._signed("DELETE", self.private_api, "algoOrder", {"algoId": algo_id})
            return await self._effect(request, _algo_done)
        params = {"symbol": binance_symbol(symbol)} | (
            {"orderId": venue_order_id} if venue_order_id else {"origClientOrderId": cl_ord_id}
        )
        return await self._effect(
            self._signed("DELETE", self.private_api, "order", params), order_id_in
        )

    async def cancel_many(self, symbol: str, cl_ord_ids: Sequence[ClOrdID]) -> list[CancelOutcome]:
        if not cl_ord_ids:
            return []
        entries: list[wire.Cancelled] = []

        def take(body: bytes) -> str:
            entries.extend(msgspec.json.decode(body, type=list[wire.Cancelled]))
            return ""

        params = {"symbol": binance_symbol(symbol), "origClientOrderIdList": list(cl_ord_ids)}
        request = self._signed("DELETE", self.private_api, "batchOrders", params)
        outcome = await self._effect(request, take)
        if not isinstance(outcome, Accepted):
            return [outcome for _ in cl_ord_ids]
        if len(entries) != len(cl_ord_ids):
            why = f"{len(entries)} answers to {len(cl_ord_ids)} cancels"
            return [Unknown(why=why) for _ in cl_ord_ids]
        return [
            self._of_batch(cl_ord_id, entry)
            for cl_ord_id, entry in zip(cl_ord_ids, entries, strict=True)
        ]

    def _of_batch(self, cl_ord_id: ClOrdID, entry: wire.Cancelled) -> CancelOutcome:
        """Entries stand in the order of the request; one of another order proves nothing."""
        if entry.code is not None and entry.order_id is None:
            text = self._clean(entry.msg)
            if meaning_of(entry.code, entry.msg) is Meaning.UNCERTAIN:
                return Unknown(why=f"{entry.code}: {text}")
            return Rejected(code=str(entry.code), text=text)
        if entry.client_order_id != cl_ord_id:
            return Unknown(why="the answer is about another order")
        return Accepted(venue_order_id=str(entry.order_id))

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        """Two requests: conditional orders are withdrawn by a call of their own."""
        params = {"symbol": binance_symbol(symbol)}
        outcomes = [
            await self._effect(self._signed("DELETE", self.private_api, path, params), _done)
            for path in ("allOpenOrders", "algoOpenOrders")
        ]
        unsure = [each for each in outcomes if isinstance(each, Unknown)]
        refused = [each for each in outcomes if isinstance(each, Rejected)]
        return (unsure or refused or outcomes)[0]

    async def arm_dead_mans_switch(self, timeout_s: float, symbols: Sequence[str] = ()) -> None:
        """Each symbol has a timer of its own. May use the budget that is kept for cancels."""
        asked = tuple(symbols) or self.config.symbols
        await asyncio.gather(*(self._count_down(symbol, timeout_s) for symbol in asked))

    async def _count_down(self, symbol: str, timeout_s: float) -> None:
        params: dict[str, str | int] = {
            "symbol": binance_symbol(symbol),
            "countdownTime": int(timeout_s * 1000),
        }
        request = self._signed("POST", self.private_api, "countdownCancelAll", params)
        await self._ask(request, wire.Countdown, for_cancel=True)

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """Plain and conditional ones; the latter have ids that begin with `algo:`."""

        async def ask(symbol: str) -> list[VenueOrder]:
            params = {"symbol": binance_symbol(symbol)}
            plain, conditional = await asyncio.gather(
                self._private("openOrders", params, list[wire.Order]),
                self._private("openAlgoOrders", params, list[wire.AlgoOrder]),
            )
            known = always(symbol)
            return [order.to_port(known) for order in plain] + [
                order.to_port(known) for order in conditional
            ]

        return await self._listed(tuple(symbols) or self.config.symbols, ask)

    def stream(self) -> AsyncIterator[StreamEvent]:
        live = STREAM_URL.get(self.config.environment, STREAM_URL["live"])
        return PrivateStream(
            transport=self._transport,
            url=moved_to(self.config.url, live) if self.config.url else live,
            make_key=self._make_listen_key,
            keep_key=self._keep_listen_key,
            symbol_of=self._unified.__getitem__,
            timeout_s=self.config.timeout,
        ).events()

    async def _make_listen_key(self) -> str:
        request = self._signed("POST", self.private_api, "listenKey")
        return (await self._ask(request, wire.ListenKey)).listen_key

    async def _keep_listen_key(self) -> None:
        request = self._signed("PUT", self.private_api, "listenKey")
        await self._ask(request, dict[str, Any])

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        account = await self._account()
        return {entry.asset: entry.to_port() for entry in account.assets}

    async def _account(self) -> wire.Account:
        return await self._private("account", {}, wire.Account, api="fapiPrivateV3")

    async def positions(self) -> list[VenuePosition]:
        """Asked in version 2, which lists every symbol: a declared one that is missing is no
        answer, where version 3 leaves out what is flat and so cannot be told from a cut list."""
        listed = await self._private("positionRisk", {}, list[wire.Position], api="fapiPrivateV2")
        found = [
            entry.to_port(self._unified[entry.symbol])
            for entry in listed
            if entry.symbol in self._unified
        ]
        missing = set(self.config.symbols) - {position.symbol for position in found}
        if missing:
            raise VenueUnavailableError(
                f"{self.name}: the positions' answer lists no {', '.join(sorted(missing))}"
            )
        return found

    async def quote(self, symbol: str) -> Quote:
        params = {"symbol": binance_symbol(symbol)}
        answer = await self._ask(
            self._signed("GET", self.public_api, "ticker/bookTicker", params), wire.BookTicker
        )
        with self._reading("a quote"):
            quote = answer.to_port(venue=self.name, symbol=symbol, received_ns=time.time_ns())
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        """The one that the key belongs to, by the alias that Binance gives it."""
        balances, account = await asyncio.gather(
            self._private("balance", {}, list[wire.FuturesBalance], api="fapiPrivateV3"),
            self._account(),
        )
        if not balances:
            raise VenueUnavailableError(f"{self.name}: the account's answer lists no currency")
        return [
            AccountSummary(
                account_id=balances[0].account_alias,
                kind="USD-M futures",
                currency="USDT",
                equity=account.total_margin_balance,
                active=True,
            )
        ]

    def _may_trade(self, permissions: ApiRestrictions) -> bool:
        return permissions.enable_futures

    def _use_test_system(self, exchange: Any) -> None:
        """ccxt refuses its sandbox for futures, which Binance moved to "demo trading"."""
        exchange.enable_demo_trading(True)


def _done(body: bytes) -> str:
    """Of a mass cancel, which names no order."""
    answer = msgspec.json.decode(body, type=wire.Done)
    if answer.code != 200:
        raise ValueError(f"code {answer.code}")
    return ""


def _algo_done(body: bytes) -> str:
    return f"{wire.ALGO}{msgspec.json.decode(body, type=wire.AlgoDone).algo_id}"
