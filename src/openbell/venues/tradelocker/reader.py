"""What an account's lists say of its orders, executions and positions.

TradeLocker finds no order by our id: `strategyId` is a column of its lists and no key. So an order
is looked for among those that have not ended, then among those that have; what ends meanwhile is on
the second list. Lists are judged by what the venue says apart from them: open orders and positions
by their counts in the account's state, the history by its `hasMore`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from openbell.domain.orders import ClOrdID
from openbell.venues.port import (
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import NONSENSE
from openbell.venues.tradelocker import routes, wire
from openbell.venues.tradelocker.rows import ZERO, Columns, Market, Row

T = TypeVar("T")

ROUNDS = 3
"""How often a list and its count are asked for before they are called contradictory."""
LOOK_BACK_NS = 7 * 86_400 * 1_000_000_000
"""How far back a history that does not fit into one answer is read. Ours: longer than a desk is
down with an order in doubt."""
PAGES_MAX = 32
"""Answers that one look at the history may take. Ours."""
NAMES_KEPT = 50_000


class Ask(Protocol):
    """A query under the account. Raises VenueError."""

    async def __call__(
        self,
        route: str,
        path: str,
        shape: type[T],
        params: Mapping[str, object] | None = None,
        *,
        for_cancel: bool = False,
    ) -> T: ...


class Reader:
    """Every call raises VenueError, also for a list that cannot be read."""

    def __init__(
        self,
        name: str,
        ask: Ask,
        config: wire.ConfigData,
        markets: Sequence[Market],
        currency: str,
    ) -> None:
        self.currency = currency
        self._name = name
        self._ask = ask
        self._orders = Columns(config.orders_config)
        self._history = Columns(config.orders_history_config)
        self._positions = Columns(config.positions_config)
        self._executions = Columns(config.filled_orders_config)
        self._details = Columns(config.account_details_config)
        self._markets = {str(market.tradable_id): market for market in markets}
        self._symbols = [market.symbol for market in markets]
        self._names: dict[str, ClOrdID] = {}
        """ClOrdID by venue order id, of every order that was ever read; executions do not tell it."""

    def learn(self, venue_order_id: str, cl_ord_id: ClOrdID) -> None:
        self._names[venue_order_id] = cl_ord_id
        if len(self._names) > NAMES_KEPT:
            del self._names[next(iter(self._names))]

    async def state(self) -> Row:
        """The account's details."""
        answer = await self._ask(routes.STATE, "/state", wire.State)
        with self._reading("the account's state"):
            return self._details.row(answer.d.account_details_data)

    # Orders.

    async def open_orders(self) -> tuple[list[VenueOrder], bool]:
        """Those in declared symbols, and whether all were listed: the account's state counts those
        of every symbol."""
        for _ in range(ROUNDS):
            rows, state = await asyncio.gather(self._open_rows(), self.state())
            with self._reading("the count of orders"):
                complete = len(rows) >= state.count("ordersCount")
            if complete:
                break
        return self._read(rows, is_open=True), complete

    async def open_order(self, cl_ord_id: ClOrdID) -> str:
        """Venue order id of one that has not ended; empty: there is none. For a cancel: nothing
        else is asked."""
        rows = await self._open_rows(for_cancel=True)
        found = [row for row in rows if row.text("strategyId") == cl_ord_id]
        return found[0].text("id") if found else ""

    async def order(self, cl_ord_id: ClOrdID, since_ns: int | None) -> VenueOrder | None:
        """The newest order of this id. `since_ns`: it cannot be older. None: the venue lists none,
        and its lists were complete. Raises VenueUnavailableError where they were not."""
        listed, complete = await self.open_orders()
        found = [order for order in listed if order.cl_ord_id == cl_ord_id]
        if found:
            return max(found, key=lambda order: order.created_ns)
        async for page in self._history_pages(since_ns):
            ended = self._read(
                [row for row in page if row.text("strategyId") == cl_ord_id], is_open=False
            )
            if ended:
                return max(ended, key=lambda order: order.created_ns)
        if not complete:
            raise self._cut("open orders")
        if any(row.text("strategyId") == cl_ord_id for row in await self._position_rows()):
            # It opened a position, so there is an order, and a list that is behind.
            raise self._cut("orders")
        return None

    async def _open_rows(self, *, for_cancel: bool = False) -> list[Row]:
        answer = await self._ask(routes.ORDERS, "/orders", wire.Orders, for_cancel=for_cancel)
        with self._reading("open orders"):
            return self._known(self._orders.rows(answer.d.orders))

    async def _history_pages(self, since_ns: int | None) -> AsyncIterator[list[Row]]:
        """Orders that have ended: all of them, or those from `since_ns` on. Pages may overlap.

        Where one answer does not hold them, its time is halved until each part does; then no
        further back than LOOK_BACK_NS."""
        whole = await self._history_page(None if since_ns is None else since_ns // 1_000_000, None)
        yield whole[0]
        if not whole[1]:
            return
        earliest_ns = time.time_ns() - LOOK_BACK_NS
        # The newest part has no end, and all overlap by a millisecond: clocks differ.
        parts: list[tuple[int, int | None]] = [(max(earliest_ns, since_ns or 0) // 1_000_000, None)]
        for _ in range(PAGES_MAX):
            begin, end = parts.pop()
            page, has_more = await self._history_page(begin, end)
            yield page
            if has_more:
                middle = (begin + (time.time_ns() // 1_000_000 if end is None else end)) // 2
                if middle <= begin:
                    raise self._cut("orders' history")
                parts += [(begin, middle), (middle, end)]
            if not parts:
                return
        raise self._cut("orders' history")

    async def _history_page(self, begin: int | None, end: int | None) -> tuple[list[Row], bool]:
        """Times in ms since 1970."""
        asked = {"from": begin, "to": end}
        params = {name: value for name, value in asked.items() if value is not None}
        answer = await self._ask(routes.HISTORY, "/ordersHistory", wire.History, params)
        with self._reading("orders' history"):
            return self._known(self._history.rows(answer.d.orders_history)), answer.d.has_more

    def _known(self, rows: list[Row]) -> list[Row]:
        """Raises ValueError."""
        for row in rows:
            self.learn(row.text("id"), ClOrdID(row.text("strategyId")))
        return rows

    def _read(self, rows: Sequence[Row], *, is_open: bool) -> list[VenueOrder]:
        with self._reading("orders"):
            return [
                market.order(row, is_open=is_open)
                for row in rows
                if (market := self._markets.get(row.text("tradableInstrumentId"))) is not None
            ]

    # Executions.

    async def fills(self, symbol: str, since_ns: int, venue_order_id: str) -> list[VenueFill]:
        """Those of TradeLocker's current session; older ones are told by nothing but their orders'
        `cum_qty`."""
        answer = await self._ask(routes.EXECUTIONS, "/executions", wire.Executions)
        with self._reading("executions"):
            chosen = [
                (market, row)
                for row in self._executions.rows(answer.d.executions)
                if (market := self._markets.get(row.text("tradableInstrumentId"))) is not None
                and market.symbol == symbol
                and venue_order_id in ("", row.text("orderId"))
                and row.time_ns("createdDate") >= since_ns // 1_000_000 * 1_000_000
            ]
            await self._learn_names({row.text("orderId") for _, row in chosen})
            fills = [
                market.fill(row, self._names[row.text("orderId")], self.currency)
                for market, row in chosen
            ]
        found = {fill.exec_id: fill for fill in fills}
        return sorted(found.values(), key=lambda fill: (fill.venue_time_ns, fill.exec_id))

    async def _learn_names(self, venue_order_ids: set[str]) -> None:
        """Learns whose executions these are. An order that no list tells has no name."""
        if venue_order_ids <= self._names.keys():
            return
        await self._open_rows()
        async for _ in self._history_pages(None):
            if venue_order_ids <= self._names.keys():
                return
        for unknown in venue_order_ids - self._names.keys():
            self.learn(unknown, ClOrdID(""))

    # Positions.

    async def positions(self) -> list[VenuePosition]:
        """One for each leg, zero where there is none. Raises VenueUnavailableError rather than take
        a cut list for flat positions, and VenueRefusedError for an account that hedges."""
        for _ in range(ROUNDS):
            rows, state = await asyncio.gather(self._position_rows(), self.state())
            with self._reading("the count of positions"):
                if len(rows) >= state.count("positionsCount"):
                    return self._legs(rows)
        raise self._cut("positions")

    def _legs(self, rows: Sequence[Row]) -> list[VenuePosition]:
        with self._reading("positions"):
            legs = [
                market.position(row)
                for row in rows
                if (market := self._markets.get(row.text("tradableInstrumentId"))) is not None
            ]
        for symbol in self._symbols:
            if len({leg.quantity > 0 for leg in legs if leg.symbol == symbol}) > 1:
                raise VenueRefusedError(
                    f"{self._name}: the account holds {symbol} long and short at once",
                    hint="on an account that hedges, an opposite order opens a position and closes "
                    "none: close these at the venue, and ask the broker for an account that nets",
                )
        flat = set(self._symbols) - {leg.symbol for leg in legs}
        return legs + [VenuePosition(symbol=symbol, quantity=ZERO) for symbol in sorted(flat)]

    async def _position_rows(self) -> list[Row]:
        answer = await self._ask(routes.POSITIONS, "/positions", wire.Positions)
        with self._reading("positions"):
            return self._positions.rows(answer.d.positions)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """What is not as it should be in an answer is no answer: nothing is known."""
        try:
            yield
        except NONSENSE as error:
            raise VenueUnavailableError(f"{self._name}: {what} of another shape") from error

    def _cut(self, what: str) -> VenueUnavailableError:
        return VenueUnavailableError(f"{self._name}: the list of {what} is not complete")
