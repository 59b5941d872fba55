"""`openbell dead-man status`"""

from __future__ import annotations

import asyncio
from typing import Any

import click

from openbell.cli.command import Terminal, command
from openbell.cli.tables import duration, table
from openbell.errors import NotRunningError, UnverifiedError
from openbell.kill.guard_client import GuardGoneError, GuardRefusedError, ask_guard

LOOK_S = 20.0
"""For the guard to ask every venue what rests there."""


@click.group("dead-man")
def dead_man() -> None:
    """The dead-man's switch: what becomes of resting orders when no engine is well any more."""


@command("status", group=dead_man)
def status(terminal: Terminal) -> int:
    """For each venue which switch applies, what was last refreshed, and what is not covered.

    Asked from the guard, which asks the venues what rests there now. Exit status 3 where the desk is
    closed, 7 where it is not and no guard answers: then which switch applies is told by desk.toml and the
    adapters, and whether it runs is not known.
    """
    layout = terminal.layout
    try:
        document = asyncio.run(_ask(layout))
    except GuardGoneError as error:
        from openbell.controller.targets import Targets
        from openbell.domain.desk_state import DeskTarget

        if Targets(layout).asked is DeskTarget.OFFLINE:
            raise NotRunningError(
                "the desk is closed: nothing is armed", hint="open it with `openbell up`"
            ) from None
        return _without_guard(terminal, str(error))
    except GuardRefusedError as error:
        raise UnverifiedError(f"the guard refuses: {error}") from None
    terminal.show(document, _text(document))
    return 0


def _without_guard(terminal: Terminal, why: str) -> int:
    from openbell.config.loader import load_desk
    from openbell.guard.unguarded import rows_without_guard

    told = f"no guard answers ({why}): timers that run at venues run out, and nobody refreshes them"
    document = {
        "mode": None,
        "engine": {"state": "unknown"},
        "venues": rows_without_guard(load_desk(terminal.desk_path)),
        "why": told,
    }
    terminal.show(document, _text(document))
    terminal.warn(f"{told}; `openbell status` says why, `openbell up` starts the guard")
    return UnverifiedError.exit_code


async def _ask(layout: Any) -> dict[str, Any]:
    question = {"do": "dead_man", "look": True}
    async for answer in ask_guard(layout, question, first_within_s=LOOK_S):
        return {key: value for key, value in answer.items() if key != "final"}
    raise GuardGoneError("it said nothing")


def _text(document: dict[str, Any]) -> str:
    engine = document["engine"]
    lines = [
        f"engine: {engine['state']}{_silence(engine)}; mode {document['mode'] or 'unknown'}",
        "",
    ]
    rows = document["venues"]
    lines.append(
        table(
            ("venue", "applies", "scope", "time-out", "state", "refreshed", "resting", "note"),
            [
                (
                    row["venue"],
                    row["applies"],
                    row["scope"],
                    duration(row["timeout_s"]),
                    row["state"],
                    f"{duration(row['refreshed_ago_s'])} ago"
                    if row["refreshed_ago_s"] is not None
                    else None,
                    "unknown" if row["open_orders"] is None else row["open_orders"],
                    row["why"],
                )
                for row in rows
            ],
            right="   r  r",
        )
    )
    for row in rows:
        gaps = list(row["not_covered"])
        if row["elsewhere"]:
            gaps.append(f"{row['elsewhere']} open orders now, in symbols that are not named")
        lines += [f"{row['venue']}: NOT covered: {gap}" for gap in gaps]
        if row["also_cancels"]:
            lines.append(f"{row['venue']}: the venue's timer also cancels {row['also_cancels']}")
        if fired := row["fired"]:
            result = f"{fired['result']}, {fired['remaining']} orders remain"
            lines.append(f"{row['venue']}: FIRED at {row['fired_at']}: {result}")
            lines += [f"{row['venue']}: {fired['by_hand']}"] if fired["by_hand"] else []
    return "\n".join(lines)


def _silence(engine: dict[str, Any]) -> str:
    if engine["state"] != "silent":
        return ""
    return f" for {duration(engine['silent_s'])}"
