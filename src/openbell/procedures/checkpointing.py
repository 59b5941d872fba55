"""What goes into a checkpoint: gathered from the services that know it, written as one file.

    trading        the engine's books (`GET /v1/snapshot`)
    configuration  desk.toml as it was loaded, its text and digest
    strategies     what strategies keep (`GET /v1/snapshot` of their host)
    market_data    the newest quotes (`GET /v1/snapshot` of market-data)
    logs           the last hour of every log, at most 4 MiB of each

`quick` is trading and configuration. A section whose service did not answer is left out, and the
file's facts say why: half a state that says so is better than none in an emergency, and is never
called complete. A service that is stopped, as in a desk that was opened in part, holds nothing: its
section is left out and nothing is missing. Of a stopped engine the books are read from the journal, and
where a desk is closed also of one that failed or hangs: it commits there whatever it books.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import orjson

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.redact import Redactor
from openbell.errors import FailedError, OpenbellError
from openbell.procedures.desk_voices import DeskVoices
from openbell.state.checkpoint import (
    CheckpointInfo,
    CheckpointMeta,
    checkpoint_name,
    validate,
    write_checkpoint,
)
from openbell.watch.logs import CONTROLLER, log_paths, text_since

LOGS_WITHIN_NS = 3600 * 1_000_000_000
"""The last hour."""
LOG_BYTES_MAX = 4 << 20
SNAPSHOT_TIMEOUT_S = 20.0

MISSING = "missing_"
"""Prefix of the facts that say why a section is not there."""

LEFT_OUT = "left_out_"
"""Prefix of the facts that name the stopped service which has no section."""

BOOKS_INSTEAD = "books_instead"
"""The fact that says why the books are the journal's, of an engine that should have told them."""

Level = Literal["complete", "quick"]


@dataclass(frozen=True)
class Sections:
    content: Mapping[str, bytes]
    missing: Mapping[str, str]
    """By section: why it is not there."""
    left_out: Mapping[str, str]
    """By section: the service that is stopped."""
    books_instead: str = ""
    """Why the books are the journal's and not those of an engine that runs, or should."""


async def gather_sections(
    desk: LoadedDesk,
    layout: DeskLayout,
    voices: DeskVoices,
    level: Level,
    redactor: Redactor,
    stopped: Collection[str] = (),
    *,
    last_resort: bool = False,
) -> Sections:
    """Everything at the same time: a checkpoint is one moment as far as that can be had. Known
    secrets are taken out of every text. `stopped`: services that are not asked. `last_resort`: books
    that the engine does not tell are taken from the journal."""
    roles = voices.roles
    asked = {"trading": roles.engine}
    if level == "complete":
        asked |= {"strategies": roles.strategies, "market_data": roles.market_data}
    present = {s: name for s, name in asked.items() if name is not None and name not in stopped}
    answers = await asyncio.gather(
        *(
            voices.ask(service, "/v1/snapshot", timeout_s=SNAPSHOT_TIMEOUT_S)
            for service in present.values()
        )
    )
    content: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    for section, answer in zip(present, answers, strict=True):
        if answer.known:
            content[section] = orjson.dumps(redactor.redact_value(answer.body))
        else:
            missing[section] = answer.why
    left_out = {s: name for s, name in asked.items() if name is not None and name in stopped}
    untold = missing.get("trading", "") if last_resort else ""
    if left_out.pop("trading", None) is not None or untold:
        try:
            books = await asyncio.to_thread(books_snapshot, layout.database)
            content["trading"] = orjson.dumps(redactor.redact_value(books))
            missing.pop("trading", None)
        except OpenbellError as error:
            told = f"the journal: {error.message}"
            missing["trading"] = f"{untold}; {told}" if untold else error.message
            untold = ""
    configuration = {
        "path": str(desk.path),
        "digest": desk.digest,
        "desk": desk.file.model_dump(mode="json"),
        "text": await asyncio.to_thread(_text_of, desk.path),
    }
    content["configuration"] = orjson.dumps(redactor.redact_value(configuration))
    if level == "complete":
        content["logs"] = await asyncio.to_thread(_recent_logs, desk, layout, redactor)
    return Sections(content, missing, left_out, untold)


