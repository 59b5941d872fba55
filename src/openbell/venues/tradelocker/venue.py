"""TradeLocker.

A thin client of our own: the official one sleeps a second before every request, sends an order
again whose connection was lost, and turns amounts into floats. Facts and hazards of this venue:
docs/reference/venues/tradelocker.md. The rules of outcomes and errors are in `venues.rest`, how it
is spoken to in `calls`, what its lists tell in `reader`, the shapes of answers in `wire`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote, base_quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, TimeInForce
from openbell.venues.credentials import Credentials
from openbell.venues.polling import polled_stream
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
    VenueError,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER
from openbell.venues.rest import NEVER_ARRIVED, not_looked_up
from openbell.venues.sent import SentOrders
from openbell.venues.tradelocker import routes, wire
from openbell.venues.tradelocker.calls import LoggedInVenue, path_part
from openbell.venues.tradelocker.reader import Reader
from openbell.venues.tradelocker.routes import Routes
from openbell.venues.tradelocker.rows import Market, market_of

T = TypeVar("T")

LOOKS = 2
"""So often the lists are searched before an order is said not to be there: they lag behind what was
accepted (the official client's tests wait up to 0.8 s for them), and one may have been the mistake."""
LOOK_PAUSE_S = 1.0
CLOCKS_DIFFER_NS = 86_400 * 1_000_000_000
"""An order that this process sent is looked for from a day before on: TradeLocker tells no time, so
what its clock says is not known better."""
NO_SUCH_ORDER = "no_such_order"


class TradeLockerVenue(LoggedInVenue):
    """One account that nets. The key is the e-mail address, the secret the password."""

    capabilities = Capabilities(
        mass_cancel=True,
        mass_cancel_per_symbol=True,
        batch_cancel=0,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=True,
        reduce_only=False,
        server_time=False,
        order_stream=False,
        post_only=False,
        limit_ioc=False,
        cl_ord_id_unique=False,
        conformance_tested=True,
        costs=Routes().costs,
    )

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        super().__init__(name, config, credentials)
        self._account_id = ""
        self._markets: dict[str, Market] = {}
        self._known: Reader | None = None
        self._sent = SentOrders()

    # Connection.

    async def connect(self) -> None:
        """Raises VenueRefusedError for an account that holds a symbol long and short at once."""
        account = await self._choose_account()
        self._account_id, self._acc_num = str(account.id), str(account.acc_num)
        config = (await self._get("", "/trade/config", wire.Config)).d
        self._routes = Routes(config.rate_limits)
        self.capabilities = msgspec.structs.replace(self.capabilities, costs=self._routes.costs)
        listed = await self._account_get(routes.INSTRUMENTS, "/instruments", wire.Instruments)
        by_name = {each.name: each for each in listed.d.instruments}
        markets = [await self._market(symbol, by_name) for symbol in self.config.symbols]
        reader = Reader(self.name, self._account_get, config, markets, account.currency)
        await reader.positions()
        self._markets = {market.symbol: market for market in markets}
        self._known = reader

    async def _choose_account(self) -> wire.Account:
        """The one that desk.toml names by its id or its accNum; else the only one there is."""
        listed = (await self._get("", "/auth/jwt/all-accounts", wire.Accounts)).accounts
        named = self.config.account
        found = [
            account for account in listed if named in (None, str(account.id), str(account.acc_num))
        ]
        by_id = [account for account in found if str(account.id) == named]
        if len(found) == 1 or by_id:
            return (by_id or found)[0]
        ids = ", ".join(str(account.id) for account in listed) or "none"
        raise VenueRefusedError(
            f"{self.name}: which account is meant? The login reaches {ids}",
            hint=f"set account in [venues.{self.name}]",
        )

    async def _market(self, symbol: str, listed: Mapping[str, wire.Instrument]) -> Market:
        """`EUR/USD` is EURUSD; `NAS100/USD` is NAS100, where that is quoted in USD."""
        base, quote = base_quote(symbol)
        suffix = self.config.options.get("suffix", "")
        found = listed.get(base + quote + suffix) or listed.get(base + suffix)
        if found is None:
            raise self._not_traded(symbol, "no instrument is called so")
        path = f"/trade/instruments/{found.tradable_instrument_id}"
        try:
            params = {"routeId": found.route("INFO"), "locale": "en"}
            said = await self._get(routes.DETAILS, path, wire.DetailsAnswer, params)
            return market_of(symbol, found, said.d)
        except (ValueError, ArithmeticError) as error:
            raise self._not_traded(symbol, str(error)) from error

    def _not_traded(self, symbol: str, why: str) -> VenueRefusedError:
        return VenueRefusedError(
            f"{self.name} does not trade {symbol}: {why}",
            hint=f"mend symbols in [venues.{self.name}], or its option suffix",
            symbols=[symbol],
        )

    def rules(self, symbol: str) -> InstrumentRules:
        return self._markets[symbol].rules

    @property
    def _reader(self) -> Reader:
        if self._known is None:
            raise VenueUnavailableError(f"{self.name}: not connected yet")
        return self._known

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        body = self._body(order)
        if isinstance(body, str):
            return Rejected(code=BAD_ORDER, text=body)
        self._sent.sending(order, time.time_ns())
        outcome = await self._do(
            "POST",
            f"{self._account}/orders",
            _placed,
            body=body,
            route=routes.PLACE,
            cl_ord_id=order.cl_ord_id,
        )
        if isinstance(outcome, Accepted):
            self._sent.found(order.cl_ord_id, outcome.venue_order_id)
            self._reader.learn(outcome.venue_order_id, order.cl_ord_id)
        return outcome

    def _body(self, order: NewOrder) -> dict[str, object] | str:
        """What is sent, or what is wrong with the order."""
        market = self._markets.get(order.symbol)
        if market is None:
            return f"{order.symbol} is not declared, or the venue was never connected"
        if len(order.cl_ord_id) > wire.STRATEGY_ID_MAX:
            return f"a strategyId has at most {wire.STRATEGY_ID_MAX} characters"
        if order.post_only:
            return "TradeLocker has no post-only orders"
        body: dict[str, object] = {
            "tradableInstrumentId": market.tradable_id,
            "routeId": market.trade_route,
            "side": order.side.lower(),
            "type": order.ord_type.lower(),
            "qty": market.lots(order.order_qty),
            "strategyId": order.cl_ord_id,
        }
        if order.ord_type is OrdType.MARKET:
            if order.price is not None:
                return "a market order takes no price"
            # It is IOC here whatever one says: what finds no price is cancelled.
            return {**body, "validity": "IOC", "price": 0}
        if order.ord_type is not OrdType.LIMIT:
            return f"{order.ord_type} orders are not sent"
        if order.price is None:
            return "a limit order needs a price"
        if order.time_in_force is not TimeInForce.GTC:
            return f"a limit order must be GTC here, not {order.time_in_force}"
        return {**body, "validity": "GTC", "price": order.price}

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        """TradeLocker cancels by its own ids. One that this process did not learn is looked for
        among the open orders first; where it is not there, or they cannot be listed, nothing is
        sent."""
        if not venue_order_id:
            sent = self._sent.by_cl_ord_id(cl_ord_id)
            venue_order_id = sent.venue_order_id if sent is not None else ""
        if not venue_order_id:
            try:
                venue_order_id = await self._reader.open_order(cl_ord_id)
            except VenueError as error:
                return not_looked_up(error)
            if not venue_order_id:
                return Rejected(code=NO_SUCH_ORDER, text="not sent: no such order is open")
            self._sent.found(cl_ord_id, venue_order_id)
        path = f"/trade/orders/{path_part(venue_order_id)}"
        return await self._do("DELETE", path, _acknowledged(venue_order_id))

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        market = self._markets.get(symbol)
        if market is None:
            return Rejected(code=BAD_ORDER, text=f"{symbol} is not declared, or never connected")
        path = f"{self._account}/orders?tradableInstrumentId={market.tradable_id}"
        return await self._do("DELETE", path, _acknowledged())

    async def cancel_account(self) -> CancelOutcome:
        if not self._account_id:
            return Rejected(code=NEVER_ARRIVED, text="not sent: not connected yet")
        return await self._do("DELETE", f"{self._account}/orders", _acknowledged())

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """All symbols are listed at once; a list shorter than the account's own count was cut."""
        orders, complete = await self._reader.open_orders()
        return Listing(
            orders=tuple(order for order in orders if not symbols or order.symbol in symbols),
            complete=complete,
        )

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """By its `strategyId`, see `reader`. None is said after LOOKS looks at complete lists."""
        sent = self._sent.by_cl_ord_id(cl_ord_id)
        since_ns = None if sent is None else sent.sent_ns - CLOCKS_DIFFER_NS
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(LOOK_PAUSE_S)
            found = await self._reader.order(cl_ord_id, since_ns)
            if found is not None:
                self._sent.found(cl_ord_id, found.venue_order_id)
                return found
        return None

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        """See `Reader.fills`: TradeLocker lists those of its current session, and no fees."""
        return await self._reader.fills(symbol, since_ns, venue_order_id)

    def stream(self) -> AsyncIterator[StreamEvent]:
        return polled_stream(self, self.config.poll_every)

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        """One, in the account's currency, without the profit of what is open. Nothing is locked:
        margin is no order's money."""
        reader = self._reader
        return {
            reader.currency: Balance(
                currency=reader.currency,
                free=await self._amount("balance"),
                locked=Decimal(0),
            )
        }

    async def positions(self) -> list[VenuePosition]:
        return await self._reader.positions()

    async def quote(self, symbol: str) -> Quote:
        market = self._markets[symbol]
        params = {"tradableInstrumentId": market.tradable_id, "routeId": market.info_route}
        answer = await self._get(routes.QUOTES, "/trade/quotes", wire.QuoteAnswer, params)
        if answer.d is None:
            raise VenueUnavailableError(f"{self.name}: {symbol} has no price now")
        with self._reading("a quote"):
            quote = market.quote(self.name, answer.d, time.time_ns())
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        """Equity is told of the one that is traded on."""
        listed = (await self._get("", "/auth/jwt/all-accounts", wire.Accounts)).accounts
        equity = await self._amount("projectedBalance")
        return [
            AccountSummary(
                account_id=str(account.id),
                kind=f"accNum {account.acc_num} {account.status.lower()}".strip(),
                currency=account.currency,
                equity=equity if str(account.id) == self._account_id else None,
                active=str(account.id) == self._account_id,
            )
            for account in listed
        ]

    async def key_permissions(self) -> KeyPermissions:
        """A login may do what its user may."""
        return KeyPermissions(
            withdraw=False,
            note="a login trades on every account of its user; the API cannot move money",
        )

    async def _amount(self, name: str) -> Decimal:
        """Of the account's state. Raises VenueError."""
        state = await self._reader.state()
        try:
            return state.amount(name)
        except ValueError as error:
            raise VenueUnavailableError(f"{self.name}: the state tells no {name}") from error

    @property
    def _account(self) -> str:
        return f"/trade/accounts/{path_part(self._account_id)}"

    async def _account_get(
        self,
        route: str,
        path: str,
        shape: type[T],
        params: Mapping[str, object] | None = None,
        *,
        for_cancel: bool = False,
    ) -> T:
        return await self._get(route, self._account + path, shape, params, for_cancel=for_cancel)


def _acknowledged(venue_order_id: str = "") -> Callable[[bytes], str]:
    def read(body: bytes) -> str:
        wire.acknowledged(body)
        return venue_order_id

    return read


def _placed(body: bytes) -> str:
    return str(msgspec.json.decode(body, type=wire.PlacedAnswer).d.order_id)
