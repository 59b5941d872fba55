"""Comparisons of several venues as one document: what `POST /api/v1/reconcile` answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from openbell.domain import cash_compared
from openbell.domain.compared import Difference, VenueComparison
from openbell.domain.differences import digest_of, overall, to_adopt
from openbell.domain.reconcile import Agreement

RESULTS: Mapping[Agreement, str] = {
    Agreement.OK: "clean",
    Agreement.MISMATCH: "differs",
    Agreement.UNKNOWN: "unknown",
}

CASH: Mapping[Agreement | None, str] = {
    Agreement.OK: "agrees",
    Agreement.MISMATCH: "differs",
    Agreement.UNKNOWN: "unknown",
    None: "not_compared",
}
"""What `cash` tells; beside `result`, which is of orders and positions: cash holds no trading."""

_WORSE = {"ok": 0, "unknown": 1, "mismatch": 2}


def document(
    comparisons: Sequence[VenueComparison], mended: Sequence[Difference], *, source: str
) -> dict[str, Any]:
    """`source`: `engine`, which asks, books and heals; `journal`, the books at rest."""
    adoptable = to_adopt(comparisons)
    return {
        "result": RESULTS[overall(comparisons)],
        "cash": CASH[cash_compared.overall(each.cash for each in comparisons)],
        "source": source,
        "venues": [
            {
                "venue": each.venue,
                "status": each.status,
                "why": each.why,
                "open_orders": each.open_orders,
                "fills": each.fills,
                "balances": each.balances,
                "cash": CASH[each.cash],
            }
            for each in comparisons
        ],
        "positions": [row for each in comparisons for row in each.positions],
        "differences": [difference for each in comparisons for difference in each.differences],
        "mended": list(mended),
        "adoptable": len(adoptable),
        "digest": digest_of(adoptable) if adoptable else "",
    }


def by_symbol(positions: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The positions of a document by symbol: `{"symbol", "books", "venues": {venue: what it says},
    "status", "why"}`, the worst status of each, with the venue it is of."""
    rows: dict[str, dict[str, Any]] = {}
    for position in positions:
        symbol, venue = position["symbol"], position["venue"]
        row = rows.get(symbol)
        if row is None:
            row = rows[symbol] = {
                "symbol": symbol, "books": Decimal(0), "venues": {}, "status": "ok", "why": "",
            }  # fmt: skip
        row["books"] += Decimal(position["books"])
        says = position["venue_says"]
        row["venues"][venue] = None if says is None else Decimal(says)
        status, why = position["status"], position["why"]
        worse = _WORSE[status] > _WORSE[row["status"]]
        if worse or (why and not row["why"]):
            row["status"] = status if worse else row["status"]
            row["why"] = f"{venue}: {why}"
    return [rows[symbol] for symbol in sorted(rows)]


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(struct)
