"""Cash in the books against a venue's balances. Pure.

A difference is told only where both sides are known to belong to the same moment: the venue answered
in full, no order or position of it is unclear, and no execution was booked while it was asked.
Anything else is *not compared*, with the reason. Cash holds no trading: see docs/decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from openbell.domain import cash
from openbell.domain.cash import Cash, Trade
from openbell.domain.reconcile import Agreement, FillFacts, Kind

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CashFacts:
    """Both sides of one venue's cash."""

    symbols: Sequence[str]
    """That are traded there."""
    books: Mapping[str, Cash]
    """By currency."""
    venue: Mapping[str, Decimal] | None
    """Free and locked by currency; None: not asked for."""
    keeps_positions: bool
    fee_currency: str | None = None
    still: bool = True
    """The books' cash is the same before the venue was asked and after it."""
    clear: str = ""
    """Why orders and positions there are not clear; empty where they are."""
    inferred: bool = False
    """An order's execution is booked by inference alone, and the venue may yet list it."""
    others: Sequence[FillFacts] = ()
    """Executions of others that are not adopted, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CashFinding:
    currency: str
    books: Decimal | None
    """None: the books do not know."""
    venue_says: Decimal | None
    status: Agreement | None
    """None: not compared."""
    kind: Kind | None = None
    why: str = ""
    rest: Decimal = ZERO
    """Signed: what no execution explains."""
    executions: tuple[FillFacts, ...] = field(default=())


def compare_cash(facts: CashFacts) -> tuple[CashFinding, ...]:
    """Each currency that is the account's money, and no position of it."""
    if facts.keeps_positions:
        return tuple(
            _not_compared(currency, None, says, cash.KEEPS_POSITIONS)
            for currency, says in sorted((facts.venue or {}).items())
        )
    return tuple(
        _one(facts, currency, why)
        for currency, why in cash.currencies(facts.symbols, facts.fee_currency)
    )


def to_open(facts: CashFacts) -> dict[str, Decimal]:
    """Currencies that the books hold no cash of, with what they may take for its opening: the
    venue's word, while nothing is under way. Empty while something is."""
    if facts.keeps_positions or facts.clear or facts.inferred or not facts.still:
        return {}
    return {
        currency: facts.venue[currency]
        for currency, why in cash.currencies(facts.symbols, facts.fee_currency)
        if not why and currency not in facts.books
        and facts.venue is not None and currency in facts.venue
    }  # fmt: skip


def _one(facts: CashFacts, currency: str, why: str) -> CashFinding:
    held = facts.books.get(currency)
    says = None if facts.venue is None else facts.venue.get(currency)
    books = None if held is None else held.amount
    if why:
        return _not_compared(currency, None, says, why)
    if held is None:
        return _not_compared(currency, None, says, cash.NOT_OPENED)
    if facts.clear:
        return _not_compared(currency, books, says, f"orders or positions first: {facts.clear}")
    if says is None:
        # An account that lists only what it holds leaves out a currency that is all gone; another
        # one may have left it out by mistake. Neither is known to be so.
        return CashFinding(
            currency=currency, books=books, venue_says=None,
            status=Agreement.OK if not books else Agreement.UNKNOWN,
            kind=None if not books else Kind.INCOMPLETE,
            why="" if not books else "the venue's balances do not name it",
        )  # fmt: skip
    if not facts.still:
        return _not_compared(currency, books, says, "executions were booked while it was asked")
    if facts.inferred:
        why = "an execution is known by inference alone, and its price and fee are not"
        return _not_compared(currency, books, says, why)
    return _judged(held, says, facts.others)


def _judged(held: Cash, says: Decimal, others: Sequence[FillFacts]) -> CashFinding:
    off = says - held.amount
    if abs(off) <= held.rounding:
        return CashFinding(
            currency=held.currency, books=held.amount, venue_says=says, status=Agreement.OK,
            kind=Kind.ROUNDING if off else None,
            why="within the venue's rounding of what was executed" if off else "",
        )  # fmt: skip
    if held.inferred or held.unnamed_fees:
        why = (
            "an execution was never listed, so its price and fee are not known"
            if held.inferred
            else "the venue did not name the currency of a fee"
        )
        return CashFinding(
            currency=held.currency, books=held.amount, venue_says=says, status=None,
            kind=Kind.FEE_UNKNOWN, why=why, rest=off,
        )  # fmt: skip
    trades = _explaining(held, off, others)
    if trades:
        count = f"{len(trades)} execution{'' if len(trades) == 1 else 's'} of others"
        return CashFinding(
            currency=held.currency, books=held.amount, venue_says=says,
            status=Agreement.MISMATCH, kind=Kind.EXTERNAL_TRADE, why=f"explained by {count}",
            rest=off, executions=trades,
        )  # fmt: skip
    return CashFinding(
        currency=held.currency, books=held.amount, venue_says=says, status=Agreement.MISMATCH,
        kind=Kind.EXTERNAL_TRANSFER, rest=off,
        why="no execution that the venue lists explains it: a transfer, interest, or a charge",
    )  # fmt: skip


def _explaining(held: Cash, off: Decimal, others: Sequence[FillFacts]) -> tuple[FillFacts, ...]:
    """The newest of others' executions that add up to the difference, if any do."""
    left = off
    found: list[FillFacts] = []
    for fill in reversed(others):
        if 0 < fill.venue_time_ns <= held.as_of_ns:
            continue
        trade = Trade(
            fill.side, fill.last_qty, fill.last_px, fill.fee, fill.fee_currency, fill.venue_time_ns
        )
        change = cash.effect(trade, fill.symbol, held.currency)
        if not change:
            continue
        left -= change
        found.append(fill)
        if abs(left) <= held.rounding:
            return tuple(reversed(found))
    return ()


def _not_compared(
    currency: str, books: Decimal | None, says: Decimal | None, why: str
) -> CashFinding:
    return CashFinding(currency=currency, books=books, venue_says=says, status=None, why=why)


def overall(statuses: Iterable[Agreement | None]) -> Agreement | None:
    """The worst of them; None: nothing could be compared."""
    seen = set(statuses)
    worst_first = (Agreement.MISMATCH, Agreement.UNKNOWN, Agreement.OK)
    return next((status for status in worst_first if status in seen), None)
