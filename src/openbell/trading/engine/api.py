"""The engine's HTTP answers, as docs/explanation/architecture.md lists them.

What is asked of a venue is asked now: `orders` and `positions` show the venue's word beside the
books', and say where it could not be had. Nothing remembered is passed off as the venue's.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Literal, TypeVar

import msgspec

from openbell.domain import ids
from openbell.domain.closing import CancelScope, is_passive, plan_cancels
from openbell.domain.comparison import document, plain
from openbell.domain.flattening import Flatness, FlattenPlan, is_flat
from openbell.domain.market import Quote, base_quote
from openbell.domain.orders import ClOrdID, Order
from openbell.domain.positions import Pnl, Position, common_quote, total_pnl, unrealized
from openbell.domain.reconcile import Agreement, Kind
from openbell.domain.scopes import DESK
from openbell.errors import UsageError
from openbell.trading.engine.comparing import AdoptBody, Compared, asked
from openbell.trading.engine.engine import Engine
from openbell.trading.engine.flatten import FlattenResult
from openbell.trading.engine.likeness import Likeness
from openbell.trading.engine.succession import HandOverBody, PromoteBody, Succession
from openbell.trading.engine.venue_link import VenueLink
from openbell.venues.port import (
    Listing,
    VenueError,
    VenueOrder,
    VenuePosition,
    net_positions,
)

T = TypeVar("T")

CANCEL_WITHIN_S = 8.0
"""How long `cancel` waits for orders to be final; below the 10 s its callers wait for it."""
PATIENCE_S = 6.0
"""How long a question waits for room in the venue's limits; below the same 10 s."""


class CancelBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    venue: str | None = None
    symbol: str | None = None
    strategy: str | None = None
    cl_ord_ids: tuple[ClOrdID, ...] | None = None
    passive_stay: bool = False
    """Orders that can only provide liquidity are left."""
    reason: str = "asked for"


class FlattenBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mode: Literal["market", "limit"]
    venue: str | None = None
    symbol: str | None = None
    run: str | None = None
    """Name under which the same flatten may be asked for again without ordering anything twice."""
    valid_until_mono_ns: int | None = None
    """Nothing is ordered later: on the monotonic clock, which all processes of one boot share."""


class FlattenPlanQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mode: Literal["market", "limit"]
    orders: Literal["as_they_are", "gone"] = "as_they_are"
    """Whether own open orders are to be taken for withdrawn."""


class ReconcileBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    venues: tuple[str, ...] = ()
    """None: all."""


class HaltBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: str = ""


