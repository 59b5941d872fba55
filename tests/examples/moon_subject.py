"""Moon for the conformance suite: `OPENBELL_SUBJECT=tests.examples.moon_subject:SUBJECT`."""

from __future__ import annotations

import sys
from decimal import Decimal

from tests.venues.subjects import Subject

SUBJECT = Subject(
    name="moon",
    adapter="moon",
    server=(sys.executable, "-m", "tests.examples.moon_server", "--port", "{port}"),
    symbols=("BTC/USD", "ETH/USD"),
    quantity=Decimal("0.01"),
    funds="USD",
    submit=b"POST /v1/orders",
    cancel=b"DELETE /v1/orders/",
    open_orders=b"GET /v1/orders?",
)
