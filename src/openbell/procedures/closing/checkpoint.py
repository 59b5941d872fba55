"""Closing, step 8: one file with the desk's whole state, written and read back.

Where the state folder does not take it, as when its disk is full or too slow, it goes elsewhere. Where no
folder does, what journal and logs hold is taken out of them: that is no checkpoint, and not called one.
The books of an engine that does not tell them are the journal's, where it commits whatever it books.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openbell.errors import CorruptError, RefusedError, StorageError
from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.extraction import Extraction
from openbell.procedures.step import (
    OnFailure,
    Outcome,
    Plan,
    Say,
    Verification,
    time_left_s,
)
from openbell.state.checkpoint import validate


@dataclass(frozen=True)
class SaveComplete:
    def __str__(self) -> str:
        return "save a complete checkpoint and read it back"


SPEC = StepSpec(
    name="checkpoint",
    title="Save a complete checkpoint",
    does="Writes one file with the desk's whole state: into the state folder, or where that does "
    "not take it in its share of the time, elsewhere (`checkpoint_elsewhere` in `[closing]`). The books of "
    "an engine that does not answer are the journal's. Where no folder takes it, takes what is held out "
    "of journal and logs.",
    verified_by="The file is read back and its checksums are compared.",
    timeout_s=60.0,
    on_failure=OnFailure.WARN,
    needed_because="no closing is proven without it, and a restart opens only after one that is",
    evidence="the checkpoint file, complete or not; without one, what the journal holds",
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
    not_taken: list[str] = field(default_factory=list)
    """Folders that did not take it, with the reason."""
    books_instead: str = ""
    """Why the books are the journal's; empty where the engine told them."""
    extraction: Extraction | None = None

    async def observe(self) -> bool:
        """Whether the engine can still tell its books."""
        return await self.closing.sight.engine_is_up()

    def plan(self, facts: bool) -> Plan[SaveComplete]:
        if untouched := self.closing.untouched:
            # The newest one would be of a desk without its books.
            return Plan(reason=f"the newest one still holds: {untouched}", skipped=True)
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
        """Each attempt has its share of the time that is left, and what is held is taken out of journal
        and logs in the last of it: a disk that is slow must not use up the time of one that is not."""
        closing = self.closing
        with contextlib.suppress(TimeoutError):  # then each attempt gathers for itself
            async with asyncio.timeout(time_left_s(self.timeout_s) / 2):
                await closing.gather()
        folders = (None, *closing.elsewhere)
        for number, folder in enumerate(folders):
            share_s = time_left_s(self.timeout_s) / (len(folders) - number + 1)
            try:
                async with asyncio.timeout(share_s):
                    saved = await closing.save_checkpoint(folder)
            except TimeoutError:
                where = "the state folder" if folder is None else str(folder)
                self._is_not_taken(f"{where}: not written within {share_s:.3g}s", say)
            except (StorageError, CorruptError, RefusedError) as error:
                self._is_not_taken(error.message, say)
            else:
                closing.checkpoint = saved.path
                self.missing = saved.missing
                self.left_out = saved.left_out
                self.books_instead = saved.books_instead
                say(f"saved {saved.path}")
                break
        if closing.checkpoint is None or "trading" in self.missing:
            say("taking what is held out of journal and logs")
            self.extraction = await closing.extract()

    def _is_not_taken(self, why: str, say: Say) -> None:
        self.not_taken.append(why)
        say(f"not saved: {why}")

    async def verify(self, say: Say) -> Verification:
        path = self.closing.checkpoint or self._of_earlier_attempt()
        if path is None:
            found = self._without_one()
        else:
            await asyncio.to_thread(validate, Path(path))  # raises CorruptError
            self.closing.checkpoint = path
            if self.missing:
                return self._incomplete(path)
            stopped = ", ".join(self.left_out.values())
            without = f"; nothing to save of {stopped}: stopped" if stopped else ""
            why = "; ".join(self.not_taken)
            instead = f"; not where it belongs: {why}" if why else ""
            books = (
                f"; its books are the journal's: {self.books_instead}" if self.books_instead else ""
            )
            evidence: dict[str, object] = {
                "path": path, "not_taken": list(self.not_taken), "books_instead": self.books_instead,
            }  # fmt: skip
            told = f"{path} was read back{books}{instead}{without}"
            found = Verification(Outcome.DONE, told, evidence, (path,))
        return found

    def _incomplete(self, path: str) -> Verification:
        """The file is evidence all the same: of whatever it has nobody may know more."""
        told = "; ".join(f"{section}: {why}" for section, why in self.missing.items())
        extracted = {} if self.extraction is None else _extraction_told(self.extraction)
        evidence = {"path": path, "missing": dict(self.missing), **extracted}
        files = [
            path,
            *([self.extraction.path] if self.extraction and self.extraction.path else []),
        ]
        return Verification(
            Outcome.FAILED, f"{path} is not complete: {told}", evidence, tuple(files)
        )

    def _without_one(self) -> Verification:
        """What the journal holds goes into the record as well: there may be no file of it."""
        why = "; ".join(dict.fromkeys(self.not_taken))
        told = f"no checkpoint was saved{f': {why}' if why else ''}"
        taken = self.extraction
        if taken is None:
            return Verification(Outcome.FAILED, told, {"not_taken": list(self.not_taken)})
        evidence: dict[str, object] = {
            "not_taken": list(self.not_taken), **_extraction_told(taken),
        }  # fmt: skip
        where = f"is in {taken.path}" if taken.path else "is in the record alone"
        lacking = "" if taken.books is not None else " (without books)"
        return Verification(
            Outcome.FAILED,
            f"{told}; what journal and logs hold{lacking} {where}",
            evidence,
            () if taken.path is None else (taken.path,),
        )


def _extraction_told(taken: Extraction) -> dict[str, object]:
    """What the journal holds goes into the record as well: there may be no file of it."""
    return {
        "extraction": taken.path,
        "extraction_why": taken.why,
        "positions": None if taken.books is None else taken.books.get("positions"),
        "orders": None if taken.books is None else taken.books.get("orders"),
    }
