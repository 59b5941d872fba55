from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

SUBJECT = Subject(
    name="binance-usdm",
    adapter="binance-usdm",
    face="binance-usdm",
    symbols=("BTC/USDT", "ETH/USDT"),
    quantity=Decimal("0.01"),
    funds="USDT",
    submit=b"POST /fapi/v1/order",
    cancel=b"DELETE /fapi/v1/order",
    open_orders=b"GET /fapi/v1/openOrders",
    sim=("--no-limits",),
)
