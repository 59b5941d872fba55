"""docs/explanation/order-states.md, made from the table of moves.

`python -m openbell.domain.order_states` prints the page.
"""

from __future__ import annotations

from openbell.domain.order_book import MOVES, OrderMove
from openbell.domain.orders import OrdStatus

_TOP = """\
# The states of an order

This page is made from the table in `src/openbell/domain/order_book.py`; a test keeps it current.

An order is the fold of its events. After every one of them

    order_qty == cum_qty + leaves_qty + canceled_qty

`cum_qty` counts executions alone. What is left of the order is `leaves_qty` while its status says
that it could still trade, and `canceled_qty` once the status is final.

| status | means | final |
| --- | --- | --- |
"""

_MEANINGS = {
    OrdStatus.PENDING_NEW: "its intent is in the journal; perhaps sent, no answer yet",
    OrdStatus.NEW: "works at the venue, nothing filled",
    OrdStatus.PARTIALLY_FILLED: "works at the venue, part of it filled",
    OrdStatus.PENDING_CANCEL: "a cancel was journaled; it may still trade",
    OrdStatus.UNKNOWN: "in doubt: the venue must be asked by its ClOrdID",
    OrdStatus.FILLED: "all of it filled",
    OrdStatus.CANCELED: "the venue took the rest of it off",
    OrdStatus.EXPIRED: "the venue ended the rest of it by its own rules (IOC, FOK, self-trade)",
    OrdStatus.REJECTED: "the venue refused it, or it was proven never to have arrived",
}

_MIDDLE = """
## Moves

Read a row from left to right: an order in this status goes to that one when this happens. A dot
means that nothing changes.

"""

_BOTTOM = """
Where the table says NEW and part of the order is filled already, it is PARTIALLY_FILLED.

## Why it is so

**A fill is counted whenever it comes.** Executions overtake acknowledgements, and a cancel that is
confirmed may have crossed a fill. So a fill is legal in every status, final ones included; it then
takes from `canceled_qty`. Each `exec_id` counts once. A fill beyond the ordered quantity is not an
event of this order's life: it raises, changes nothing, and the engine stops.

**Doubt ends by asking.** A time-out, a 503, a refused cancel leave the order UNKNOWN. A partial fill
does not end the doubt: it proves that the order arrived, not what became of the rest. What could
still trade counts towards every limit meanwhile.

**A rejection can be proven wrong.** A fill, or an acceptance, after REJECTED shows that the order did
arrive, and what is left of it may rest at the venue: it becomes UNKNOWN and is asked for. A rejection
after an acceptance is such a contradiction as well.

**CANCELED, EXPIRED and FILLED stay.** A late acceptance is late news. If the venue truly still holds
an order that the books hold final, reconciliation finds it, because it asks, and cancels it.

**An inferred fill is a loan.** When the venue says that 5 are filled and does not list the trades yet,
5 are counted at the price known. The real executions replace the inferred ones, oldest first, in any
order of arrival; each fill counts exactly once.
"""


def markdown() -> str:
    """The whole page."""
    moves = list(OrderMove)
    lines = [_TOP.rstrip("\n")]
    lines += [
        f"| {status} | {means} | {'yes' if status.is_final else ''} |"
        for status, means in _MEANINGS.items()
    ]
    lines += [_MIDDLE.rstrip("\n"), ""]
    lines.append("| in \\ when | " + " | ".join(moves) + " |")
    lines.append("| --- |" + " --- |" * len(moves))
    for status in _MEANINGS:
        cells = ("·" if MOVES[status][move] is status else MOVES[status][move] for move in moves)
        lines.append(f"| **{status}** | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + _BOTTOM


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201
