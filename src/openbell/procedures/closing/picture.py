"""What the venues hold of us at one moment: open orders and positions, or that it is not known.

Asked through the engine where it answers: it asks the venues and compares with the books. Where it
does not, the venues are asked past it by a process of its own. An answer that is not complete is
not an empty one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

from openbell.domain.service_state import ServiceState
from openbell.procedures.desk_voices import DeskVoices
from openbell.procedures.ports import Services, VenueTruth, facts_of
from openbell.procedures.wording import count_of
from openbell.service_client import Answer
from openbell.venues.asking import VenueAnswer

Row = Mapping[str, Any]
_Ask = Callable[..., Awaitable[Sequence[VenueAnswer]]]

CLERK_TIMEOUT_S = 20.0
"""Starting a process that connects to the venues, and their answers."""

SILENCE_S = 15.0

_COMING_BACK = (ServiceState.STARTING, ServiceState.BACKOFF)
_POLL_S = 0.25


@dataclass(frozen=True)
class Picture:
    """`known` only where every venue answered completely and no order is in doubt."""

    source: Literal["engine", "venue", "none"]
    orders: tuple[Row, ...] = ()
    """Own open orders."""
    foreign_orders: tuple[Row, ...] = ()
    """Open orders on the account that are not the desk's: never touched."""
    positions: tuple[Row, ...] = ()
    """What is held and large enough to be closed."""
    dust: tuple[Row, ...] = ()
    all_orders: bool = False
    """Every venue told all open orders, and of none is it in doubt whether it is open."""
    all_positions: bool = False
    """Every venue told all positions."""
    unknown: tuple[str, ...] = ()
    """What could not be learned, a sentence each."""
    pnl: Mapping[str, object] | None = None

    @property
    def known(self) -> bool:
        return self.source != "none" and not self.unknown

    @property
    def tells_orders(self) -> bool:
        """Whether the number of own open orders is an answer: none is one only where every venue
        said so, since an order may rest where nobody could be asked."""
        return self.known or self.all_orders or bool(self.orders)

    @property
    def tells_positions(self) -> bool:
        """As `tells_orders`, of positions."""
        return self.known or self.all_positions or bool(self.positions)

    def describe(self) -> str:
        told = []
        if self.tells_orders:
            every = "" if self.known or self.all_orders else "at least "
            told.append(every + count_of(len(self.orders), "open order"))
        if self.tells_positions:
            every = "" if self.known or self.all_positions else "at least "
            told.append(every + count_of(len(self.positions), "position"))
        told += [] if self.known else [f"not known: {'; '.join(self.unknown)}"]
        return ", ".join(told)


def from_engine(orders: Answer, positions: Answer, in_doubt: int) -> Picture:
    """The picture in the engine's answers to `/v1/orders` and `/v1/positions`."""
    unknown = [
        f"venue {name}: {venue.get('error') or 'its answer was not complete'}"
        for name, venue in (orders.get("venues") or {}).items()
        if not (venue.get("ok") and venue.get("complete"))
    ]
    unknown += [answer.why for answer in (orders, positions) if not answer.known]
    rows: list[Row] = list(positions.get("positions") or ())
    unknown += [
        f"position {row.get('venue')} {row.get('symbol')}: the venue did not say, "
        f"our books hold {row.get('quantity')}"
        for row in rows
        if row.get("venue_quantity") is None
    ]
    if in_doubt:
        unknown.append(f"{count_of(in_doubt, 'order is', 'orders are')} in doubt")
    open_orders: list[Row] = list(orders.get("orders") or ())
    venues = (orders.get("venues") or {}).values()
    asked = orders.known and all(venue.get("ok") and venue.get("complete") for venue in venues)
    said = positions.known and all(row.get("venue_quantity") is not None for row in rows)
    held = [row for row in rows if _held(row)]
    return Picture(
        source="engine",
        orders=tuple(row for row in open_orders if row.get("own", True)),
        foreign_orders=tuple(row for row in open_orders if not row.get("own", True)),
        positions=tuple(row for row in held if not row.get("dust")),
        dust=tuple(row for row in held if row.get("dust")),
        all_orders=asked and not in_doubt,
        # A venue that could not be asked for its orders may not have been asked at all.
        all_positions=asked and said,
        unknown=tuple(dict.fromkeys(unknown)),
        pnl=positions.get("pnl"),
    )


