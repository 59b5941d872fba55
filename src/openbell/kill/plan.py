"""Which cancels stop a venue, in which order, and how fast that could be at best.

Pure: open orders and what the venue can do come in, calls come out. Three rules, in this order:

1. Whose. The desk's own orders in scope; every listed one where the account is the desk's alone, or
   where the whole account is asked for. No call goes out that could reach another order: a mass
   cancel is used only where the listing shows nothing else within its reach.
2. Means. As few calls as possible: account, symbol, batch, single. Of two means that take as many
   calls, the one that reaches less.
3. Order. The call with the riskiest order first; what the venue refused before goes last, one by
   one, so that it holds up nothing else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from openbell.domain.ids import is_own
from openbell.domain.orders import ClOrdID, OrdType
from openbell.venues.port import Capabilities, Listing, VenueOrder

_INFINITE = Decimal("Infinity")


class Means(StrEnum):
    ACCOUNT = "account"
    """One call for every order of the account."""
    SYMBOL = "symbol"
    """One call for every order in one symbol."""
    BATCH = "batch"
    """One call for some orders in one symbol, named by ClOrdID."""
    SINGLE = "single"
    """One call for one order, named by the venue's id."""


Refused = tuple[Means, str]
"""A mass cancel that the venue refused: account or symbol, and which symbol."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is stopped; what is not named is not restricted: without any, the whole desk."""

    venue: str | None = None
    symbol: str | None = None
    """Unified."""
    account_wide: bool = False
    """Others' orders on the account too. Only ever on a person's word."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Whose orders are cancelled at one venue."""

    desk_id: str
    symbol: str | None = None
    everyone: bool = False
    """The account is the desk's alone, or all of it is asked for."""

    def holds(self, order: VenueOrder) -> bool:
        return self.symbol in (None, order.symbol) and (
            self.everyone or is_own(order.cl_ord_id, self.desk_id)
        )

    def owns(self, symbol: str | None) -> bool:
        """Whether everything in `symbol`, or in the account for None, is to go, seen or unseen."""
        return self.everyone and self.symbol in (None, symbol)


