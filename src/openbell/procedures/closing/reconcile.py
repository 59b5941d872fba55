"""Closing, step 7: our books and the venue's say the same.

Where no engine answers, because the desk was opened in part or it has died, the books are read from the
journal and compared here by the engine's rules. That they agree is proven only where the engine is stopped:
one that failed may have left a process that writes. Any difference is unknown, since only an engine books
what is missing; it is told with what explains it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from openbell.domain.books import Books
from openbell.domain.reconcile import Agreement
from openbell.domain.service_state import ServiceState
from openbell.errors import OpenbellError, StorageError
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.picture import CLERK_TIMEOUT_S, Picture
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification, time_left_s
from openbell.procedures.wording import count_of
from openbell.service.logging import get_logger
from openbell.service_client import Answer
from openbell.state.files import write_atomically
from openbell.venues.asking import VenueAnswer

log = get_logger()

OPEN_IT = (
    "`openbell up --safe-mode` opens the desk without trading and compares; then close it again"
)

RETRY_S = 1.0
"""Between two comparisons of a venue whose limits hold questions back: most count by the minute."""
ROOM_S = 1.0
"""Of the step's time: for an answer that comes late to be told as such."""


@dataclass(frozen=True)
class Compare:
    def __str__(self) -> str:
        return "compare orders and positions in the books with the venue's"


def judge_reconciliation(answer: Answer) -> Verification:
    """From the engine's answer to `POST /v1/reconcile`."""
    if not answer.known:
        return Verification(Outcome.UNKNOWN, f"books not compared: {answer.why}")
    mismatches = list(answer.get("mismatches") or ())
    evidence: dict[str, object] = {
        "positions": list(answer.get("positions") or ()),
        "mismatches": mismatches,
        "differences": list(answer.get("differences") or ()),
    }
    if answer.get("unknown"):
        if held := answer.get("held_back"):
            evidence["held_back"] = list(held)
        silent = "; ".join(map(str, answer.get("unknown_venues") or ())) or "no reason given"
        return Verification(Outcome.UNKNOWN, f"not all could be compared: {silent}", evidence)
    if mismatches:
        told = count_of(len(mismatches), "mismatch", "mismatches")
        return Verification(Outcome.FAILED, told, evidence)
    if answer.get("ok") is not True:
        return Verification(Outcome.UNKNOWN, "the engine did not say that they agree", evidence)
    return _with_cash("books and venue agree", answer.get("differences") or (), evidence)


def held_back_s(evidence: Mapping[str, object]) -> dict[str, float]:
    """By venue whose limits held the comparison's questions back: the seconds after which it lets ask
    again."""
    rows = evidence.get("held_back")
    return {
        str(row["venue"]): max(0.0, float(row["retry_after_s"]))
        for row in (rows if isinstance(rows, Sequence) else ())
    }


