"""Closing positions: reduce-only orders, told leg by leg, that never flip a position.

Before each leg the venue is asked for its position; the leg is at most the smaller of what the
books and the venue say, and nothing is ordered where they disagree about the side. The last gate
holds the same rule once more against everything that is still open. A symbol in which books and
venue differ is left alone and told: what moved it is not known, and may move it again. The others
are closed all the same.

Repeating a flatten under the same run name repeats no order: the legs' intents are numbered, and
the ones that exist already are looked after instead. Under another name neither: while an order of
that symbol that would close is in doubt, nothing is sent for it, and the order is named.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.flattening import Dust, FlattenLeg, FlattenPlan, plan_flatten
from openbell.domain.market import InstrumentRules
from openbell.domain.orders import ClOrdID, Order, OrdStatus, Purpose, Side
from openbell.domain.permit import PermitScope
from openbell.domain.positions import Instrument, Position
from openbell.trading.engine.canceller import Canceller
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.market_view import MarketView
from openbell.trading.engine.order_desk import OrderDesk
from openbell.trading.engine.permit_client import PermitClient
from openbell.trading.messages import SubmitIntent
from openbell.venues.port import Venue, VenueError, net_positions

PERMIT_WITHIN_S = 3.0
"""How long a flatten waits for leave to reduce."""
LEG_WITHIN_S = 10.0
"""How long one leg may take until it is final; then it is told as it stands."""


class FlattenLink(Protocol):
    """What a flatten needs of a venue's link."""

    @property
    def venue(self) -> Venue: ...
    @property
    def config(self) -> VenueConfig: ...
    def rules(self, symbol: str) -> InstrumentRules | None: ...
    def differing(self) -> Mapping[str, str]: ...
    def differs(self, symbol: str) -> str: ...


class LegResult(msgspec.Struct, frozen=True, kw_only=True):
    intent_id: str
    venue: str
    symbol: str
    side: Side
    order_qty: Decimal
    cl_ord_id: ClOrdID | None
    outcome: str
    """The order's status, or `REFUSED` where it was not sent."""
    cum_qty: Decimal = Decimal(0)
    avg_px: Decimal | None = None
    text: str = ""
    mid_px: Decimal | None = None
    """Directly before it was sent; None: there was no sound quote, or an earlier ask had sent it."""
    mid_age_s: float | None = None
    """Of that quote, then."""


