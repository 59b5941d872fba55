"""Binance spot.

Facts and hazards of this venue: docs/reference/venues.md. The rules of outcomes and errors are in
`venues.rest`, the shapes of answers in `wire`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, TimeInForce
from openbell.venues.binance import wire
from openbell.venues.binance.stream import UserDataStream
from openbell.venues.ccxt_common import CcxtVenue, moved_to
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Balance,
    CancelOutcome,
    Capabilities,
    Listing,
    Rejected,
    StreamEvent,
    SubmitOutcome,
    VenueError,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import Problem
from openbell.venues.rest import NoSuchOrderError
from openbell.venues.transport import Reply

T = TypeVar("T")

STREAM_URL = {
    "live": "wss://ws-api.binance.com:443/ws-api/v3",
    "practice": "wss://ws-api.testnet.binance.vision/ws-api/v3",
}
TRADES_PER_PAGE = 1000
TRADES_WINDOW_MS = 24 * 3600 * 1000
"""Both are Binance's maxima for myTrades."""
RECV_WINDOW_MAX_MS = 60_000
ED25519_PEM_MAX = 120
"""Characters; an RSA key in PEM is longer. ccxt tells the two apart in the same way."""
BAD_ORDER = "bad_order"
_ZERO = Decimal(0)


class BinanceVenue(CcxtVenue):
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
        costs=wire.QUERY_COSTS,
    )

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        self._recv_window_ms = min(int(config.timeout * 1000), RECV_WINDOW_MAX_MS)
        """No longer than our own time-out: a request that is still on its way when we have given
        it up is refused by Binance, so what asking finds afterwards stays true."""
        super().__init__(name, config, credentials)
        self._rules: dict[str, InstrumentRules] = {}
        self._unified = {_binance_symbol(symbol): symbol for symbol in config.symbols}
        self._clock_doubtful = True

    # Connection.

    async def connect(self) -> None:
        await self.server_time_ns()
        info = await self._listed(self.config.symbols)
        listed = {entry.unified: entry for entry in info.symbols}
        missing = [symbol for symbol in self.config.symbols if symbol not in listed]
        if missing:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(missing)}",
                hint=f"mend symbols in [venues.{self.name}]",
                symbols=missing,
            )
        try:
            self._rules = {symbol: listed[symbol].to_port() for symbol in self.config.symbols}
        except (KeyError, ValueError, ArithmeticError) as error:
            raise VenueUnavailableError(f"{self.name}: rules of another shape") from error
        self._pacing.budget = info.weight_per_minute
        await self._private("account", {}, wire.Account)

    async def _listed(self, symbols: Sequence[str]) -> wire.ExchangeInfo:
        """Those of `symbols` that the venue trades. One that it does not know makes it refuse the
        whole list without a name, so then each is asked for by itself."""
        try:
            return await self._exchange_info(symbols)
        except VenueRefusedError as error:
            if error.facts["venue_code"] != wire.BAD_SYMBOL:
                raise
            if len(symbols) == 1:
                return wire.ExchangeInfo(symbols=[])
        parts = [await self._listed([symbol]) for symbol in symbols]
        limits = next((part.rate_limits for part in parts if part.rate_limits), [])
        return wire.ExchangeInfo(
            symbols=[entry for part in parts for entry in part.symbols], rate_limits=limits
        )

    async def _exchange_info(self, symbols: Sequence[str]) -> wire.ExchangeInfo:
        names = msgspec.json.encode([_binance_symbol(symbol) for symbol in symbols]).decode()
        request = self._signed("GET", "public", "exchangeInfo", {"symbols": names})
        return await self._ask(request, wire.ExchangeInfo)

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    async def server_time_ns(self) -> int:
        sent_s = time.monotonic()
        answer = await self._ask(self._signed("GET", "public", "time"), wire.ServerTime)
        self._clock.measured(answer.server_time, sent_s, time.monotonic())
        self._clock_doubtful = False
        return answer.server_time * 1_000_000

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        params = _order_params(order)
        if isinstance(params, str):
            return Rejected(code=BAD_ORDER, text=params)
        request = self._signed("POST", "private", "order", params)
        return await self._effect(request, _acknowledged, cl_ord_id=order.cl_ord_id)

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        params = {"symbol": _binance_symbol(symbol)} | (
            {"orderId": venue_order_id} if venue_order_id else {"origClientOrderId": cl_ord_id}
        )
        return await self._effect(self._signed("DELETE", "private", "order", params), _acknowledged)

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        """Where nothing is open Binance refuses with -2011: Rejected, and no failure."""
        params = {"symbol": _binance_symbol(symbol)}
        return await self._effect(
            self._signed("DELETE", "private", "openOrders", params), _acknowledged_many
        )

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        asked = tuple(symbols) or self.config.symbols
        answers = await asyncio.gather(
            *(
                self._private("openOrders", {"symbol": _binance_symbol(symbol)}, list[wire.Order])
                for symbol in asked
            ),
            return_exceptions=True,
        )
        orders: list[VenueOrder] = []
        failures: list[BaseException] = []
        for symbol, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                failures.append(answer)
            else:
                orders += [order.to_port(_always(symbol)) for order in answer]
        unexpected = next((f for f in failures if not isinstance(f, VenueError)), None)
        if unexpected is not None or len(failures) == len(asked):
            raise unexpected or failures[0]
        return Listing(orders=tuple(orders), complete=not failures)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        params = {"symbol": _binance_symbol(symbol), "origClientOrderId": cl_ord_id}
        try:
            answer = await self._private("order", params, wire.Order)
        except NoSuchOrderError:
            return None
        found = answer.to_port(_always(symbol))
        # A cancelled order may be shown under the cancel's id; it was found by this one.
        return msgspec.structs.replace(found, cl_ord_id=cl_ord_id)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        """Pages until an empty one: a short page may be a cut one."""
        base: dict[str, str | int] = {
            "symbol": _binance_symbol(symbol),
            "limit": TRADES_PER_PAGE,
        }
        since_ms = since_ns // 1_000_000
        if venue_order_id:
            page = await self._trades({**base, "orderId": venue_order_id})
            base["orderId"] = venue_order_id
        elif since_ms > 0:
            page = await self._first_trades_since(base, since_ms)
        else:
            page = await self._trades({**base, "fromId": 0})
        found: dict[int, wire.Trade] = {}
        while page:
            found |= {trade.id: trade for trade in page}
            page = await self._trades({**base, "fromId": max(found) + 1})
        return [
            found[trade_id].to_port(symbol)
            for trade_id in sorted(found)
            if found[trade_id].time >= since_ms
        ]

    async def _first_trades_since(
        self, base: Mapping[str, str | int], since_ms: int
    ) -> list[wire.Trade]:
        """The oldest trades from a time on. Binance wants an end with each start, at most a day
        later; from the first trade found on, ids lead further and no window is needed."""
        start_ms = since_ms
        while start_ms <= self._clock.now_ms():
            end_ms = start_ms + TRADES_WINDOW_MS - 1
            page = await self._trades({**base, "startTime": start_ms, "endTime": end_ms})
            if page:
                return page
            start_ms = end_ms + 1
        return []

    async def _trades(self, params: Mapping[str, str | int]) -> list[wire.Trade]:
        return await self._private("myTrades", params, list[wire.Trade])

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
        positions: list[VenuePosition] = []
        counted: set[str] = set()
        for symbol in self.config.symbols:
            base = symbol.split("/")[0]
            quantity = _ZERO
            if base not in counted:
                counted.add(base)
                balance = balances.get(base)
                total = balance.total if balance is not None else _ZERO
                quantity = total - self.config.holdings.get(base, _ZERO)
            positions.append(VenuePosition(symbol=symbol, quantity=quantity))
        return positions

    async def quote(self, symbol: str) -> Quote:
        """`venue_time_ns` is 0: Binance puts no time on a book ticker."""
        params = {"symbol": _binance_symbol(symbol)}
        answer = await self._ask(
            self._signed("GET", "public", "ticker/bookTicker", params), wire.BookTicker
        )
        return answer.to_port(venue=self.name, symbol=symbol, received_ns=time.time_ns())

    # How Binance differs from other venues over ccxt.

    def _options(self) -> dict[str, Any]:
        return {"defaultType": "spot", "recvWindow": self._recv_window_ms}

    def _problem_in(self, reply: Reply) -> Problem | None:
        problem = wire.problem_in(reply.status, reply.body)
        if problem is not None and problem.code == wire.CLOCK_REFUSED:
            self._clock_doubtful = True
        return problem

    def _note(self, reply: Reply) -> None:
        weight = wire.weight_used(reply.headers)
        if weight is not None:
            window_ends_in_s = 60 - self._clock.now_ms() / 1000 % 60
            self._pacing.used(weight, window_ends_in_s, time.monotonic())

    async def _private(self, path: str, params: Mapping[str, str | int], shape: type[T]) -> T:
        """A signed query. After a refused time stamp the venue's clock is read again first, so
        that a suspended machine finds its way back; orders wait for nothing."""
        if self._clock_doubtful:
            await self.server_time_ns()
        return await self._ask(self._signed("GET", "private", path, params), shape)

    def _subscription(self) -> dict[str, str | int]:
        params: dict[str, str | int] = {
            "apiKey": self._credentials.key,
            "recvWindow": self._recv_window_ms,
            "timestamp": self._clock.now_ms(),
        }
        text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        return {**params, "signature": self._signature(text)}

    def _signature(self, text: str) -> str:
        """As the key's kind asks for: HMAC, RSA or Ed25519 (both of the latter are PEM texts)."""
        secret, exchange = self._credentials.secret, self._exchange
        if "PRIVATE KEY" not in secret:
            return str(exchange.hmac(text.encode(), secret.encode(), hashlib.sha256))
        if len(secret) > ED25519_PEM_MAX:
            return str(exchange.rsa(text, secret, "sha256"))
        return str(exchange.eddsa(text.encode(), secret, "ed25519"))