def cash_that_differs(differences: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    """Those of cash that are certain, as the comparison tells them."""
    return [
        dict(each)
        for each in differences
        if each.get("currency") and each.get("status") == Agreement.MISMATCH
    ]


def judge_document_at_rest(document: Mapping[str, Any], *, stopped: bool) -> Verification:
    """From a comparison with the books of the journal (`procedures.comparing_at_rest`). `stopped`: nobody
    writes it."""
    differences = list(document["differences"])
    evidence: dict[str, object] = {
        "positions": list(document["positions"]),
        "mismatches": [row for row in document["positions"] if row["status"] == "mismatch"],
        "differences": differences,
    }
    # Of cash that differs it is said below, and it is no failure.
    told = [_told(each) for each in differences if each["status"] != "ok" and not each["currency"]]
    if document["result"] != "clean":
        silent = [f"{row['venue']}: {row['why']}" for row in document["venues"] if row["why"]]
        found = "; ".join(dict.fromkeys((*told, *silent))) or "what differs is not told"
        why = f"no engine answers, and without it this is not explained: {found}. {OPEN_IT}"
        return Verification(Outcome.UNKNOWN, why, evidence)
    if not stopped:
        why = "books and venue agree by the journal, but the engine is not known to be stopped, and may "
        return Verification(Outcome.UNKNOWN, f"{why}write on", evidence)
    agree = "books and venue agree: the books were read from the journal, no engine runs"
    return _with_cash(agree, differences, evidence)


def judge_at_rest(books: Books, picture: Picture, *, stopped: bool) -> Verification:
    """The books of a journal, and what venues that cannot be asked any more said last."""
    if not picture.known:
        return Verification(Outcome.UNKNOWN, f"books not compared: {picture.describe()}")
    positions = [
        {
            "venue": venue, "symbol": symbol, "books": ours, "venue_says": theirs,
            "status": "ok" if ours == theirs else "mismatch", "kind": None,
            "why": "" if ours == theirs else f"the books hold {ours:f}, the venue {theirs:f}",
        }
        for venue, symbol, ours, theirs in _positions(books, picture)
    ]  # fmt: skip
    differing = [row for row in positions if row["status"] != "ok"]
    evidence = {"positions": positions, "mismatches": differing, "differences": []}
    differences = [f"{row['venue']} {row['symbol']}: {row['why']}" for row in differing]
    open_orders = books.open_orders()
    if open_orders:
        told = count_of(len(open_orders), "order")
        differences.append(f"the end of {told} is not booked")
    if picture.orders:
        told = count_of(len(picture.orders), "own order rests", "own orders rest")
        differences.append(f"{told} at the venue")
    if differences or not stopped:
        why = "; ".join(differences) or "the engine is not known to be stopped"
        return Verification(
            Outcome.UNKNOWN,
            f"no engine answers, and without it this is not explained: {why}. {OPEN_IT}",
            evidence,
        )
    return Verification(
        Outcome.DONE,
        "books and venue agree: the books were read from the journal, no engine runs",
        evidence,
    )


def _positions(books: Books, picture: Picture) -> list[tuple[str, str, Decimal, Decimal]]:
    """`(venue, symbol, books, venue)` of each that either of them holds."""
    ours = {key: held.quantity for key, held in books.positions.items() if not held.is_flat}
    theirs = {
        (str(row["venue"]), str(row["symbol"])): Decimal(str(row["venue_quantity"]))
        for row in (*picture.positions, *picture.dust)
    }
    zero = Decimal(0)
    return [(*key, ours.get(key, zero), theirs.get(key, zero)) for key in sorted({*ours, *theirs})]


def _told(difference: Mapping[str, Any]) -> str:
    """`sim BTC/USDT: the books hold 0.5, the venue 0 (no order of ours explains it)`; of an order with its
    ClOrdID."""
    about = " ".join(filter(None, (difference["venue"], difference["symbol"])))
    if difference["books"] is not None:
        says = difference["venue_says"]
        there = "did not say" if says is None else f"{says:f}"
        ours = f"the books hold {difference['books']:f}, the venue {there}"
        return f"{about}: {ours} ({difference['why']})"
    order = f" {difference['cl_ord_id']}" if difference["cl_ord_id"] else ""
    return f"{about}{order}: {difference['why']}"


def _with_cash(
    agree: str, differences: Iterable[Mapping[str, object]], evidence: dict[str, object]
) -> Verification:
    """Cash that differs is said, and no failure: a transfer is the owner's business, and nothing a closing
    could mend."""
    cash = cash_that_differs(differences)
    if not cash:
        return Verification(Outcome.DONE, agree, evidence)
    told = "; ".join(f"{row['venue']} {row['currency']}" for row in cash)
    return Verification(
        Outcome.DONE,
        f"{agree} in orders and positions; CASH DIFFERS: {told}",
        {**evidence, "cash": cash},
    )


def _write(path: Path, table: Mapping[str, object]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    written = msgspec.json.encode(table, enc_hook=str)
    write_atomically(path, msgspec.json.format(written) + b"\n")


SPEC = StepSpec(
    name="reconcile",
    title="Reconcile positions with the venue",
    does="Compares the desk's books with every venue's.",
    verified_by="The comparison itself, asked again until it is whole.",
    timeout_s=90.0,
    on_failure=OnFailure.WARN,
    needed_because="without it nobody knows whether a fill is missing",
    evidence="the table of the comparison, each difference with the executions behind it; the same as a "
    "file, `statements/RUN-reconciliation.json`",
)


@dataclass
class ReconcileBooks:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    _found: Verification | None = None
    """What the engine said last."""

    async def observe(self) -> bool:
        return await self.closing.sight.engine_is_up(patience_s=10)

    def plan(self, facts: bool) -> Plan[Compare]:
        if self.closing.voices.roles.engine is None:
            return Plan(reason="the desk has no engine, so no books", skipped=True)
        if untouched := self.closing.untouched:
            return Plan(reason=f"the books are what they were: {untouched}", skipped=True)
        return Plan((Compare(),) if facts else (), "" if facts else "the engine does not run")

    async def act(self, plan: Plan[Compare], say: Say) -> None:
        """Compared here, since it takes what the step is given: again and again while a venue's limits
        hold back what would have to be asked, until the step's time is over. The table is kept here as
        well: what was found stands before that, and a slow disk takes none of the verification's time."""
        say("comparing books with the venue")
        while True:
            left_s = time_left_s(self.timeout_s) - ROOM_S
            self._found = found = await self._by_the_engine(max(ROOM_S, left_s))
            if found.outcome is not Outcome.UNKNOWN:
                break
            waits = held_back_s(found.evidence)
            if waits and max(waits.values()) > time_left_s(self.timeout_s):
                break  # they let ask again only when the step's time is over
            if not waits:
                # The limits may hold back the engine's looks, or an engine of before does not say more.
                state = await self.closing.voices.ask_engine("/v1/state")
                waits = {
                    str(v["name"]): RETRY_S for v in state.get("venues") or () if v.get("held_back")
                }
            if not waits:
                if "positions" not in found.evidence and time_left_s(self.timeout_s) > ROOM_S:
                    # It runs and does not answer: the journal tells what it has written.
                    self._found = found = await self._at_rest()
                break
            say(f"waiting for the limits of {', '.join(waits)}")
            await asyncio.sleep(max(RETRY_S, *waits.values()))
        self._found = replace(found, files=await self._kept(found.evidence))

    async def verify(self, say: Say) -> Verification:
        """The comparison changes nothing, so it is its own verification."""
        if self._found is not None:
            return self._found
        earlier = self.closing.earlier.get(self.name)
        if await self.closing.sight.engine_is_up():
            found = await self._by_the_engine()
        elif earlier is not None and earlier.outcome is Outcome.DONE:
            # The engine was stopped by this very closing after it had reconciled.
            found = Verification(Outcome.DONE, "books and venue agreed", earlier.evidence)
        else:
            found = await self._at_rest()
        return replace(found, files=await self._kept(found.evidence))

    async def _kept(self, evidence: Mapping[str, object]) -> tuple[str, ...]:
        """The table as a file of evidence. A full disk keeps no desk open: the run's record has it too."""
        if "positions" not in evidence:
            return ()
        closing = self.closing
        path = closing.layout.statements / f"{closing.run}-reconciliation.json"
        keys = ("positions", "mismatches", "differences")
        table = {"run": closing.run, **{key: evidence.get(key) for key in keys}}
        try:
            await asyncio.to_thread(_write, path, table)
        except (StorageError, OSError) as error:
            log.error("the table of the reconciliation is not kept as a file", why=str(error))
            return ()
        return (str(path),)

    async def _by_the_engine(self, timeout_s: float = 30.0) -> Verification:
        voices = self.closing.voices
        return judge_reconciliation(
            await voices.tell_engine("/v1/reconcile", {}, timeout_s=timeout_s)
        )

    async def _at_rest(self) -> Verification:
        """By the journal. One that cannot be read tells nothing, and neither does a venue that does not
        answer."""
        closing = self.closing
        engine = closing.voices.roles.engine
        stopped = (
            engine is not None and facts_of(closing.services).state(engine) is ServiceState.STOPPED
        )
        kept = await closing.last_word.kept()
        # Later than this module: a controller adopts its services before it loads a database.
        from openbell.procedures.comparing_at_rest import compared_by
        from openbell.state.books_at_rest import books_at_rest

        try:
            if kept.picture is not None:
                books = (await asyncio.to_thread(books_at_rest, closing.layout.database)).books
                picture = await closing.sight.past_the_engine()
                return judge_at_rest(books, picture, stopped=stopped)
            document = await compared_by(
                self._ask, closing.layout, closing.desk, closing.desk.file.venues
            )
        except OpenbellError as error:
            why = f"books not compared: no engine answers, and the journal: {error.message}"
            return Verification(Outcome.UNKNOWN, why)
        return judge_document_at_rest(document, stopped=stopped)

    async def _ask(self, _books: Books, since_ns: int) -> Sequence[VenueAnswer]:
        return await self.closing.venues.look(timeout_s=CLERK_TIMEOUT_S, fills_since_ns=since_ns)
