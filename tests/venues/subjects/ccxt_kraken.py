from __future__ import annotations

from decimal import Decimal

from tests.venues.subjects.port import Subject

from openbell.venues.kraken.ids import from_kraken

SUBJECT = Subject(
    name="ccxt (kraken)",
    adapter="ccxt",
    face="kraken",
    symbols=("BTC/USD", "ETH/USD"),
    quantity=Decimal("0.01"),
    funds="USD",
    submit=b"POST /0/private/AddOrder ",
    cancel=b"POST /0/private/CancelOrder ",
    open_orders=b"POST /0/private/OpenOrders ",
    coarse_tick="0.1",
    config={"options": {"exchange": "kraken"}},
    sim=("--limit-scale", "0"),
    own_id=from_kraken,
    untested={
        "submit post-only": "ccxt has no class for this refusal of Kraken's, so it is unknown"
    },
)
