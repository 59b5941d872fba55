from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

SUBJECT = Subject(
    name="binance",
    adapter="binance",
    face="binance",
    symbols=("BTC/USDT", "ETH/USDT"),
    quantity=Decimal("0.01"),
    funds="USDT",
    submit=b"POST /api/v3/order",
    cancel=b"DELETE /api/v3/order",
    open_orders=b"GET /api/v3/openOrders",
    sim=("--no-limits",),
)