class CancelCall(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    means: Means
    symbol: str = ""
    """Of the orders; empty for the account."""
    orders: tuple[VenueOrder, ...] = ()
    """Those known to be within its reach, riskiest first. Without a listing there are none."""

    @property
    def cl_ord_ids(self) -> list[ClOrdID]:
        return [order.cl_ord_id for order in self.orders]


def open_notional(order: VenueOrder) -> Decimal:
    """What may still be traded, in the quote currency. Infinite for an order without any price."""
    price = order.price if order.price is not None else order.stop_px
    if price is None:
        return _INFINITE
    return abs((order.order_qty - order.cum_qty) * price)


def riskiest_first(orders: Iterable[VenueOrder]) -> list[VenueOrder]:
    """Largest open notional first, and what can only close a position last.

    Amounts of different quote currencies are not compared, as there is no price for it that could
    be trusted in an emergency: the largest of each currency come first, then the second of each.
    """
    by_size = sorted(orders, key=lambda o: (o.reduce_only, -open_notional(o), o.venue_order_id))
    seen: Counter[tuple[bool, str]] = Counter()
    ranked: list[tuple[bool, int, VenueOrder]] = []
    for order in by_size:
        group = (order.reduce_only, order.symbol.partition("/")[2])
        ranked.append((order.reduce_only, seen[group], order))
        seen[group] += 1
    return [order for *_, order in sorted(ranked, key=lambda entry: entry[:2])]


def opening_calls(
    capabilities: Capabilities, target: Target, symbols: Sequence[str]
) -> list[CancelCall]:
    """What may be sent before anything is listed: mass cancels within which all is to go."""
    if capabilities.mass_cancel and target.owns(None):
        return [CancelCall(means=Means.ACCOUNT)]
    if not capabilities.mass_cancel_per_symbol:
        return []
    return [
        CancelCall(means=Means.SYMBOL, symbol=symbol) for symbol in symbols if target.owns(symbol)
    ]


def plan_cancels(
    listing: Listing,
    capabilities: Capabilities,
    target: Target,
    *,
    avoid: Collection[Refused] = (),
    stubborn: Collection[str] = (),
    skip: Collection[str] = (),
) -> list[CancelCall]:
    """Calls that cancel each order of `target` in the listing exactly once.

    `avoid`: mass cancels that the venue just refused. `stubborn` and `skip` are venue order ids:
    of orders that survived their cancel, which are asked for one by one after all others, and of
    those that were asked for already and need no call now.
    """
    wanted = [o for o in listing.orders if target.holds(o) and o.venue_order_id not in skip]
    first = [order for order in wanted if order.venue_order_id not in stubborn]
    last = [order for order in wanted if order.venue_order_id in stubborn]
    ranked = riskiest_first(first)
    calls = _narrow_calls(ranked, listing, capabilities, target, avoid)
    account = capabilities.mass_cancel and (Means.ACCOUNT, "") not in avoid
    if account and len(calls) > 1 and _reaches_only(target, listing, None):
        calls = [CancelCall(means=Means.ACCOUNT, orders=tuple(ranked))]
    rank = {id(order): place for place, order in enumerate(ranked)}
    calls.sort(key=lambda call: rank[id(call.orders[0])])
    return calls + [_single(order) for order in riskiest_first(last)]


def _narrow_calls(
    ranked: Iterable[VenueOrder],
    listing: Listing,
    capabilities: Capabilities,
    target: Target,
    avoid: Collection[Refused],
) -> list[CancelCall]:
    """Without the account's own mass cancel; `ranked`: riskiest first."""
    calls: list[CancelCall] = []
    for symbol, found in _by_symbol(ranked).items():
        named = list(_batches(found, capabilities.batch_cancel))
        mass = capabilities.mass_cancel_per_symbol and (Means.SYMBOL, symbol) not in avoid
        if mass and len(named) > 1 and _reaches_only(target, listing, symbol):
            calls.append(CancelCall(means=Means.SYMBOL, symbol=symbol, orders=tuple(found)))
        else:
            calls += named
    return calls


def _by_symbol(orders: Iterable[VenueOrder]) -> Mapping[str, list[VenueOrder]]:
    """In their order within each."""
    found: dict[str, list[VenueOrder]] = {}
    for order in orders:
        found.setdefault(order.symbol, []).append(order)
    return found


def _batches(orders: Sequence[VenueOrder], most: int) -> Iterator[CancelCall]:
    """Of orders in one symbol. A batch names ClOrdIDs: an order whose id is missing, or is that of
    another one as well, is named by itself, and so is one that waits for its stop price, which some
    venues keep in a list of its own."""
    uses = Counter(order.cl_ord_id for order in orders)
    named: list[VenueOrder] = []
    for order in orders:
        plain = order.ord_type in (OrdType.LIMIT, OrdType.MARKET)
        if most > 1 and plain and order.cl_ord_id and uses[order.cl_ord_id] == 1:
            named.append(order)
        else:
            yield _single(order)
    for start in range(0, len(named), max(most, 1)):
        some = tuple(named[start : start + most])
        if len(some) == 1:
            yield _single(some[0])
        else:
            yield CancelCall(means=Means.BATCH, symbol=some[0].symbol, orders=some)


def _single(order: VenueOrder) -> CancelCall:
    return CancelCall(means=Means.SINGLE, symbol=order.symbol, orders=(order,))


def _reaches_only(target: Target, listing: Listing, symbol: str | None) -> bool:
    """Whether a mass cancel in `symbol`, or of the account for None, meets nothing but what is to
    go: because all is to go there, or because the listing shows all that is there."""
    if target.owns(symbol):
        return True
    if not listing.complete or (symbol is None and listing.elsewhere != 0):
        return False
    within = (order for order in listing.orders if symbol in (None, order.symbol))
    return all(map(target.holds, within))


def floor_s(
    calls: int,
    *,
    rtt_s: float,
    settle_s: float,
    cancels_per_s: float | None = None,
    first_list_trips: int = 1,
    empty_list_trips: int = 1,
) -> float:
    """The least time from the first request to verified zero, with a warm connection and an unused
    budget.

    A list, all calls at once, and two empty lists with `settle_s` from the answer of the first to
    the question of the second. With `cancels_per_s` no more requests than that leave in any second,
    lists included: the n-th waits for (n - 1) // cancels_per_s whole seconds. A list may take
    several requests, one after the other; the first takes none where a mass cancel goes out before
    it.
    """
    acted_s = first_list_trips * rtt_s
    last_s = 0.0
    if cancels_per_s:
        before = first_list_trips + calls
        acted_s = max(acted_s, math.floor((before - 1) / cancels_per_s))
        last_s = math.floor((before + 2 * empty_list_trips - 1) / cancels_per_s) + rtt_s
    behind_s = 2 * empty_list_trips * rtt_s + settle_s
    return max(acted_s + (rtt_s if calls else 0.0) + behind_s, last_s)