def _binance_symbol(symbol: str) -> str:
    return symbol.replace("/", "")


def _always(symbol: str) -> wire.SymbolOf:
    """The answer to a question about one symbol is in that symbol."""
    return lambda _: symbol


def _order_params(order: NewOrder) -> dict[str, str | int] | str:
    """The parameters of a new order, or what is wrong with it."""
    params: dict[str, str | int] = {
        "symbol": _binance_symbol(order.symbol),
        "side": order.side.value,
        "type": order.ord_type.value,
        "quantity": wire.plain(order.order_qty),
        "newClientOrderId": order.cl_ord_id,
        # The shortest answer: fills are told by the stream and by asking, in one way only.
        "newOrderRespType": "ACK",
    }
    if order.ord_type is OrdType.MARKET:
        if order.price is not None or order.post_only:
            return "a market order takes neither a price nor post-only"
        return params
    if order.price is None:
        return "a limit order needs a price"
    params["price"] = wire.plain(order.price)
    if not order.post_only:
        return {**params, "timeInForce": order.time_in_force.value}
    if order.time_in_force is not TimeInForce.GTC:
        return f"post-only and {order.time_in_force} exclude each other"
    return {**params, "type": "LIMIT_MAKER"}


def _acknowledged(body: bytes) -> str:
    return str(msgspec.json.decode(body, type=wire.Ack).order_id)


def _acknowledged_many(body: bytes) -> str:
    """One entry per order, or per order list, so there is no one id to return."""
    msgspec.json.decode(body, type=list[dict[str, Any]])
    return ""
