"""What Binance's venues have in common behind the port: time, budget, signatures, listings, fills.

The rules of outcomes and errors are in `venues.rest`, the shapes of answers in `wire`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, TimeInForce
from openbell.venues.binance import wire
from openbell.venues.ccxt_common import CcxtVenue
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    KeyPermissions,
    Listing,
    VenueError,
    VenueFill,
    VenueOrder,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import Problem
from openbell.venues.rest import NoSuchOrderError
from openbell.venues.transport import Reply

T = TypeVar("T")

RECV_WINDOW_MAX_MS = 60_000
TRADES_PER_PAGE = 1000
COUNTED_LATE_S = 1.0
"""For the way of an answer, and for what our knowledge of the venue's clock may be off by."""
ED25519_PEM_MAX = 120
"""Characters; an RSA key in PEM is longer. ccxt tells the two apart in the same way."""


class _Order(Protocol):
    def to_port(self, symbol_of: wire.SymbolOf) -> VenueOrder: ...


class _Trade(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def time(self) -> int: ...
    def to_port(self, symbol: str) -> VenueFill: ...


class BinanceRest(CcxtVenue):
    """Base of the adapters of Binance's venues. What differs is in the class variables, named as
    ccxt names sections of the API, and as Binance names calls."""

    public_api: ClassVar[str]
    private_api: ClassVar[str]
    order_shape: ClassVar[type[_Order]]
    trades_path: ClassVar[str]
    trade_shape: ClassVar[type[_Trade]]
    trades_window_ms: ClassVar[int]
    """The longest time that one question about trades may span."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        self._recv_window_ms = min(int(config.timeout * 1000), RECV_WINDOW_MAX_MS)
        """No longer than our own time-out: a request that is still on its way when we have given
        it up is refused by Binance, so what asking finds afterwards stays true."""
        super().__init__(name, config, credentials)
        self._rules: dict[str, InstrumentRules] = {}
        self._unified = {binance_symbol(symbol): symbol for symbol in config.symbols}
        self._clock_doubtful = True

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    def _not_traded(self, missing: Sequence[str]) -> VenueRefusedError:
        return VenueRefusedError(
            f"{self.name} does not trade {', '.join(missing)}",
            hint=f"mend symbols in [venues.{self.name}]",
            symbols=list(missing),
        )

    async def server_time_ns(self) -> int:
        sent_s = time.monotonic()
        answer = await self._ask(self._signed("GET", self.public_api, "time"), wire.ServerTime)
        self._clock.measured(answer.server_time, sent_s, time.monotonic())
        self._clock_doubtful = False
        return answer.server_time * 1_000_000

    # Orders and executions.

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        params = {"symbol": binance_symbol(symbol), "origClientOrderId": cl_ord_id}
        try:
            answer = await self._private("order", params, self.order_shape)
        except NoSuchOrderError:
            return None
        # A cancelled order may be shown under the cancel's id; it was found by this one.
        with self._reading("an order"):
            return msgspec.structs.replace(answer.to_port(always(symbol)), cl_ord_id=cl_ord_id)

    async def _listed(
        self,
        symbols: Sequence[str],
        ask: Callable[[str], Awaitable[Sequence[VenueOrder]]],
    ) -> Listing:
        """What `ask` finds of each symbol; incomplete where one could not be asked. Raises
        VenueError where none could."""
        answers = await asyncio.gather(*map(ask, symbols), return_exceptions=True)
        orders: list[VenueOrder] = []
        failures: list[BaseException] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                failures.append(answer)
            else:
                orders += answer
        unexpected = next((f for f in failures if not isinstance(f, VenueError)), None)
        if unexpected is not None or len(failures) == len(answers):
            raise unexpected or failures[0]
        return Listing(orders=tuple(orders), complete=not failures)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        """Pages until an empty one: a short page may be a cut one."""
        base: dict[str, str | int] = {"symbol": binance_symbol(symbol), "limit": TRADES_PER_PAGE}
        since_ms = since_ns // 1_000_000
        if venue_order_id:
            base["orderId"] = venue_order_id
            page = await self._trades(base)
        elif since_ms > 0:
            page = await self._first_trades_since(base, since_ms)
        else:
            page = await self._trades({**base, "fromId": 0})
        found: dict[int, _Trade] = {}
        while page:
            if all(trade.id in found for trade in page):
                raise VenueUnavailableError(f"{self.name}: the trade list repeats a page")
            found |= {trade.id: trade for trade in page}
            page = await self._trades({**base, "fromId": max(found) + 1})
        with self._reading("trades"):
            return [
                found[trade_id].to_port(symbol)
                for trade_id in sorted(found)
                if found[trade_id].time >= since_ms
            ]

    async def _first_trades_since(
        self, base: Mapping[str, str | int], since_ms: int
    ) -> list[_Trade]:
        """The oldest trades from a time on. Binance wants an end with each start, not too much
        later; from the first trade found on, ids lead further and no window is needed."""
        start_ms = since_ms
        while start_ms <= self._clock.now_ms():
            end_ms = start_ms + self.trades_window_ms - 1
            page = await self._trades({**base, "startTime": start_ms, "endTime": end_ms})
            if page:
                return page
            start_ms = end_ms + 1
        return []

    async def _trades(self, params: Mapping[str, str | int]) -> list[_Trade]:
        shape: type[list[_Trade]] = list[self.trade_shape]  # type: ignore[name-defined]
        return await self._private(self.trades_path, params, shape)

    # Account.

    async def key_permissions(self) -> KeyPermissions:
        """Told by the main site, which the test systems have nothing of."""
        if "sapi" not in self._exchange.urls["api"]:
            return KeyPermissions(note="the test system does not tell them")
        request = self._signed("GET", "sapi", "account/apiRestrictions")
        answer = await self._ask(request, wire.ApiRestrictions)
        return answer.to_port(trade=self._may_trade(answer))

    def _may_trade(self, permissions: wire.ApiRestrictions) -> bool:
        raise NotImplementedError

    # How Binance differs from other venues over ccxt.

    def _options(self) -> dict[str, Any]:
        return {"recvWindow": self._recv_window_ms}

    def _problem_in(self, reply: Reply) -> Problem | None:
        problem = wire.problem_in(reply.status, reply.body)
        if problem is not None and problem.code == wire.CLOCK_REFUSED:
            self._clock_doubtful = True
        return problem

    def _note(self, reply: Reply) -> None:
        weight = wire.weight_used(reply.headers)
        into_minute_s = self._clock.now_ms() / 1000 % 60
        # Right after the turn of a minute an answer may tell of the one before.
        if weight is not None and into_minute_s > COUNTED_LATE_S:
            self._pacing.used(weight, 60 - into_minute_s, time.monotonic())

    async def _private(
        self, path: str, params: Mapping[str, str | int], shape: type[T], *, api: str = ""
    ) -> T:
        """A signed query. After a refused time stamp the venue's clock is read again first, so
        that a suspended machine finds its way back; orders wait for nothing."""
        if self._clock_doubtful:
            await self.server_time_ns()
        return await self._ask(self._signed("GET", api or self.private_api, path, params), shape)

    def _signature(self, text: str) -> str:
        """As the key's kind asks for: HMAC, RSA or Ed25519 (both of the latter are PEM texts)."""
        secret, exchange = self._credentials.secret, self._exchange
        if "PRIVATE KEY" not in secret:
            return str(exchange.hmac(text.encode(), secret.encode(), hashlib.sha256))
        if len(secret) > ED25519_PEM_MAX:
            return str(exchange.rsa(text, secret, "sha256"))
        return str(exchange.eddsa(text.encode(), secret, "ed25519"))


def binance_symbol(symbol: str) -> str:
    return symbol.replace("/", "")


def always(symbol: str) -> wire.SymbolOf:
    """The answer to a question about one symbol is in that symbol."""
    return lambda _: symbol


def order_id_in(body: bytes) -> str:
    """Of the answer to an order or a cancel. Raises msgspec.DecodeError."""
    return str(msgspec.json.decode(body, type=wire.Ack).order_id)


def order_params(order: NewOrder, *, post_only: Mapping[str, str]) -> dict[str, str | int] | str:
    """The parameters of a new order, or what is wrong with it. `post_only`: how this venue says
    that."""
    params: dict[str, str | int] = {
        "symbol": binance_symbol(order.symbol),
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
    return {**params, **post_only}
