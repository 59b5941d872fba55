"""`openbell orders`, `positions`"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.tables import NOTHING, duration, number, price, table
from openbell.errors import UnverifiedError


@command()
def orders(terminal: Terminal) -> int:
    """Open orders as the venue says, with their ClOrdIDs, ages and what our books say."""
    document = Client(terminal.layout).get("orders")
    text = table(
        (
            "venue",
            "ClOrdID",
            "symbol",
            "side",
            "type",
            "price",
            "quantity",
            "filled",
            "left",
            "status",
            "age",
            "strategy",
        ),
        [
            (
                o["venue"],
                o["cl_ord_id"],
                o["symbol"],
                o["side"],
                o["ord_type"],
                number(o["price"]),
                number(o["order_qty"]),
                number(o["cum_qty"]),
                number(o["leaves_qty"]),
                o["status"],
                duration(o.get("age_s")),
                o.get("strategy") if o.get("own", True) else "(not ours)",
            )
            for o in document.get("orders", ())
        ],
        right="     rrrr r",
    )
    return shown(terminal, document, text, len(document.get("orders", ())), "open order")


@command()
def positions(terminal: Terminal) -> int:
    """Positions as the venue says beside our books, and P&L.

    Realized and unrealized are before fees and in the symbol's quote currency; the fees stand beside
    them in the currencies they were paid in. The last line adds it all up in one currency.
    """
    document = Client(terminal.layout).get("positions")
    rows = document.get("positions", ())
    text = table(
        (
            "venue",
            "symbol",
            "books",
            "venue says",
            "average",
            "mark",
            "realized before fees",
            "unrealized",
            "fees paid",
            "note",
        ),
        [position_row(p) for p in rows],
        right="  rrrrrrr",
    )
    if pnl := document.get("pnl"):
        text += f"\nP&L: {pnl_text(pnl)}"
    status = shown(terminal, document, text, len(rows), "position")
    if status == 0 and any(p.get("venue_quantity") is None for p in rows):
        terminal.warn("unknown: a venue did not say what it holds")
        return UnverifiedError.exit_code
    return status


def shown(terminal: Terminal, document: dict[str, Any], text: str, count: int, what: str) -> int:
    """Shows what was asked, and returns the exit status: 7 where it is not known."""
    if not document.get("known", True):
        terminal.document(document)
        terminal.warn(f"unknown: {document.get('why') or 'nothing could be learned'}")
        return UnverifiedError.exit_code
    terminal.show(document, text if count else f"no {what}")
    if document.get("source") == "venue":
        terminal.warn("the engine does not answer; the venue was asked directly")
    for name, venue in (document.get("venues") or {}).items():
        if not venue.get("ok", True):
            terminal.warn(f"{name}: unknown: {venue.get('error')}")
            return UnverifiedError.exit_code
    return 0


def position_row(position: dict[str, Any]) -> tuple[str, ...]:
    """One row of `positions`."""
    says = position.get("venue_quantity")
    return (
        position["venue"],
        position["symbol"],
        number(position.get("quantity")),
        "unknown" if says is None else number(says),
        _average(position),
        price(position.get("mark_px"), position.get("tick_size")),
        number(_realized_before_fees(position), 2),
        number(position.get("unrealized_pnl"), 2),
        _fees(position.get("fees")),
        "DIFFERS: `openbell reconcile`"
        if position.get("differs")
        else "dust"
        if position.get("dust")
        else "",
    )


def _average(position: dict[str, Any]) -> str:
    """Of what is held: a flat position has none."""
    average = position.get("avg_px")
    if average is None or Decimal(str(average)) == 0:
        return NOTHING
    return price(average, position.get("tick_size"))


def _realized_before_fees(position: dict[str, Any]) -> Decimal | None:
    """`realized_pnl` is less by the fees that were paid in base or quote currency, and by no others:
    before fees, the rows add up to the total."""
    realized, fee_cost = position.get("realized_pnl"), position.get("fee_cost")
    if realized is None or fee_cost is None:
        return None
    return Decimal(str(realized)) + Decimal(str(fee_cost))


def pnl_text(pnl: dict[str, Any]) -> str:
    """`net -0.61 USDT (before fees: realized -0.18, unrealized 0.00; fees 0.43)`"""
    realized, unrealized, fees = (
        number(pnl.get(key), 2) for key in ("realized", "unrealized", "fees")
    )
    parts = f"before fees: realized {realized}, unrealized {unrealized}; fees {fees}"
    unpriced = pnl.get("unpriced")
    note = f"; without a price, not counted: {', '.join(map(str, unpriced))}" if unpriced else ""
    return f"net {number(pnl.get('net'), 2)} {pnl.get('currency', '')} ({parts}){note}"


def _fees(fees: object) -> str:
    if isinstance(fees, dict):
        return ", ".join(f"{number(amount)} {currency}" for currency, amount in fees.items())
    return number(fees)
