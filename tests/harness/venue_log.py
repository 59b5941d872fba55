"""What a simulated venue wrote down itself, judged: the truth about orders, whatever a desk says."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any


def require_flat(log: Path) -> int:
    """Every order has ended, none came twice, and of each symbol as much was sold as was bought. Returns
    how many orders there were."""
    events: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    accepted = {e["order_id"]: e for e in events if e["event"] == "accept"}
    ended = {e["order_id"] for e in events if e["event"] in ("cancel", "expire")}
    filled: dict[int, Decimal] = {}
    net: dict[str, Decimal] = {}
    for event in events:
        if event["event"] == "fill":
            number, qty = event["order_id"], Decimal(event["qty"])
            order = accepted[number]
            filled[number] = filled.get(number, Decimal(0)) + qty
            sign = 1 if order["side"] == "BUY" else -1
            net[order["symbol"]] = net.get(order["symbol"], Decimal(0)) + sign * qty
    left = [
        order["cl_ord_id"]
        for number, order in accepted.items()
        if number not in ended and filled.get(number, Decimal(0)) < Decimal(order["order_qty"])
    ]
    assert left == [], f"still open at the venue: {left}"
    assert not any(net.values()), f"not flat at the venue: {net}"
    names = Counter(order["cl_ord_id"] for order in accepted.values())
    twice = [name for name, times in names.items() if times > 1]
    assert twice == [], f"sent twice: {twice}"
    return len(accepted)