async def save_checkpoint(
    desk: LoadedDesk,
    layout: DeskLayout,
    voices: DeskVoices,
    redactor: Redactor,
    *,
    level: Level = "complete",
    path: Path | None = None,
    folder: Path | None = None,
    verify: bool = True,
    facts: Mapping[str, str] | None = None,
) -> CheckpointInfo:
    """Gathers, writes, and with `verify` reads everything back.

    `folder`: instead of the desk's own. Raises FailedError where a desk that has an engine cannot have
    its books; RefusedError where `path` exists; StorageError, CorruptError.
    """
    sections = await gather_sections(desk, layout, voices, level, redactor)
    if "trading" in sections.missing:
        raise FailedError(
            f"no checkpoint: the engine's books could not be had: {sections.missing['trading']}",
            hint="it needs the engine running; earlier checkpoints are untouched",
        )
    return await write_sections(
        desk, layout, sections, level=level, path=path, folder=folder, verify=verify, facts=facts
    )


async def write_sections(
    desk: LoadedDesk,
    layout: DeskLayout,
    sections: Sections,
    *,
    level: Level = "complete",
    path: Path | None = None,
    folder: Path | None = None,
    verify: bool = True,
    facts: Mapping[str, str] | None = None,
) -> CheckpointInfo:
    """What was gathered, complete or not, as one file. Raises as `save_checkpoint`."""
    created = datetime.now(UTC)
    instead = {BOOKS_INSTEAD: sections.books_instead} if sections.books_instead else {}
    meta = CheckpointMeta(
        desk=desk.file.desk.name,
        level=level,
        created=created,
        facts={
            **(facts or {}),
            **{f"{MISSING}{section}": why for section, why in sections.missing.items()},
            **{f"{LEFT_OUT}{section}": name for section, name in sections.left_out.items()},
            **instead,
        },
    )
    target = path or _free_name(folder or layout.checkpoints, level, created)
    info = await asyncio.to_thread(write_checkpoint, target, sections.content, meta)
    return await asyncio.to_thread(validate, info.path) if verify else info


def books_snapshot(database: Path) -> dict[str, object]:
    """As the engine's `GET /v1/snapshot`, from the journal; without P&L, since nobody knows a price.
    Raises NotRunningError where there is no journal, CorruptError, StorageError."""
    # Later than this module: a controller adopts its services before it loads a database.
    from openbell.state.books_at_rest import books_at_rest

    at_rest = books_at_rest(database)
    snapshot = at_rest.books.to_snapshot()
    told: dict[str, object] = msgspec.to_builtins(
        {
            "epoch": at_rest.epoch,
            "last_journal_seq": at_rest.last_seq,
            "taken_ns": time.time_ns(),
            "orders": at_rest.books.open_orders(),
            "positions": snapshot.positions,
            "strategy_positions": snapshot.strategy_positions,
            "adopted": snapshot.adopted,
            "cash": snapshot.cash,
            "pnl": None,
        }
    )
    return told


def _free_name(folder: Path, level: Level, created: datetime) -> Path:
    again = 0
    while (path := folder / checkpoint_name(level, created, again)).exists():
        again += 1
    return path


def _text_of(path: Path) -> str:
    """desk.toml as it is now; it may have been edited since it was loaded (see `digest`)."""
    try:
        return path.read_text()
    except OSError as error:
        return f"(unreadable: {error.strerror})"


def _recent_logs(desk: LoadedDesk, layout: DeskLayout, redactor: Redactor) -> bytes:
    since = time.time_ns() - LOGS_WITHIN_NS
    paths = log_paths(layout, [*desk.file.services, CONTROLLER])
    return orjson.dumps(
        {
            name: redactor.redact(text_since(path, since, LOG_BYTES_MAX).decode("utf-8", "replace"))
            for name, path in paths.items()
        }
    )
