from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

SUBJECT = Subject(
    name="ccxt (coinbase)",
    adapter="ccxt",
    face="coinbase",
    symbols=("BTC/USD", "ETH/USD"),
    quantity=Decimal("0.01"),
    funds="USD",
    submit=b"POST /api/v3/brokerage/orders HTTP",
    cancel=b"POST /api/v3/brokerage/orders/batch_cancel",
    open_orders=b"GET /api/v3/brokerage/orders/historical/batch",
    config={"options": {"exchange": "coinbase"}},
    sim=("--limit-scale", "0"),
    untested={
        "submit post-only": "ccxt has no class for this refusal of Coinbase's, so it is unknown"
    },
)
