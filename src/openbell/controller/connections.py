"""The desk's connections, asked from the services that hold them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from openbell.controller.desk import ControlledDesk
from openbell.domain.connections import LinkState, Said, connections, engine_said, feeds_said
from openbell.service_client import Answer

TIMEOUT_S = 5.0


async def connections_document(desk: ControlledDesk) -> dict[str, Any]:
    """`{"connections": [...], "known": ..., "why": ...}`; known is False where a service that runs
    did not say."""
    feeds, (orders, events) = await asyncio.gather(_feeds(desk), _engine(desk))
    rows = connections(desk.desk.file.venues, feeds, orders, events)
    unknown = [
        row.why
        for row in rows
        if LinkState.UNKNOWN in (row.market_data, row.order_entry, row.order_events)
    ]
    return {
        "connections": [{**msgspec.to_builtins(row), "ok": row.is_sound} for row in rows],
        "known": not unknown,
        "why": "; ".join(dict.fromkeys(unknown)),
    }


async def _feeds(desk: ControlledDesk) -> Said:
    service = desk.roles.market_data
    said, answer = await _ask(desk, service, "/v1/feeds")
    return said or feeds_said((answer.body or {}).get("feeds") or ())


async def _engine(desk: ControlledDesk) -> tuple[Said, Said]:
    said, answer = await _ask(desk, desk.roles.engine, "/v1/state")
    return (said, said) if said else engine_said((answer.body or {}).get("venues") or ())


async def _ask(desk: ControlledDesk, service: str | None, path: str) -> tuple[Said | None, Answer]:
    """What stands for every venue, where the service is not there to be asked; or its answer."""
    if service is None:
        return Said(state=LinkState.NONE), Answer(None, why="")
    if not desk.states[service].is_running:
        return Said(state=LinkState.CLOSED), Answer(None, why="")
    answer = await desk.voices.ask(service, path, timeout_s=TIMEOUT_S)
    if not answer.known:
        return Said(state=LinkState.UNKNOWN, why=answer.why), answer
    return None, answer