class EngineApi:
    """Handlers of the engine's routes: each takes the fields of its request."""

    def __init__(self, engine: Engine, likeness: Likeness | None = None) -> None:
        self._engine = engine
        self._likeness = likeness
        self._succession = Succession.of(engine)
        self._books = engine.ledger.books
        self._flatten_runs = itertools.count(1)
        self._flattening = asyncio.Lock()
        self._comparing = engine.comparing

    # --- looking -----------------------------------------------------------------------------

    def state(self, _fields: dict[str, Any]) -> object:
        engine = self._engine
        why_not = engine.why_not_trading()
        scope = engine.permit.scope()
        latched = engine.gate.latches.scopes()
        return {
            "phase": engine.phase,
            "trading": not why_not,
            "why_not": why_not,
            "epoch": engine.ledger.epoch,
            "permit": {
                "held": scope != "none",
                "scope": scope,
                "expires_in_s": round(engine.permit.expires_in_s(), 3),
                "why_not": engine.permit.why_not,
                "comes_with_promotion": True,
            },
            "latch": {"active": DESK in latched, "scopes": sorted(map(str, latched))},
            "halted": engine.gate.is_halted(),
            "limits": engine.gate.limits.now().document(),
            "storage": engine.ledger.storage_problem,
            "last_journal_seq": engine.ledger.last_seq,
            "in_doubt": engine.in_doubt,
            "in_flight": engine.desk.under_way,
            "last_order_sent_ns": engine.desk.last_sent_ns,
            "outcomes": engine.desk.outcomes.document(),
            "venues": [
                {**_venue_state(link), "cash": engine.cash.word(link.name).document()}
                for link in engine.links.values()
            ],
            "pnl": self._pnl(),
            "parity": None if self._likeness is None else self._likeness.facts(engine),
        }

    def limits(self, _fields: dict[str, Any]) -> object:
        """Those that the next order is judged by. An order that passed earlier ones and was not sent
        yet is not sent any more, so who hears this knows what holds from now on."""
        return self._engine.gate.limits.now().document()

    async def orders(self, _fields: dict[str, Any]) -> object:
        """What the venues list, and what they should have listed: see `_unlisted_rows`. `sending`: what
        has no answer yet, and so may rest a moment later while no list shows it."""
        links = list(self._engine.links.values())
        # Taken before the question, so that what is sent meanwhile is not missed in the answer.
        expected = {link.name: self._expected(link) for link in links}
        sending = self._sending_rows()
        answers = await asyncio.gather(
            *(asked(link.venue.open_orders, PATIENCE_S) for link in links)
        )
        venues: dict[str, object] = {}
        rows: list[dict[str, object]] = []
        for link, answer in zip(links, answers, strict=True):
            if isinstance(answer, VenueError):
                venues[link.name] = {"ok": False, "error": answer.message, "complete": False}
                continue
            unlisted = await self._unlisted_rows(link, answer, expected[link.name])
            complete = answer.complete and not unlisted
            venues[link.name] = {"ok": True, "error": "", "complete": complete}
            rows += [*self._order_rows(link, answer), *unlisted]
        return {"venues": venues, "orders": rows, "sending": sending}

    async def positions(self, _fields: dict[str, Any]) -> object:
        links = list(self._engine.links.values())
        answers = await asyncio.gather(*(asked(link.venue.positions, PATIENCE_S) for link in links))
        rows: list[dict[str, object]] = []
        for link, answer in zip(links, answers, strict=True):
            rows += self._position_rows(link, answer)
        return {"positions": rows, "pnl": self._pnl()}

    def snapshot(self, _fields: dict[str, Any]) -> object:
        """The books for a checkpoint. Orders that have ended are in the journal, up to the number
        given, and left out."""
        snapshot = self._books.to_snapshot()
        return {
            "epoch": self._engine.ledger.epoch,
            "last_journal_seq": self._engine.ledger.last_seq,
            "taken_ns": time.time_ns(),
            "orders": self._books.open_orders(),
            "positions": snapshot.positions,
            "strategy_positions": snapshot.strategy_positions,
            "adopted": snapshot.adopted,
            "cash": snapshot.cash,
            "pnl": self._pnl(),
        }

    # --- acting ------------------------------------------------------------------------------

    async def halt(self, fields: dict[str, Any]) -> object:
        body = _read(fields, HaltBody)
        in_flight = await self._engine.halt(body.reason)
        return {
            "halted": True,
            "last_journal_seq": self._engine.ledger.last_seq,
            "in_flight": in_flight,
        }

    def resume(self, _fields: dict[str, Any]) -> object:
        self._engine.resume()
        return {"resumed": True}

    async def cancel(self, fields: dict[str, Any]) -> object:
        body = _read(fields, CancelBody)
        self._known_venue(body.venue)
        scope = CancelScope(
            venue=body.venue,
            symbol=body.symbol,
            strategy=body.strategy,
            cl_ord_ids=body.cl_ord_ids,
            passive_stay=body.passive_stay,
        )
        engine = self._engine
        targets = [
            target.cl_ord_id
            for target in plan_cancels(self._books.open_orders(), scope, engine.market.quotes)
            if target.venue in engine.links
        ]
        results = await engine.canceller.cancel(targets, body.reason, timeout_s=CANCEL_WITHIN_S)
        return {
            "asked": len(targets),
            "final": sum(
                self._books.orders[result.cl_ord_id].status.is_final for result in results
            ),
            "results": results,
        }

    async def flatten(self, fields: dict[str, Any]) -> FlattenResult:
        body = _read(fields, FlattenBody)
        self._known_venue(body.venue)
        run = body.run or f"{self._engine.ledger.epoch}-{next(self._flatten_runs)}"
        async with self._flattening:  # a second one would not see the first one's orders yet
            return await self._engine.flattener.flatten(
                body.mode,
                run=run,
                venue=body.venue,
                symbol=body.symbol,
                until_mono_ns=body.valid_until_mono_ns,
            )

    async def flatten_plan(self, fields: dict[str, Any]) -> FlattenPlan:
        """What `flatten` would order; nothing is sent."""
        body = _read(fields, FlattenPlanQuery)
        async with self._flattening:  # or it would plan beside orders that are just being sent
            return await self._engine.flattener.plan(body.mode, orders_gone=body.orders == "gone")

    async def reconcile(self, fields: dict[str, Any]) -> object:
        """Looks until nothing is left to heal, three times at most, and tells the last look."""
        body = _read(fields, ReconcileBody)
        return _compared_document(await self._comparing.compare(body.venues))

    async def adopt(self, fields: dict[str, Any]) -> object:
        """Books the venues' truth, as it was shown to a person; see `Comparing.adopt`."""
        adopted, compared = await self._comparing.adopt(_read(fields, AdoptBody))
        return {
            "adopted": adopted,
            "last_journal_seq": self._engine.ledger.last_seq,
            **_compared_document(compared),
        }

    async def hand_over(self, fields: dict[str, Any]) -> object:
        return await self._succession.hand_over(_read(fields, HandOverBody))

    async def promote(self, fields: dict[str, Any]) -> object:
        return await self._succession.promote(_read(fields, PromoteBody))

    # --- rows --------------------------------------------------------------------------------

    def _order_rows(self, link: VenueLink, listing: Listing) -> Iterable[dict[str, object]]:
        now_ns = time.time_ns() + (link.skew_ns or 0)
        for there in listing.orders:
            here = self._books.orders.get(there.cl_ord_id)
            own = here is not None or ids.is_own(there.cl_ord_id, self._engine.setup.layout.desk_id)
            yield {
                "venue": link.name,
                "cl_ord_id": there.cl_ord_id,
                "venue_order_id": there.venue_order_id,
                "symbol": there.symbol,
                "side": there.side,
                "ord_type": there.ord_type,
                "price": there.price,
                "order_qty": there.order_qty,
                "cum_qty": there.cum_qty,
                "leaves_qty": there.order_qty - there.cum_qty,
                "status": there.status,
                "age_s": round(max(0, now_ns - there.created_ns) / 1e9, 3),
                "strategy": here.new.strategy if here is not None else "",
                "own": own,
                # The books alone know: an order that they do not is not taken for passive.
                "passive": here is not None and is_passive(here),
                "listed": True,
                "books": _books_say(here, there),
            }

    def _expected(self, link: VenueLink) -> list[ClOrdID]:
        """What the books hold open there and is not just on its way."""
        return [
            order.cl_ord_id
            for order in self._books.open_orders(venue=link.name)
            if not self._engine.desk.is_just_being_sent(order.cl_ord_id)
        ]

    def _sending_rows(self) -> list[dict[str, object]]:
        return [
            {
                "venue": order.new.venue,
                "cl_ord_id": order.cl_ord_id,
                "symbol": order.new.symbol,
                "strategy": order.new.strategy,
            }
            for order in self._books.open_orders()
            if self._engine.desk.is_sending(order.cl_ord_id)
        ]

    async def _unlisted_rows(
        self, link: VenueLink, listing: Listing, expected: Iterable[ClOrdID]
    ) -> list[dict[str, object]]:
        """Orders that are open in the books and not in the venue's list. Absence proves nothing, so
        each is asked for by its ClOrdID; those that this does not end are told as the books know
        them, and make the list an incomplete one."""
        listed = {there.cl_ord_id for there in listing.orders}
        missing = [key for key in expected if key not in listed]
        symbols = [self._books.orders[key].new.symbol for key in missing]
        await asyncio.gather(
            *(
                asked(partial(link.tracker.ask, *each), PATIENCE_S)
                for each in zip(symbols, missing, strict=True)
            )
        )
        here = [self._books.orders[key] for key in missing if key in self._books.orders]
        return [_unlisted_row(order) for order in here if not order.status.is_final]

    def _position_rows(
        self, link: VenueLink, answer: list[VenuePosition] | VenueError
    ) -> Iterable[dict[str, object]]:
        says = {} if isinstance(answer, VenueError) else net_positions(answer)
        symbols = {*link.config.symbols, *(s for at, s in self._books.positions if at == link.name)}
        stands = link.stands()
        for symbol in sorted(symbols):
            position = self._books.position(link.name, symbol)
            mark = self._engine.mark(link.name, symbol)
            rules = link.rules(symbol)
            yield {
                "venue": link.name,
                "symbol": symbol,
                "quantity": position.quantity,
                "venue_quantity": says.get(symbol),
                "avg_px": position.avg_px,
                "mark_px": mark,
                "realized_pnl": position.realized_pnl,
                "unrealized_pnl": None if mark is None else unrealized(position, mark),
                "fees": position.fees,
                "fee_cost": position.fee_cost,
                "tick_size": None if rules is None else rules.tick_size,
                "quote": _quote_row(self._engine.market.quotes.get((link.name, symbol))),
                "differs": stands.get(symbol, ""),
                "dust": _is_dust(link, position, says.get(symbol), mark),
            }

    def _pnl(self) -> Pnl:
        positions = list(self._books.positions.values())
        symbols = [s for link in self._engine.links.values() for s in link.config.symbols]
        currency = common_quote(p.symbol for p in positions) or common_quote(symbols)
        marks = self._engine.market.marks()
        conversion: dict[str, Decimal] = {}
        for (_, symbol), mark in marks.items():
            base, quote = base_quote(symbol)
            if quote == currency:
                conversion[base] = mark
        return total_pnl(positions, marks, conversion, currency=currency)

    def _known_venue(self, venue: str | None) -> None:
        if venue is not None and venue not in self._engine.links:
            known = ", ".join(self._engine.links)
            raise UsageError(f'the desk has no venue "{venue}"', hint=f"its venues: {known}")


