"""The engine and its standby: sees which one trades, and promotes the other where that one is gone.

Looks every half second and at every change of a service's state, and decides by `domain.succession`
from what it sees then; nothing is remembered but for how long a question went unanswered and what the
engine that trades said of itself last.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from openbell import __version__
from openbell.controller.desk import ControlledDesk
from openbell.domain.desk_state import DeskTarget
from openbell.domain.parity import ParityFacts, differences, unlike, unready
from openbell.domain.permit import Permit
from openbell.domain.service_state import ServiceState
from openbell.domain.succession import (
    Decision,
    Holder,
    Keep,
    Kill,
    Member,
    Promote,
    Wait,
    decide,
)
from openbell.errors import FailedError, OpenbellError, RefusedError
from openbell.procedures.rolling import HandedOver, Pair
from openbell.service.code import code_hash, limits_hash
from openbell.service.logging import get_logger
from openbell.service_client import Answer

log = get_logger()

LOOK_EVERY_S = 0.5
ASK_S = 1.0
"""How long one question waits for its answer."""
HUNG_AFTER_QUESTIONS = 3
"""So many in a row without an answer, besides the time of `promote_after`: a controller that was
itself stopped for a minute must not take its own silence for the engine's."""
PROMOTE_S = 5.0
HAND_OVER_S = 2.0
"""For what is under way to end and the standby to be there; what does not take a tenth of it is
slow already."""

HAND_OVER_ATTEMPTS = 3
UNDISTURBED_S = 0.25
"""After a hand-over, before the engine that retired is stopped and the two are looked at again: both would
take the processor from the orders that waited."""


@dataclass
class _Watched:
    """One of the two, between looks."""

    service: str
    says: Answer = field(default_factory=lambda: Answer(None, why="not asked yet"))
    parity: ParityFacts | None = None
    unanswered: int = 0
    silent_since_s: float | None = None

    def heard(self, answer: Answer, asked_s: float) -> None:
        self.says = answer
        if not answer.known:
            self.unanswered += 1
            self.silent_since_s = self.silent_since_s or asked_s
            return
        self.unanswered, self.silent_since_s = 0, None
        try:
            self.parity = msgspec.convert(answer.get("parity"), ParityFacts)
        except msgspec.ValidationError:
            self.parity = None

    def is_hung(self, after_s: float) -> bool:
        return (
            self.silent_since_s is not None
            and self.unanswered >= HUNG_AFTER_QUESTIONS
            and time.monotonic() - self.silent_since_s >= after_s
        )


