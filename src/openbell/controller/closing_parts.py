"""What one closing works with: its `Closing`, made of the controller's own parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from openbell.controller.desk import ControlledDesk
from openbell.controller.living import commands_left, marked_processes
from openbell.domain.service_state import ServiceState
from openbell.procedures.checkpointing import Sections, gather_sections, write_sections
from openbell.procedures.closing.context import Closing, Earlier, SavedCheckpoint, Wishes
from openbell.procedures.extraction import (
    Extraction,
    extract_state,
    make_private,
    other_folders,
)
from openbell.procedures.ports import Effects, GuardPort, NoEffects


def closing_of(
    desk: ControlledDesk,
    guard: GuardPort,
    run: str,
    wishes: Wishes,
    earlier: Mapping[str, Earlier],
    actor: str = "",
    effects: Effects | None = None,
) -> Closing:
    """Without `effects`: of a plan, which brings nothing about."""
    elsewhere = other_folders(desk.desk, desk.layout)
    gathered: list[Sections] = []

    async def gather() -> None:
        stopped = [
            view.name for view in desk.supervisor.views() if view.state is ServiceState.STOPPED
        ]
        sections = await gather_sections(
            desk.desk, desk.layout, desk.voices, "complete", desk.redactor, stopped,
            last_resort=True,
        )  # fmt: skip
        gathered[:] = [sections]

    async def save(folder: Path | None) -> SavedCheckpoint:
        if folder is not None:
            await asyncio.to_thread(make_private, folder)
        if not gathered:
            await gather()
        (sections,) = gathered
        facts = {"run": run, "reason": wishes.reason or "closing"}
        info = await write_sections(desk.desk, desk.layout, sections, folder=folder, facts=facts)
        return SavedCheckpoint(
            str(info.path), sections.missing, sections.left_out, sections.books_instead
        )

    async def extract() -> Extraction:
        name = f"{run}-state.json"
        folders = (desk.layout.checkpoints, *elsewhere)
        return await asyncio.to_thread(
            extract_state, desk.desk, desk.layout, desk.redactor, name, folders
        )

    async def record_act(action: str, detail: Mapping[str, object]) -> None:
        name = desk.desk.file.desk.name
        await desk.auditor.try_record(actor, action, name, **detail)

    return Closing(
        run=run,
        actor=actor,
        desk=desk.desk,
        layout=desk.layout,
        services=desk.supervisor,
        voices=desk.voices,
        venues=desk.clerk,
        wishes=wishes,
        channels=desk.channels,
        save_checkpoint=save,
        extract=extract,
        gather=gather,
        elsewhere=elsewhere,
        nothing_sent=desk.nothing_sent,
        marked=lambda: marked_processes(desk.layout),
        at_work=lambda: commands_left(desk.layout),
        earlier=earlier,
        record_act=record_act,
        effects=effects or NoEffects(),
        guard=guard if desk.desk.file.venues else None,
    )
