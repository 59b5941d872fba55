"""Alpaca: US stocks.

Facts and hazards of this venue: docs/reference/venues/alpaca.md. The rules of outcomes and errors
are in `venues.rest`, the shapes of answers in `wire`. Alpaca's own client is not used: it sends an
order again after 504 and 429.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar
from urllib.parse import quote as percent_encoded
from urllib.parse import urlencode

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder
from openbell.venues.alpaca import wire
from openbell.venues.alpaca.names import OrderNames
from openbell.venues.alpaca.pacing import REQUESTS_PER_MINUTE, AlpacaPacing
from openbell.venues.alpaca.sending import order_body
from openbell.venues.alpaca.stream import TradeUpdates
from openbell.venues.credentials import Credentials
from openbell.venues.pacing import QUERY_SHARE
from openbell.venues.port import (
    Accepted,
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
    Unknown,
    VenueError,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER, Problem
from openbell.venues.rest import NoSuchOrderError, RestVenue, not_looked_up
from openbell.venues.settings import FEEDS, refuse_unusable
from openbell.venues.transport import Reply, Request

T = TypeVar("T")

TRADING_URL = {
    "live": "https://api.alpaca.markets",
    "practice": "https://paper-api.alpaca.markets",
}
DATA_URL = "https://data.alpaca.markets"
"""Of both environments. With `url` in desk.toml everything is there."""
ORDERS_PER_PAGE = 500
FILLS_PER_PAGE = 100
"""Both are Alpaca's maxima."""

ROUNDS = 3
"""How often positions are asked for when the answers contradict each other: a fill may come between
two of them."""

_ONE_REQUEST = 1 / REQUESTS_PER_MINUTE
_ZERO = Decimal(0)


