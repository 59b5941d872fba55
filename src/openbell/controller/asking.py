"""What services say, passed on: and the venues' own word where the engine does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openbell.controller.desk import ControlledDesk
from openbell.procedures.closing.picture import CLERK_TIMEOUT_S
from openbell.state.disabled_strategies import DisabledStrategies

TIMEOUT_S = 10.0


async def orders(desk: ControlledDesk, *, past_engine: bool = True) -> dict[str, Any]:
    """Open orders: the engine's answer, or the venues'."""
    return await _engine_or_venues(desk, "/v1/orders", past_engine=past_engine)


async def positions(desk: ControlledDesk, *, past_engine: bool = True) -> dict[str, Any]:
    """Positions and P&L: the engine's answer, or the venues' without P&L."""
    return await _engine_or_venues(desk, "/v1/positions", past_engine=past_engine)


async def strategies(desk: ControlledDesk) -> dict[str, Any]:
    """What the strategies' service says, and, whether it does or not, who is disabled and why."""
    service = desk.desk.file.service_with_role("strategies")
    told = await passed_on(desk, "strategies", service, "/v1/strategies")
    declared = desk.desk.file.strategies
    return {**told, "disabled": DisabledStrategies.of(desk.layout).rows(declared)}


async def passed_on(
    desk: ControlledDesk, source: str, service: str | None, path: str
) -> dict[str, Any]:
    """A service's answer with `source`, `known` and `why` added."""
    answer = await desk.voices.ask(service, path, timeout_s=TIMEOUT_S)
    if answer.known and answer.body is not None:
        return {**answer.body, "source": source, "known": True, "why": ""}
    return {"source": "unknown", "known": False, "why": answer.why}


async def _engine_or_venues(
    desk: ControlledDesk, path: str, *, past_engine: bool
) -> dict[str, Any]:
    """`past_engine`: where the engine does not answer a process is started that asks the venues;
    whoever only looks on, again and again, wants none."""
    told = await passed_on(desk, "engine", desk.roles.engine, path)
    if told["known"]:
        unknown = unknown_parts(told)
        return {**told, "known": not unknown, "why": "; ".join(unknown)}
    if not desk.desk.file.venues or not past_engine:
        return told
    answers = await desk.clerk.look(timeout_s=CLERK_TIMEOUT_S)
    unknown = [f"{each.name}: {each.why}" for each in answers if each.status != "ok"]
    rows: dict[str, Any] = {
        "orders": [msgspec.to_builtins(row) for each in answers for row in each.open_orders]
    }
    if path == "/v1/positions":
        rows = {
            "positions": [
                _position(msgspec.to_builtins(row)) for each in answers for row in each.positions
            ],
            "pnl": None,
        }
    return {
        **rows,
        "venues": {
            each.name: {
                "ok": each.status == "ok",
                "complete": each.status == "ok",
                "error": each.why,
            }
            for each in answers
        },
        "source": "venue" if len(unknown) < len(answers) else "unknown",
        "known": not unknown,
        "why": "; ".join([str(told["why"]), *unknown]),
    }


def unknown_parts(told: Mapping[str, Any]) -> list[str]:
    """What an engine that did answer could not learn from its venues."""
    venues = [
        f"{name}: {venue.get('error') or 'its answer was not complete'}"
        for name, venue in (told.get("venues") or {}).items()
        if not (venue.get("ok") and venue.get("complete"))
    ]
    silent = {
        str(row.get("venue"))
        for row in told.get("positions") or ()
        if row.get("venue_quantity") is None
    }
    return [*venues, *(f"{name} did not say what it holds" for name in sorted(silent))]


def _position(row: Mapping[str, Any]) -> dict[str, Any]:
    """The books are not at hand: what only they know is null."""
    return {
        "quantity": None,
        "avg_px": None,
        "realized_pnl": None,
        "unrealized_pnl": None,
        "fees": None,
        **row,
    }
