from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

_ACCOUNT = b"/backend-api/trade/accounts/4122276"
"""Of the simulated account `main`."""

SUBJECT = Subject(
    name="tradelocker",
    adapter="tradelocker",
    face="tradelocker",
    symbols=("EUR/USD", "USD/JPY"),
    quantity=Decimal(10_000),
    funds="USD",
    submit=b"POST " + _ACCOUNT + b"/orders",
    cancel=b"DELETE /backend-api/trade/orders/",
    open_orders=b"GET " + _ACCOUNT + b"/orders ",
    coarse_tick="0.0001",
    config={"options": {"server": "SIM"}},
    sim=("--limit-scale", "0"),
)
