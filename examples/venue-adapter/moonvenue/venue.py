"""The adapter: Moon behind Openbell's `Venue` port.

What holds for every venue over HTTP is in `RestVenue`: a request is sent once, and every way in
which it can end is accepted, rejected or unknown. Here is what is particular to Moon. Comments that
begin with "Decision" mark what the author of another adapter must decide too.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote as percent_encoded
from urllib.parse import urlencode

import msgspec

from moonvenue import wire
from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote, base_quote
from openbell.domain.orders import ClOrdID, NewOrder
from openbell.errors import ConfigError
from openbell.venues.credentials import Credentials
from openbell.venues.holdings import spot_positions
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
from openbell.venues.problem import Problem
from openbell.venues.rest import NoSuchOrderError, RestVenue
from openbell.venues.transport import Reply, Request

URLS = {"live": "https://api.moon.example", "practice": "https://practice.moon.example"}
BAD_ORDER = "bad_order"
REQUESTS_PER_MINUTE = 600
"""Per key. README.md, "Limits"."""
LIFE_MAX_S = 50.0
"""Of a request. Moon takes an expiry at most 60 s ahead (README.md, "Keys"); ours is less, because
its clock is known to half a round trip only."""

_COST = 1 / REQUESTS_PER_MINUTE


class MoonVenue(RestVenue):
    """One spot account at Moon."""

    # Decision: what the venue can do. People plan by it, the engine acts by it, and the conformance
    # suite tries all that it promises. In doubt say no: a promise that does not hold is found out
    # on the worst day.
    capabilities = Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=False,
        batch_cancel=0,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=False,  # a spot account holds currencies; see `positions`
        reduce_only=False,
        server_time=True,
        order_stream=False,
        # Moon takes no request after the expiry that `_private` gives it. Without such a means leave it
        # out: the engine then waits longer before it takes an order for never arrived.
        refuses_late_by_s=0.0,
        # Moon refuses an id that any order of the account ever had, so a repeated intent is safe.
        cl_ord_id_unique=True,
        cancels_per_s=REQUESTS_PER_MINUTE / 60,
        # True once the conformance suite has run over your adapter, which is not so of a copy;
        # `openbell venues` shows it.
        conformance_tested=False,
        # The engine keeps its own looks within a fifth of the budget by these. Of the open orders
        # it is an upper bound: Moon lists those of all symbols by one request.
        costs=QueryCosts(open_orders=_COST, positions=_COST, fills=_COST, order=_COST),
    )

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        """Connects to nothing: `openbell venues` makes one only to show what it can do."""
        super().__init__(name, config, credentials)
        # Decision: which options there are. What is not known is refused, for it may be a misspelt one.
        for option in config.options:
            raise ConfigError(
                f'{config.adapter} knows no option "{option}"',
                hint="remove it: this adapter takes none",
                key=("options", option),
            )
        self._url = (config.url or URLS[config.environment]).rstrip("/")
        self._rules: dict[str, InstrumentRules] = {}
        self._pacing.budget = REQUESTS_PER_MINUTE

    # Connection.

    async def connect(self) -> None:
        """Decision: what proves the credentials. A question that Moon answers to the account's
        owner alone, so that a wrong key is told now and not by the first order."""
        await self.connect_public()
        await self._account()

    async def connect_public(self) -> None:
        """Clock and rules, without credentials. Not of the port: having it lets the polled feed
        run in a service that was given no key."""
        await self.server_time_ns()
        told = await self._ask(self._request("GET", "/v1/markets"), wire.Markets)
        listed = {wire.unified(market.name): market for market in told.markets}
        missing = [symbol for symbol in self.config.symbols if symbol not in listed]
        if missing:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(missing)}",
                hint=f"mend symbols in [venues.{self.name}]",
            )
        self._rules = {symbol: listed[symbol].to_port() for symbol in self.config.symbols}

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    async def server_time_ns(self) -> int:
        """Decision: whose clock. Expiries are told by Moon's, as measured here and carried on by
        our monotonic clock: a wall clock that is wrong or jumps locks nobody out."""
        sent_s = time.monotonic()
        told = await self._ask(self._request("GET", "/v1/time"), wire.Time)
        self._clock.measured(told.time, sent_s, time.monotonic())
        return told.time * wire.NS_PER_MS

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        """Decision: no second attempt, no look before, no look after, no exception. The engine
        journals the intent, calls this once, and asks by ClOrdID where the outcome is unknown."""
        body = wire.order_body(order)
        if isinstance(body, str):
            return Rejected(code=BAD_ORDER, text=body)
        request = self._private("POST", "/v1/orders", body=body)
        return await self._effect(request, wire.order_id_in, cl_ord_id=order.cl_ord_id)

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        path = _path_of(venue_order_id) if venue_order_id else _path_by_client_id(cl_ord_id)
        return await self._effect(self._private("DELETE", path), wire.order_id_in)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """Decision: what "none" means. Moon keeps every order that it took under its id for ever,
        and takes no request after its expiry; so an id that it does not know later than that never
        arrived. None is said for Moon's own "no such order" alone. A venue that forgets ended
        orders, or lags behind, needs another proof: see the how-to."""
        try:
            found = await self._ask(
                self._private("GET", _path_by_client_id(cl_ord_id)), wire.OneOrder
            )
        except NoSuchOrderError:
            return None
        return found.order.to_port()

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """Decision: when a list is complete. The desk takes an order that a complete list lacks for
        gone, so that must be proven: every page told the same number of open orders, and so many
        came. Where orders come and go between two pages it is not, and the desk asks again."""
        found: dict[str, VenueOrder] = {}
        totals: set[int] = set()
        after = ""
        while True:
            request = self._private("GET", "/v1/orders", {"after": after})
            page = await self._ask(request, wire.OpenOrders)
            before = len(found)
            found |= {order.id: order.to_port() for order in page.orders}
            totals.add(page.total)
            if page.next is None or len(found) == before:
                break
            after = page.next
        asked = set(symbols or self.config.symbols)
        return Listing(
            orders=tuple(order for order in found.values() if order.symbol in asked),
            complete=totals == {len(found)},
        )

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        """To the last page. There is no `complete` here: what cannot be had whole is an error."""
        # Rounded down: to ask for a millisecond too much repeats a fill, which has an id; the other
        # way would lose one.
        params = {"market": wire.moon_name(symbol), "since": str(since_ns // wire.NS_PER_MS)}
        if venue_order_id:
            params["order"] = venue_order_id
        found: dict[str, VenueFill] = {}
        while True:
            page = await self._ask(self._private("GET", "/v1/fills", params), wire.Fills)
            before = len(found)
            found |= {fill.id: fill.to_port() for fill in page.fills}
            if page.next is None:
                return list(found.values())
            if len(found) == before:
                raise VenueUnavailableError(f"{self.name}: a page of fills is missing")
            params["after"] = page.next

    def stream(self) -> AsyncIterator[StreamEvent]:
        """Decision: order events. Moon pushes none, so they are asked for. Where a venue pushes
        them, read them: polling sees nothing of an order that came and went between two rounds."""
        return polled_stream(self, self.config.poll_every)

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        told = await self._account()
        return {funds.currency: funds.to_port() for funds in told.balances}

    async def positions(self) -> list[VenuePosition]:
        """Decision: what a position is on the spot. What the account has of the base currency, less
        the `holdings` that desk.toml names. Moon lists every currency it trades, held or not; one
        that is not there is a cut answer, and no position of zero."""
        balances = await self.balances()
        bases = {base_quote(symbol)[0] for symbol in self.config.symbols}
        if missing := bases - balances.keys():
            raise VenueUnavailableError(
                f"{self.name}: the account's answer lacks {', '.join(sorted(missing))}"
            )
        return spot_positions(self.config.symbols, balances, self.config.holdings)

    async def quote(self, symbol: str) -> Quote:
        params = {"market": wire.moon_name(symbol)}
        told = await self._ask(self._request("GET", "/v1/quote", params), wire.Ticker)
        return told.to_port(self.name, time.time_ns())

    async def accounts(self) -> list[AccountSummary]:
        account = await self._account()
        return [AccountSummary(account_id=account.id, kind="spot", active=True)]

    async def key_permissions(self) -> KeyPermissions:
        account = await self._account()
        return KeyPermissions(trade=account.can_trade, withdraw=account.can_withdraw)

    async def _account(self) -> wire.Account:
        return await self._ask(self._private("GET", "/v1/account"), wire.Account)

    # How Moon is spoken to.

    def _request(self, method: str, path: str, params: Mapping[str, str] | None = None) -> Request:
        query = f"?{urlencode(params)}" if params else ""
        return Request(method=method, url=f"{self._url}{path}{query}", headers={})

    def _private(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, str | bool] | None = None,
    ) -> Request:
        """Signed, and with a short life.

        Decision: how long a request lives. No longer than we wait for its answer (`timeout`): the
        engine counts on it when it concludes that an order which is not there never will be.
        """
        life_s = min(self.config.timeout, LIFE_MAX_S)
        expires = str(self._clock.now_ms() + int(life_s * 1000))
        plain = self._request(method, path, params)
        data = b"" if body is None else msgspec.json.encode(body)
        # Signed is what is sent, byte for byte: a body that is encoded twice may differ.
        target = plain.url.removeprefix(self._url)
        text = f"{method}\n{target}\n{expires}\n".encode() + data
        signature = hmac.new(self._credentials.secret.encode(), text, hashlib.sha256)
        return Request(
            method=method,
            url=plain.url,
            headers={
                "Content-Type": "application/json",
                "Moon-Key": self._credentials.key,
                "Moon-Expires": expires,
                "Moon-Signature": signature.hexdigest(),
            },
            body=data or None,
        )

    def _problem_in(self, reply: Reply) -> Problem | None:
        return wire.problem_in(reply.status, reply.body)

    def _note(self, reply: Reply) -> None:
        """Decision: the request budget. Moon tells how much of the running minute is used, other
        processes with this key included. Near its end queries wait, so that cancels need not."""
        used = reply.headers.get("Moon-Used", "")
        if used.isdecimal():
            minute_ends_in_s = 60 - self._clock.now_ms() / 1000 % 60
            self._pacing.used(int(used), minute_ends_in_s, time.monotonic())


def _path_of(venue_order_id: str) -> str:
    return f"/v1/orders/{percent_encoded(venue_order_id, safe='')}"


def _path_by_client_id(cl_ord_id: ClOrdID) -> str:
    """Encoded: ids that others made may hold any character."""
    return f"/v1/orders/by-client-id/{percent_encoded(cl_ord_id, safe='')}"


if TYPE_CHECKING:
    from openbell.venues.registry import Adapter

    # Nothing calls this; mypy compares every method's signature with the port's by it.
    _keeps_the_port: Adapter = MoonVenue
