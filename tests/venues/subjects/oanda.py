from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

_ACCOUNT = b"/v3/accounts/101-001-7122276-001"
"""Of the simulated account `main`."""

SUBJECT = Subject(
    name="oanda",
    adapter="oanda",
    face="oanda",
    symbols=("EUR/USD", "USD/JPY"),
    quantity=Decimal(1000),
    funds="USD",
    submit=b"POST " + _ACCOUNT + b"/orders",
    cancel=b"PUT " + _ACCOUNT + b"/orders/",
    open_orders=b"GET " + _ACCOUNT + b"/pendingOrders",
    sim=("--limit-scale", "0"),
)