class EnginePair:
    """One desk's. Does nothing on a desk without a standby."""

    def __init__(self, desk: ControlledDesk) -> None:
        self.unfit: tuple[str, ...] = ()
        """Why the standby may not be promoted."""
        self.waits_for = ""
        """Why neither of the two trades and neither is promoted."""
        self._desk = desk
        self._wake = asyncio.Event()
        self._acting = asyncio.Lock()
        """Held while somebody looks and decides, or hands over."""
        self._watched: dict[str, _Watched] = {}
        self._reference: ParityFacts | None = None
        """Of the engine that trades, or traded last."""
        desk.heard_service = lambda _: self._wake.set()
        desk.pair_row = self.row

    # --- asked from outside ------------------------------------------------------------------

    @property
    def standby(self) -> str | None:
        """The one that does not trade; None on a desk without one."""
        return self._desk.roles.standby

    def row(self, service: str) -> dict[str, Any]:
        """What status shows of a service of the pair; empty for any other."""
        if service not in (self._desk.desk.file.engine_pair() or ()):
            return {}
        watched = self._watched.get(service)
        phase = watched.says.get("phase") if watched is not None else None
        if service != self.standby:
            return {"phase": phase}
        why_not = list(self.unfit)
        state = self._desk.states[service]
        if not state.is_running:
            # What was said last was said by a process that is gone.
            why_not.append(f"it is {state}")
        elif phase != "standby":
            says = "" if watched is None else watched.says.why
            why_not.append(says or f"it is {phase or 'not seen yet'}")
        return {"phase": phase, "promotable": not why_not, "why_not_promotable": why_not}

    async def run(self) -> None:
        """For ever."""
        while True:
            self._wake.clear()
            if self._desk.desk.file.engine_pair() is not None and not self._is_held():
                async with self._acting:
                    await self._look_and_act_safely()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()

    def now(self) -> Pair | None:
        """Who is which; None on a desk without a standby."""
        roles = self._desk.roles
        if roles.engine is None or roles.standby is None:
            return None
        return Pair(roles.engine, roles.standby)

    async def not_promotable(self) -> str:
        """Why the standby may not be handed the epoch now; empty: it may. It may run other code, and
        by another desk.toml, than the engine that trades, if that is what lies on the disk now."""
        if self.now() is None:
            return "the desk has no standby"
        async with self._acting:
            await self._look()
            return await self._why_not_hand_over()

    async def hand_over(self, *, actor: str) -> HandedOver:
        """The engine that trades hands its epoch to the one that stands by.

        RefusedError where it may not; FailedError where it did not come to pass: then the engine
        that traded goes on, or, where it is gone, is replaced as after a crash.
        """
        before = self.now()
        if before is None:
            raise RefusedError("the desk has no standby to hand over to")
        async with self._acting:
            await self._look()
            if why := await self._why_not_hand_over():
                raise RefusedError(f"{before.standby} may not take over: {why}")
            began = time.monotonic()
            taken = await self._hand_over(before)
            self._now_trades(before.standby, why=f"handed over by {actor}", epoch=taken)
            seconds = time.monotonic() - began
            await asyncio.sleep(UNDISTURBED_S)
            return HandedOver(before.standby, before.primary, seconds)

    async def _hand_over(self, pair: Pair) -> int:
        """The new epoch. FailedError."""
        client = self._desk.client
        for attempt in range(1, HAND_OVER_ATTEMPTS + 1):
            left = await client.post(
                pair.primary, "/v1/hand-over", {"within_s": HAND_OVER_S}, timeout_s=HAND_OVER_S
            )
            if left.known:
                break
            # It goes on, and so may be asked again: a venue that was slow need not be so now.
            if attempt == HAND_OVER_ATTEMPTS or left.status is None:
                raise FailedError(f"{pair.primary} did not hand over: {left.why}")
            log.warning("not handed over yet", engine=pair.primary, why=left.why)
            await asyncio.sleep(attempt)
        until_ns = int(left.get("valid_until_mono_ns") or 0)
        body = {
            "after_epoch": left.get("epoch"),
            "agreed": left.get("agreed") or [],
            "valid_until_mono_ns": until_ns,
        }
        left_s = max(0.05, until_ns / 1e9 - time.monotonic())
        permit = self._permit_for(pair.standby, left)
        if permit is not None:
            body["permit"] = {
                "scope": str(permit.scope),
                "expires_mono_ns": permit.expires_mono_ns,
            }
        taken = await client.post(pair.standby, "/v1/promote", body, timeout_s=left_s)
        if not taken.known:
            self._wake.set()
            raise FailedError(f"{pair.standby} did not take over: {taken.why}")
        if permit is not None and self._desk.targets.now is DeskTarget.HALTED:
            # A halt meanwhile was told to the engine before this one. The new one sees what is on the disk,
            # and is refused its first question for a permit; this is for a halt that could not be written.
            await client.post(pair.standby, "/v1/halt", {"reason": "halted during the hand-over"})
        return int(taken.get("epoch") or 0)

    def _permit_for(self, standby: str, left: Answer) -> Permit | None:
        """What the standby may send by from its promotion on. Where the engine before it did not agree with
        every venue, or the standby's code knows of no such thing, it has to ask first."""
        agreed = set(left.get("agreed") or ()) >= set(self._desk.desk.file.venues)
        says = self._watched[standby].says.get("permit")
        if not agreed or not isinstance(says, dict) or says.get("comes_with_promotion") is not True:
            return None
        epoch = int(left.get("epoch") or 0)
        return self._desk.permits.for_successor(standby, epoch, agrees=True)

    async def _why_not_hand_over(self) -> str:
        standby = self._watched[self.standby or ""]
        if standby.says.get("phase") != "standby":
            return standby.says.why or f"it is {standby.says.get('phase')}"
        if standby.parity is None or self._reference is None:
            return "the two cannot be compared"
        if not differences(self._reference, standby.parity):
            return ""
        on_disk = self._as_on_disk(await asyncio.to_thread(code_hash))
        why = (*unready(self._reference, standby.parity), *unlike(on_disk, standby.parity))
        return "; ".join(why)

    # --- looking -----------------------------------------------------------------------------

    def _is_held(self) -> bool:
        """An emergency stop has frozen the engines: what hangs then hangs on purpose."""
        return self._desk.layout.emergency_marker.exists()

    async def _look(self) -> tuple[Member, Member]:
        pair = self._desk.desk.file.engine_pair()
        assert pair is not None
        for name in pair:
            self._watched.setdefault(name, _Watched(name))
        await asyncio.gather(*(self._ask(self._watched[name]) for name in pair))
        await self._judge_parity()
        engine, standby = (self._member(name) for name in pair)
        return engine, standby

    async def _ask(self, watched: _Watched) -> None:
        view = self._desk.supervisor.view(watched.service)
        if view.pid is None or view.state is ServiceState.BACKOFF:
            watched.says = Answer(None, why=f"it is {view.state}")
            watched.unanswered, watched.silent_since_s = 0, None
            return
        asked_s = time.monotonic()
        answer = await self._desk.client.get(watched.service, "/v1/state", timeout_s=ASK_S)
        if view.state is ServiceState.STARTING and answer.status is None:
            watched.says = answer  # it may not listen yet
            return
        watched.heard(answer, asked_s)

    def _member(self, name: str) -> Member:
        view = self._desk.supervisor.view(name)
        watched = self._watched[name]
        settings = self._desk.desk.file.services
        pair = self._desk.desk.file.engine_pair() or ("", "")
        says = watched.says
        return Member(
            service=name,
            state=view.state,
            pid=view.pid,
            restarts=view.restarts,
            phase=str(says.get("phase")) if says.known else None,
            epoch=int(says.get("epoch") or 0),
            hung=watched.is_hung(settings[pair[1]].promote_after),
            unfit=self.unfit if name == self.standby else (),
        )

    async def _judge_parity(self) -> None:
        trades, stands_by = self._desk.roles.engine, self.standby
        if trades is None or stands_by is None:
            return
        engine, standby = self._watched[trades], self._watched[stands_by]
        if (
            engine.says.known
            and engine.parity is not None
            and engine.says.get("phase")
            not in (
                "standby",
                "retired",
            )
        ):
            self._reference = engine.parity
        if not standby.says.known:
            self.unfit = ()
            return
        if standby.parity is None:
            self._note_unfit(("it does not say how like the engine it is",))
        elif self._reference is None:
            # No engine was ever heard by this controller: what one would be that is started now.
            on_disk = self._as_on_disk(await asyncio.to_thread(code_hash))
            self._note_unfit(differences(on_disk, standby.parity))
        else:
            self._note_unfit(differences(self._reference, standby.parity))

    def _as_on_disk(self, code: str) -> ParityFacts:
        """What an engine would be that was started now."""
        standby = self._watched[self.standby or ""].parity
        return ParityFacts(
            version=__version__,
            code=code,
            configuration=self._desk.desk.digest,
            limits=limits_hash(self._desk.desk.file),
            venues=standby.venues if standby is not None else {},
        )

    def _note_unfit(self, unfit: tuple[str, ...]) -> None:
        if unfit == self.unfit:
            return
        before, self.unfit = self.unfit, unfit
        if unfit:
            log.error(
                "the standby is not promotable", alert=True, standby=self.standby, why=list(unfit)
            )
            self._desk.auditor.note(
                "standby.not_promotable", self.standby or "", why_not=list(unfit)
            )
        elif before:
            log.info("the standby is promotable again", standby=self.standby)
            self._desk.auditor.note("standby.promotable", self.standby or "")

    # --- acting ------------------------------------------------------------------------------

    async def _look_and_act_safely(self) -> None:
        """Whatever goes wrong in one look, there is another one."""
        try:
            await self._look_and_act()
        except OpenbellError as error:
            log.error("the engine pair is not seen to", alert=True, why=error.message)
        except Exception as error:
            log.exception("defect in seeing to the engine pair", exc_info=error, alert=True)

    async def _look_and_act(self) -> None:
        engine, standby = await self._look()
        epoch, signed = await asyncio.to_thread(self._desk.database.current_holder)
        decision = decide(engine, standby, epoch, Holder.parse(signed))
        self._note_waiting(decision)
        if self._is_held():  # seen after looking: what hangs now may just have been frozen
            return
        match decision:
            case Keep():
                self._desk.engine_is(decision.incumbent)
                if decision.restart and self._desk.board.current is None:
                    await self._start_anew(decision.restart)
            case Kill():
                await self._kill(decision.service)
            case Promote():
                await self._promote(decision)
            case Wait():
                pass

    def _note_waiting(self, decision: Decision) -> None:
        why = decision.why if isinstance(decision, Wait) else ""
        if why and why != self.waits_for:
            log.warning("no engine trades", why=why)
        self.waits_for = why

    async def _kill(self, service: str) -> None:
        after_s = self._watched[service].silent_since_s
        silent_s = 0.0 if after_s is None else time.monotonic() - after_s
        log.critical("the engine hangs: killing it", alert=True, engine=service)
        self._desk.auditor.note("engine.killed", service, silent_s=round(silent_s, 3))
        await self._desk.supervisor.kill(service)

    async def _promote(self, decision: Promote) -> None:
        body = {"after_epoch": decision.after_epoch, "predecessor_gone": True}
        answer = await self._desk.client.post(
            decision.service, "/v1/promote", body, timeout_s=PROMOTE_S
        )
        if not answer.known:
            log.error("not promoted", alert=True, engine=decision.service, why=answer.why)
            return
        self._now_trades(
            decision.service,
            why=f"{decision.predecessor} has ended" if decision.predecessor else "opened",
            epoch=answer.get("epoch"),
        )

    def _now_trades(self, service: str, *, why: str, epoch: object) -> None:
        opened = why == "opened"
        self._desk.engine_is(service)
        self._desk.auditor.note("engine.promoted", service, why=why, epoch=epoch)
        tell = log.info if opened else log.warning
        tell("promoted", alert=not opened, engine=service, why=why, epoch=epoch)
        self._wake.set()

    async def _start_anew(self, service: str) -> None:
        """One that handed its office over, and whose restart was cut off."""
        await self._desk.supervisor.stop(service, reason="it has handed over")
        await self._desk.supervisor.start(service)
