"""Changes of the desk's limits while it runs: tighter by anybody at once, looser as people agreed.

Tightening reduces risk: it is in force when the file is written, and what fails afterwards is told and
takes nothing back. Loosening adds risk: it must be recorded before it is done, goes back to desk.toml's
values at most, and waits for a second person where the desk file asks for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from openbell.controller.approving import Approving
from openbell.controller.desk import ControlledDesk
from openbell.domain.approvals import ActRequest
from openbell.domain.risk_limits import (
    LimitError,
    looser,
    plain,
    read_change,
    reduced,
    tightened,
)
from openbell.errors import ConflictError, OpenbellError, UsageError
from openbell.procedures.limits_applied import (
    GateWord,
    all_confirmed,
    ask_gates,
    change_row,
    doubts,
    limit_rows,
    limits_brief,
)
from openbell.procedures.readiness import ask_risk
from openbell.procedures.readiness_checks import RiskSays
from openbell.service.logging import get_logger
from openbell.state.risk_limits import Changes, LimitsChange, change_limits, read_changes

log = get_logger()

RAISE = "limits-raise"
"""As `[approvals] needed_for` names it."""
USED_S = 2.0


@dataclass
class LimitChanges:
    """The limits of one desk, as the controller serves them."""

    desk: ControlledDesk

    def __post_init__(self) -> None:
        self.approving = Approving(
            self.desk, RAISE, "limits.raise_asked", "limits.approval_refused", "limits.approved"
        )
        self._turn = asyncio.Lock()
        """Of who changes: each change is made of what the one before left."""

    async def document(self) -> dict[str, Any]:
        """`GET /api/v1/limits`, as docs/reference/api.md shows it."""
        changes = await self._read()
        words, rows = await asyncio.gather(self._gates(changes), self._rows(changes))
        return {
            **self._told(changes, words),
            "limits": rows,
            "approval": self.approving.rules_document(),
            "requests": [each.as_dict() for each in self.approving.waiting()],
        }

    async def risk_says(self) -> RiskSays | None:
        """`GET /api/v1/risk/applied`; None: no service has that role."""
        return await ask_risk(self.desk.desk.file, self.desk.voices)

    async def set(
        self, texts: Sequence[str], percent: Decimal | None, reason: str, actor: str
    ) -> dict[str, object]:
        """Changes the named limits, or reduces those of positions by so many percent of what is in
        force. What would let more through than now is a raise, and may need an approval first.

        Raises UsageError for what makes no sense, RefusedError while the desk is locked or for who
        may not ask, StorageError where nothing was changed.
        """
        if not reason.strip():
            raise UsageError("a change of limits needs a reason", hint="say why")
        if bool(texts) == (percent is not None):
            raise UsageError("name limits and their values, or a percentage: one of the two")
        self.desk.refuse_locked("the limits stay as they are")
        async with self._turn:
            before = await self._read()
            risk = self.desk.desk.file.risk
            try:
                if percent is not None:
                    wanted: Mapping[str, Decimal] = reduced(
                        tightened(risk, *before.limits), percent
                    )
                    if not wanted:
                        raise LimitError("no limit of positions is set that could be reduced")
                else:
                    wanted = read_change(texts, risk, self._symbols())
            except LimitError as error:
                raise UsageError(str(error), hint="`openbell limits show` lists them") from None
            own = before.of("")
            limits = {**({} if own is None else own.limits), **wanted}
            return await self._change(before, limits, reason, actor)

    async def restore(self, names: Sequence[str], reason: str, actor: str) -> dict[str, object]:
        """Takes back what was tightened: these limits, or all, a closing's included. Where it is not
        known what is in force, all; where nothing was tightened, nothing is done. As `set` raises."""
        if not reason.strip():
            raise UsageError("a change of limits needs a reason", hint="say why")
        self.desk.refuse_locked("the limits stay as they are")
        async with self._turn:
            before = await self._read()
            changed = {name for each in before.changes for name in each.limits}
            if missing := sorted(set(names) - changed):
                raise UsageError(
                    f"not changed: {', '.join(missing)}",
                    hint=f"changed: {', '.join(sorted(changed)) or 'nothing'}",
                )
            if not before.changes and not before.problem:
                words = await self._gates(before)
                return {
                    "changed": False, "request": None, **self._told(before, words),
                    "limits": await self._rows(before),
                }  # fmt: skip
            own = before.of("")
            limits = {} if own is None or not names else dict(own.limits)
            for name in names:
                limits.pop(name, None)
            return await self._change(before, limits, reason, actor, gone=tuple(names) or None)

    async def approve(
        self, request_id: str, digest: str, reason: str, actor: str
    ) -> dict[str, object]:
        """Approves a raise and carries it out. Raises UsageError for a request that is not known and for
        an approval without a reason, RefusedError where it does not count."""
        self.desk.refuse_locked("the limits stay as they are")
        async with self._turn:
            before = await self._read()

            def changed(request: ActRequest) -> str:
                if request.parameters["version"] == (str(before.version),):
                    return ""
                return f"the limits have been changed since {request.asked_by} asked"

            request = await self.approving.approve(request_id, digest, actor, reason, changed)
            after = tuple(
                LimitsChange(
                    limits=dict(_pair(text) for text in request.parameters[key]),
                    reason=request.reason,
                    who=request.asked_by,
                    at=datetime.now(UTC),
                    run=key.removeprefix("limits").removeprefix(" of "),
                )
                for key in sorted(request.parameters)
                if key.startswith("limits")
            )
            return await self._write(
                before, after, request.reason, request.asked_by, raising=True,
                approved_by=actor, request=request.id,
            )  # fmt: skip

    async def end_of_closing(self, actor: str) -> None:
        """An opening begins: what a closing had reduced is as desk.toml says again. What people
        tightened stays. That the file cannot be written keeps no desk closed: it stays tight."""
        async with self._turn:
            before = await self._read()
            if before.problem or not any(each.run for each in before.changes):
                return
            kept = tuple(each for each in before.changes if not each.run)
            gone = [each for each in before.changes if each.run]
            try:
                await self.desk.auditor.record(
                    actor, "limits.restored", self.desk.desk.file.desk.name,
                    was=[change_row(each) for each in gone], why="the desk is opened",
                )  # fmt: skip
                await asyncio.to_thread(self._replace, before, kept)
            except OpenbellError as error:
                log.error("the limits stay reduced", why=error.message, alert=True)

    # --- inside ------------------------------------------------------------------------------

    async def _change(
        self,
        before: Changes,
        limits: Mapping[str, Decimal],
        reason: str,
        actor: str,
        gone: tuple[str, ...] | None = (),
    ) -> dict[str, object]:
        """`limits`: what people's change is to be. `gone`: limits that a closing's change loses as
        well; None: all of it."""
        risk = self.desk.desk.file.risk
        now = datetime.now(UTC)
        after = [
            LimitsChange(limits=left, reason=each.reason, who=each.who, at=each.at, run=each.run)
            for each in before.changes
            if each.run
            and gone is not None
            and (left := {n: v for n, v in each.limits.items() if n not in gone})
        ]
        if limits:
            after.append(LimitsChange(limits=limits, reason=reason, who=actor, at=now))
        raised = looser(
            tightened(risk, *before.limits), tightened(risk, *(each.limits for each in after))
        )
        # What cannot be read may have been anything: to replace it is to loosen it.
        raising = bool(raised) or bool(before.problem)
        if raising and self.approving.needed:
            return await self._ask(before, after, reason, actor)
        return await self._write(before, tuple(after), reason, actor, raising=raising)

    async def _ask(
        self, before: Changes, after: Sequence[LimitsChange], reason: str, actor: str
    ) -> dict[str, object]:
        """For a second person's approval, bound to what the limits are and what they are to be."""
        bound_to: dict[str, tuple[str, ...]] = {"version": (str(before.version),)}
        for each in after:
            key = f"limits of {each.run}" if each.run else "limits"
            bound_to[key] = tuple(f"{n}={plain(v)}" for n, v in sorted(each.limits.items()))
        request = await self.approving.ask(bound_to, reason, actor)
        return {"changed": False, "request": request.as_dict()}

    async def _write(
        self,
        before: Changes,
        after: tuple[LimitsChange, ...],
        reason: str,
        actor: str,
        *,
        raising: bool,
        approved_by: str = "",
        request: str = "",
    ) -> dict[str, object]:
        name, detail = self.desk.desk.file.desk.name, self._detail(before, after, reason)
        if raising:
            detail |= {"approved_by": approved_by, "request": request}
            await self.desk.auditor.record(actor, "limits.raised", name, **detail)
            recorded = True
        written = await asyncio.to_thread(self._replace, before, after)
        if not raising:
            recorded = await self.desk.auditor.try_record(actor, "limits.tightened", name, **detail)
        log.warning(
            "limits raised" if raising else "limits tightened",
            by=actor, approved_by=approved_by, reason=reason, version=written.version,
        )  # fmt: skip
        words, rows = await asyncio.gather(self._gates(written), self._rows(written))
        return {
            "changed": True,
            "raised": raising,
            "recorded": recorded,
            "approved_by": approved_by,
            **self._told(written, words),
            "limits": rows,
        }

    def _replace(self, before: Changes, after: tuple[LimitsChange, ...]) -> Changes:
        """Raises ConflictError where something else is in force by now than this was made of."""

        def changed(now: Changes) -> tuple[LimitsChange, ...]:
            if now != before:
                raise ConflictError(
                    "the limits were changed meanwhile", hint="look again, then ask again"
                )
            return after

        return change_limits(self.desk.layout.risk_limits, changed)

    def _detail(
        self, before: Changes, after: tuple[LimitsChange, ...], reason: str
    ) -> dict[str, object]:
        file = self.desk.desk.file
        was = {row["limit"]: row["in_force"] for row in limit_rows(file, before)}
        now = {row["limit"]: row["in_force"] for row in limit_rows(file, Changes(0, after))}
        return {
            "reason": reason,
            "was": {name: value for name, value in was.items() if now.get(name) != value},
            "is": {name: value for name, value in now.items() if was.get(name) != value},
            "version_before": before.version,
            "unreadable_before": before.problem,
        }

    def _told(self, changes: Changes, words: tuple[GateWord, ...]) -> dict[str, object]:
        return {
            **limits_brief(self.desk.desk.file, changes),
            "verified": not changes.problem and all_confirmed(words),
            "why": changes.problem or doubts(words),
            "gates": [
                {
                    "service": each.service, "role": each.role, "said": each.said,
                    "version": each.version, "hash": each.hash, "why": each.why,
                }
                for each in words
            ],
        }  # fmt: skip

    async def _gates(self, changes: Changes) -> tuple[GateWord, ...]:
        desk = self.desk
        return await ask_gates(desk.voices, desk.supervisor, desk.desk.file, changes)

    async def _rows(self, changes: Changes) -> list[dict[str, str | None]]:
        used = await self._used()
        return [
            {**row, "used": used.get(str(row["limit"]))}
            for row in limit_rows(self.desk.desk.file, changes)
        ]

    async def _used(self) -> dict[str, str]:
        """How much of each limit is used, as risk-management says; empty where it does not."""
        answer = await self.desk.voices.ask(self.desk.roles.risk, "/v1/risk", timeout_s=USED_S)
        rows: Sequence[Mapping[str, Any]] = answer.get("utilisation") or ()
        most: dict[str, Decimal] = {}
        for row in rows:
            if row.get("used") is not None:
                name, used = str(row["limit"]).partition(":"), Decimal(str(row["used"]))
                # Of a limit of each position: the largest.
                key = name[0] if name[0] == "max_notional_per_position" else str(row["limit"])
                most[key] = max(used, most.get(key, used))
        return {name: plain(value) for name, value in most.items()}

    async def _read(self) -> Changes:
        return await asyncio.to_thread(read_changes, self.desk.layout.risk_limits)

    def _symbols(self) -> list[str]:
        return [s for venue in self.desk.desk.file.venues.values() for s in venue.symbols]


def _pair(text: str) -> tuple[str, Decimal]:
    name, _, value = text.partition("=")
    return name, Decimal(value)
