"""Closing, step 13: what remains is written down, the logs are archived, people are told.

It says nothing about whether the desk is closed. What it could not do is named in the closing
statement, and makes no proven closing unproven.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openbell.errors import CorruptError, StorageError
from openbell.procedures.closing.announce import (
    AnnounceFacts,
    Tell,
    judge_told,
    plan_tell,
    tell,
    told_earlier,
)
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.statement import Statement, closing_statement
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.watch.channels import Notice, Told
from openbell.watch.log_archive import archive_logs
from openbell.watch.logs import CONTROLLER, GUARD, log_paths, rotated

TELLING_S = 30.0
"""Kept of the step's time for the channels: what the logs take must not keep people untold."""
_ARCHIVING_S = 60.0


@dataclass(frozen=True)
class AfterFacts:
    event: str
    """`closed`, where that is proven, or `not_closed`."""
    stopped: bool
    """No service runs, whether or not it is known what remains at the venues."""
    channels: tuple[str, ...]
    told: tuple[str, ...]
    archive: str
    archived: bool


@dataclass(frozen=True)
class ArchiveLogs:
    into: str

    def __str__(self) -> str:
        return f"archive the logs into {self.into}"


Action = ArchiveLogs | Tell


def plan_afterwards(facts: AfterFacts) -> Plan[Action]:
    """Logs first, so that people are told of an archive that could not be written. Those of
    services that run are still being written, and stay where they are."""
    archive = facts.stopped and not facts.archived
    to_tell = plan_tell(AnnounceFacts(facts.channels, facts.told), "how the closing ended")
    actions: tuple[Action, ...] = (
        *((ArchiveLogs(facts.archive),) if archive else ()),
        *to_tell.actions,
    )
    return Plan(actions, "" if actions else "done before the closing was cut off, or not wanted")


def what_went_wrong(closing: Closing) -> list[str]:
    """For the run's notes: every step that was not settled, and errors in the logs."""
    notes = [
        f"{report.name} {report.outcome}: {report.detail}"
        for report in closing.reports
        if report.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
    ]
    notes += [
        f"{report.name}: {report.detail}"
        for report in closing.reports
        if report.outcome is Outcome.DONE and "killed: " in report.detail
    ]
    if closing.errors:
        services = sorted({str(line.get("service")) for line in closing.errors})
        notes.append(f"{len(closing.errors)} errors in the logs of {', '.join(services)}")
    return notes


def ending_text(closing: Closing, statement: Statement) -> str:
    """What people are told."""
    name = closing.desk.file.desk.name
    document = statement.document
    offline = "OFFLINE" if statement.services_stopped else "NOT CLOSED, services are up"
    lines = [f"{name}: {offline}; {closing.run}: {statement.summary}"]
    for key, what in (("remaining_orders", "orders"), ("remaining_positions", "positions")):
        rows = document.get(key)
        told = "not determined" if rows is None else str(len(rows) or "none")
        lines.append(f"{what} remaining at the venues: {told}")
    pnl = document.get("pnl")
    if isinstance(pnl, Mapping) and "net" in pnl:
        lines.append(f"P&L net: {pnl['net']} {pnl.get('currency', '')}".rstrip())
    return "\n".join(lines)


SPEC = StepSpec(
    name="afterwards",
    title="Tell how it ended, archive the logs",
    does="Writes the final orders, positions and P&L and what went wrong into the record, archives "
    "the logs of a desk whose services are stopped, and tells the channels of the desk file.",
    verified_by="The archive is read back; each channel's own answer.",
    timeout_s=_ARCHIVING_S + TELLING_S,
    on_failure=OnFailure.WARN,
    evidence="final orders, positions and P&L, what went wrong, the archive, what came of each channel",
)


@dataclass
class Afterwards:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    told: list[Told] = field(default_factory=list)
    trouble: str = ""
    """Why the logs are not archived."""

    @property
    def archive(self) -> Path:
        return self.closing.layout.archive / f"{self.closing.run}-logs.tar.gz"

    async def observe(self) -> AfterFacts:
        """A plan, before which no step was taken, foresees a desk that is closed."""
        closing = self.closing
        stopped, event = True, "closed"
        if closing.reports:
            statement = await closing_statement(closing, closing.reports)
            stopped = statement.services_stopped
            event = "closed" if statement.verified else "not_closed"
        return AfterFacts(
            event=event,
            stopped=stopped,
            channels=closing.channels.for_event(event),
            told=await told_earlier(closing, event),
            archive=str(self.archive),
            archived=await asyncio.to_thread(self.archive.exists),
        )

    def plan(self, facts: AfterFacts) -> Plan[Action]:
        return plan_afterwards(facts)

    async def act(self, plan: Plan[Action], say: Say) -> None:
        if any(isinstance(action, ArchiveLogs) for action in plan.actions):
            await self._archive(say)
        names = tuple(action.channel for action in plan.actions if isinstance(action, Tell))
        if not names:
            return
        facts = await self.observe()
        statement = await closing_statement(self.closing, self.closing.reports)
        text = ending_text(self.closing, statement)
        if self.trouble:
            text = f"{text}\n{self.trouble}"
        notice = Notice(facts.event, text, self.closing.run)
        self.told += await tell(self.closing, names, notice)
        say(f"told {', '.join(str(each) for each in self.told)}")

    async def _archive(self, say: Say) -> None:
        """In a thread of its own that is told to stop when its time is up: telling people does not
        wait for a slow disk."""
        closing = self.closing
        paths = log_paths(closing.layout, [*closing.desk.file.services, CONTROLLER, GUARD])
        stop = threading.Event()

        def write() -> int:
            files = [file for path in paths.values() for file in rotated(path)]
            return archive_logs(files, self.archive, stop.is_set)

        say("archiving the logs")
        try:
            async with asyncio.timeout(_ARCHIVING_S):
                count = await asyncio.to_thread(write)
            say(f"archived {count} logs")
        except TimeoutError:
            self.trouble = f"the logs were not archived within {_ARCHIVING_S:g}s"
        except (StorageError, CorruptError) as error:
            self.trouble = f"the logs are not archived: {error.message}"
        finally:
            stop.set()

    async def verify(self, say: Say) -> Verification:
        closing = self.closing
        facts = await self.observe()
        statement = await closing_statement(closing, closing.reports)
        document = statement.document
        evidence: dict[str, object] = {
            "status": "offline" if facts.stopped else "closing",
            "remaining_orders": document["remaining_orders"],
            "remaining_positions": document["remaining_positions"],
            "pnl": document["pnl"],
            "went_wrong": what_went_wrong(closing),
        }
        files: tuple[str, ...] = ()
        if facts.archived:
            files = (facts.archive,)
            evidence["archive"] = facts.archive
        found = judge_told(facts.channels, facts.told, self.told)
        evidence |= found.evidence
        missing = facts.stopped and not facts.archived
        told = [self.trouble or "the logs are not archived"] if missing else []
        told += [found.detail] if facts.channels else []
        outcome = Outcome.FAILED if missing else found.outcome
        return Verification(outcome, "; ".join(told) or "written down", evidence, files)
