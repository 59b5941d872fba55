"""What a stop ends with, per venue: what was seen, never what was hoped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from openbell.domain.flattening import Dust, RemainingOrder, RemainingPosition
from openbell.domain.orders import ClOrdID

if TYPE_CHECKING:  # the desk's models take long to load, and a stop latches and freezes first
    from openbell.config.models import Venue as VenueConfig
    from openbell.venues.port import VenueOrder

Result = Literal["verified", "residual", "unknown"]


class Flat(msgspec.Struct, frozen=True, kw_only=True):
    """What came of flattening, as the venue tells its positions."""

    result: Result
    """verified: zero, or dust. residual: these positions are open. unknown: they could not be
    asked, or an order may have been sent of which nothing is known."""
    positions: tuple[RemainingPosition, ...] = ()
    dust: tuple[Dust, ...] = ()
    why: str = ""


class VenueStatement(msgspec.Struct, frozen=True, kw_only=True):
    """Of one venue."""

    venue: str
    result: Result
    """verified: no order in scope is open; two complete lists in a row, as far apart as the longest
    order latency, said so. residual: `orders` are still open. unknown: it could not be asked, or its
    answers prove nothing; `orders` are those of its last answer.

    All of it is about the venue's symbols in desk.toml: those are asked for."""
    orders: tuple[RemainingOrder, ...] = ()
    spared: tuple[RemainingOrder, ...] = ()
    """Open, and left alone: others', or out of scope."""
    acknowledged: int = 0
    """Orders whose cancel the venue took, as far as it named them."""
    in_doubt: tuple[ClOrdID, ...] = ()
    """Sent by an engine, in no list, and not known to have ended or never to have arrived."""
    not_seen: str = ""
    """What this venue's result cannot have taken into account; empty where nothing is known of that kind."""
    flat: Flat | None = None
    """None: positions were to stay."""
    why: str = ""
    """Why it is not verified."""
    by_hand: str = ""
    """What a person can do about it; empty where it is settled."""
    took_s: float = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether everything asked for was seen to be done."""
        flat = self.flat is None or self.flat.result == "verified"
        return self.result == "verified" and flat


def all_settled(statements: Iterable[VenueStatement]) -> bool:
    """Whether a stop may be called done: nothing less than verified everywhere."""
    return all(statement.is_settled for statement in statements)


def unvisited(
    name: str, config: VenueConfig, why: str, *, flatten: bool, took_s: float
) -> VenueStatement:
    """Of a venue of which nothing is known."""
    return VenueStatement(
        venue=name,
        result="unknown",
        flat=Flat(result="unknown", why=why) if flatten else None,
        why=why,
        by_hand=by_hand(name, config, flatten=flatten),
        took_s=round(took_s, 6),
    )


def not_named(venue: str, in_doubt: Sequence[ClOrdID], *, flatten: bool) -> VenueStatement:
    """Of a venue that desk.toml does not name any more, where an engine has sent orders that are not
    known to have ended."""
    why = "desk.toml does not name it, so it was not asked"
    return VenueStatement(
        venue=venue,
        result="unknown",
        in_doubt=tuple(in_doubt),
        flat=Flat(result="unknown", why=why) if flatten else None,
        why=why,
        by_hand=f"log in at {venue} and cancel the desk's open orders, or name it in desk.toml again"
        + by_hand_of_doubt(in_doubt),
    )


def together(parts: Sequence[VenueStatement]) -> VenueStatement:
    """Of one venue that was stopped symbol by symbol: as much as its worst part says."""
    first, *rest = parts
    if not rest:
        return first
    worst = max(parts, key=lambda part: _WEIGHT[part.result])
    flats = [part.flat for part in parts if part.flat is not None]
    orders = {order.venue_order_id: order for part in parts for order in part.orders}
    # What one symbol's stop spared may be what another's was for.
    spared = {order.venue_order_id: order for part in parts[-1:] for order in part.spared}
    whys = dict.fromkeys(part.why for part in parts if part.why)
    return VenueStatement(
        venue=first.venue,
        result=worst.result,
        orders=tuple(orders.values()),
        spared=tuple(spared.values()),
        acknowledged=sum(part.acknowledged for part in parts),
        in_doubt=tuple(dict.fromkeys(key for part in parts for key in part.in_doubt)),
        not_seen=next((part.not_seen for part in parts if part.not_seen), ""),
        flat=_flat_together(flats) if flats else None,
        why="; ".join(whys),
        by_hand=next((part.by_hand for part in parts if part.by_hand), ""),
        took_s=round(sum(part.took_s for part in parts), 6),
    )


_WEIGHT = {"verified": 0, "residual": 1, "unknown": 2}


def _flat_together(flats: Sequence[Flat]) -> Flat:
    worst = max(flats, key=lambda flat: _WEIGHT[flat.result])
    return Flat(
        result=worst.result,
        positions=tuple(each for flat in flats for each in flat.positions),
        dust=tuple(each for flat in flats for each in flat.dust),
        why="; ".join(dict.fromkeys(flat.why for flat in flats if flat.why)),
    )


def remaining(venue: str, order: VenueOrder, *, own: bool) -> RemainingOrder:
    return RemainingOrder(
        venue=venue,
        symbol=order.symbol,
        cl_ord_id=order.cl_ord_id,
        venue_order_id=order.venue_order_id,
        side=order.side,
        leaves_qty=order.order_qty - order.cum_qty,
        price=order.price,
        own=own,
    )


def by_hand(name: str, config: VenueConfig, *, flatten: bool) -> str:
    """What a person can do at the venue itself, by the ways that desk.toml names."""
    ways = [f"log in at {config.web}"] if config.web else []
    ways += [f"call {config.phone}"] if config.phone else []
    account = f" of account {config.account}" if config.account else ""
    wanted = (
        "cancel its open orders and close its positions" if flatten else "cancel its open orders"
    )
    if not ways:
        return (
            f"log in at the venue and {wanted}{account}; "
            f"web and phone of [venues.{name}] in desk.toml would be shown here"
        )
    way = " or ".join(ways)
    return f"{way[0].upper()}{way[1:]}, and {wanted}{account}"


NAMED_BY_HAND = 20


def by_hand_of_doubt(in_doubt: Sequence[ClOrdID]) -> str:
    """What to look for there, after `by_hand`; empty for none."""
    if not in_doubt:
        return ""
    names = ", ".join(in_doubt[:NAMED_BY_HAND])
    rest = len(in_doubt) - NAMED_BY_HAND
    more = f" and {rest} more" if rest > 0 else ""
    return (
        f"; look there for client order ids {names}{more}: each may be open, or still arrive. Cancel what "
        "there is, then press again"
    )


def by_hand_of_a_cut_wait(wanted_s: float, timeout_s: float) -> str:
    """What proves it, after `by_hand`, where there was no time for two lists so far apart; empty for 0."""
    if not wanted_s:
        return ""
    enough_s = math.ceil(timeout_s + wanted_s)
    return (
        "; an order that was on its way may have landed since the last list: look once more, or press again "
        f"with more time: `openbell emergency-stop --timeout {enough_s}`"
    )
