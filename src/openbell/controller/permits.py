"""Grants the engine its permit, and remembers what was granted last."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from openbell.config.models import Permit as PermitSettings
from openbell.controller.auditing import Auditor
from openbell.controller.targets import Targets
from openbell.domain.permit import Grant, Permit, PermitFacts, PermitScope, Refusal, decide_permit


@dataclass(frozen=True)
class PermitRequest:
    """What the engine says when it asks."""

    service: str
    epoch: int
    reconciled: bool
    phase: str
    books_known: bool = False


@dataclass(frozen=True)
class PermitAnswer:
    scope: PermitScope
    code: str
    why_not: str
    at_mono_s: float

    @property
    def granted(self) -> bool:
        return self.scope is not PermitScope.NONE


class Permits:
    """One desk's permits. The audit log gets each change, not each renewal."""

    def __init__(
        self,
        settings: PermitSettings,
        targets: Targets,
        auditor: Auditor,
        current_epoch: Callable[[], int | None],
        critical_not_ready: Callable[[str], tuple[str, ...]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._targets = targets
        self._auditor = auditor
        self._current_epoch = current_epoch
        self._critical_not_ready = critical_not_ready
        self._clock = clock
        self._last: PermitAnswer | None = None

    def ask(self, request: PermitRequest) -> dict[str, object]:
        """`{"granted", "scope", "ttl_s", "why_not", "code"}`"""
        decided = self._decide(request)
        now = self._clock()
        if isinstance(decided, Grant):
            answer = PermitAnswer(decided.scope, "", "", now)
        else:
            answer = PermitAnswer(PermitScope.NONE, decided.code, decided.text, now)
        self._note_change(request, answer)
        self._last = answer
        return {
            "granted": answer.granted,
            "scope": str(answer.scope),
            "ttl_s": self.settings.ttl if answer.granted else 0.0,
            "why_not": answer.why_not,
            "code": answer.code,
        }

    def for_successor(self, service: str, after_epoch: int, *, agrees: bool) -> Permit | None:
        """What an engine is handed together with its promotion, so that its first order need not wait
        for an answer: what one would be given that asked now, under the epoch it is to follow. None: nothing.

        Its life begins before anything is looked at, on the clock that all processes of one boot share.
        It is not remembered here: the engine asks at once all the same, and what it is answered then counts.
        """
        began_s = self._clock()
        decided = self._decide(PermitRequest(service, after_epoch, agrees, "standby"))
        if isinstance(decided, Refusal):
            return None
        return Permit(decided.scope, int((began_s + self.settings.ttl) * 1e9))

    def _decide(self, request: PermitRequest) -> Grant | Refusal:
        return decide_permit(
            PermitFacts(
                target=self._targets.now,
                latched=self._targets.latched,
                engine_epoch=request.epoch,
                current_epoch=self._current_epoch(),
                engine_reconciled=request.reconciled,
                books_known=request.books_known,
                critical_not_ready=self._critical_not_ready(request.service),
                halted=self._targets.halt is not None,
            )
        )

    def view(self) -> dict[str, object]:
        """`{"granted", "scope", "why_not", "ttl_s", "age_s"}` for status."""
        last = self._last
        ttl = self.settings.ttl
        if last is None:
            why = "no engine asked for one since the controller started"
            return {"granted": False, "scope": "none", "why_not": why, "ttl_s": ttl, "age_s": None}
        age = self._clock() - last.at_mono_s
        if last.granted and age > ttl:
            why = f"ran out: not renewed for {age:.0f}s"
            return {"granted": False, "scope": "none", "why_not": why, "ttl_s": ttl, "age_s": age}
        return {
            "granted": last.granted,
            "scope": str(last.scope),
            "why_not": last.why_not,
            "ttl_s": ttl,
            "age_s": round(age, 3),
        }

    def withdraw(self, code: str, why_not: str) -> None:
        """The last permit is no longer meant to be held: a halt has told the engine so."""
        if self._last is not None and self._last.granted:
            self._auditor.note("permit.withdrawn", "engine", why_not=why_not)
            self._last = PermitAnswer(PermitScope.NONE, code, why_not, self._clock())

    def note_lapse(self) -> None:
        """Called now and then: puts a permit that was not renewed into the audit log, once."""
        last = self._last
        if last is not None and last.granted and self._clock() - last.at_mono_s > self.settings.ttl:
            self._auditor.note("permit.lapsed", "engine", scope=str(last.scope))
            why = "ran out: the engine did not ask again"
            self._last = PermitAnswer(PermitScope.NONE, "lapsed", why, last.at_mono_s)

    def _note_change(self, request: PermitRequest, answer: PermitAnswer) -> None:
        last = self._last
        if last is not None and (last.scope, last.code) == (answer.scope, answer.code):
            return
        self._auditor.note(
            "permit.granted" if answer.granted else "permit.refused",
            request.service,
            scope=str(answer.scope),
            why_not=answer.why_not,
            epoch=request.epoch,
        )