def _quote_row(quote: Quote | None) -> dict[str, object] | None:
    """What rests at the touch, and for how long it is known; None: there is no quote."""
    if quote is None:
        return None
    return {
        "bid_px": quote.bid_px,
        "bid_qty": quote.bid_qty,
        "ask_px": quote.ask_px,
        "ask_qty": quote.ask_qty,
        "age_s": max(0.0, quote.age_ns(time.time_ns()) / 1e9),
    }


def _read(fields: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"the request is not understood: {error}") from error


def _venue_state(link: VenueLink) -> dict[str, object]:
    positions = link.positions
    return {
        "name": link.name,
        "connected": link.connected,
        "reconciled": link.reconciled,
        "why_not": link.why_not,
        "differs": link.differs_why,
        "refused": link.refused and not link.connected,
        "streaming": link.streaming,
        "held_back": link.limits.why,
        "held_for_s": round(link.limits.left_s, 3),
        "stream_why": link.stream_why,
        "open_orders": link.open_orders,
        "positions": None
        if positions is None
        else sum(link.is_open(*p) for p in positions.items()),
        "foreign_orders": link.foreign,
        "in_doubt": link.tracker.in_doubt,
        "doubt_ends_in_s": round(link.tracker.doubt_ends_in_s, 3),
        "clock_skew_ms": None if link.skew_ns is None else link.skew_ns // 1_000_000,
        "tells_time": link.venue.capabilities.server_time,
    }


