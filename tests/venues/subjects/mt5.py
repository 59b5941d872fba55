from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

SUBJECT = Subject(
    name="mt5",
    adapter="mt5",
    face="mt5",
    symbols=("EUR/USD", "USD/JPY"),
    quantity=Decimal(10_000),
    funds="USD",
    submit=b"POST /v1/orders",
    cancel=b"DELETE /v1/orders/",
    open_orders=b"GET /v1/orders ",
    coarse_tick="0.0001",
    sim=("--no-limits",),
)
