"""Binance spot.

Facts and hazards of this venue: docs/reference/venues/binance.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from openbell.domain.market import Quote
from openbell.domain.orders import ClOrdID, NewOrder
from openbell.venues.binance import wire
from openbell.venues.binance.stream import UserDataStream
from openbell.venues.binance.venue import (
    BinanceRest,
    always,
    binance_symbol,
    order_id_in,
    order_params,
)
from openbell.venues.ccxt_common import moved_to
from openbell.venues.holdings import spot_positions
from openbell.venues.port import (
    AccountSummary,
    Balance,
    CancelOutcome,
    Capabilities,
    Listing,
    Rejected,
    StreamEvent,
    SubmitOutcome,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER

STREAM_URL = {
    "live": "wss://ws-api.binance.com:443/ws-api/v3",
    "practice": "wss://ws-api.testnet.binance.vision/ws-api/v3",
}


class BinanceVenue(BinanceRest):
    """A Binance spot account. Positions are balances less the venue's `holdings`."""

    exchange_id = "binance"
    capabilities = Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=True,
        batch_cancel=0,
        dead_mans_switch=None,
        reduce_only=False,
        lookup_by_cl_ord_id=True,
        positions=False,
        server_time=True,
        order_stream=True,
        refuses_late_by_s=0.0,  # recvWindow
        cancels_per_s=wire.CANCELS_PER_S,
        cancel_burst=wire.WEIGHT_PER_MINUTE,
        conformance_tested=True,
        costs=wire.QUERY_COSTS,
    )

    public_api, private_api = "public", "private"
    order_shape = wire.Order
    trades_path, trade_shape = "myTrades", wire.Trade
    trades_window_ms = 24 * 3600 * 1000

    # Connection.

    async def connect(self) -> None:
        await self.server_time_ns()
        info = await self._known(self.config.symbols)
        listed = {entry.unified: entry for entry in info.symbols}
        missing = [symbol for symbol in self.config.symbols if symbol not in listed]
        if missing:
            raise self._not_traded(missing)
        with self._reading("rules"):
            self._rules = {symbol: listed[symbol].to_port() for symbol in self.config.symbols}
        self._pacing.budget = wire.weight_budget(info.rate_limits)
        await self._private("account", {}, wire.Account)

    async def _known(self, symbols: Sequence[str]) -> wire.ExchangeInfo:
        """Those of `symbols` that the venue trades. One that it does not know makes it refuse the
        whole list without a name, so then each is asked for by itself."""
        try:
            return await self._exchange_info(symbols)
        except VenueRefusedError as error:
            if error.facts["venue_code"] != wire.BAD_SYMBOL:
                raise
            if len(symbols) == 1:
                return wire.ExchangeInfo(symbols=[])
        parts = [await self._known([symbol]) for symbol in symbols]
        limits = next((part.rate_limits for part in parts if part.rate_limits), [])
        return wire.ExchangeInfo(
            symbols=[entry for part in parts for entry in part.symbols], rate_limits=limits
        )

    async def _exchange_info(self, symbols: Sequence[str]) -> wire.ExchangeInfo:
        names = msgspec.json.encode([binance_symbol(symbol) for symbol in symbols]).decode()
        request = self._signed("GET", "public", "exchangeInfo", {"symbols": names})
        return await self._ask(request, wire.ExchangeInfo)

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        params = order_params(order, post_only={"type": "LIMIT_MAKER"})
        if isinstance(params, str):
            return Rejected(code=BAD_ORDER, text=params)
        request = self._signed("POST", "private", "order", params)
        return await self._effect(request, order_id_in, cl_ord_id=order.cl_ord_id)

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        params = {"symbol": binance_symbol(symbol)} | (
            {"orderId": venue_order_id} if venue_order_id else {"origClientOrderId": cl_ord_id}
        )
        return await self._effect(self._signed("DELETE", "private", "order", params), order_id_in)

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        """Where nothing is open Binance refuses with -2011: Rejected, and no failure."""
        params = {"symbol": binance_symbol(symbol)}
        return await self._effect(
            self._signed("DELETE", "private", "openOrders", params), _acknowledged_many
        )

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        async def ask(symbol: str) -> list[VenueOrder]:
            params = {"symbol": binance_symbol(symbol)}
            found = await self._private("openOrders", params, list[wire.Order])
            with self._reading("orders"):
                return [order.to_port(always(symbol)) for order in found]

        return await self._listed(tuple(symbols) or self.config.symbols, ask)

    def stream(self) -> AsyncIterator[StreamEvent]:
        live = STREAM_URL.get(self.config.environment, STREAM_URL["live"])
        return UserDataStream(
            transport=self._transport,
            url=moved_to(self.config.url, live) if self.config.url else live,
            subscription=self._subscription,
            symbol_of=self._unified.__getitem__,
            timeout_s=self.config.timeout,
            clean=self._clean,
        ).events()

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        account = await self._private("account", {}, wire.Account)
        return {entry.asset: entry.to_port() for entry in account.balances}

    async def positions(self) -> list[VenuePosition]:
        """Where two symbols share a base currency, the first of them carries its balance.

        Binance lists currencies held or not, so an account without any is no answer, and raises
        VenueUnavailableError rather than call every position zero.
        """
        balances = await self.balances()
        if not balances:
            raise VenueUnavailableError(f"{self.name}: the account's answer lists no currency")
        return spot_positions(self.config.symbols, balances, self.config.holdings)

    async def quote(self, symbol: str) -> Quote:
        """`venue_time_ns` is 0: Binance puts no time on a book ticker."""
        params = {"symbol": binance_symbol(symbol)}
        answer = await self._ask(
            self._signed("GET", "public", "ticker/bookTicker", params), wire.BookTicker
        )
        with self._reading("a quote"):
            quote = answer.to_port(venue=self.name, symbol=symbol, received_ns=time.time_ns())
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        """The one that the key belongs to."""
        account = await self._private("account", {}, wire.Account)
        return [AccountSummary(account_id=str(account.uid), kind=account.account_type, active=True)]

    def _may_trade(self, permissions: wire.ApiRestrictions) -> bool:
        return permissions.enable_spot_and_margin_trading

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "defaultType": "spot"}

    def _subscription(self) -> dict[str, str | int]:
        params: dict[str, str | int] = {
            "apiKey": self._credentials.key,
            "recvWindow": self._recv_window_ms,
            "timestamp": self._clock.now_ms(),
        }
        text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        return {**params, "signature": self._signature(text)}


def _acknowledged_many(body: bytes) -> str:
    """One entry per order, or per order list, so there is no one id to return."""
    msgspec.json.decode(body, type=list[dict[str, Any]])
    return ""
