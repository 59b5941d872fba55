from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

from openbell.venues.kraken.ids import from_kraken

SUBJECT = Subject(
    name="kraken",
    adapter="kraken",
    face="kraken",
    symbols=("BTC/USD", "ETH/USD"),
    quantity=Decimal("0.01"),
    funds="USD",
    submit=b"POST /0/private/AddOrder ",
    cancel=b"POST /0/private/CancelOrder ",
    open_orders=b"POST /0/private/OpenOrders ",
    coarse_tick="0.1",
    # The suite asks far more often than a desk does.
    config={
        "options": {"call_limit": "1000000", "order_limit": "1000000", "call_decay": "1000000"}
    },
    sim=("--limit-scale", "0"),
    own_id=from_kraken,
)
