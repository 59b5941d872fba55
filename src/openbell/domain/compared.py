"""What a comparison of books and venue tells: its rows and differences, with what would mend each."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import ClOrdID
from openbell.domain.reconcile import Agreement, Kind

ZERO = Decimal(0)

ADOPTABLE = frozenset(
    {Kind.EXTERNAL_TRADE, Kind.UNEXPLAINED, Kind.EXTERNAL_TRANSFER, Kind.FEE_UNKNOWN}
)
"""What `--adopt` can book."""

MEND = {
    Kind.MISSING_FILL: "the engine books them as the venue tells them: run it again",
    Kind.UNKNOWN_ORDER: "the engine asks for the order, and books and watches it from then on",
    Kind.STRAY_ORDER: "the engine cancels it and asks what it filled",
    Kind.ORDER_DIFFERS: "look at the venue; `openbell kill-switch activate` if in any doubt",
    Kind.EXTERNAL_TRADE: "`openbell reconcile --adopt --reason WHY` books it; what is still held of it can"
    " be undone at the venue instead",
    Kind.UNEXPLAINED: "find out what it was, then undo it at the venue,"
    " or `openbell reconcile --adopt --reason WHY`",
    Kind.IN_DOUBT: "the engine asks for it until the venue has told: run it again",
    Kind.MOVING: "run it again",
    Kind.INCOMPLETE: "run it again; nothing is concluded from this answer",
    Kind.UNREACHABLE: "see `openbell connections`; nothing is concluded without an answer",
    Kind.ROUNDING: "nothing: no order could trade it",
    Kind.INFERRED_FILL: "nothing: it is replaced when the venue lists it, and counts once",
    Kind.FOREIGN_ORDER: "nothing: it is left alone",
    Kind.EXTERNAL_TRANSFER: "find out what it was, then undo it at the venue,"
    " or `openbell reconcile --adopt --reason WHY`",
    Kind.FEE_UNKNOWN: "look at the venue's statement; `openbell reconcile --adopt --reason WHY`"
    " books what the venue holds",
}


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One that the venue lists."""

    exec_id: str
    venue_order_id: str
    symbol: str
    side: str
    qty: Decimal
    px: Decimal
    fee: Decimal
    fee_currency: str
    venue_time_ns: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    kind: Kind
    status: Agreement
    why: str
    mend: str
    symbol: str = ""
    """Empty where it is about the venue as a whole, or about cash."""
    currency: str = ""
    """Of cash; empty where it is not about cash."""
    cl_ord_id: ClOrdID | str = ""
    venue_order_id: str = ""
    books: Decimal | None = None
    """Position or cash in the books; None where the difference is about neither."""
    venue_says: Decimal | None = None
    executions: tuple[Execution, ...] = ()
    """What explains it, oldest first."""
    unexplained: Decimal = ZERO
    """Signed: what of a position's difference no execution explains; of cash, the difference."""

    @property
    def adoptable(self) -> bool:
        return self.kind in ADOPTABLE


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    symbol: str
    books: Decimal
    venue_says: Decimal | None
    status: Agreement
    kind: Kind | None = None
    why: str = ""


class BalanceRow(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    currency: str
    free: Decimal
    locked: Decimal
    expected: Decimal | None
    """Free and locked, by the books and the declared holdings; None: the books do not tell."""
    status: Agreement | None
    """None: not compared."""
    kind: Kind | None = None
    """Of cash that differs."""
    why: str = ""


class FillsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Executions of the time since books and venue last agreed."""

    listed: int
    own: int
    booked: int
    """Of its own, those that the books hold."""
    others: int
    adopted: int
    """Of others, those that were adopted before."""


class VenueComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One venue against the books."""

    venue: str
    status: Agreement
    why: str
    """Why it is unknown, or differs; empty where it agrees."""
    open_orders: int | None
    """Own ones that the venue lists; None: it did not tell all."""
    positions: tuple[PositionRow, ...] = ()
    balances: tuple[BalanceRow, ...] = ()
    fills: FillsSeen | None = None
    """None: executions were not asked for."""
    differences: tuple[Difference, ...] = ()
    """Those of cash among them, which `status` does not count."""
    cash: Agreement | None = None
    """Of the account's money; None: not compared."""