def _books_say(here: Order | None, there: VenueOrder) -> dict[str, object] | None:
    if here is None:
        return None
    return {
        "status": here.status,
        "cum_qty": here.cum_qty,
        "agrees": here.cum_qty == there.cum_qty and not here.status.is_final,
    }


def _unlisted_row(order: Order) -> dict[str, object]:
    new = order.new
    return {
        "venue": new.venue,
        "cl_ord_id": order.cl_ord_id,
        "venue_order_id": order.venue_order_id,
        "symbol": new.symbol,
        "side": new.side,
        "ord_type": new.ord_type,
        "price": new.price,
        "order_qty": new.order_qty,
        "cum_qty": order.cum_qty,
        "leaves_qty": order.leaves_qty,
        "status": order.status,
        "age_s": round(max(0, time.time_ns() - order.created_ns) / 1e9, 3),
        "strategy": new.strategy,
        "own": True,
        "passive": is_passive(order),
        "listed": False,
        "books": {"status": order.status, "cum_qty": order.cum_qty, "agrees": False},
    }


def _is_dust(
    link: VenueLink, position: Position, says: Decimal | None, mark: Decimal | None
) -> bool:
    """Neither the books nor the venue hold what an order could close, and one of them holds some."""
    rules = link.rules(position.symbol)
    held = [quantity for quantity in (position.quantity, says) if quantity]
    return (
        bool(held)
        and rules is not None
        and all(is_flat(quantity, rules, mark) is Flatness.DUST for quantity in held)
    )


def _compared_document(compared: Sequence[Compared]) -> dict[str, object]:
    """The comparison, and what a closing judges it by."""
    told = document(
        [each.comparison for each in compared],
        [mended for each in compared for mended in each.mended],
        source="engine",
    )
    orders = [
        {"venue": each.comparison.venue, **plain(finding)}
        for each in compared
        if each.found is not None
        for finding in each.found.orders
    ]
    unknown = [
        f"{each.comparison.venue}: {each.comparison.why}"
        for each in compared
        if each.comparison.status is Agreement.UNKNOWN
    ]
    mismatches = [row for row in orders if row["status"] == Agreement.MISMATCH]
    mismatches += [plain(row) for row in told["positions"] if row.status is Agreement.MISMATCH]
    return {
        **told,
        "ok": not unknown and not mismatches,
        "unknown": bool(unknown),
        "unknown_venues": unknown,
        "held_back": [
            {"venue": each.comparison.venue, "retry_after_s": each.retry_after_s}
            for each in compared
            if each.retry_after_s is not None
        ],
        "mismatches": mismatches,
        "orders": orders,
        "foreign": [
            {"venue": d.venue, "symbol": d.symbol, "venue_order_id": d.venue_order_id}
            for d in told["differences"]
            if d.kind is Kind.FOREIGN_ORDER
        ],
    }
