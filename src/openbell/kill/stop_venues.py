"""Stops every venue of a desk at once, and says of each what was proven.

A venue that hangs delays no other: each has its own deadline, its own connection, and ends with a
statement of its own as soon as it is done.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.flattening import RemainingOrder
from openbell.domain.ids import is_own, mint
from openbell.domain.orders import ClOrdID
from openbell.kill import events, statement
from openbell.kill.asking import GivenUpError
from openbell.kill.cancelling import say
from openbell.kill.events import Tell
from openbell.kill.flatten import Flattening
from openbell.kill.flatten_record import FlattenRecord
from openbell.kill.live_orders import Register
from openbell.kill.plan import Scope, Target
from openbell.kill.statement import VenueStatement
from openbell.kill.venue import SETTLE_S_MIN, VenueStop
from openbell.venues.port import Venue, VenueError, VenueOrder

LAST_LOOK_SHARE, LAST_LOOK_S = 0.2, 1.0
"""Of the time given, kept for a last look: what is stated must be what is so then."""
OVERTIME_S = 0.5
"""For a venue whose requests do not end when they are given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One venue to stop. Whoever opened `venue` closes it."""

    name: str
    config: VenueConfig
    venue: Venue
    warm: bool = False
    """Connected already."""
    settle_s: float = SETTLE_S_MIN
    """The longest order latency that was seen there; at least 0.1 s is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What every visit is told."""

    desk_id: str
    scope: Scope
    timeout_s: float
    mint: Callable[[], ClOrdID] | None
    record: FlattenRecord
    quiet: asyncio.Event | None
    register: Register | None
    tell: Tell


async def stop_venues(
    visits: Sequence[Visit],
    *,
    desk_id: str,
    timeout_s: float,
    scope: Scope = Scope(),  # noqa: B008 # it is immutable
    flatten_epoch: int | None = None,
    first_order: int = 0,
    record: FlattenRecord = FlattenRecord(),  # noqa: B008 # the same
    quiet: asyncio.Event | None = None,
    register: Register | None = None,
    tell: Tell = lambda _: None,
) -> list[VenueStatement]:
    """Withdraws what is in scope, and proves it; a statement per visit in scope, in their order.

    `timeout_s` is each venue's. `flatten_epoch`: positions are closed too, by orders under this
    epoch, which nobody may have used before, counted from `first_order`; None: they stay. `record`:
    what stops that came before have sent, and where this one writes down its own. `quiet`:
    set when no engine can send any more, before which no empty list counts; None: so it is. `register`:
    where it is read then which orders engines have sent; None: that is not known.
    """
    counter = itertools.count(first_order)
    told = Orders(
        desk_id=desk_id,
        scope=scope,
        timeout_s=timeout_s,
        mint=(
            None if flatten_epoch is None else lambda: mint(desk_id, flatten_epoch, next(counter))
        ),
        record=record,
        quiet=quiet,
        register=register,
        tell=tell,
    )
    visited = [visit for visit in visits if scope.venue in (None, visit.name)]
    if not visited:
        return []
    tasks = [asyncio.create_task(_visit(visit, told)) for visit in visited]
    try:
        await asyncio.wait(tasks, timeout=timeout_s + OVERTIME_S)
    finally:
        for task in tasks:
            task.cancel()
    return [_result(visit, task, told) for visit, task in zip(visited, tasks, strict=True)]


async def not_named(
    register: Register, declared: Collection[str], *, flatten: bool
) -> tuple[VenueStatement, ...]:
    """Of venues that desk.toml does not name any more: nobody asks them, and the register names orders
    there that are not known to have ended."""
    found: dict[str, list[ClOrdID]] = {}
    for order in (await register.read()).live.orders:
        if order.venue not in declared:
            found.setdefault(order.venue, []).append(order.cl_ord_id)
    return tuple(statement.not_named(name, found[name], flatten=flatten) for name in sorted(found))


def _result(visit: Visit, task: asyncio.Task[VenueStatement], told: Orders) -> VenueStatement:
    if not task.done():
        why = f"its requests did not end within {told.timeout_s + OVERTIME_S:g} s"
    elif task.cancelled():
        why = "it was ended before it was done"
    elif (error := task.exception()) is not None:
        why = f"the stop itself failed: {type(error).__name__}"
    else:
        return task.result()
    stated = statement.unvisited(
        visit.name, visit.config, why, flatten=told.mint is not None, took_s=told.timeout_s
    )
    say(told.tell, events.Ended(venue=visit.name, at_ns=time.time_ns(), statement=stated))
    return stated


async def _visit(visit: Visit, told: Orders) -> VenueStatement:
    now_s = asyncio.get_running_loop().time
    began_s = now_s()
    deadline_s = began_s + told.timeout_s
    symbol = told.scope.symbol
    target = Target(
        desk_id=told.desk_id,
        symbol=symbol,
        everyone=told.scope.account_wide or visit.config.exclusive,
    )
    stop = VenueStop(
        visit.venue,
        visit.config.symbols,
        target,
        deadline_s=deadline_s,
        settle_s=visit.settle_s,
        warm=visit.warm,
        quiet=told.quiet,
        register=told.register,
        window_s=visit.config.timeout,
        tell=told.tell,
    )
    flattening = (
        Flattening(
            stop.asking,
            symbol,
            told.mint,
            max(visit.settle_s, SETTLE_S_MIN),
            told.tell,
            told.record,
        )
        if told.mint is not None
        else None
    )
    reserve_s = min(LAST_LOOK_S, told.timeout_s * LAST_LOOK_SHARE)
    try:
        try:
            async with asyncio.timeout_at(deadline_s - reserve_s):
                await _withdraw(stop, flattening)
        except TimeoutError:
            await _look_again(stop, flattening, deadline_s)
        except GivenUpError as error:
            stop.gave_up(str(error))
    finally:
        await stop.end()
    stated = _statement(visit, told, stop, flattening, now_s() - began_s)
    say(told.tell, events.Ended(venue=visit.name, at_ns=time.time_ns(), statement=stated))
    if told.register is not None:
        # Also of one that is not verified: a venue that is slow to ask is asked less by the next.
        proven = stop.live.named if stop.verified else stop.live.ended
        await told.register.note_ended(visit.name, proven)
    return stated


async def _withdraw(stop: VenueStop, flattening: Flattening | None) -> None:
    await stop.connect()
    await stop.until_zero()
    if flattening is not None:
        await flattening.run()
        if flattening.traded:
            # An order of its own may rest, and one that was filled late changed a position.
            await stop.until_zero()
            await flattening.look()


async def _look_again(stop: VenueStop, flattening: Flattening | None, deadline_s: float) -> None:
    """Time is up; what is so now?"""
    try:
        async with asyncio.timeout_at(deadline_s):
            if flattening is not None and flattening.traded:
                await stop.until_zero()  # an order of its own may rest
            elif not stop.verified:
                await stop.look()
            if flattening is not None:
                await flattening.look()
    except (TimeoutError, VenueError, GivenUpError) as error:
        if not (stop.verified or stop.looked):
            stop.gave_up(str(error) or "no answer to the last question")


def _statement(
    visit: Visit,
    told: Orders,
    stop: VenueStop,
    flattening: Flattening | None,
    took_s: float,
) -> VenueStatement:
    residual = stop.looked and stop.remain
    stated = VenueStatement(
        venue=visit.name,
        result="verified" if stop.verified else "residual" if residual else "unknown",
        orders=_remaining(visit.name, stop.remain, told.desk_id),
        spared=_remaining(visit.name, stop.spared, told.desk_id),
        acknowledged=stop.acknowledged,
        flat=None if flattening is None else flattening.flat(),
        why=stop.why,
        in_doubt=tuple(order.cl_ord_id for order in stop.live.missing),
        not_seen=stop.live.gap,
        took_s=round(took_s, 6),
    )
    if stated.is_settled:
        return stated
    by_hand = statement.by_hand(visit.name, visit.config, flatten=flattening is not None)
    by_hand += statement.by_hand_of_doubt(stated.in_doubt)
    by_hand += statement.by_hand_of_a_cut_wait(stop.cut_s, told.timeout_s)
    return msgspec.structs.replace(stated, by_hand=by_hand)


def _remaining(name: str, orders: Sequence[VenueOrder], desk_id: str) -> tuple[RemainingOrder, ...]:
    return tuple(
        statement.remaining(name, order, own=is_own(order.cl_ord_id, desk_id)) for order in orders
    )
