"""How an engine that has a standby gives its office away, and how the standby takes it.

    old   hand_over ── intents wait, what is under way ends ──▶ (waits for a successor) ──▶ retired
    new                                          promote ── epoch, permit, bus ──▶ trades

Invariants
- The office is the epoch: who holds it is decided in the journal's database, by one transaction
  that names the epoch it follows. A promotion that comes late, or twice, is refused there.
- A promotion is acted on only before its deadline, and an engine that handed over and finds no
  successor goes on only after that deadline. Should both go wrong, the epoch still fences.
- A permit that comes with the promotion is one of the epoch that directly follows the one the promotion
  names: it is held only once that epoch was taken, and where books and venues agree already.
- Nothing that was taken is lost, and nothing is sent twice: what was sent has its outcome before
  the hand-over is answered, and what waits is sent again by its asker, to the successor, whose books
  know every intent that made an order.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

import msgspec

from openbell.domain.orders import ClOrdID
from openbell.domain.permit import Permit
from openbell.errors import ConflictError
from openbell.service.logging import get_logger
from openbell.trading.engine.engine import Engine

log = get_logger()

GO_ON_AFTER_S = 0.25
"""How long after the last moment of a promotion an engine without a successor takes its work up
again."""
LOOK_EVERY_S = 0.001
"""How often it looks whether the successor is bound: intents wait meanwhile."""
LOOK_AT_EPOCH_S = 0.05
REPLACE_AFTER_S = 0.1
"""After intents are taken by an engine to which another one handed over. A stop of the desk reads the
other's register as well until it is replaced, and asks for some orders more."""
SETTLE_S = 1.0
"""How long after a promotion intents wait for the permit and the books, instead of being refused."""


class HandOverBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    within_s: float = 2.0
    """For what is under way to end, and for a successor to be there."""


class PromoteBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after_epoch: int
    """The epoch that must be current; 0: there was none yet."""
    predecessor_gone: bool = False
    """The engine before is seen to have ended, so that nothing of it can still be sent."""
    agreed: tuple[str, ...] = ()
    """Venues with which the engine before, which handed over, saw its books agree."""
    valid_until_mono_ns: int | None = None
    permit: Permit | None = None
    """To send by until the controller has answered the first question for one."""


