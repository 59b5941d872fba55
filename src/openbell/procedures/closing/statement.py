"""The closing statement: what remains, asked and not remembered, and whether that is proven."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from openbell.domain.closing import ClosingStatement, open_points
from openbell.domain.closing_wishes import command_with
from openbell.domain.flattening import Dust, RemainingOrder, RemainingPosition
from openbell.domain.orders import Side
from openbell.procedures.closing.checklist import ClosingRecord, closing_checklists
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.picture import Picture, Row
from openbell.procedures.ports import facts_of
from openbell.procedures.step import Outcome, StepReport
from openbell.state.latch import Latches, latch_note

ENGINES_WORK = frozenset({"cancel_orders", "flatten", "wait_for_orders", "reconcile"})
"""Steps that an engine may still bring to their end."""

ASIDE = frozenset({"announce", "afterwards"})
"""Steps that say nothing about whether the desk is closed: told, and no open point."""


@dataclass(frozen=True)
class Statement:
    verified: bool
    summary: str
    services_stopped: bool
    hint: str
    """What to do about one that is not verified; empty where it is."""
    document: Mapping[str, Any]
    """As docs/reference/api.md shows it."""
    sent_after: bool = False
    """A command of the desk's own that may send was run when everything else was stopped."""

    @property
    def left_nothing(self) -> bool:
        """It is proven, by the venues' own last word, that no own order and no position is left, and nothing
        may have sent since it was first asked for."""
        rows = (
            *(self.document["remaining_orders"] or ()),
            *(self.document["remaining_positions"] or ()),
        )
        asked = self.document["asked"] == "venue" and not self.document["unknown"]
        quiet = self.verified and asked and not self.sent_after
        return quiet and not any(row.get("own", True) for row in rows)


async def closing_statement(closing: Closing, reports: Iterable[StepReport]) -> Statement:
    """The statement of a closing that has ended, however it ended. Where the services were not
    stopped, and so nobody has asked the venues at the end, they are asked now."""
    untouched = closing.untouched if closing.desk.file.venues else ""
    if closing.final is None and closing.asks_venues:
        closing.final = await closing.look()
    reports = tuple(reports)
    picture = _picture(closing)
    told = _from_venue(picture.positions)
    # Errors in the log are told; that they are there is not what the closing has to prove.
    statement = ClosingStatement(
        remaining_orders=tuple(_order(row) for row in (*picture.orders, *picture.foreign_orders)),
        remaining_positions=tuple(_position(row) for row in told),
        dust=tuple(_dust(row) for row in picture.dust),
        checkpoint=closing.checkpoint,
        checkpoint_wanted=not untouched,
        processes_left=None if closing.processes_left is None else len(closing.processes_left),
        sockets_left=None if closing.sockets_left is None else len(closing.sockets_left),
        errors_last_5m=None if closing.errors is None else len(closing.errors),
        orders_kept=closing.wishes.orders == "keep",
        kept=tuple(str(row.get("cl_ord_id")) for row in picture.orders if closing.may_rest(row)),
        positions_kept=closing.wishes.flatten == "keep",
        # Books that were not compared are among the steps that are not verified: no difference.
        reconciled=closing.outcomes.get("reconcile")
        in (Outcome.DONE, Outcome.SKIPPED, Outcome.UNKNOWN),
    )
    services_stopped = not any(view.state.is_running for view in closing.services.views())
    aside = tuple(report for report in reports if report.name in ASIDE)
    told_of = {"reconcile", "verify"} | ({"checkpoint"} if closing.checkpoint is None else set())
    points = [
        *(
            []
            if picture.known or untouched
            else [f"what remains is not known ({'; '.join(picture.unknown)})"]
        ),
        *open_points(statement),
        *closing.not_proven,
        *_step_points((each for each in reports if each.name not in ASIDE), told_of),
    ]
    verified = not points
    summary = "closed and verified" if verified else "; ".join(points)
    if untouched:
        summary = f"{summary}; the venues were not asked: {untouched}"
    for report in aside:
        if report.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
            summary = f"{summary}; {report.name}: {report.detail}"
    return Statement(
        verified=verified,
        summary=summary,
        services_stopped=services_stopped,
        sent_after=closing.sent_after,
        hint="" if verified else what_to_do(closing),
        document={
            "verified": verified,
            "summary": summary,
            "remaining_orders": _told(
                (*picture.orders, *picture.foreign_orders), picture.known or picture.all_orders
            ),
            "remaining_positions": _told(told, picture.known or picture.all_positions),
            "dust": _told(_from_venue(picture.dust), picture.known or picture.all_positions),
            "unknown": list(picture.unknown),
            "asked": picture.source,
            "nothing_sent": untouched,
            "checkpoint": closing.checkpoint,
            "dead_man": None if closing.disarmed is None else dict(closing.disarmed),
            "pnl": None if closing.pnl is None else dict(closing.pnl),
            "strategies": _strategies(reports),
            "reconciliation": _compared(reports),
            "connections": _listed(closing.connections),
            "processes_left": _listed(closing.processes_left),
            "sockets_left": _listed(closing.sockets_left),
            "errors_last_5m": _listed(closing.errors),
            "steps": [report.as_dict() for report in reports],
            "checklists": [
                each.as_dict()
                for each in closing_checklists(
                    ClosingRecord(
                        reports=reports,
                        reason=closing.wishes.reason,
                        approvals=_approvals(closing, reports),
                        services_stopped=services_stopped,
                        positions_left=len(told) if picture.tells_positions else None,
                        pnl=closing.pnl,
                        checkpoint=closing.checkpoint,
                        checkpoint_wanted=statement.checkpoint_wanted,
                        processes_left=statement.processes_left,
                        sockets_left=statement.sockets_left,
                        errors=statement.errors_last_5m,
                        approved=closing.approved(),
                    )
                )
            ],
        },
    )


