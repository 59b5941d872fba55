"""Asking one venue what it holds of ours, and withdrawing the desk's own orders from it.

Nothing here knows an engine, a journal or a database: it works when none of them does. What a
venue did not say completely is `unknown`, never an empty list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Literal, TypeVar

import msgspec

from openbell.domain.ids import is_own
from openbell.domain.orders import ClOrdID
from openbell.venues.port import (
    Accepted,
    Balance,
    CancelOutcome,
    Listing,
    Rejected,
    Venue,
    VenueError,
    VenueFill,
    VenueOrder,
    VenueThrottledError,
    net_positions,
)
from openbell.venues.unlisted import Found, Unlisted

T = TypeVar("T")

EMPTY_ANSWERS = 2
"""So many empty answers in a row prove that nothing is open: one may have been the mistake."""
PAUSE_S = 0.2
"""Between two looks, so that they are not two readings of the same moment."""
CANCELS_AT_ONCE = 10
WRITE_UP_S = 0.5
"""Left when the last questions are given up, so that what was answered is told."""
WITHDRAW_SHARE = 0.7
"""Of the time given; the rest is for the last look."""


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True):
    """As in the engine's `GET /v1/orders`, as far as a venue can tell."""

    venue: str
    cl_ord_id: ClOrdID
    venue_order_id: str
    symbol: str
    side: str
    ord_type: str
    price: Decimal | None
    order_qty: Decimal
    cum_qty: Decimal
    leaves_qty: Decimal
    status: str
    age_s: float
    own: bool
    """Its ClOrdID was made by this desk. Others' orders are shown and left alone."""
    strategy: str = ""


class HeldPosition(msgspec.Struct, frozen=True, kw_only=True):
    """As in the engine's `GET /v1/positions`, as far as a venue can tell."""

    venue: str
    symbol: str
    venue_quantity: Decimal
    mark_px: Decimal | None
    """Mid of the venue's quote; None where there is no position or no quote."""
    dust: bool
    """Too small for the venue to take an order that closes it."""
    lot_size: Decimal | None = None
    """The smallest tradable step; None: not told."""


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """What came of cancelling the desk's own orders."""

    result: Literal["verified", "remaining", "unknown"]
    """verified: asked again, and again, and none is open. remaining: these are still open.
    unknown: the venue could not be asked."""
    cancelled: tuple[ClOrdID, ...] = ()
    """Cancels the venue acknowledged."""
    refused: dict[str, str] = {}
    """Why the others were not, by ClOrdID: the last answer."""


