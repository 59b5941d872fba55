"""Books against venues while no engine runs: read from the journal, and changed by nothing.

The rules are those of the engine (`domain.reconcile`, `domain.differences`). What it would heal by
asking for single orders and booking is only told here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.models import Venue as VenueConfig
from openbell.domain.books import Books
from openbell.domain.cash_compared import CashFacts
from openbell.domain.compared import VenueComparison
from openbell.domain.comparison import document
from openbell.domain.differences import BalanceFacts, More, classify, unreachable
from openbell.domain.orders import Side
from openbell.domain.reconcile import BookFacts, FillFacts, OrderFacts, VenueFacts, reconcile
from openbell.venues.asking import VenueAnswer
from openbell.venues.clerk import ask_venues
from openbell.venues.unlisted import KnownOrder

CLERK_TIMEOUT_S = 20.0
OVERLAP_NS = 60_000_000_000
"""As the engine: clocks and lists may lag."""
HINT = (
    "`openbell up --safe-mode` starts the engine without trading: it books what a venue tells of own"
    " orders, and can adopt the rest"
)


async def compare_at_rest(
    layout: DeskLayout, desk: LoadedDesk, venues: Sequence[str]
) -> dict[str, Any]:
    """The document of `domain.comparison`, with `source` `journal`. Raises NotRunningError where the
    desk has no database yet, CorruptError, StorageError."""

    async def ask(books: Books, since_ns: int) -> Sequence[VenueAnswer]:
        known = {
            name: tuple(
                KnownOrder(cl_ord_id=order.cl_ord_id, symbol=order.new.symbol)
                for order in books.open_orders(venue=name)
            )
            for name in venues
        }
        return await ask_venues(
            layout, desk, venues, CLERK_TIMEOUT_S, known, fills_since_ns=since_ns
        )

    return {**await compared_by(ask, layout, desk, venues), "hint": HINT}


async def compared_by(
    ask: Callable[[Books, int], Awaitable[Sequence[VenueAnswer]]],
    layout: DeskLayout,
    desk: LoadedDesk,
    venues: Iterable[str],
) -> dict[str, Any]:
    """The document by the answers that `ask` brings: given the books, and from when on executions may be
    missing. Raises as `compare_at_rest`."""
    # Later than this module: a controller adopts its services before it loads a database.
    from openbell.state.books_at_rest import books_at_rest

    books = (await asyncio.to_thread(books_at_rest, layout.database)).books
    asked_ns = time.time_ns()
    answers = await ask(books, max(1, fills_since_ns(books, venues, asked_ns)))
    comparisons = [
        compare(books, answer, desk.file.venues[answer.name], layout.desk_id, asked_ns)
        for answer in answers
    ]
    told = document(comparisons, (), source="journal")
    plain: dict[str, Any] = msgspec.to_builtins(told, builtin_types=(Decimal,))
    return plain


def fills_since_ns(books: Books, venues: Iterable[str], now_ns: int) -> int:
    """From where on executions may be missing: the oldest open order, else the last change of any."""
    wanted = set(venues)
    here = [order for order in books.orders.values() if order.new.venue in wanted]
    open_since = [order.created_ns for order in here if not order.status.is_final]
    last = [max(order.updated_ns for order in here)] if here else []
    return min([*open_since, *last, now_ns]) - OVERLAP_NS


def compare(
    books: Books, answer: VenueAnswer, config: VenueConfig, desk_id: str, asked_ns: int
) -> VenueComparison:
    """One venue's answer against the books. Pure."""
    if answer.status != "ok" and not (answer.positions or answer.open_orders):
        return unreachable(answer.name, answer.why, books.quantities(answer.name))
    name = answer.name
    ours = BookFacts(
        venue=name,
        desk_id=desk_id,
        orders=tuple(order for order in books.orders.values() if order.new.venue == name),
        positions=books.quantities(name),
        tolerance={
            row.symbol: row.lot_size for row in answer.positions if row.lot_size is not None
        },
    )
    venue = VenueFacts(
        asked_ns=asked_ns,
        open_orders=tuple(
            OrderFacts(
                cl_ord_id=order.cl_ord_id,
                venue_order_id=order.venue_order_id,
                symbol=order.symbol,
                side=Side(order.side),
                order_qty=order.order_qty,
                cum_qty=order.cum_qty,
                price=order.price,
            )
            for order in answer.open_orders
        ),
        complete=answer.status == "ok",
        positions={row.symbol: row.venue_quantity for row in answer.positions},
        fills=tuple(FillFacts(**msgspec.structs.asdict(fill)) for fill in answer.fills or ()),
    )
    holdings: dict[str, Decimal] | None = None if answer.keeps_positions else dict(config.holdings)
    more = More(
        adopted=books.adopted_at(name),
        fee_in_kind=not answer.keeps_positions,
        balances=[
            BalanceFacts(currency=b.currency, free=b.free, locked=b.locked) for b in answer.balances
        ],
        holdings=holdings,
        agreed_ns=fills_since_ns(books, (name,), asked_ns) + OVERLAP_NS,
        fills_asked=answer.fills is not None,
        cash=CashFacts(
            symbols=config.symbols,
            books=books.cash_at(name),
            venue={each.currency: each.free + each.locked for each in answer.balances},
            keeps_positions=answer.keeps_positions,
            fee_currency=config.fee_currency,
        ),
    )
    return classify(ours, venue, reconcile(ours, venue), more)
