"""Closing, step 5: own open orders are withdrawn at the venue, or kept because it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.picture import Picture, Row
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import KEPT_AS_ASKED, count_of

ENGINE_PATIENCE_S = 15.0
"""How long a crashed engine may take to be back, before the venues are asked past it."""

ENGINE_CANCEL_S = 10.0
"""For an engine that runs to cancel everything; longer, and it is taken to hang."""

_RETRY_S = 1.0
_RETRY_MAX_S = 8.0


@dataclass(frozen=True)
class CancelAll:
    count: int | None
    """None: nobody has said how many there are."""

    def __str__(self) -> str:
        if self.count is None:
            return "cancel whatever own order is open"
        return f"cancel {count_of(self.count, 'open order')}"


@dataclass(frozen=True)
class CancelAggressive:
    count: int | None
    kept: int

    def __str__(self) -> str:
        if self.count is None:
            return "cancel whatever own order is open and not known to be passive"
        return f"cancel {count_of(self.count, 'open order')}, keep {count_of(self.kept, 'passive one')}"


Action = CancelAll | CancelAggressive


def plan_cancel(
    picture: Picture, orders: str, must_go: Sequence[Row] | None = None
) -> Plan[Action]:
    """`must_go`: the own orders that are not to stay; None: all."""
    if orders == "keep":
        return Plan(
            reason=f"{count_of(len(picture.orders), 'order is', 'orders are')} {KEPT_AS_ASKED}"
            if picture.tells_orders
            else "orders are kept as asked; which there are is not known",
            skipped=True,
        )
    if orders == "keep-passive":
        going = len(picture.orders if must_go is None else must_go)
        kept = len(picture.orders) - going
        if not going and picture.known:
            return Plan(reason=f"{count_of(kept, 'passive order')} kept, no other is open")
        count = going if picture.tells_orders else None
        return Plan((CancelAggressive(count, kept),), details=_told_orders(picture, must_go))
    if picture.orders or not picture.known:
        # Also where it is not known what rests there: a cancel of nothing harms nobody.
        count_told = len(picture.orders) if picture.tells_orders else None
        return Plan((CancelAll(count_told),), details=_told_orders(picture))
    return Plan(reason="no order is open")


def _told_orders(
    picture: Picture, must_go: Sequence[Row] | None = None
) -> tuple[Mapping[str, object], ...]:
    """Which orders go, one by one."""
    keys = ("venue", "symbol", "side", "leaves_qty", "price", "cl_ord_id", "strategy")
    return tuple(
        {
            **{key: row.get(key) for key in keys if row.get(key) is not None},
            "told": f"{row.get('venue')} {row.get('symbol')} {row.get('side')} {_left(row)} at "
            f"{row.get('price') or 'the market'} ({row.get('cl_ord_id')})",
        }
        for row in (picture.orders if must_go is None else must_go)
    )


def _left(row: Row) -> object:
    return row.get("leaves_qty") or row.get("order_qty") or "an unknown quantity"


def judge_cancel(picture: Picture, must_go: Sequence[Row] | None = None) -> Verification:
    """`must_go` as for `plan_cancel`."""
    remaining = picture.orders if must_go is None else must_go
    going = {id(row) for row in remaining}
    kept = [str(row.get("cl_ord_id")) for row in picture.orders if id(row) not in going]
    evidence: dict[str, object] = {
        "source": picture.source,
        "orders": [dict(row) for row in picture.orders],
        "kept": kept,
    }
    if not picture.known:
        return Verification(Outcome.UNKNOWN, picture.describe(), evidence)
    if remaining:
        told = count_of(len(remaining), "order remains", "orders remain")
        return Verification(Outcome.FAILED, f"{told} open", evidence)
    others = f"; {len(picture.foreign_orders)} of others" if picture.foreign_orders else ""
    open_ = f"{count_of(len(kept), 'passive order')} kept, no other own" if kept else "no own order"
    return Verification(Outcome.DONE, f"{open_} is open, asked from the venue{others}", evidence)


async def withdraw(closing: Closing) -> Picture:
    """Asks once for every own order to be cancelled that is not to stay, and looks: through the
    engine, or past one that is not there or hangs. A cancel makes no exposure larger, whoever sends
    it."""
    passive_stay = closing.wishes.orders == "keep-passive"
    if await closing.sight.engine_is_up():
        answer = await closing.voices.tell_engine(
            "/v1/cancel", {"passive_stay": True} if passive_stay else {}, timeout_s=ENGINE_CANCEL_S
        )
        if answer.known:
            return await closing.look()
        closing.sight.engine_is_silent()
    if passive_stay:
        picture = await closing.look()
        if picture.known and not closing.must_go(picture):
            return picture
    # Past the engine all go: nobody else knows which are passive, and to keep one too few makes no
    # exposure larger.
    return await closing.sight.cancel_past_the_engine()


SPEC = StepSpec(
    name="cancel_orders",
    title="Cancel open orders",
    does="Withdraws the desk's own open orders through the engine, or past it where none "
    "runs; or keeps them, or the passive ones, where that is asked for.",
    verified_by="Every venue is asked for its open orders.",
    timeout_s=45.0,
    on_failure=OnFailure.WARN,
    needed_because="orders would rest at the venue with nobody to watch them",
    progress="open orders, towards 0",
    evidence="the orders that remain",
)


@dataclass
class CancelOrders:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure

    async def observe(self) -> Picture:
        closing = self.closing
        if (earlier := closing.earlier.get(self.name)) is not None:
            kept = earlier.evidence.get("kept")
            if isinstance(kept, list | tuple):
                closing.kept |= {str(name) for name in kept}
        return await closing.look(patience_s=ENGINE_PATIENCE_S)

    def plan(self, facts: Picture) -> Plan[Action]:
        if why := self.closing.why_not_asked:
            return Plan(reason=why, skipped=True)
        return plan_cancel(facts, self.closing.wishes.orders, self.closing.must_go(facts))

    async def act(self, plan: Plan[Action], say: Say) -> None:
        """Asks, looks, and asks again for what is left: an order may be on its way while the first
        cancel passes it."""
        pause_s = _RETRY_S
        while True:
            picture = await withdraw(self.closing)
            left = len(self.closing.must_go(picture))
            if picture.tells_orders:
                say("open orders", left, 0)
            else:
                say(f"open orders are not known: {'; '.join(picture.unknown)}")
            if picture.known and not left:
                return
            # Where the venue does not say, asking more often may keep it from ever answering.
            pause_s = _RETRY_S if picture.known else min(2 * pause_s, _RETRY_MAX_S)
            await asyncio.sleep(pause_s)

    async def verify(self, say: Say) -> Verification:
        picture = await self.closing.look()
        return judge_cancel(picture, self.closing.must_go(picture))