def what_to_do(closing: Closing) -> str:
    """About a closing that is not proven. Where no engine runs, to close again changes nothing: nobody
    else may send an order, or book what the venues say of one whose end nobody saw."""
    # Without its wishes it would be asked for what desk.toml says, and sell what is kept.
    again = command_with({"flatten": closing.wishes.flatten, "orders": closing.wishes.orders})
    engine = closing.voices.roles.engine
    open_ = {
        name
        for name in ENGINES_WORK
        if closing.outcomes.get(name) in (Outcome.FAILED, Outcome.UNKNOWN)
    }
    if engine is None or not open_ or facts_of(closing.services).is_up(engine):
        return (
            f"look at the venue; `{again}` does what is left (`openbell down` alone takes what [closing] of "
            "desk.toml says, and not what this closing was asked for)"
        )
    release = ""
    if "flatten" in open_ and (latched := latch_note(Latches(closing.layout).read())):
        release = f"{latched}, so no position can be closed: `openbell kill-switch deactivate` releases it; "
    return (
        f"no engine runs, and nobody else may send an order or find out what became of one: {release}"
        f"`openbell up --safe-mode` opens the desk without trading, then `{again}`; or look "
        f"at the venue, and stop in spite of it with `{again} --force`"
    )


def _approvals(closing: Closing, reports: Iterable[StepReport]) -> dict[str, tuple[str, ...]]:
    """By step of this closing, the roles that the desk file wants to approve it: of one that it does not
    have, such as an announcement without a channel, nobody was asked."""
    settings = closing.desk.file.procedures.get("close")
    if settings is None:
        return {}
    wanted = {name: step.approvals for name, step in settings.steps.items()}
    wanted |= {extra.name: extra.approvals for extra in settings.extra}
    return {each.name: roles for each in reports if (roles := wanted.get(each.name, ()))}


def _strategies(reports: Iterable[StepReport]) -> list[object] | None:
    """Each with its state and the age of its last signal; None where they were not asked."""
    found = next((each.evidence for each in reports if each.name == "halt_strategies"), {})
    rows = found.get("last_signals")
    return list(rows) if isinstance(rows, list | tuple) else None


def _compared(reports: Iterable[StepReport]) -> list[object] | None:
    """The table of the books against the venues; None where an engine did not compare them."""
    found = next((each.evidence for each in reports if each.name == "reconcile"), {})
    rows = found.get("positions")
    return list(rows) if isinstance(rows, list | tuple) else None


def _picture(closing: Closing) -> Picture:
    """The last word of the venues; before the services were stopped, the engine's."""
    if closing.final is not None:
        return closing.final
    if not closing.asks_venues:
        return Picture(source="none" if closing.desk.file.venues else "venue")
    return Picture(source="none", unknown=("no venue could be asked",))


def _from_venue(rows: Iterable[Row]) -> list[Row]:
    """Those of which the venue itself has said what it holds."""
    return [row for row in rows if row.get("venue_quantity") is not None]


def _step_points(reports: Iterable[StepReport], told: Collection[str]) -> list[str]:
    """The steps that are not settled, each once. The failure of those in `told` has been told."""
    reports = tuple(reports)
    points = []
    for outcome, word in ((Outcome.FAILED, "failed"), (Outcome.UNKNOWN, "not verified")):
        names = [
            report.name
            for report in reports
            if report.outcome is outcome and not (outcome is Outcome.FAILED and report.name in told)
        ]
        points += [f"{word}: {', '.join(names)}"] if names else []
    return points


def _told(rows: Iterable[Row], complete: bool) -> list[Row] | None:
    """The rows, or None where there is none and not everybody was asked: that is no empty list."""
    listed: list[Row] = [dict(row) for row in rows]
    return listed if listed or complete else None


def _listed(items: Iterable[object] | None) -> list[object] | None:
    return None if items is None else list(items)


def _order(row: Row) -> RemainingOrder:
    return RemainingOrder(
        venue=str(row.get("venue", "")),
        symbol=str(row.get("symbol", "")),
        cl_ord_id=str(row.get("cl_ord_id", "")),
        venue_order_id=str(row.get("venue_order_id", "")),
        side=Side(str(row.get("side", "BUY"))),
        leaves_qty=_amount(row.get("leaves_qty")),
        own=bool(row.get("own", True)),
    )


def _position(row: Row) -> RemainingPosition:
    return RemainingPosition(
        venue=str(row.get("venue", "")), symbol=str(row.get("symbol", "")), quantity=_held(row)
    )


def _dust(row: Row) -> Dust:
    return Dust(
        venue=str(row.get("venue", "")), symbol=str(row.get("symbol", "")), quantity=_held(row)
    )


def _held(row: Row) -> Decimal:
    venue_says = row.get("venue_quantity")
    return _amount(row.get("quantity") if venue_says is None else venue_says)


def _amount(text: object) -> Decimal:
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return Decimal("NaN")
