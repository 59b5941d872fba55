"""OANDA v20.

A thin client of our own: the official one (v20) and the usual one (oandapyV20) block, read streams
without noticing silence, and the former turns amounts into floats. Facts and hazards of this venue:
docs/reference/venues/oanda.md. The rules of outcomes and errors are in `venues.rest`, the shapes of
answers in `wire`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar
from urllib.parse import quote as quoted

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder
from openbell.venues.credentials import Credentials
from openbell.venues.oanda import wire
from openbell.venues.oanda.entry import order_facts
from openbell.venues.oanda.history import History
from openbell.venues.oanda.reader import Reader
from openbell.venues.oanda.stream import TransactionStream
from openbell.venues.pacing import Pacing
from openbell.venues.port import (
    AccountSummary,
    Balance,
    CancelOutcome,
    Capabilities,
    KeyPermissions,
    Listing,
    Rejected,
    StreamEvent,
    SubmitOutcome,
    VenueAuthError,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import BAD_ORDER, Problem
from openbell.venues.rest import NEVER_ARRIVED, NoSuchOrderError, RestVenue
from openbell.venues.transport import Reply, Request, Transport

T = TypeVar("T")

REST_URL = {
    "live": "https://api-fxtrade.oanda.com",
    "practice": "https://api-fxpractice.oanda.com",
}
STREAM_URL = {
    "live": "https://stream-fxtrade.oanda.com",
    "practice": "https://stream-fxpractice.oanda.com",
}
CONNECTS_PER_S = 2
"""New connections of one address: "Development Guide", "Connection Limiting"."""
THROTTLED_S = 1.0
"""Limits are per second, and 429 names no time."""
LOOK_BACK_NS = 24 * 3600 * 1_000_000_000
"""How far back an order is searched that OANDA does not find by the client's id: a day covers
whatever a desk was in doubt of when it went down."""
ROUNDS = 3
"""How often a list and its count are asked for before they are called contradictory."""


class OandaVenue(RestVenue):
    """An OANDA account. Of the credentials only the secret is used: the access token."""

    capabilities = Capabilities(
        mass_cancel=False,
        mass_cancel_per_symbol=False,
        batch_cancel=0,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=True,
        reduce_only=True,
        server_time=False,
        order_stream=True,
        post_only=False,
        cancels_per_s=float(wire.REQUESTS_PER_S),
        conformance_tested=True,
        costs=wire.QUERY_COSTS,
    )

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        super().__init__(name, config, credentials)
        self._rest_url = (config.url or REST_URL[config.environment]).rstrip("/")
        self._transport = Transport(connects_per_s=CONNECTS_PER_S, shared_as=self._rest_url)
        self._pacing = Pacing(default_wait_s={429: THROTTLED_S})
        self._stream_url = (config.url or STREAM_URL[config.environment]).rstrip("/")
        self._rules: dict[str, InstrumentRules] = {}
        self._account_id = config.account
        self._reader: Reader | None = None

    # Connection.

    async def connect(self) -> None:
        await self._choose_account()
        names = ",".join(map(wire.instrument_of, self.config.symbols))
        listed = await self._listed(names)
        missing = [symbol for symbol in self.config.symbols if symbol not in listed]
        if missing:
            raise VenueRefusedError(
                f"{self.name} does not trade {', '.join(missing)}",
                hint=f"mend symbols in [venues.{self.name}]",
                symbols=missing,
            )
        self._rules = {symbol: listed[symbol] for symbol in self.config.symbols}
        await self._known()

    async def _choose_account(self) -> None:
        """The account of desk.toml, else the first one that is no MetaTrader account."""
        known = (await self._ask(self._get("/v3/accounts"), wire.Accounts)).accounts
        if self.config.account is not None:
            if all(account.id != self.config.account for account in known):
                raise VenueAuthError(
                    f"{self.name}: the token does not reach account {self.config.account}",
                    hint=f"mend account in [venues.{self.name}], or use another token",
                )
            return
        first = next((account for account in known if account.mt4_account_id is None), None)
        if first is None:
            raise VenueRefusedError(f"{self.name}: the token reaches no v20 account")
        self._account_id = first.id

    async def _listed(self, names: str) -> dict[str, InstrumentRules]:
        """By symbol, those that the venue lists. One that it does not know makes it refuse the
        whole list, so then all are asked for."""
        try:
            answer = await self._account_ask(f"/instruments?instruments={names}", wire.Instruments)
        except VenueRefusedError:
            answer = await self._account_ask("/instruments", wire.Instruments)
        wanted = {wire.instrument_of(symbol) for symbol in self.config.symbols}
        with self._reading("rules"):
            listed = [each.to_port() for each in answer.instruments if each.name in wanted]
        return {rules.symbol: rules for rules in listed}

    async def _known(self) -> Reader:
        """The account's history, from the first time that it was asked for on."""
        with self._reading("the account"):
            if self._reader is None:
                summary = await self._summary()
                top, currency = int(summary.last_transaction_id), summary.account.currency
                # Whoever asked meanwhile was here first.
                self._reader = self._reader or self._reader_from(top, currency)
            return self._reader

    def _reader_from(self, top: int, currency: str) -> Reader:
        return Reader(
            self.name,
            History(top, currency),
            lambda query: self._account_ask(f"/transactions/{query}", wire.Transactions),
            lambda query: self._account_ask(f"/transactions{query}", wire.TransactionPages),
        )

    def rules(self, symbol: str) -> InstrumentRules:
        return self._rules[symbol]

    # Orders.

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        """An order that OANDA cannot fill now is accepted by it and cancelled in the same moment:
        that too is Accepted, and its end is told by the stream and by asking."""
        facts = order_facts(order)
        if isinstance(facts, str):
            return Rejected(code=BAD_ORDER, text=facts)
        if self._account_id is None:
            return Rejected(code=NEVER_ARRIVED, text="not sent: not connected yet")
        request = self._request(
            "POST", f"{self._account}/orders", msgspec.json.encode({"order": facts})
        )
        return await self._effect(request, _created, cl_ord_id=order.cl_ord_id)

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        if self._account_id is None:
            return Rejected(code=NEVER_ARRIVED, text="not sent: not connected yet")
        specifier = venue_order_id or f"@{cl_ord_id}"
        path = f"{self._account}/orders/{quoted(specifier, safe='@')}/cancel"
        return await self._effect(self._request("PUT", path), _cancelled)

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """OANDA lists all symbols at once; a list that is shorter than the account's own count of
        pending orders was cut."""
        with self._reading("open orders"):
            reader = await self._known()
            for _ in range(ROUNDS):
                pending, summary = await asyncio.gather(
                    self._account_ask("/pendingOrders", wire.PendingOrders), self._summary()
                )
                complete = len(pending.orders) == summary.account.pending_order_count
                if complete or pending.last_transaction_id == summary.last_transaction_id:
                    break
            await reader.catch_up()
            asked = set(symbols or self.config.symbols)
            orders: list[VenueOrder] = []
            for listed in pending.orders:
                await reader.know(int(listed.id))
                order = reader.history.order(int(listed.id))
                if order is None:
                    complete = False
                elif order.symbol in asked and not order.status.is_final:
                    orders.append(order)
            return Listing(orders=tuple(orders), complete=complete)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """By the transactions, which tell final orders too. OANDA's own search by the client's id
        comes after them, for a pending order that is older than they go back."""
        with self._reading("an order"):
            reader = await self._known()
            await reader.catch_up()
            history = reader.history
            if history.number_of(cl_ord_id) is None:
                await reader.look_back_to(time.time_ns() - LOOK_BACK_NS)
            number = history.number_of(cl_ord_id)
            if number is None:
                try:
                    path = f"/orders/{quoted(f'@{cl_ord_id}', safe='@')}"
                    number = int((await self._account_ask(path, wire.OrderAnswer)).order.id)
                except NoSuchOrderError:
                    return None
                await reader.catch_up()
            await reader.know(number)
            found = history.order(number)
            if found is None or found.status.is_final:
                return found
            # That it rests is what OANDA itself must say: an order may be lost without a transaction.
            try:
                answer = await self._account_ask(f"/orders/{number}", wire.OrderAnswer)
            except NoSuchOrderError:
                return None
            if answer.order.state != "PENDING":
                await reader.catch_up()
            return history.order(number)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        with self._reading("transactions"):
            reader = await self._known()
            await reader.catch_up()
            if venue_order_id:
                await reader.know(int(venue_order_id))
                return reader.history.fills_of(int(venue_order_id))
            await reader.look_back_to(since_ns)
            return [fill for fill in reader.history.fills_since(since_ns) if fill.symbol == symbol]

    def stream(self) -> AsyncIterator[StreamEvent]:
        return TransactionStream(
            transport=self._transport,
            request=self._stream_request,
            reader_from=lambda top: self._reader_from(top, self._currency()),
            symbols=frozenset(self.config.symbols),
            timeout_s=self.config.timeout,
            clean=self._clean,
        ).events()

    async def _stream_request(self) -> Request:
        await self._known()
        return Request(
            "GET",
            f"{self._stream_url}{self._account}/transactions/stream",
            self._headers(),
        )

    # Account and market.

    async def balances(self) -> dict[str, Balance]:
        """One, in the account's currency. Nothing is locked for orders: margin is used by
        positions alone."""
        account = (await self._summary()).account
        return {
            account.currency: Balance(
                currency=account.currency, free=account.balance, locked=wire.ZERO
            )
        }

    async def positions(self) -> list[VenuePosition]:
        """Raises VenueUnavailableError rather than take a cut list for flat positions."""
        for _ in range(ROUNDS):
            answer, summary = await asyncio.gather(
                self._account_ask("/openPositions", wire.Positions), self._summary()
            )
            if len(answer.positions) == summary.account.open_position_count:
                return _positions(answer, self.config.symbols)
        raise VenueUnavailableError(
            f"{self.name}: {len(answer.positions)} positions listed of "
            f"{summary.account.open_position_count}"
        )

    async def quote(self, symbol: str) -> Quote:
        name = wire.instrument_of(symbol)
        answer = await self._account_ask(f"/pricing?instruments={name}", wire.Prices)
        with self._reading("a price"):
            quote = next(
                (
                    price.to_port(venue=self.name, received_ns=time.time_ns())
                    for price in answer.prices
                    if price.instrument == name
                ),
                None,
            )
        if quote is None:
            raise VenueUnavailableError(f"{self.name}: {symbol} has no price now")
        return self._sound(quote)

    async def accounts(self) -> list[AccountSummary]:
        known = (await self._ask(self._get("/v3/accounts"), wire.Accounts)).accounts
        if self._account_id is None:
            await self._choose_account()
        summaries: list[AccountSummary] = []
        for account in known:
            path = f"/v3/accounts/{quoted(account.id)}/summary"
            found = (await self._ask(self._get(path), wire.Summary)).account
            summaries.append(
                AccountSummary(
                    account_id=account.id,
                    kind="hedging" if found.hedging_enabled else "netting",
                    currency=found.currency,
                    equity=found.nav,
                    active=account.id == self._account_id,
                )
            )
        return summaries

    async def key_permissions(self) -> KeyPermissions:
        """OANDA tells nothing of a token."""
        return KeyPermissions(
            withdraw=False,
            note="a token trades on every account of its user; the API cannot move money",
        )

    # How OANDA differs from other venues over HTTP.

    def _problem_in(self, reply: Reply) -> Problem | None:
        return wire.problem_in(reply.status, reply.body)

    @property
    def _account(self) -> str:
        assert self._account_id is not None, "connect first"
        return f"/v3/accounts/{quoted(self._account_id)}"

    def _currency(self) -> str:
        assert self._reader is not None, "its request was made first"
        return self._reader.history.currency

    async def _summary(self) -> wire.Summary:
        return await self._account_ask("/summary", wire.Summary)

    async def _account_ask(self, path: str, shape: type[T]) -> T:
        if self._account_id is None:
            await self._choose_account()
        return await self._ask(self._get(f"{self._account}{path}"), shape)

    def _get(self, path: str) -> Request:
        return self._request("GET", path)

    def _request(self, method: str, path: str, body: bytes | None = None) -> Request:
        return Request(method, f"{self._rest_url}{path}", self._headers(), body)

    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._credentials.secret}",
            "Accept-Datetime-Format": "UNIX",
            "Content-Type": "application/json",
        }


def _created(body: bytes) -> str:
    return msgspec.json.decode(body, type=wire.Created).order_create_transaction.id


def _cancelled(body: bytes) -> str:
    return msgspec.json.decode(body, type=wire.Cancelled).order_cancel_transaction.order_id


def _positions(answer: wire.Positions, symbols: Sequence[str]) -> list[VenuePosition]:
    """One for each side that is held, named as OANDA names it; zero where none is."""
    held = {wire.symbol_of(each.instrument): each for each in answer.positions}
    positions: list[VenuePosition] = []
    for symbol in symbols:
        found = held.get(symbol)
        sides = [] if found is None else [("LONG", found.long), ("SHORT", found.short)]
        legs = [
            VenuePosition(symbol=symbol, quantity=side.units, leg=leg, avg_px=side.average_price)
            for leg, side in sides
            if side.units
        ]
        positions += legs or [VenuePosition(symbol=symbol, quantity=wire.ZERO)]
    return positions