class FlattenResult(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    legs: tuple[LegResult, ...]
    dust: tuple[Dust, ...]
    blocked: tuple[str, ...]
    """Positions for which no order was sent, with the reason."""


class Flattener:
    def __init__(
        self,
        ledger: Ledger,
        desk: OrderDesk,
        canceller: Canceller,
        links: Mapping[str, FlattenLink],
        market: MarketView,
        permit: PermitClient,
    ) -> None:
        self._ledger = ledger
        self._desk = desk
        self._canceller = canceller
        self._links = links
        self._market = market
        self._permit = permit

    async def flatten(
        self,
        mode: Literal["market", "limit"],
        *,
        run: str,
        venue: str | None = None,
        symbol: str | None = None,
        until_mono_ns: int | None = None,
    ) -> FlattenResult:
        """Orders what would bring positions to zero or dust, one leg after the other; none after
        `until_mono_ns`, when nobody waits for it any more."""
        legs: list[LegResult] = []
        dust: list[Dust] = []
        blocked: list[str] = []
        async with self._permit.reducing(PERMIT_WITHIN_S) as scope:
            for instrument in self._instruments():
                if venue not in (None, instrument[0]) or symbol not in (None, instrument[1]):
                    continue
                if scope is PermitScope.NONE:
                    if not self._ledger.books.position(*instrument).is_flat:
                        why = f"no permit: {self._permit.why_not}"
                        blocked.append(f"{instrument[0]} {instrument[1]}: {why}")
                    continue
                await self._flatten_one(instrument, mode, run, until_mono_ns, legs, dust, blocked)
        return FlattenResult(run=run, legs=tuple(legs), dust=tuple(dust), blocked=tuple(blocked))

    def _instruments(self) -> list[Instrument]:
        """What the books hold, and what differs: perhaps only the venue holds some of it."""
        differing = (
            (name, symbol) for name, link in self._links.items() for symbol in link.differing()
        )
        return sorted({*self._ledger.books.positions, *differing})

    async def _flatten_one(
        self,
        instrument: Instrument,
        mode: Literal["market", "limit"],
        run: str,
        until_mono_ns: int | None,
        legs: list[LegResult],
        dust: list[Dust],
        blocked: list[str],
    ) -> None:
        """Leg by leg, each planned from what is seen after the one before it."""
        venue, symbol = instrument
        number = 1
        while True:
            intent_id = f"flatten-{run}-{venue}-{symbol}-{number}"
            known = self._ledger.books.order_of_intent("", intent_id)
            if known is not None:
                legs.append(await self._see_through(intent_id, known))
                number += 1
                continue
            plan = await self._plan_one(instrument, mode)
            dust.extend(plan.dust)
            blocked.extend(plan.blocked)
            if not plan.legs:
                return
            if until_mono_ns is not None and time.monotonic_ns() > until_mono_ns:
                blocked.append(f"{venue} {symbol}: whoever asked no longer waits")
                return
            result = await self._send(intent_id, plan.legs[0])
            legs.append(result)
            if result.outcome != "FILLED" or len(plan.legs) == 1:
                return  # what is left is for whoever asked, who looks at the venue first
            number += 1

    async def plan(
        self, mode: Literal["market", "limit"], *, orders_gone: bool = False
    ) -> FlattenPlan:
        """What `flatten` would order now, planned as it plans; nothing is sent. `orders_gone`: for when
        what is open of ours was withdrawn."""
        plans = [
            await self._plan_one(instrument, mode, orders_gone=orders_gone)
            for instrument in self._instruments()
        ]
        return FlattenPlan(
            legs=tuple(leg for each in plans for leg in each.legs),
            dust=tuple(left for each in plans for left in each.dust),
            blocked=tuple(why for each in plans for why in each.blocked),
        )

    async def _plan_one(
        self, instrument: Instrument, mode: Literal["market", "limit"], *, orders_gone: bool = False
    ) -> FlattenPlan:
        blocked: list[str] = []
        position = await self._agreed_position(instrument, blocked)
        doubtful = None if position is None else self._in_doubt(position)
        if doubtful is not None:
            name = f"{instrument[0]} {instrument[1]}"
            blocked.append(f"{name}: {doubtful} may still close it, and is in doubt")
        if position is None or doubtful is not None:
            return FlattenPlan(legs=(), dust=(), blocked=tuple(blocked))
        return plan_flatten(
            [position],
            self._rules(instrument),
            self._market.quotes,
            self._mode(instrument[0], mode),
            under_way={} if orders_gone else {instrument: self._under_way(position)},
        )

    async def _agreed_position(self, instrument: Instrument, blocked: list[str]) -> Position | None:
        """The part of the position that books and venue both hold; None: nothing to close."""
        venue, symbol = instrument
        books = self._ledger.books.position(venue, symbol)
        name = f"{venue} {symbol}"
        link = self._links.get(venue)
        if books.is_flat and (link is None or symbol not in link.differing()):
            return None
        if link is None:
            blocked.append(f"{name}: the desk has no such venue")
            return None
        try:
            said = net_positions(await link.venue.positions()).get(symbol)
        except VenueError as error:
            blocked.append(f"{name}: the venue's position is unknown: {error.message}")
            return None
        if said is None:
            blocked.append(f"{name}: the venue tells no position")
            return None
        differs = link.differs(symbol)
        if differs:
            told = f"the books hold {books.quantity}, the venue {said}"
            blocked.append(f"{name}: books and venue differ ({differs}); {told}")
            return None
        if books.quantity * said <= 0:
            blocked.append(f"{name}: the books hold {books.quantity}, the venue {said}")
            return None
        quantity = min(abs(books.quantity), abs(said))
        return msgspec.structs.replace(
            books, quantity=quantity if books.quantity > 0 else -quantity
        )

    def _in_doubt(self, position: Position) -> ClOrdID | None:
        """An order that would close, of which the venue has not said whether it has it, or what became
        of it. A second one beside it may turn the position round."""
        doubtful = (
            order.cl_ord_id
            for order in self._closing_orders(position)
            if order.status is OrdStatus.UNKNOWN
        )
        return next(doubtful, None)

    def _under_way(self, position: Position) -> Decimal:
        return sum((order.leaves_qty for order in self._closing_orders(position)), Decimal(0))

    def _closing_orders(self, position: Position) -> list[Order]:
        closing = Side.SELL if position.quantity > 0 else Side.BUY
        return [
            order
            for order in self._ledger.books.open_orders(position.venue, position.symbol)
            if order.new.side is closing
        ]

    def _mode(self, venue: str, mode: Literal["market", "limit"]) -> Literal["market", "limit"]:
        """A limit leg is IOC, which not every venue takes."""
        return mode if self._links[venue].venue.capabilities.limit_ioc else "market"

    def _rules(self, instrument: Instrument) -> dict[Instrument, InstrumentRules]:
        rules = self._links[instrument[0]].rules(instrument[1])
        return {} if rules is None else {instrument: rules}

    async def _send(self, intent_id: str, leg: FlattenLeg) -> LegResult:
        quote = self._market.quotes.get((leg.venue, leg.symbol))
        sound = quote if quote is not None and quote.is_sound else None
        now_ns = time.time_ns()
        reply = await self._desk.submit(
            SubmitIntent(
                intent_id=intent_id,
                strategy="",
                venue=leg.venue,
                symbol=leg.symbol,
                side=leg.side,
                ord_type=leg.ord_type,
                order_qty=leg.order_qty,
                price=leg.price,
                time_in_force=leg.time_in_force,
            ),
            purpose=Purpose.FLATTEN,
        )
        if reply.taken and reply.cl_ord_id is not None:
            result = await self._see_through(intent_id, reply.cl_ord_id)
            if sound is None:
                return result
            age_s = max(0.0, sound.age_ns(now_ns) / 1e9)
            return msgspec.structs.replace(result, mid_px=sound.mid, mid_age_s=age_s)
        return LegResult(
            intent_id=intent_id,
            venue=leg.venue,
            symbol=leg.symbol,
            side=leg.side,
            order_qty=leg.order_qty,
            cl_ord_id=reply.cl_ord_id,
            outcome="REFUSED",
            text=f"{reply.code}: {reply.text}",
        )

    async def _see_through(self, intent_id: str, cl_ord_id: ClOrdID) -> LegResult:
        await self._canceller.wait_final(cl_ord_id, LEG_WITHIN_S)
        order: Order = self._ledger.books.orders[cl_ord_id]
        return LegResult(
            intent_id=intent_id,
            venue=order.new.venue,
            symbol=order.new.symbol,
            side=order.new.side,
            order_qty=order.new.order_qty,
            cl_ord_id=cl_ord_id,
            outcome=order.status.value,
            cum_qty=order.cum_qty,
            avg_px=order.avg_px,
            text=order.text,
        )