class AlpacaVenue(RestVenue):
    """An Alpaca account in US dollars. Positions are Alpaca's own, less the venue's `holdings`."""

    capabilities = Capabilities(
        mass_cancel=True,
        mass_cancel_per_symbol=False,
        batch_cancel=0,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=True,
        reduce_only=True,
        server_time=True,
        order_stream=True,
        post_only=False,
        cancels_per_s=REQUESTS_PER_MINUTE * QUERY_SHARE / 60,
        conformance_tested=True,
        costs=QueryCosts(
            open_orders=2 * _ONE_REQUEST,
            positions=2 * _ONE_REQUEST,
            fills=2 * _ONE_REQUEST,
            order=_ONE_REQUEST,
        ),
    )
    # Of lists: a page, and the empty one behind it. Of positions: the list, and the account that it
    # is held against. Single cancels: all that is not kept for the
    # looks that must prove them.

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        super().__init__(name, config, credentials)
        self._limits = self._pacing = AlpacaPacing()
        self._trading_url = (config.url or TRADING_URL[config.environment]).rstrip("/")
        self._data_url = (config.url or DATA_URL).rstrip("/")
        refuse_unusable(name, config, "alpaca")
        self._feed = config.options.get("feed", FEEDS[0])
        self._symbols = {symbol: wire.alpaca_symbol(symbol) for symbol in config.symbols}
        self._unified = {theirs: symbol for symbol, theirs in self._symbols.items()}
        self._rules: dict[str, InstrumentRules] = {}
        self._names = OrderNames()
        self._held: set[str] = set()
        """What the last answer listed as held, in Alpaca's symbols."""

    # Connection.

    async def connect(self) -> None:
        account = await self._account()
        if self.config.account not in (None, account.account_number):
            raise VenueRefusedError(
                f"{self.name}: the key is of account {account.account_number}",
                hint=f"mend account in [venues.{self.name}], or its credentials",
            )
        missing: list[str] = []
        rules: dict[str, InstrumentRules] = {}
        for symbol, theirs in self._symbols.items():
            asset = await self._asset(theirs)
            if asset is None:
                missing.append(symbol)
            else:
                rules[symbol] = asset.to_port(symbol)
        if missing:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(missing)}",
                hint=f"mend symbols in [venues.{self.name}]",
                symbols=missing,
            )
        self._rules = rules

    async def _asset(self, theirs: str) -> wire.Asset | None:
        """None for what is no tradable US stock."""
        path = f"/v2/assets/{percent_encoded(theirs, safe='')}"
        try:
            asset = await self._ask(self._get(path), wire.Asset)
        except NoSuchOrderError:
            return None
        return asset if asset.tradable and asset.kind == "us_equity" else None

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    async def server_time_ns(self) -> int:
        clock = await self._ask(self._get("/v2/clock"), wire.Clock)
        try:
            return wire.time_ns(clock.timestamp)
        except ValueError as error:
            raise self._another_shape() from error

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        theirs = self._symbols.get(order.symbol)
        if theirs is None:
            return Rejected(code=BAD_ORDER, text=f"{order.symbol} is not traded at {self.name}")
        body = order_body(order, theirs)
        if isinstance(body, str):
            return Rejected(code=BAD_ORDER, text=body)
        outcome = await self._effect(
            self._request("POST", "/v2/orders", body=msgspec.json.encode(body)),
            _acknowledged,
            cl_ord_id=order.cl_ord_id,
        )
        if isinstance(outcome, Accepted):
            self._names.note(order.cl_ord_id, outcome.venue_order_id)
        return outcome

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        """Alpaca cancels by its own id alone. Where that is not known here it is asked for first;
        if it cannot be, nothing was sent that cancels."""
        venue_order_id = venue_order_id or self._names.venue_order_id(cl_ord_id)
        if not venue_order_id:
            try:
                found = await self._by_client_order_id(cl_ord_id, for_cancel=True)
            except NoSuchOrderError as error:
                return Rejected(code=str(error.facts["venue_code"]), text=error.message)
            except VenueError as error:
                return not_looked_up(error)
            venue_order_id = found.id
        path = f"/v2/orders/{percent_encoded(venue_order_id, safe='')}"
        return await self._effect(self._request("DELETE", path), lambda _: venue_order_id)

    async def cancel_account(self) -> CancelOutcome:
        """Every order of the account; Alpaca tells of each whether it took the cancel."""
        rows: list[wire.CancelRow] = []

        def read(body: bytes) -> str:
            rows.extend(msgspec.json.decode(body, type=list[wire.CancelRow]))
            return ""

        outcome = await self._effect(self._request("DELETE", "/v2/orders"), read)
        refused = sum(not 200 <= row.status < 300 for row in rows)
        if refused:
            return Unknown(why=f"{refused} of {len(rows)} orders did not take the cancel")
        return outcome

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """Oldest first, until the newest after the last of them is that one: a short page may be a
        cut one, even to a single row."""
        asked = [self._symbols[symbol] for symbol in symbols or self.config.symbols]
        base = {"status": "open", "symbols": ",".join(asked), "limit": str(ORDERS_PER_PAGE)}
        found: dict[str, VenueOrder] = {}
        after: dict[str, str] = {}

        later: dict[str, VenueOrder] = {}

        async def page_of(direction: str) -> tuple[int, dict[str, VenueOrder]]:
            query = {**base, "direction": direction, **after}
            page = await self._ask(self._get("/v2/orders", query), list[wire.Order])
            new = {each.id: self._to_port(each) for each in page if each.id not in found}
            return len(page), new

        while True:
            _, new = await page_of("asc")
            if not new:
                # What is listed from the other end alone may have others between it and these.
                complete = not later
                found |= later
                break
            found |= new
            after = {"after": _just_before(max(each.created_ns for each in new.values()))}
            count, later = await page_of("desc")
            if not later:
                # A whole page of orders of one moment hides what comes after them.
                complete = count < ORDERS_PER_PAGE
                break
        for order in found.values():
            self._names.note(order.cl_ord_id, order.venue_order_id)
        return Listing(orders=tuple(found.values()), complete=complete)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        try:
            found = self._to_port(await self._by_client_order_id(cl_ord_id))
        except NoSuchOrderError:
            return None
        self._names.note(cl_ord_id, found.venue_order_id)
        return found

    async def _by_client_order_id(
        self, cl_ord_id: ClOrdID, *, for_cancel: bool = False
    ) -> wire.Order:
        """Raises VenueError."""
        request = self._get("/v2/orders:by_client_order_id", {"client_order_id": cl_ord_id})
        return await self._ask(request, wire.Order, for_cancel=for_cancel)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        """Alpaca lists the account's fills from a time on. Those of one order are looked for from
        its beginning until as much is found as the order says was filled."""
        wanted, from_ns = None, since_ns
        if venue_order_id:
            path = f"/v2/orders/{percent_encoded(venue_order_id, safe='')}"
            order = self._to_port(await self._ask(self._get(path), wire.Order))
            self._names.note(order.cl_ord_id, order.venue_order_id)
            wanted, from_ns = order.cum_qty, max(since_ns, order.created_ns)
        found: dict[str, VenueFill] = {}
        base = {"direction": "asc", "page_size": str(FILLS_PER_PAGE)}
        if from_ns:
            base["after"] = _second_before(from_ns)
        theirs = self._symbols[symbol]
        pages: set[str] = set()
        while wanted is None or sum((f.last_qty for f in found.values()), _ZERO) < wanted:
            page = await self._ask(
                self._get("/v2/account/activities/FILL", base), list[wire.Activity]
            )
            if not page:
                break
            for activity in page:
                if activity.symbol == theirs and venue_order_id in ("", activity.order_id):
                    found[activity.id] = self._fill(activity, symbol)
            if page[-1].id in pages:
                raise VenueUnavailableError(f"{self.name}: the list of fills repeats a page")
            pages.add(page[-1].id)
            base["page_token"] = page[-1].id
        fills = [fill for fill in found.values() if fill.venue_time_ns >= since_ns]
        return sorted(fills, key=lambda fill: fill.venue_time_ns)

    def stream(self) -> AsyncIterator[StreamEvent]:
        return TradeUpdates(
            transport=self._transport,
            url="ws" + self._trading_url.removeprefix("http") + "/stream",
            credentials=self._credentials,
            symbol_of=self._unified.__getitem__,
            timeout_s=self.config.timeout,
            clean=self._clean,
        ).events()

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        account = await self._account()
        return {account.currency: account.balance()}

    async def positions(self) -> list[VenuePosition]:
        """Raises VenueUnavailableError rather than take a cut list for flat positions.

        Alpaca does not say how many positions there are, and says what they are worth. Where the
        list is worth something else, and where a stock is gone from it, each stock that it leaves
        out is asked for by itself: a price that moved between two answers is no position."""
        for _ in range(ROUNDS):
            listed = await self._ask(self._get("/v2/positions"), list[wire.Position])
            account = await self._account()
            held = {position.symbol: position for position in listed}
            left_out = [theirs for theirs in self._unified if theirs not in held]
            doubtful = left_out
            if wire.is_worth(listed, account):
                doubtful = [theirs for theirs in left_out if theirs in self._held]
            contradicted = [theirs for theirs in doubtful if await self._is_held(theirs)]
            if not contradicted:
                break
        else:
            raise VenueUnavailableError(
                f"{self.name}: the list of positions leaves out {', '.join(contradicted)}"
            )
        self._held = set(held)
        positions: list[VenuePosition] = []
        for symbol, theirs in self._symbols.items():
            position = held.get(theirs)
            quantity = position.quantity if position is not None else _ZERO
            positions.append(
                VenuePosition(
                    symbol=symbol,
                    quantity=quantity - self.config.holdings.get(theirs, _ZERO),
                    avg_px=position.avg_entry_price if position is not None else None,
                )
            )
        return positions

    async def _is_held(self, theirs: str) -> bool:
        path = f"/v2/positions/{percent_encoded(theirs, safe='')}"
        try:
            return (await self._ask(self._get(path), wire.Position)).quantity != 0
        except NoSuchOrderError:  # Alpaca has one code for everything that is not there
            return False

    async def quote(self, symbol: str) -> Quote:
        theirs = self._symbols[symbol]
        request = self._get(
            "/v2/stocks/quotes/latest", {"symbols": theirs, "feed": self._feed}, data=True
        )
        answer = await self._ask(request, wire.LatestQuotes)
        if theirs not in answer.quotes:
            raise VenueUnavailableError(f"{self.name}: nobody quotes {symbol}")
        try:
            quote = answer.quotes[theirs].to_port(
                venue=self.name, symbol=symbol, received_ns=time.time_ns()
            )
        except ValueError as error:
            raise self._another_shape() from error
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        """Keys are of one account."""
        return [(await self._account()).to_port()]

    async def key_permissions(self) -> KeyPermissions:
        return (await self._account()).permissions()

    async def _account(self) -> wire.Account:
        return await self._ask(self._get("/v2/account"), wire.Account)

    # How Alpaca differs from other venues over HTTP.

    def _problem_in(self, reply: Reply) -> Problem | None:
        return wire.problem_in(reply.status, reply.body)

    def _note(self, reply: Reply) -> None:
        self._limits.note(reply.headers, time.monotonic())

    def _get(
        self, path: str, params: Mapping[str, str] | None = None, *, data: bool = False
    ) -> Request:
        query = f"?{urlencode(params)}" if params else ""
        return self._request("GET", path + query, data=data)

    def _request(
        self, method: str, target: str, *, body: bytes | None = None, data: bool = False
    ) -> Request:
        headers = {
            "APCA-API-KEY-ID": self._credentials.key,
            "APCA-API-SECRET-KEY": self._credentials.secret,
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        base = self._data_url if data else self._trading_url
        return Request(method, base + target, headers, body)

    def _to_port(self, order: wire.Order) -> VenueOrder:
        """Raises VenueUnavailableError."""
        try:
            return order.to_port(self._unified.__getitem__)
        except (KeyError, ValueError) as error:
            raise self._another_shape() from error

    def _fill(self, activity: wire.Activity, symbol: str) -> VenueFill:
        """Raises VenueUnavailableError."""
        try:
            return activity.to_port(symbol, self._names.cl_ord_id(activity.order_id))
        except ValueError as error:
            raise self._another_shape() from error

    def _another_shape(self) -> VenueUnavailableError:
        return VenueUnavailableError(f"{self.name}: an answer of another shape")


def _just_before(at_ns: int) -> str:
    """A microsecond: `after` leaves out the moment that it names, and others may share it."""
    return wire.rfc3339(at_ns - at_ns % 1000 - 1000)


def _second_before(at_ns: int) -> str:
    """Activities are asked for in whole seconds."""
    return wire.rfc3339(at_ns - 1_000_000_000)[:19] + "Z"


def _acknowledged(body: bytes) -> str:
    return msgspec.json.decode(body, type=wire.Ack).id
