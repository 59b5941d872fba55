"""The kill switch set by the guard, for whoever has nothing but its socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import parse_scopes
from openbell.errors import StorageError, UsageError
from openbell.guard.server import Fields
from openbell.state.halts import Halt
from openbell.state.kill_log import append_act
from openbell.state.latch import Latches

LATCH_S = 5.0


async def latch_on_request(
    layout: DeskLayout, fields: Fields, tell: Callable[..., None]
) -> AsyncIterator[dict[str, Any]]:
    """Sets the kill switch, as the command line does by itself."""
    wish = _wish(fields)
    try:
        scopes = parse_scopes(wish.scopes)
    except ValueError as error:
        raise UsageError(str(error)) from None
    actor = wish.actor or "guard"
    halt = Halt(wish.reason or "no reason given", actor, datetime.now(UTC))
    try:
        async with asyncio.timeout(LATCH_S):
            setting = await asyncio.to_thread(Latches(layout).set, scopes, halt)
    except TimeoutError:
        raise StorageError(
            f"the disk did not answer within {LATCH_S:g} s: not known to be latched",
            hint="stop the desk with `openbell emergency-stop`",
        ) from None
    tell("latched", scopes=[str(scope) for scope in scopes], by=actor, reason=wish.reason)
    detail = {
        "scopes": [str(scope) for scope in scopes],
        "reason": wish.reason,
        "latches": [latch.as_dict() for latch in setting.latches],
        "by_guard": True,
    }
    recorded = True
    try:
        await asyncio.to_thread(
            append_act, layout.kill_switch_log, actor, "kill_switch.activate", detail
        )
    except StorageError as error:
        recorded = False
        tell("not_recorded", why=error.message)
    yield {
        "latched": True,
        "latches": detail["latches"],
        "durable": setting.durable,
        "problems": list(setting.problems),
        "recorded": recorded,
        "final": True,
    }


class _LatchWish(msgspec.Struct, frozen=True, kw_only=True):
    do: Literal["latch"]
    scopes: tuple[str, ...] = ()
    reason: str = ""
    actor: str = ""


def _wish(fields: Fields) -> _LatchWish:
    """Raises UsageError."""
    try:
        return msgspec.convert(dict(fields), _LatchWish)
    except msgspec.ValidationError as error:
        raise UsageError(f"latch: {error}") from None
