"""Trying a venue from outside of any engine: does it answer, does it know us, does an order work?

Every question is a `Check` with one of four results. `unknown` is no success: it says that the
venue could not be asked, or that what became of an order could not be proven.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence, Sized
from decimal import ROUND_UP, Decimal
from functools import partial
from typing import Literal, TypeVar

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, Purpose, Side
from openbell.venues.patience import NONE, Patience
from openbell.venues.port import (
    Accepted,
    KeyPermissions,
    Listing,
    NotSupportedError,
    Rejected,
    StreamEvent,
    StreamUp,
    Unknown,
    Venue,
    VenueAuthError,
    VenueError,
    VenueOrder,
    VenuePosition,
    VenueRefusedError,
)

T = TypeVar("T")

SKEW_MAX_MS = 1000
"""Binance refuses what is stamped more than a second ahead; no venue asks for less."""
FAR = Decimal("0.9")
"""Of the best bid: far enough not to be filled, near enough for the price bands of the venues."""
STREAM_WAIT_S = 10.0
ORDER_WAIT_S = 10.0
CANCEL_EVERY_S = 2.0
"""A cancel that a venue refused or throttled is tried again."""
LOOK_EVERY_S = 0.2

CheckResult = Literal["ok", "failed", "unknown", "none"]
"""`none`: this venue has no such thing."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    result: CheckResult
    detail: str
    hint: str = ""
    took_ms: float | None = None


class OrderTrial(msgspec.Struct, frozen=True, kw_only=True):
    """The far-away order that is placed and cancelled."""

    symbol: str
    cl_ord_id: ClOrdID


async def try_venue(
    venue: Venue,
    symbols: Sequence[str],
    order: OrderTrial | None = None,
    patience: Patience = NONE,
) -> AsyncIterator[Check]:
    """Checks in the order of their making; ends early where the venue cannot be reached.
    `patience` is for what is asked; the order and its cancel are sent once."""
    connected = await _timed(
        "connect", patience, venue.connect, lambda _: "reached, credentials accepted"
    )
    yield connected
    if connected.result != "ok":
        return
    yield await _clock(venue, patience)
    yield await _timed(
        "key permissions", patience, venue.key_permissions, _permissions, _permissions_told
    )
    yield await _timed(
        "accounts",
        patience,
        venue.accounts,
        lambda accounts: ", ".join(
            f"{a.account_id} ({a.kind}){' *' if a.active and len(accounts) > 1 else ''}"
            for a in accounts
        ),
    )
    yield await _timed("balances", patience, venue.balances, _currencies)
    yield await _timed("open orders", patience, venue.open_orders, _listed, _all_listed)
    yield await _timed("positions", patience, venue.positions, _held)
    yield await _quotes(venue, symbols, patience)
    yield await _stream(venue)
    if order is not None:
        async for check in _order(venue, order, patience):
            yield check


async def try_closing_pair(venue: Venue, patience: Patience = NONE) -> AsyncIterator[Check]:
    """What whoever closes or stops the desk asks first, by the pair that can only cancel and close."""
    connected = await _timed(
        "closing pair", patience, venue.connect, lambda _: "reached, credentials accepted"
    )
    yield connected
    if connected.result != "ok":
        return
    yield await _timed(
        "closing pair: key permissions",
        patience,
        venue.key_permissions,
        _closing_permissions,
        _permissions_told,
    )
    yield await _timed(
        "closing pair: open orders", patience, venue.open_orders, _listed, _all_listed
    )
    yield await _timed("closing pair: positions", patience, venue.positions, _held)


def _currencies(balances: Sized) -> str:
    return f"{len(balances)} currenc{'y' if len(balances) == 1 else 'ies'}"


def _listed(listing: Listing) -> str:
    return f"{len(listing.orders)}" + ("" if listing.complete else ", list incomplete")


def _all_listed(listing: Listing) -> CheckResult:
    """An incomplete list says of no order that it is not there."""
    return "ok" if listing.complete else "unknown"


def _held(rows: Sequence[VenuePosition]) -> str:
    return f"{sum(row.quantity != 0 for row in rows)} of {len(rows)} symbols"


def _ok(_: object) -> CheckResult:
    return "ok"


async def _timed(
    name: str,
    patience: Patience,
    query: Callable[[], Awaitable[T]],
    tell: Callable[[T], str],
    judge: Callable[[T], CheckResult] = _ok,
) -> Check:
    started_s = time.monotonic()
    try:
        answer = await patience.ask(query)
    except VenueError as error:
        return _failure(name, error)
    return Check(
        name=name,
        result=judge(answer),
        detail=tell(answer),
        took_ms=round((time.monotonic() - started_s) * 1000, 1),
    )


