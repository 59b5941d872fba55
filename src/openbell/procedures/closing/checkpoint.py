"""Closing, step 6: one file with the desk's whole state, written and read back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.state.checkpoint import validate


@dataclass(frozen=True)
class SaveComplete:
    def __str__(self) -> str:
        return "save a complete checkpoint and read it back"


SPEC = StepSpec(
    name="checkpoint",
    title="Save a complete checkpoint",
    does="Writes one file with the desk's whole state.",
    verified_by="The file is read back and its checksums are compared.",
    timeout_s=60.0,
    on_failure=OnFailure.WARN,
    evidence="the checkpoint file",
)


@dataclass
class SaveCheckpoint:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    missing: Mapping[str, str] = field(default_factory=dict)
    """Sections that could not be had, with the reason."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Sections of services that are stopped, each with its service."""

    async def observe(self) -> bool:
        """Whether the engine can still tell its books."""
        return await self.closing.sight.engine_is_up()

    def plan(self, facts: bool) -> Plan[SaveComplete]:
        if not facts and self._of_earlier_attempt() is not None:
            return Plan(reason="saved before the engine was stopped")
        return Plan((SaveComplete(),))

    def _of_earlier_attempt(self) -> str | None:
        earlier = self.closing.earlier.get(self.name)
        if earlier is None or earlier.outcome is not Outcome.DONE:
            return None
        path = earlier.evidence.get("path")
        return path if isinstance(path, str) else None

    async def act(self, plan: Plan[SaveComplete], say: Say) -> None:
        saved = await self.closing.save_checkpoint()
        self.closing.checkpoint = saved.path
        self.missing = saved.missing
        self.left_out = saved.left_out
        say(f"saved {saved.path}")

    async def verify(self, say: Say) -> Verification:
        path = self.closing.checkpoint or self._of_earlier_attempt()
        if path is None:
            found = Verification(Outcome.FAILED, "no checkpoint was saved")
        else:
            await asyncio.to_thread(validate, Path(path))  # raises CorruptError
            self.closing.checkpoint = path
            if self.missing:
                told = "; ".join(f"{section}: {why}" for section, why in self.missing.items())
                return Verification(Outcome.FAILED, f"{path} is not complete: {told}")
            stopped = ", ".join(self.left_out.values())
            without = f"; nothing to save of {stopped}: stopped" if stopped else ""
            found = Verification(
                Outcome.DONE, f"{path} was read back{without}", {"path": path}, (path,)
            )
        return found