class VenueAnswer(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    status: Literal["ok", "unknown"]
    why: str = ""
    """Why it is unknown; empty where it is not."""
    open_orders: tuple[OpenOrder, ...] = ()
    positions: tuple[HeldPosition, ...] = ()
    balances: tuple[Balance, ...] = ()
    """Those that are not zero."""
    fills: tuple[VenueFill, ...] | None = None
    """The account's executions; None where they were not asked for."""
    keeps_positions: bool = False
    """False: positions are balances less holdings."""
    cancel: Withdrawal | None = None
    """Only where cancelling was asked for."""
    ended: tuple[ClOrdID, ...] = ()
    """Of the orders that the journal holds open: those that the venue, asked for each, calls final, or
    that it does not know and that cannot arrive any more."""

    @property
    def own_orders(self) -> tuple[OpenOrder, ...]:
        return tuple(order for order in self.open_orders if order.own)


def unknown(name: str, why: str, *, cancelling: bool = False) -> VenueAnswer:
    """The answer of a venue that gave none."""
    withdrawal = Withdrawal(result="unknown") if cancelling else None
    return VenueAnswer(name=name, status="unknown", why=why, cancel=withdrawal)


async def ask(
    venue: Venue,
    symbols: Sequence[str],
    desk_id: str,
    give_up_at_s: float | None = None,
    unlisted: Unlisted | None = None,
    *,
    fills_since_ns: int | None = None,
) -> VenueAnswer:
    """Open orders, positions and balances now, and executions where a time is given. Never raises
    for what the venue does. A question that the venue's limits hold back is asked again when it says
    so, if that is before `give_up_at_s`, a time of the running event loop. Every order of `unlisted`
    that the list lacks is asked for: it is unknown unless each has ended."""
    unlisted = unlisted or Unlisted(venue, ())
    patiently = _Patience(give_up_at_s)
    try:
        await patiently(venue.connect)
        listing = await patiently(venue.open_orders)
        balances = await patiently(venue.balances)
        positions = [
            await _held(venue, symbol, quantity)
            for symbol, quantity in net_positions(await patiently(venue.positions)).items()
        ]
        last_s = None if give_up_at_s is None else give_up_at_s - WRITE_UP_S
        found = await unlisted.ask(listing.orders, patiently, last_s)
        fills: list[VenueFill] | None = None if fills_since_ns is None else []
        if fills is not None:
            for symbol in symbols:
                since = partial(venue.fills, symbol, since_ns=fills_since_ns or 0)
                fills += await patiently(since)
    except VenueError as error:
        return unknown(venue.name, error.message)
    doubt = "; ".join(filter(None, (doubt_of(listing, balances, symbols), found.doubt)))
    orders = (*listing.orders, *found.open)
    return VenueAnswer(
        name=venue.name,
        status="unknown" if doubt else "ok",
        why=doubt,
        open_orders=tuple(_open_order(venue.name, order, desk_id) for order in orders),
        positions=tuple(positions),
        balances=tuple(balance for balance in balances.values() if balance.total),
        ended=unlisted.ended,
        fills=None if fills is None else tuple(fills),
        keeps_positions=venue.capabilities.positions,
    )


async def withdraw(
    venue: Venue, desk_id: str, give_up_at_s: float, unlisted: Unlisted | None = None
) -> Withdrawal:
    """Cancels the desk's own open orders, riskiest first, and asks until two answers in a row
    list none. `give_up_at_s` is a time of the running event loop. Orders of `unlisted` that the list
    lacks are asked for and cancelled too; of those whose end the venue cannot tell it is unknown.

    Connects where the venue lists nothing before that; elsewhere none of what connecting asks for
    stands before a cancel.
    """
    unlisted = unlisted or Unlisted(venue, ())
    cancelled: dict[ClOrdID, None] = {}
    refused: dict[str, str] = {}
    remain: list[VenueOrder] | None = None
    empty = doubted = 0
    connected = False
    tried: set[ClOrdID] = set()
    try:
        async with asyncio.timeout_at(give_up_at_s):
            while empty < EMPTY_ANSWERS and doubted < EMPTY_ANSWERS:
                pause_s = PAUSE_S
                try:
                    listing = await venue.open_orders()
                except VenueError as error:
                    remain, empty = None, 0
                    failed: VenueError | None = error
                    if not connected and not isinstance(error, VenueThrottledError):
                        failed = await _failure_of(venue.connect())
                        connected = failed is None
                    if failed is None:
                        continue
                    if isinstance(failed, VenueThrottledError):
                        pause_s = max(pause_s, failed.retry_after_s)
                else:
                    own = [order for order in listing.orders if is_own(order.cl_ord_id, desk_id)]
                    found = await unlisted.ask(listing.orders)
                    own += found.open
                    said = listing.complete and not found.in_doubt
                    remain = own if own or said else None
                    empty = empty + 1 if remain == [] else 0
                    # Nothing else is open, and more questions would not tell more of these.
                    doubted = doubted + 1 if found.in_doubt and listing.complete and not own else 0
                    for order, why in await _cancel_each(venue, own):
                        if why:
                            refused[order.cl_ord_id] = why
                        else:
                            cancelled[order.cl_ord_id] = None
                            refused.pop(order.cl_ord_id, None)
                    cancelled |= dict.fromkeys(await _cancel_unseen(venue, found, tried))
                if empty < EMPTY_ANSWERS and doubted < EMPTY_ANSWERS:
                    await asyncio.sleep(pause_s)
    except TimeoutError:
        pass
    result: Literal["verified", "remaining", "unknown"] = "remaining" if remain else "unknown"
    if empty >= EMPTY_ANSWERS:
        result = "verified"
    return Withdrawal(result=result, cancelled=tuple(cancelled), refused=refused)


async def _failure_of(connecting: Awaitable[None]) -> VenueError | None:
    try:
        await connecting
    except VenueError as error:
        return error
    return None


async def _cancel_unseen(venue: Venue, found: Found, tried: set[ClOrdID]) -> list[ClOrdID]:
    """Cancels by ClOrdID, once, what may be open although the venue shows it nowhere; returns those
    that were acknowledged. A cancel of what has ended harms nobody, and proves nothing."""
    unseen = [order for order in found.in_doubt if order.cl_ord_id not in tried]
    tried.update(order.cl_ord_id for order in unseen)
    slots = asyncio.Semaphore(CANCELS_AT_ONCE)

    async def cancel(symbol: str, cl_ord_id: ClOrdID) -> bool:
        async with slots:
            return isinstance(await venue.cancel(symbol, cl_ord_id), Accepted)

    done = await asyncio.gather(*(cancel(order.symbol, order.cl_ord_id) for order in unseen))
    return [order.cl_ord_id for order, sure in zip(unseen, done, strict=True) if sure]


async def ask_and_withdraw(
    venue: Venue,
    symbols: Sequence[str],
    desk_id: str,
    give_up_at_s: float,
    unlisted: Unlisted | None = None,
) -> VenueAnswer:
    """`withdraw`, then `ask`: verified only if the last look agrees."""
    loop = asyncio.get_running_loop()
    left_s = give_up_at_s - loop.time()
    until_s = loop.time() + left_s * WITHDRAW_SHARE
    withdrawal = await withdraw(venue, desk_id, until_s, unlisted)
    try:
        async with asyncio.timeout_at(give_up_at_s):
            answer = await ask(venue, symbols, desk_id, give_up_at_s, unlisted)
    except TimeoutError:
        answer = unknown(venue.name, "no answer to the last look")
    if answer.own_orders:
        withdrawal = msgspec.structs.replace(withdrawal, result="remaining")
    elif answer.status == "unknown":
        withdrawal = msgspec.structs.replace(withdrawal, result="unknown")
    return msgspec.structs.replace(answer, cancel=withdrawal)


class _Patience:
    def __init__(self, give_up_at_s: float | None) -> None:
        self._give_up_at_s = give_up_at_s

    async def __call__(self, question: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await question()
            except VenueThrottledError as error:
                again_s = asyncio.get_running_loop().time() + error.retry_after_s
                if self._give_up_at_s is None or again_s >= self._give_up_at_s:
                    raise
                await asyncio.sleep(error.retry_after_s)


async def _cancel_each(venue: Venue, orders: Iterable[VenueOrder]) -> list[tuple[VenueOrder, str]]:
    """Each order with why it was not cancelled, empty where the venue acknowledged. In batches
    where the venue takes some: they name each order, so no other is reached, and spare its limits.
    """
    slots = asyncio.Semaphore(CANCELS_AT_ONCE)
    most = venue.capabilities.batch_cancel

    async def cancel(batch: Sequence[VenueOrder]) -> list[tuple[VenueOrder, str]]:
        symbol, keys = batch[0].symbol, [order.cl_ord_id for order in batch]
        async with slots:
            if most:
                outcomes = await venue.cancel_many(symbol, keys)
            else:
                outcomes = [await venue.cancel(symbol, keys[0])]
        return [(order, _why_not(each)) for order, each in zip(batch, outcomes, strict=True)]

    by_symbol: dict[str, list[VenueOrder]] = {}
    for order in sorted(orders, key=_risk, reverse=True):
        by_symbol.setdefault(order.symbol, []).append(order)
    size = max(1, most)
    batches = [
        several[start : start + size]
        for several in by_symbol.values()
        for start in range(0, len(several), size)
    ]
    return [row for rows in await asyncio.gather(*map(cancel, batches)) for row in rows]


def _why_not(outcome: CancelOutcome) -> str:
    if isinstance(outcome, Accepted):
        return ""
    if isinstance(outcome, Rejected):
        return f"{outcome.code} {outcome.text}"
    return f"unknown: {outcome.why}"


def _risk(order: VenueOrder) -> Decimal:
    """Notional that may still be filled; a market order has no price and goes first."""
    if order.price is None:
        return Decimal("Infinity")
    return (order.order_qty - order.cum_qty) * order.price


async def _held(venue: Venue, symbol: str, quantity: Decimal) -> HeldPosition:
    mark: Decimal | None = None
    if quantity:
        try:
            quote = await venue.quote(symbol)
            mark = quote.mid if quote.is_sound else None
        except VenueError:
            mark = None  # a missing price makes no position unknown
    dust = mark is not None and not venue.rules(symbol).is_tradable(quantity, mark)
    return HeldPosition(
        venue=venue.name,
        symbol=symbol,
        venue_quantity=quantity,
        mark_px=mark,
        dust=dust,
        lot_size=venue.rules(symbol).lot_size,
    )


def doubt_of(listing: Listing, balances: Mapping[str, Balance], symbols: Sequence[str]) -> str:
    """Why the list of orders is not to be trusted; empty where it is.

    The balances check it from another side: an open order locks what it would spend, so a list
    with no order in it and funds that are locked contradict each other.
    """
    if not listing.complete:
        return "the list of open orders is incomplete"
    if listing.orders:
        return ""
    currencies = {currency for symbol in symbols for currency in symbol.split("/")}
    locked = [
        f"{balance.locked:f} {currency}"
        for currency, balance in sorted(balances.items())
        if currency in currencies and balance.locked
    ]
    return f"no open order is listed, yet {', '.join(locked)} is locked" if locked else ""


def _open_order(venue: str, order: VenueOrder, desk_id: str) -> OpenOrder:
    return OpenOrder(
        venue=venue,
        cl_ord_id=order.cl_ord_id,
        venue_order_id=order.venue_order_id,
        symbol=order.symbol,
        side=order.side.value,
        ord_type=order.ord_type.value,
        price=order.price,
        order_qty=order.order_qty,
        cum_qty=order.cum_qty,
        leaves_qty=order.order_qty - order.cum_qty,
        status=order.status.value,
        age_s=round(max(0.0, (time.time_ns() - order.created_ns) / 1e9), 3),
        own=is_own(order.cl_ord_id, desk_id),
    )
