"""`openbell reconcile` over the API: compare, and book the venue's truth where people say so.

With the engine up it is asked: it compares, and heals what asking and booking can heal. Without one
the books are read from the journal, and nothing is changed. An adoption lets trading go on, so it is
recorded before it is done, and waits for a second person unless the desk file says that one may do it
alone; what was shown to them is repeated to the engine, which refuses what is not, or no longer, so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from openbell import errors
from openbell.config.approvals import ADOPT
from openbell.config.nearest import nearest
from openbell.controller.approving import Approving
from openbell.controller.desk import ControlledDesk
from openbell.domain.compared import ADOPTABLE
from openbell.errors import (
    ConflictError,
    OpenbellError,
    RefusedError,
    UnverifiedError,
    UsageError,
)
from openbell.procedures.comparing_at_rest import HINT, compare_at_rest
from openbell.service.logging import get_logger
from openbell.service_client import Answer

log = get_logger()

COMPARE_TIMEOUT_S = 30.0
ADOPT_TIMEOUT_S = 90.0
"""Three comparisons."""

_BY_CODE: dict[str, type[OpenbellError]] = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, OpenbellError)
}


@dataclass
class Reconciling:
    """One desk's comparisons and adoptions, as the controller serves them."""

    desk: ControlledDesk

    def __post_init__(self) -> None:
        self.approving = Approving(
            self.desk,
            ADOPT,
            "reconcile.adoption_asked",
            "reconcile.approval_refused",
            "reconcile.approved",
            where_nobody_may="name another person in [approvals] people, one of the two with the role "
            "risk; a desk whose owner is alone, or that trades no real money, says `adopt_alone = true` in "
            "[approvals], and `openbell reload` of any service takes it over",
        )

    async def compare(self, venues: Sequence[str]) -> dict[str, Any]:
        """`POST /api/v1/reconcile`, as docs/reference/reconcile.md shows it.

        Raises UsageError for a venue that the desk has not, UnverifiedError where the engine does
        not answer, and what the journal raises where none runs.
        """
        named = self._named(venues)
        if self._engine_runs:
            answer = await self.desk.voices.tell_engine(
                "/v1/reconcile", {"venues": named}, timeout_s=COMPARE_TIMEOUT_S
            )
            document = _told(answer, "the books were not compared")
        else:
            document = await compare_at_rest(self.desk.layout, self.desk.desk, named)
        return {
            **document,
            "approval": self.approving.rules_document(),
            "requests": [each.as_dict() for each in self.approving.waiting()],
        }

    async def adopt(
        self, venues: Sequence[str], reason: str, shown: str, actor: str
    ) -> dict[str, Any]:
        """Books what was shown, or asks for the approval that it takes: then `request` is what
        another person approves.

        `shown`: the digest of what was shown. Raises ConflictError where it is not so any more,
        RefusedError where nothing of it can be adopted or this person may not ask, ConflictError while a
        run is under way, and as `compare`.
        """
        reason = reason.strip()
        if not reason:
            raise UsageError("an adoption needs a reason", hint="say what the trade was")
        named = self._named(venues)
        if not self._engine_runs:
            raise RefusedError(
                "nothing is adopted: no engine runs, and only an engine writes the books",
                hint=f"{HINT}. Then adopt",
            )
        # What a closing compares and keeps is not to change while it does.
        with self.desk.board.acting():
            document = await self.compare(named)
            if not document["adoptable"]:
                if document["result"] == "clean":
                    return {**document, "adopted": []}
                first: dict[str, Any] = next(iter(document["differences"]), {})
                raise RefusedError(
                    "nothing of this can be adopted", hint=str(first.get("mend", "")), **document
                )
            if document["digest"] != shown:
                raise ConflictError(
                    "what differs has changed since it was shown; nothing was adopted",
                    hint="look again with `openbell reconcile`",
                )
            if self.approving.needed:
                bound_to = {
                    "venues": tuple(named),
                    "differences": _lines(document),
                    "shown": (shown,),
                }
                request = await self.approving.ask(bound_to, reason, actor)
                return {**document, "adopted": [], "request": request.as_dict()}
            return await self._carry_out(named, shown, reason, actor)

    async def approve(
        self, request_id: str, digest: str, reason: str, actor: str
    ) -> dict[str, Any]:
        """Approves and carries out. Raises UsageError for a request that is not known and for an approval
        without a reason, RefusedError where it does not count, ConflictError where something else differs
        by now, and while a run is under way."""
        # Refused before the approval counts: it can be given once.
        with self.desk.board.acting():
            request = await self.approving.approve(request_id, digest, actor, reason)
            (shown,) = request.parameters["shown"]
            return await self._carry_out(
                request.parameters["venues"], shown, request.reason, request.asked_by,
                approved_by=actor, request=request.id,
            )  # fmt: skip

    # --- inside ------------------------------------------------------------------------------

    async def _carry_out(
        self,
        venues: Sequence[str],
        shown: str,
        reason: str,
        actor: str,
        *,
        approved_by: str = "",
        request: str = "",
    ) -> dict[str, Any]:
        said = {
            "venues": list(venues), "reason": reason, "approved_by": approved_by,
            "request": request, "digest": shown,
        }  # fmt: skip
        await self.desk.auditor.record(actor, "reconcile.adopt", ", ".join(venues), **said)
        answer = await self.desk.voices.tell_engine(
            "/v1/adopt", {**said, "by": actor}, timeout_s=ADOPT_TIMEOUT_S
        )
        try:
            document = _told(answer, "whether it was adopted is not known")
        except OpenbellError as error:
            self.desk.auditor.note(
                "reconcile.not_adopted",
                ", ".join(venues),
                actor,
                why=error.message,
                request=request,
            )
            raise
        adopted = document["adopted"]
        self.desk.auditor.note(
            "reconcile.adopted", ", ".join(venues), actor, **said, adopted=adopted,
            last_journal_seq=document.get("last_journal_seq"),
        )  # fmt: skip
        log.warning("adopted from the venue", by=actor, approved_by=approved_by, reason=reason)
        return {**document, "approved_by": approved_by}

    @property
    def _engine_runs(self) -> bool:
        engine = self.desk.roles.engine
        return engine is not None and self.desk.states[engine].is_running

    def _named(self, venues: Sequence[str]) -> list[str]:
        declared = self.desk.desk.file.venues
        if not declared:
            raise UsageError("the desk has no venue to compare its books with")
        for name in venues:
            if name not in declared:
                raise UsageError(
                    f'the desk has no venue "{name}"',
                    hint=f"its venues: {', '.join(declared)}",
                    nearest=nearest(name, declared),
                )
        return [name for name in declared if not venues or name in venues]


def _told(answer: Answer, otherwise: str) -> dict[str, Any]:
    """The engine's document. What it refused is raised as it said it; no answer is unknown."""
    if answer.known and answer.body is not None:
        return dict(answer.body)
    body = answer.body or {}
    kind = _BY_CODE.get(str(body.get("error")))
    if kind is not None and kind is not OpenbellError:
        raise kind(str(body.get("message", "")), hint=str(body.get("hint", "")))
    raise UnverifiedError(f"{otherwise}: {answer.why}", hint="look again with `openbell reconcile`")


def _lines(document: dict[str, Any]) -> tuple[str, ...]:
    """What would be adopted, a sentence each."""
    return tuple(
        f"{d['venue']} {d['symbol'] or d['currency']}: the books hold {_figure(d['books'])},"
        f" the venue {_figure(d['venue_says'])}; "
        + (", ".join(f"execution {e['exec_id']}" for e in d["executions"]) or "no execution told")
        for d in document["differences"]
        if d["kind"] in ADOPTABLE
    )


def _figure(amount: object) -> str:
    return f"{Decimal(str(amount)).normalize():f}"