def _failure(name: str, error: VenueError) -> Check:
    result: CheckResult = "unknown"
    if isinstance(error, NotSupportedError):
        result = "none"
    elif isinstance(error, VenueAuthError | VenueRefusedError):
        result = "failed"
    return Check(name=name, result=result, detail=error.message, hint=error.hint)


async def _clock(venue: Venue, patience: Patience) -> Check:
    before_ns = 0

    async def asked() -> int:
        nonlocal before_ns
        before_ns = time.time_ns()
        return await venue.server_time_ns()

    try:
        there_ns = await patience.ask(asked)
    except VenueError as error:
        return _failure("clock", error)
    return clock_check(there_ns, before_ns, time.time_ns())


def clock_check(there_ns: int, before_ns: int, after_ns: int) -> Check:
    """The venue's time, asked for between two of ours. It was read somewhere on the question's way:
    so the skew is known to half of that, and what lies within it is not told."""
    skew_ms = (there_ns - (before_ns + after_ns) // 2) / 1e6
    round_trip_ms = (after_ns - before_ns) / 1e6
    unsure_ms = round_trip_ms / 2
    result: CheckResult = "unknown"
    hint = "the answer took too long to tell: try again"
    if abs(skew_ms) + unsure_ms <= SKEW_MAX_MS:
        result, hint = "ok", ""
    elif abs(skew_ms) - unsure_ms > SKEW_MAX_MS:
        result, hint = "failed", "set this machine's clock (chrony, ntpd)"
    return Check(
        name="clock",
        result=result,
        detail=f"the venue's clock is {skew_ms:+.0f} ms from ours, give or take {unsure_ms:.0f} ms",
        hint=hint,
        took_ms=round(round_trip_ms, 1),
    )


def _permissions(told: KeyPermissions) -> str:
    words = {True: "yes", False: "no", None: "the venue does not say"}
    text = f"trade: {words[told.trade]}; withdraw: {words[told.withdraw]}"
    if told.withdraw:
        text += " (a desk's key should not be able to)"
    return f"{text}; {told.note}" if told.note else text


def _permissions_told(told: KeyPermissions) -> CheckResult:
    return "none" if told == KeyPermissions() else "ok"


def _closing_permissions(told: KeyPermissions) -> str:
    too_much = "; it can enter orders: a pair that only cancels and closes need not"
    return _permissions(told) + (too_much if told.trade else "")


async def _quotes(venue: Venue, symbols: Sequence[str], patience: Patience) -> Check:
    started_s = time.monotonic()
    quotes: list[Quote] = []
    for symbol in symbols:
        try:
            quotes.append(await patience.ask(partial(venue.quote, symbol)))
        except VenueError as error:
            return _failure("quotes", error)
    unsound = [quote.symbol for quote in quotes if not quote.is_sound]
    told = ", ".join(f"{q.symbol} {q.bid_px:f}/{q.ask_px:f}" for q in quotes)
    return Check(
        name="quotes",
        result="failed" if unsound else "ok",
        detail=f"crossed or empty: {', '.join(unsound)}" if unsound else told,
        took_ms=round((time.monotonic() - started_s) * 1000, 1),
    )


async def _stream(venue: Venue) -> Check:
    how = "pushed by the venue" if venue.capabilities.order_stream else "asked for, none is pushed"
    started_s = time.monotonic()
    events = venue.stream()
    why = "it ended"
    try:
        async with asyncio.timeout(STREAM_WAIT_S):
            async for event in events:
                if isinstance(event, StreamUp):
                    took_ms = round((time.monotonic() - started_s) * 1000, 1)
                    return Check(name="order events", result="ok", detail=how, took_ms=took_ms)
                why = getattr(event, "why", "")
    except TimeoutError:
        why = f"not connected within {STREAM_WAIT_S:g} s"
    except VenueError as error:
        return _failure("order events", error)
    finally:
        await _end(events)
    return Check(name="order events", result="unknown", detail=why)


async def _end(events: AsyncIterator[StreamEvent]) -> None:
    if isinstance(events, AsyncGenerator):
        await events.aclose()


# The order.


async def _order(venue: Venue, trial: OrderTrial, patience: Patience) -> AsyncIterator[Check]:
    """Places a limit order that cannot fill, finds it, cancels it and sees it gone.

    Whatever happens on the way, the last check says whether something of it may rest.
    """
    try:
        quote = await patience.ask(partial(venue.quote, trial.symbol))
        order = far_order(trial, venue.name, venue.rules(trial.symbol), quote)
    except VenueError as error:
        yield _failure("place an order", error)
        return
    told = f"{order.side} {order.order_qty:f} {order.symbol} at {order.price:f}"
    started_s = time.monotonic()
    outcome = await venue.submit(order)
    took_ms = round((time.monotonic() - started_s) * 1000, 1)
    match outcome:
        case Rejected():
            detail = f"{told}: rejected, {outcome.code} {outcome.text}"
            yield Check(name="place an order", result="failed", detail=detail)
            return
        case Unknown():
            detail = f"{told}: {outcome.why}"
            yield Check(name="place an order", result="unknown", detail=detail)
        case Accepted():
            detail = f"{told}: accepted as {outcome.venue_order_id}"
            yield Check(name="place an order", result="ok", detail=detail, took_ms=took_ms)
    found = await _looked_up(venue, order, patience)
    yield _found(found)
    started_s = time.monotonic()
    cancelled = await venue.cancel(order.symbol, order.cl_ord_id)
    took_ms = round((time.monotonic() - started_s) * 1000, 1)
    if isinstance(cancelled, Accepted):
        yield Check(name="cancel it", result="ok", detail="acknowledged", took_ms=took_ms)
    else:
        why = cancelled.why if isinstance(cancelled, Unknown) else cancelled.text
        result: CheckResult = "unknown" if isinstance(cancelled, Unknown) else "failed"
        yield Check(name="cancel it", result=result, detail=why)
    yield await _gone(venue, trial, patience)


def far_order(trial: OrderTrial, venue: str, rules: InstrumentRules, quote: Quote) -> NewOrder:
    """A BUY of the least the venue takes, a tenth below the best bid."""
    price = rules.round_price(quote.bid_px * FAR)
    least = max(rules.min_qty, rules.min_notional / price)
    steps = (least / rules.lot_size).quantize(Decimal(1), ROUND_UP)
    return NewOrder(
        cl_ord_id=trial.cl_ord_id,
        venue=venue,
        symbol=trial.symbol,
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=steps * rules.lot_size,
        price=price,
        purpose=Purpose.TEST,
    )


async def _looked_up(
    venue: Venue, order: NewOrder, patience: Patience
) -> VenueOrder | VenueError | None:
    """The order as the venue has it; asked again for a while, since answers may lag behind."""
    give_up_s = time.monotonic() + ORDER_WAIT_S
    while True:
        try:
            found = await patience.ask(partial(venue.order, order.symbol, order.cl_ord_id))
        except VenueError as error:
            return error
        if found is not None or time.monotonic() > give_up_s:
            return found
        await asyncio.sleep(LOOK_EVERY_S)


def _found(found: VenueOrder | VenueError | None) -> Check:
    if isinstance(found, VenueError):
        return _failure("find it by its ClOrdID", found)
    if found is None:
        detail = f"the venue knows none of this id after {ORDER_WAIT_S:g} s"
        return Check(name="find it by its ClOrdID", result="unknown", detail=detail)
    return Check(name="find it by its ClOrdID", result="ok", detail=str(found.status))


async def take_back(venue: Venue, trial: OrderTrial, patience: Patience) -> Check:
    """Cancels what an interrupted trial may have left, and tells what became of it."""
    await venue.cancel(trial.symbol, trial.cl_ord_id)
    return await _gone(venue, trial, patience)


async def _gone(venue: Venue, order: OrderTrial, patience: Patience) -> Check:
    """Asked until the order is final, or the time is up; meanwhile it is cancelled again."""
    cancelled_s = time.monotonic()
    name = "see it gone"
    by_hand = f"look for {order.cl_ord_id} at the venue and cancel it by hand"
    give_up_s = time.monotonic() + ORDER_WAIT_S
    while True:
        try:
            found = await patience.ask(partial(venue.order, order.symbol, order.cl_ord_id))
        except VenueError as error:
            return Check(name=name, result="unknown", detail=error.message, hint=by_hand)
        if found is not None and found.status.is_final:
            filled = f"; {found.cum_qty:f} of it was filled" if found.cum_qty else ""
            result: CheckResult = "failed" if found.cum_qty else "ok"
            return Check(name=name, result=result, detail=f"{found.status}{filled}")
        if time.monotonic() > give_up_s:
            state = "nothing is known of it" if found is None else f"it is {found.status}"
            return Check(name=name, result="unknown", detail=state, hint=by_hand)
        if found is not None and time.monotonic() - cancelled_s >= CANCEL_EVERY_S:
            await venue.cancel(order.symbol, order.cl_ord_id)
            cancelled_s = time.monotonic()
        await asyncio.sleep(LOOK_EVERY_S)
