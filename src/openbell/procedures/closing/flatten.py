"""Closing, step 5: positions are closed by reduce-only orders, or kept because it was asked for.

Aggressive: market orders. Conservative: IOC limits at mid, some seconds of waiting, then market
orders for what is left. What is too small for any order is
dust: it is listed, and never "flat".
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from openbell.config.models import DeskFile
from openbell.domain.flatten_cost import FlattenCost, Touch, flatten_cost, slippage_of
from openbell.domain.orders import Side
from openbell.errors import FailedError
from openbell.procedures.closing.cancel_orders import ENGINE_PATIENCE_S
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.picture import Picture, Row
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of
from openbell.service_client import Answer
from openbell.state.latch import Latches, latch_note

_RETRY_S = 1.0
_RETRY_MAX_S = 8.0
"""While the venue does not say what is held, each look waits twice as long as the one before: where
it lets the account ask every few seconds only, asking more often keeps it from ever answering."""


@dataclass(frozen=True)
class FlattenOne:
    venue: str
    symbol: str
    quantity: str
    how: str
    cost: FlattenCost | None = None
    at_most: bool = False
    """The cost is that of market orders, which come last and for what is left then."""
    legs: tuple[Row, ...] | None = None
    """The orders that the engine would send now; None: it did not say."""

    def __str__(self) -> str:
        told = f"flatten {self.venue} {self.symbol} ({self.quantity}) with {self.how}"
        if self.legs is not None and len(self.legs) > 1:
            told += f" of {', '.join(str(leg.get('order_qty')) for leg in self.legs)}"
        return told if self.cost is None else f"{told}: {self._cost_told(self.cost)}"

    def _cost_told(self, cost: FlattenCost) -> str:
        currency = self.symbol.partition("/")[2]
        words = []
        if cost.slippage is not None:
            bound = "at least " if cost.is_least else "at most " if self.at_most else ""
            words.append(f"estimated slippage {bound}{_figure(cost.slippage)} {currency}")
        if cost.fee is not None:
            words.append(f"fee {_figure(cost.fee)} {currency}")
        words += [f"not known: {each}" for each in cost.unknown]
        return ", ".join(words)

    def as_detail(self) -> Mapping[str, object]:
        """For `--json`, amounts in the symbol's quote currency; None: not known."""
        cost = self.cost
        return {
            "venue": self.venue, "symbol": self.symbol, "quantity": self.quantity, "how": self.how,
            "currency": self.symbol.partition("/")[2],
            "estimated_slippage": None if cost is None or cost.slippage is None else f"{cost.slippage:f}",
            "slippage_is_least": cost is not None and cost.is_least,
            "estimated_fee": None if cost is None or cost.fee is None else f"{cost.fee:f}",
            "unknown": [] if cost is None else list(cost.unknown),
            "orders": None if self.legs is None else [
                {key: leg.get(key) for key in ("side", "order_qty", "ord_type", "price")}
                for leg in self.legs
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class LeaveOne:
    """What is held, and for which no order can be sent now."""

    venue: str
    symbol: str
    quantity: str
    why: str
    in_vain: bool = False
    """See `Plan`. True of what stays so, however often the engine is asked: the kill switch, and what is
    too small. An order in doubt, a venue that did not answer once, or a permit that is not there passes
    while the step asks, and it is to ask."""

    def __str__(self) -> str:
        return f"NO ORDER can be sent for {self.venue} {self.symbol} ({self.quantity}): {self.why}"

    def as_detail(self) -> Mapping[str, object]:
        return {
            "venue": self.venue, "symbol": self.symbol, "quantity": self.quantity,
            "why_not": self.why, "orders": [],
        }  # fmt: skip


@dataclass(frozen=True)
class FlattenFacts:
    picture: Picture
    planned: Answer | None = None
    """What the engine would order now, as `GET /v1/flatten-plan`; None: not asked."""
    latch: str = ""
    """The kill switch, where it covers something that is held."""
    latched: frozenset[tuple[str, str]] = frozenset()
    """Venue and symbol of what it covers."""


def _figure(amount: Decimal) -> str:
    return f"{amount:.2f}" if abs(amount) >= 1 else f"{amount:.4f}"


_HOW = {
    "aggressive": "market orders",
    "conservative": "limit orders at mid, then market orders",
}


KEPT_BY_A_RESTART = ": a restart closes none, whatever [closing] says"


def plan_flatten(
    facts: FlattenFacts, flatten: str, desk: DeskFile, kept: str = " as asked"
) -> Plan[FlattenOne | LeaveOne]:
    """With what it would cost, as far as the quotes and the desk file tell. Which orders is the
    engine's own plan, made by what sends them; where it does not say, that is not known. `kept`: why
    positions are, where they are."""
    picture = facts.picture
    if flatten == "keep":
        return Plan(
            reason=f"{count_of(len(picture.positions), 'position is', 'positions are')} kept{kept}"
            if picture.tells_positions
            else f"positions are kept{kept}; which there are is not known",
            skipped=True,
        )
    actions = tuple(_planned(row, facts, flatten, desk) for row in picture.positions)
    nothing = "no position is open"
    if not picture.known:
        nothing = f"nothing is known to be held, and not all is known: {'; '.join(picture.unknown)}"
    details = tuple(each.as_detail() for each in actions)
    return Plan(actions, "" if actions else nothing, details=details)


def _planned(row: Row, facts: FlattenFacts, flatten: str, desk: DeskFile) -> FlattenOne | LeaveOne:
    venue, symbol = str(row.get("venue", "")), str(row.get("symbol", ""))
    quantity = str(row.get("venue_quantity") or row.get("quantity"))
    if (venue, symbol) in facts.latched:
        return LeaveOne(venue, symbol, quantity, facts.latch, in_vain=True)
    legs: tuple[Row, ...] | None = None
    if facts.planned is not None and facts.planned.known:
        legs = tuple(leg for leg in facts.planned.get("legs") or () if _is_of(leg, venue, symbol))
        if not legs:
            why, in_vain = _why_none(facts.planned, venue, symbol)
            return LeaveOne(venue, symbol, quantity, why, in_vain=in_vain)
    conservative = flatten == "conservative"
    if legs is not None and all(leg.get("ord_type") == "MARKET" for leg in legs):
        # No quote to take the mid of, or a venue that takes no such limit.
        conservative = False
    how = _HOW["conservative" if conservative else "aggressive"]
    return FlattenOne(
        venue, symbol, quantity, how, _cost_of(row, desk), at_most=conservative, legs=legs
    )


def _is_of(row: Row, venue: str, symbol: str) -> bool:
    return (row.get("venue"), row.get("symbol")) == (venue, symbol)


def _why_none(planned: Answer, venue: str, symbol: str) -> tuple[str, bool]:
    """In the engine's words; and whether it stays so."""
    name = f"{venue} {symbol}: "
    for why in map(str, planned.get("blocked") or ()):
        if why.startswith(name):
            return why.removeprefix(name), False
    if any(_is_of(row, venue, symbol) for row in planned.get("dust") or ()):
        return "it is too small for any order", True
    return "the engine plans none, as orders that are open would close it", False


def _cost_of(row: Row, desk: DeskFile) -> FlattenCost:
    venue = desk.venues.get(str(row.get("venue", "")))
    try:
        quantity = Decimal(str(row.get("venue_quantity") or row.get("quantity")))
    except InvalidOperation:
        return FlattenCost(
            slippage=None, is_least=False, fee=None, unknown=("what is held cannot be read",)
        )
    fee = None if venue is None else venue.taker_fee
    return flatten_cost(quantity, _touch(row.get("quote")), fee, desk.risk.stale_quote_after)


def _touch(told: object) -> Touch | None:
    """None where there is no quote, or none that could be read: an engine of before says nothing."""
    if not isinstance(told, Mapping):
        return None
    try:
        return Touch(
            bid_px=Decimal(str(told["bid_px"])),
            bid_qty=Decimal(str(told["bid_qty"])),
            ask_px=Decimal(str(told["ask_px"])),
            ask_qty=Decimal(str(told["ask_qty"])),
            age_s=float(told["age_s"]),
        )
    except (KeyError, InvalidOperation, TypeError, ValueError):
        return None


def order_rows(legs: Iterable[Row], stale_after_s: float) -> list[Mapping[str, object]]:
    """Each order as the engine told it, with what it cost against the mid before it, in the symbol's
    quote currency; null where that is not known."""
    rows: list[Mapping[str, object]] = []
    for leg in legs:
        age_s = leg.get("mid_age_s")
        fresh = age_s is not None and float(age_s) <= stale_after_s
        slippage = slippage_of(
            Side(str(leg["side"])),
            Decimal(str(leg.get("cum_qty") or 0)),
            _amount(leg.get("avg_px")),
            _amount(leg.get("mid_px")) if fresh else None,
        )
        told = (
            "venue",
            "symbol",
            "side",
            "order_qty",
            "cum_qty",
            "avg_px",
            "mid_px",
            "outcome",
            "text",
        )
        rows.append(
            {
                **{key: leg.get(key) for key in told},
                "slippage": None if slippage is None else f"{slippage:f}",
                "currency": str(leg.get("symbol")).partition("/")[2],
            }
        )
    return rows


def slippage_told(orders: Iterable[Row], *, untold: bool = False) -> str:
    """`slippage 0.42 USDT`, by currency; what is not known is told as such. Empty without an order.
    `untold`: the engine has not told of all of them."""
    known: dict[str, Decimal] = {}
    unknown = 0
    for row in orders:
        if row["slippage"] is None:
            unknown += 1
        else:
            currency = str(row["currency"])
            known[currency] = known.get(currency, Decimal(0)) + Decimal(str(row["slippage"]))
    told = [f"{_figure(amount)} {currency}" for currency, amount in known.items()]
    told += [f"not known of {count_of(unknown, 'order')}"] if unknown else []
    told += ["not known of what the engine did not tell of"] if untold else []
    return f"slippage {', '.join(told)}" if told else ""


def _amount(told: object) -> Decimal | None:
    return None if told is None else Decimal(str(told))


def judge_flatten(
    picture: Picture,
    orders: Sequence[Row] = (),
    blocked: Sequence[str] = (),
    *,
    untold: bool = False,
) -> Verification:
    """`orders` as `order_rows` makes them; `blocked`: what the engine sent no order for, with the
    reason; `untold` as for `slippage_told`."""
    evidence = {
        "source": picture.source,
        "positions": [dict(row) for row in picture.positions],
        "dust": [dict(row) for row in picture.dust],
        "orders": [dict(row) for row in orders],
        "blocked": list(blocked),
    }
    cost = f"; {told}" if (told := slippage_told(orders, untold=untold)) else ""
    if not picture.known:
        return Verification(Outcome.UNKNOWN, picture.describe(), evidence)
    if picture.positions:
        symbols = ", ".join(str(row.get("symbol")) for row in picture.positions)
        why = f"; no order was sent for {'; '.join(blocked)}" if blocked else ""
        return Verification(Outcome.FAILED, f"positions remain: {symbols}{why}{cost}", evidence)
    dust = f"; dust in {count_of(len(picture.dust), 'symbol')}" if picture.dust else ""
    return Verification(Outcome.DONE, f"flat, asked from the venue{dust}{cost}", evidence)


SPEC = StepSpec(
    name="flatten",
    title="Flatten positions",
    does="Closes positions by reduce-only orders, sent by the engine alone; "
    'or keeps them, where that is asked for (`flatten = "keep"`).',
    verified_by="Every venue is asked what it holds; what is too small for any order is listed as dust.",
    timeout_s=90.0,
    on_failure=OnFailure.WARN,
    needed_because='to keep positions is a wish of the closing (`flatten = "keep"`), and is then told as one',
    progress="open positions, towards 0",
    evidence="positions and dust, as the venues say; each order, and what it cost against the mid before it; "
    "what no order was sent for, and why",
)


@dataclass
class FlattenPositions:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    legs: dict[str, Row] = field(default_factory=dict)
    """The orders, by the names of their intents, as the engine told them."""
    blocked: tuple[str, ...] = ()
    """Of the newest answer."""
    untold: bool = False
    """An ask had no answer, and may have sent orders."""

    async def observe(self) -> FlattenFacts:
        closing = self.closing
        picture = await closing.look(patience_s=ENGINE_PATIENCE_S)
        if closing.wishes.flatten == "keep" or not picture.positions:
            return FlattenFacts(picture)
        planned = None
        if picture.source == "engine":
            mode = "limit" if closing.wishes.flatten == "conservative" else "market"
            # Of a plan, the step before will have withdrawn what is open.
            orders = "gone" if closing.is_foreseen else "as_they_are"
            path = f"/v1/flatten-plan?mode={mode}&orders={orders}"
            planned = await closing.voices.ask_engine(path)
        latches = Latches(closing.layout)
        held = [
            (str(row.get("venue", "")), str(row.get("symbol", ""))) for row in picture.positions
        ]
        latched = frozenset(each for each in held if latches.covering(each[0], "", each[1]))
        note = f"{latch_note(latches.read())}, and it stops a flatten too" if latched else ""
        return FlattenFacts(picture, planned, note, latched)

    def plan(self, facts: FlattenFacts) -> Plan[FlattenOne | LeaveOne]:
        if why := self.closing.why_not_asked:
            return Plan(reason=why, skipped=True)
        wishes = self.closing.wishes
        kept = KEPT_BY_A_RESTART if wishes.restart else " as asked"
        return plan_flatten(facts, wishes.flatten, self.closing.desk.file, kept)

    async def act(self, plan: Plan[FlattenOne | LeaveOne], say: Say) -> None:
        """Sends only through the engine: nobody else may send an order. Each round computes its
        orders from what the venue still holds, so a filled one is never sent again."""
        loop = asyncio.get_running_loop()
        limits_until = loop.time() + self.closing.wishes.conservative_wait_s
        conservative = self.closing.wishes.flatten == "conservative"
        pause_s = _RETRY_S
        for attempt in itertools.count(1):
            mode = "limit" if conservative and loop.time() < limits_until else "market"
            if not await self.closing.sight.engine_is_up(patience_s=ENGINE_PATIENCE_S):
                raise FailedError("no engine runs, and nobody else may send an order")
            # The engine orders once under one name, also when it is asked again after this
            # controller was killed between the question and its answer.
            name = f"{self.closing.run}-flatten-{attempt}"
            body = {"mode": mode, "run": name}
            self._note(await self.closing.voices.tell_engine("/v1/flatten", body))
            picture = await self.closing.look()
            if picture.tells_positions:
                say(f"open positions, by {mode} orders", len(picture.positions), 0)
            else:
                say(f"open positions are not known: {'; '.join(picture.unknown)}")
            if picture.known and not picture.positions:
                return
            self._give_up_if_latched(picture)
            pause_s = _RETRY_S if picture.known else min(2 * pause_s, _RETRY_MAX_S)
            await asyncio.sleep(pause_s)

    def _note(self, answer: Answer) -> None:
        """An order that is told again has no mid any more: what was told first stays."""
        for leg in answer.get("legs") or ():
            before = self.legs.get(str(leg["intent_id"])) or {}
            mid = {
                key: before[key] for key in ("mid_px", "mid_age_s") if before.get(key) is not None
            }
            self.legs[str(leg["intent_id"])] = {**leg, **mid}
        if answer.known:
            self.blocked = tuple(map(str, answer.get("blocked") or ()))
        else:
            self.untold = True

    def _orders(self) -> Sequence[Row]:
        """Also those of an attempt that was cut off after it was done with them."""
        if self.legs:
            return order_rows(self.legs.values(), self.closing.desk.file.risk.stale_quote_after)
        earlier = self.closing.earlier.get(self.name)
        told = None if earlier is None else earlier.evidence.get("orders")
        return [dict(row) for row in told] if isinstance(told, list | tuple) else []

    def _give_up_if_latched(self, picture: Picture) -> None:
        """Raises FailedError where the kill switch stops every order that could still be sent: it
        stays until a person releases it, so to go on asking is of no use."""
        latches = Latches(self.closing.layout)
        covering = [
            latches.covering(str(row.get("venue", "")), "", str(row.get("symbol", "")))
            for row in picture.positions
        ]
        if covering and all(covering):
            raise FailedError(
                f"{latch_note(latches.read())}: it stops a flatten too; release it with `openbell "
                "kill-switch deactivate`, or keep the positions with --flatten keep"
            )

    async def verify(self, say: Say) -> Verification:
        picture = await self.closing.look()
        return judge_flatten(picture, self._orders(), self.blocked, untold=self.untold)