@dataclass
class Succession:
    engine: Engine
    _changing: asyncio.Lock
    _waiting: asyncio.Task[None] | None = None
    _settling: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, engine: Engine) -> Succession:
        return cls(engine, asyncio.Lock())

    async def promote(self, asked: PromoteBody) -> dict[str, object]:
        """This standby trades from now on. ConflictError: it is too late, or another one does."""
        engine = self.engine
        async with self._changing:
            if engine.ledger.in_office:
                raise ConflictError(
                    f"this engine holds epoch {engine.ledger.epoch} already",
                    epoch=engine.ledger.epoch,
                )
            until_ns = asked.valid_until_mono_ns
            if until_ns is not None and time.monotonic_ns() >= until_ns:
                raise ConflictError("this promotion is no longer valid")
            await engine.registering.open()
            try:
                await engine.ledger.take_office(engine.setup.holder, after_epoch=asked.after_epoch)
            except BaseException:
                engine.registering.discard()
                raise
            try:
                never_left = self._never_left(asked)
                engine.registering.adopt(
                    engine.ledger.books,
                    engine.ledger.epoch,
                    predecessor_gone=asked.predecessor_gone,
                    never_left=never_left,
                )
                if asked.predecessor_gone:
                    engine.registering.replace(engine.ledger.epoch)
                self._begin(asked, never_left)
            except BaseException:
                # It has the epoch and cannot do the work: it must end, so that another one can.
                engine.ledger.fenced.set()
                raise
        log.warning("promoted", epoch=engine.ledger.epoch, after=asked.after_epoch)
        return {
            "promoted": True,
            "epoch": engine.ledger.epoch,
            "last_journal_seq": engine.ledger.last_seq,
        }

    def _never_left(self, asked: PromoteBody) -> frozenset[ClOrdID]:
        """What the engine before journaled and did not live to send. Of one that is not seen to have ended
        nothing is; one that handed over has left nothing of the kind."""
        engine = self.engine
        if not asked.predecessor_gone:
            return frozenset()
        return engine.registering.never_left(engine.ledger.books, asked.after_epoch)

    def _begin(self, asked: PromoteBody, never_left: frozenset[ClOrdID]) -> None:
        engine = self.engine
        for name, link in engine.links.items():
            link.take_office(
                agreed=name in asked.agreed,
                predecessor_gone=asked.predecessor_gone,
                never_left=never_left,
            )
        engine.permit.want()
        if asked.permit is not None and engine.reconciled:
            engine.permit.take(asked.permit, ttl_s=engine.setup.file.permit.ttl)
        engine.intake.clear()
        engine.open_bus()
        self._settling = asyncio.create_task(self._settle(), name="settle")

    async def _settle(self) -> None:
        """Who asks during a take-over waits a moment rather than being refused."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while True:
                    if not self.engine.why_not_trading():
                        break
                    await asyncio.sleep(LOOK_EVERY_S)
        self.engine.intake.set()
        self.engine.changed.set()
        # Not before: whoever waited is sent first.
        await asyncio.sleep(REPLACE_AFTER_S)
        ledger = self.engine.ledger
        if not ledger.fenced.is_set():
            self.engine.registering.replace(ledger.epoch)

    async def hand_over(self, asked: HandOverBody) -> dict[str, object]:
        """Takes no new intent and ends what is under way; then waits, beside, for the successor.
        ConflictError: something could not be ended in time, and this engine goes on."""
        engine = self.engine
        began_s = time.monotonic()
        async with self._changing:
            if engine.phase in ("standby", "retired"):
                raise ConflictError(f"this engine is {engine.phase}: it has nothing to hand over")
            if self._waiting is not None:
                raise ConflictError("this engine is handing over already")
            if self._settling is not None:
                await self._settling
            engine.intake.clear()
            try:
                async with asyncio.timeout(asked.within_s / 2):
                    await engine.desk.idle()
                    await engine.canceller.idle()
            except BaseException as error:
                engine.intake.set()
                if isinstance(error, TimeoutError):
                    raise ConflictError(
                        f"{engine.desk.under_way} orders have no answer yet: not handed over"
                    ) from None
                raise
            valid_until_s = began_s + asked.within_s
            engine.ledger.expects_successor = True
            self._waiting = asyncio.create_task(
                self._await_successor(valid_until_s + GO_ON_AFTER_S), name="hand over"
            )
        return {
            "epoch": engine.ledger.epoch,
            "last_journal_seq": engine.ledger.last_seq,
            "agreed": [
                name for name, link in engine.links.items() if link.connected and link.reconciled
            ],
            "valid_until_mono_ns": int(valid_until_s * 1e9),
            "seconds": round(time.monotonic() - began_s, 4),
        }

    async def _await_successor(self, go_on_at_s: float) -> None:
        engine = self.engine
        look_at_epoch_s = time.monotonic() + LOOK_AT_EPOCH_S
        while not engine.is_replaced_on_bus:
            now_s = time.monotonic()
            if now_s >= look_at_epoch_s:
                look_at_epoch_s = now_s + LOOK_AT_EPOCH_S
                if now_s >= go_on_at_s:
                    # Fences this engine where a successor has the epoch and did not get further.
                    engine.ledger.expects_successor = False
                    await engine.ledger.notice_successor()
                    self._waiting = None
                    engine.intake.set()
                    log.error("nobody took over: going on", alert=True)
                    return
            await asyncio.sleep(LOOK_EVERY_S)
        engine.ledger.retired = True
        await engine.leave_bus()
        engine.permit.give_up("handed over")
        log.warning("handed over", epoch=engine.ledger.epoch)
        engine.changed.set()
