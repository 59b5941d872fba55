"""MetaTrader 5 over the bridge protocol.

No MetaTrader client runs outside of Windows, so a small HTTP service beside the terminal speaks for
it: `bridges/mt5/openbell_mt5_bridge.py`. The protocol and its guarantees, above all that an id makes
at most one order: docs/reference/venues/mt5.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from urllib.parse import quote as percent_encoded
from urllib.parse import urlencode

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, Purpose, TimeInForce
from openbell.venues.credentials import Credentials
from openbell.venues.mt5 import wire
from openbell.venues.pacing import Pacing
from openbell.venues.polling import polled_stream
from openbell.venues.port import (
    AccountSummary,
    Balance,
    CancelOutcome,
    Capabilities,
    KeyPermissions,
    Listing,
    QueryCosts,
    Rejected,
    StreamEvent,
    SubmitOutcome,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER, Problem
from openbell.venues.rest import NoSuchOrderError, RestVenue
from openbell.venues.settings import refuse_unusable
from openbell.venues.transport import Reply, Request

BUSY_S = 1.0
"""The bridge counts requests by the second, and its 429 names no time."""
ROUNDS = 3
"""How often positions are asked for when the list and its count contradict each other."""
_COST = 1 / (60 * wire.REQUESTS_PER_SECOND)


class Mt5Venue(RestVenue):
    """One netting account at a broker of MetaTrader 5."""

    capabilities = Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=False,
        batch_cancel=0,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=True,
        reduce_only=True,
        server_time=False,
        order_stream=False,
        limit_ioc=False,
        cancels_per_s=wire.REQUESTS_PER_SECOND,
        conformance_tested=True,
        costs=QueryCosts(open_orders=_COST, positions=_COST, fills=_COST, order=_COST),
    )

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        """`[venues.X.options]`: `suffix`, what the broker appends to its symbols (`EURUSD.m`)."""
        super().__init__(name, config, credentials)
        refuse_unusable(name, config, "mt5")
        assert config.url is not None, "there is no bridge without an address"
        self._pacing = Pacing(default_wait_s={429: BUSY_S})
        self._url = config.url.rstrip("/")
        suffix = config.options.get("suffix", "")
        self._names = wire.Names(
            {symbol: symbol.replace("/", "") + suffix for symbol in config.symbols}
        )
        self._rules: dict[str, InstrumentRules] = {}

    # Connection.

    async def connect(self) -> None:
        account = await self._account()
        if account.protocol != wire.PROTOCOL:
            raise VenueRefusedError(
                f"{self.name}: the bridge speaks protocol {account.protocol}, not {wire.PROTOCOL}",
                hint="use the bridge and the desk of one release",
            )
        if not account.connected:
            raise VenueUnavailableError(f"{self.name}: the terminal is not connected to its broker")
        if account.margin_mode != "netting":
            raise VenueRefusedError(
                f"{self.name}: account {account.login} is a hedging account",
                hint="ask the broker for a netting account: on a hedging one every order opens a "
                "position of its own, and nothing could be closed by the opposite order",
            )
        if self.config.account not in (None, account.login):
            raise VenueRefusedError(
                f"{self.name}: the terminal is logged in to {account.login}, "
                f"desk.toml says {self.config.account}"
            )
        names = ",".join(self._names.bridge.values())
        told = await self._ask(self._request("GET", "symbols", {"names": names}), wire.Symbols)
        if told.unknown:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(told.unknown)}",
                hint=f"mend symbols in [venues.{self.name}], or its option suffix",
            )
        with self._reading("rules"):
            self._names.learn(told.symbols)
            by_name = {symbol.name: symbol for symbol in told.symbols}
            self._rules = {
                unified: by_name[name].to_port(unified)
                for unified, name in self._names.bridge.items()
            }

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        body = self._body(order)
        if isinstance(body, str):
            return Rejected(code=BAD_ORDER, text=body)
        request = self._request("POST", "orders", body=body)
        return await self._effect(request, _ticket, cl_ord_id=order.cl_ord_id)

    def _body(self, order: NewOrder) -> dict[str, object] | str:
        """What is sent, or what is wrong with the order."""
        if order.symbol not in self._rules:
            return f"{order.symbol} is not declared, or the venue was never connected"
        body: dict[str, object] = {
            "id": order.cl_ord_id,
            "symbol": self._names.bridge[order.symbol],
            "side": order.side.lower(),
            "type": order.ord_type.lower(),
            "volume": wire.plain(self._names.lots(order.symbol, order.order_qty)),
            "reduce_only": order.purpose is Purpose.FLATTEN,
        }
        match order.ord_type:
            case OrdType.MARKET:
                if order.price is not None or order.post_only:
                    return "a market order takes neither a price nor post-only"
                return body
            case OrdType.LIMIT:
                if order.price is None:
                    return "a limit order needs a price"
                if order.time_in_force is not TimeInForce.GTC:
                    return f"a terminal's limit orders rest: {order.time_in_force} is not possible"
                return {**body, "price": wire.plain(order.price)}
            case _:
                return f"{order.ord_type} orders are not sent"

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        path = (
            f"tickets/{percent_encoded(venue_order_id, safe='')}"
            if venue_order_id
            else f"orders/{percent_encoded(cl_ord_id, safe='')}"
        )
        return await self._effect(self._request("DELETE", path), _ticket)

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """The bridge lists the account's orders at once, and says how many there are."""
        told = await self._ask(self._request("GET", "orders"), wire.OpenOrders)
        wanted = set(symbols)
        with self._reading("orders"):
            orders = [self._names.order(order) for order in told.orders]
        return Listing(
            orders=tuple(order for order in orders if not wanted or order.symbol in wanted),
            complete=len(told.orders) == told.total,
        )

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        path = f"orders/{percent_encoded(cl_ord_id, safe='')}"
        try:
            answer = await self._ask(self._request("GET", path), wire.OneOrder)
        except NoSuchOrderError:
            return None
        with self._reading("an order"):
            return self._names.order(answer.order)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        params: dict[str, str | int] = {"from_ms": since_ns // 1_000_000}
        if venue_order_id:
            params["order"] = venue_order_id
        found: dict[int, wire.Deal] = {}
        while True:
            page = await self._ask(self._request("GET", "deals", params), wire.Deals)
            if page.deals and all(deal.ticket in found for deal in page.deals):
                raise VenueUnavailableError(f"{self.name}: the list of deals repeats a page")
            found |= {deal.ticket: deal for deal in page.deals}
            if not page.more or not page.deals:
                break
            params["after"] = max(found)
        with self._reading("a deal"):
            return [
                self._names.fill(found[ticket])
                for ticket in sorted(found)
                if self._names.unified(found[ticket].symbol) == symbol
            ]

    def stream(self) -> AsyncIterator[StreamEvent]:
        return polled_stream(self, self.config.poll_every)

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        """One currency: the balance, without the profit of what is open. Nothing is locked: margin
        is no order's money."""
        account = await self._account()
        balance = Balance(currency=account.currency, free=account.balance, locked=Decimal(0))
        return {account.currency: balance}

    async def positions(self) -> list[VenuePosition]:
        """Raises VenueUnavailableError rather than take a cut list for flat positions."""
        for _ in range(ROUNDS):
            told = await self._ask(self._request("GET", "positions"), wire.Positions)
            if len(told.positions) == told.total:
                break
        else:
            raise VenueUnavailableError(
                f"{self.name}: {len(told.positions)} positions listed of {told.total}"
            )
        with self._reading("positions"):
            held = [
                self._names.position(p) for p in told.positions if self._names.declared(p.symbol)
            ]
        flat = set(self.config.symbols) - {position.symbol for position in held}
        return held + [VenuePosition(symbol=symbol, quantity=Decimal(0)) for symbol in sorted(flat)]

    async def quote(self, symbol: str) -> Quote:
        params = {"names": self._names.bridge[symbol]}
        told = await self._ask(self._request("GET", "ticks", params), wire.Ticks)
        if not told.ticks:
            raise VenueUnavailableError(f"{self.name}: there is no quote of {symbol} now")
        with self._reading("a quote"):
            quote = self._names.quote(self.name, told.ticks[0], time.time_ns())
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        account = await self._account()
        return [
            AccountSummary(
                account_id=account.login,
                kind=f"{account.margin_mode} at {account.server}",
                currency=account.currency,
                equity=account.equity,
                active=True,
            )
        ]

    async def key_permissions(self) -> KeyPermissions:
        """The bridge cannot withdraw: MetaTrader's interface has no such call."""
        account = await self._account()
        return KeyPermissions(trade=account.trade_allowed, withdraw=False)

    async def _account(self) -> wire.Account:
        return await self._ask(self._request("GET", "account"), wire.Account)

    # How the bridge is spoken to.

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Request:
        query = f"?{urlencode(params)}" if params else ""
        return Request(
            method=method,
            url=f"{self._url}/v1/{path}{query}",
            headers={
                "Authorization": f"Bearer {self._credentials.secret}",
                "Content-Type": "application/json",
            },
            body=None if body is None else msgspec.json.encode(body),
        )

    def _problem_in(self, reply: Reply) -> Problem | None:
        return wire.problem_in(reply.status, reply.body)


def _ticket(body: bytes) -> str:
    return str(msgspec.json.decode(body, type=wire.OneOrder).order.ticket)