def from_venues(answers: Iterable[VenueAnswer]) -> Picture:
    """The picture in what the venues themselves said."""
    answers = tuple(answers)
    open_orders = [msgspec.to_builtins(row) for each in answers for row in each.open_orders]
    rows = [msgspec.to_builtins(row) for each in answers for row in each.positions]
    held = [row for row in rows if _held(row)]
    told = [each.name for each in answers if each.status == "ok"]
    every = bool(answers) and len(told) == len(answers)
    return Picture(
        source="venue" if told or open_orders or rows else "none",
        orders=tuple(row for row in open_orders if row["own"]),
        foreign_orders=tuple(row for row in open_orders if not row["own"]),
        positions=tuple(row for row in held if not row["dust"]),
        dust=tuple(row for row in held if row["dust"]),
        all_orders=every,
        all_positions=every,
        unknown=tuple(
            f"venue {each.name}: {each.why or 'its answer was not complete'}"
            for each in answers
            if each.status != "ok"
        ),
    )


@dataclass(frozen=True)
class Kept:
    """What simulated venues that are down said last, where that still holds."""

    picture: Picture | None = None
    """None: of none, so every venue is to be asked."""
    venues: frozenset[str] = frozenset()
    asks_others: bool = True
    """The desk has venues besides these."""


def of_venues(picture: Picture, names: Collection[str]) -> Picture:
    """The part of a picture, of which nothing is unknown, that these venues told."""

    def told(rows: Iterable[Row]) -> tuple[Row, ...]:
        return tuple(row for row in rows if row.get("venue") in names)

    return replace(
        picture,
        orders=told(picture.orders),
        foreign_orders=told(picture.foreign_orders),
        positions=told(picture.positions),
        dust=told(picture.dust),
        pnl=None,
    )


def joined(kept: Picture, now: Picture) -> Picture:
    """Of some venues what they said last, of the others what they say."""
    return Picture(
        source="venue",
        orders=(*kept.orders, *now.orders),
        foreign_orders=(*kept.foreign_orders, *now.foreign_orders),
        positions=(*kept.positions, *now.positions),
        dust=(*kept.dust, *now.dust),
        all_orders=kept.all_orders and now.all_orders,
        all_positions=kept.all_positions and now.all_positions,
        unknown=(*kept.unknown, *now.unknown),
    )


def _held(row: Row) -> bool:
    """Whether venue or books say that something is held. What is unreadable counts as held."""
    amounts = (row.get("quantity"), row.get("venue_quantity"))
    return any(amount is not None and not _is_zero(amount) for amount in amounts)


def _is_zero(amount: object) -> bool:
    try:
        return Decimal(str(amount)) == 0
    except InvalidOperation:
        return False


class Sight:
    """Looks at the venues through the engine, or past it."""

    def __init__(
        self,
        services: Services,
        voices: DeskVoices,
        venues: VenueTruth,
        kept: Callable[[], Awaitable[Kept]],
    ) -> None:
        self._kept = kept
        self._services = services
        self._voices = voices
        self._venues = venues
        self._silent_until = 0.0

    async def engine_is_up(self, *, patience_s: float = 0.0) -> bool:
        """Whether the engine can be asked; one that is coming back is waited for so long."""
        engine = self._voices.roles.engine
        loop = asyncio.get_running_loop()
        if engine is None or loop.time() < self._silent_until:
            return False
        until = loop.time() + patience_s
        while True:
            facts = facts_of(self._services)
            if facts.is_up(engine):
                return True
            if facts.state(engine) not in _COMING_BACK or loop.time() >= until:
                return False
            await asyncio.sleep(_POLL_S)

    def engine_is_silent(self) -> None:
        """It runs and does not answer. Each further question would cost its whole time-out, so for
        a while the venues are asked past it at once."""
        self._silent_until = asyncio.get_running_loop().time() + SILENCE_S

    async def look(self, *, patience_s: float = 0.0) -> Picture:
        if await self.engine_is_up(patience_s=patience_s):
            (engine, _), orders, positions = await asyncio.gather(
                self._voices.engine(),
                self._voices.ask_engine("/v1/orders"),
                self._voices.ask_engine("/v1/positions"),
            )
            if engine is not None and orders.known and positions.known:
                return from_engine(orders, positions, engine.in_doubt)
            if engine is None:
                self.engine_is_silent()
        return await self.past_the_engine()

    async def past_the_engine(self, timeout_s: float = CLERK_TIMEOUT_S) -> Picture:
        """The venues' own word, by a process of its own. Of simulated ones that are down their last,
        while it still holds."""
        return await self._with_kept(self._venues.look, timeout_s)

    async def cancel_past_the_engine(self) -> Picture:
        """Cancels own orders at the venues and looks again, by a process of its own."""
        return await self._with_kept(self._venues.cancel, CLERK_TIMEOUT_S)

    async def _with_kept(self, ask: _Ask, timeout_s: float) -> Picture:
        kept = await self._kept()
        if kept.picture is None:
            return from_venues(await ask(timeout_s=timeout_s))
        if not kept.asks_others:
            return kept.picture
        return joined(kept.picture, from_venues(await ask(timeout_s=timeout_s, but=kept.venues)))
