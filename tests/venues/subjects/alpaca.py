from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

SUBJECT = Subject(
    name="alpaca",
    adapter="alpaca",
    face="alpaca",
    symbols=("AAPL/USD", "MSFT/USD"),
    quantity=Decimal(1),
    funds="USD",
    submit=b"POST /v2/orders",
    cancel=b"DELETE /v2/orders/",
    open_orders=b"GET /v2/orders?",
    sim=("--no-limits",),
)
