"""A simulated venue with orders on it, the desk's adapter in front of it, and what the venue itself
says became of them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.ids import is_own, mint
from openbell.domain.orders import ClOrdID, OrdType, Side
from openbell.kill.events import Cancelling, StopEvent, Waiting
from openbell.kill.statement import VenueStatement
from openbell.kill.stop_venues import Visit, stop_venues
from openbell.venues.credentials import Credentials
from openbell.venues.kraken.ids import from_kraken, to_kraken
from openbell.venues.port import Venue
from openbell.venues.registry import open_venue
from openbell_sim import testing
from openbell_sim.faults.document import decode
from openbell_sim.hands import ManualOrder, place
from openbell_sim.keys import Credentials as SimCredentials
from openbell_sim.ledger import Order
from openbell_sim.server import Venue as SimVenue

DESK_ID = "0badcafe"
OTHER_DESK = "feedf00d"
KEY, SECRET = "4b" * 32, "5c" * 32
ENGINE_KEY, ENGINE_SECRET = "6d" * 32, "7e" * 32
"""Another pair of the same account."""
EPOCH = 7


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A face and its adapter."""

    face: str
    symbols: tuple[str, str]
    """Unified."""
    markets: dict[str, tuple[str, str, str]]
    """By the venue's own names: bid, ask, and the quantity at each."""
    prices: tuple[str, str]
    """Of resting buys in each market: far below it."""
    quantity: Decimal
    options: dict[str, str] = field(default_factory=dict)
    on_the_wire: Callable[[Any], str | None] = str
    from_the_wire: Callable[[str], str] = str


CRYPTO = ("59990", "60000", "100")
SMALL = ("2990", "3000", "1000")
KINDS = {
    "kraken": Kind(
        face="kraken",
        symbols=("BTC/USD", "ETH/USD"),
        markets={"XBTUSD": CRYPTO, "ETHUSD": SMALL},
        prices=("55000", "2500"),
        quantity=Decimal("0.01"),
        options={"call_limit": "100000", "order_limit": "100000"},
        on_the_wire=to_kraken,
        from_the_wire=from_kraken,
    ),
    "binance": Kind(
        face="binance",
        symbols=("BTC/USDT", "ETH/USDT"),
        markets={"BTCUSDT": CRYPTO, "ETHUSDT": SMALL},
        prices=("55000", "2500"),
        quantity=Decimal("0.01"),
    ),
    "binance-usdm": Kind(
        face="binance-usdm",
        symbols=("BTC/USDT", "ETH/USDT"),
        markets={"BTCUSDT": CRYPTO, "ETHUSDT": SMALL},
        prices=("55000", "2500"),
        quantity=Decimal("0.1"),
    ),
    "coinbase": Kind(
        face="coinbase",
        symbols=("BTC/USD", "ETH/USD"),
        markets={"BTC-USD": CRYPTO, "ETH-USD": SMALL},
        prices=("55000", "2500"),
        quantity=Decimal("0.01"),
    ),
    "mt5": Kind(
        face="mt5",
        symbols=("EUR/USD", "USD/JPY"),
        markets={
            "EURUSD": ("1.0999", "1.1000", "10000000"),
            "USDJPY": ("149.99", "150.00", "10000000"),
        },
        prices=("1.05", "140"),
        quantity=Decimal(1000),
    ),
    "oanda": Kind(
        face="oanda",
        symbols=("EUR/USD", "USD/JPY"),
        markets={
            "EUR_USD": ("1.0999", "1.1000", "10000000"),
            "USD_JPY": ("149.99", "150.00", "10000000"),
        },
        prices=("1.05", "140"),
        quantity=Decimal(1000),
    ),
    "alpaca": Kind(
        face="alpaca",
        symbols=("AAPL/USD", "MSFT/USD"),
        markets={"AAPL": ("199.99", "200.00", "10000"), "MSFT": ("399.99", "400.00", "10000")},
        prices=("180", "360"),
        quantity=Decimal(1),
    ),
    "tradelocker": Kind(
        face="tradelocker",
        symbols=("EUR/USD", "USD/JPY"),
        markets={
            "EURUSD": ("1.0999", "1.1000", "10000000"),
            "USDJPY": ("149.99", "150.00", "10000000"),
        },
        prices=("1.05", "140"),
        quantity=Decimal(10000),
        options={"server": "SIM"},
    ),
}

HOLDINGS = {
    "kraken": {"BTC": Decimal(5), "ETH": Decimal(100)},
    "binance": {"BTC": Decimal(5), "ETH": Decimal(100)},
    "coinbase": {"BTC": Decimal(5), "ETH": Decimal(100)},
}
"""Of the accounts at spot venues, before anything is traded."""


@dataclass
class House:
    kind: Kind
    sim: SimVenue
    venue: Venue
    config: VenueConfig
    events: list[StopEvent] = field(default_factory=list)
    _counter: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # The venue's side.

    def name(self, desk: str) -> str:
        """An id that a desk has not used yet, as the venue keeps it."""
        return self.kind.on_the_wire(mint(desk, EPOCH, next(self._counter))) or ""

    def id(self) -> ClOrdID:
        """A ClOrdID of this desk that was not used yet."""
        return mint(DESK_ID, EPOCH, next(self._counter))

    def rest(
        self,
        count: int = 1,
        *,
        market: int = 0,
        desk: str | None = DESK_ID,
        price: str | None = None,
        **fields: Any,
    ) -> list[Order]:
        """Orders that rest: this desk's, another desk's, or for None those of somebody else."""
        placed = []
        for _ in range(count):
            order = ManualOrder(
                symbol=list(self.kind.markets)[market],
                side=Side.BUY,
                type=OrdType.LIMIT,
                quantity=self.kind.quantity,
                price=Decimal(price or self.kind.prices[market]),
                client_order_id=self.name(desk) if desk is not None else "",
            )
            if fields.get("type") is OrdType.MARKET:
                order = msgspec.structs.replace(order, price=None)
            placed.append(
                place(self.sim.exchange, "main", msgspec.structs.replace(order, **fields))
            )
        return placed

    def open(self) -> list[Order]:
        return [order for order in self.sim.exchange.ledger.orders.values() if order.is_open]

    def own_open(self) -> list[Order]:
        return [
            order
            for order in self.open()
            if is_own(self.kind.from_the_wire(order.cl_ord_id), DESK_ID)
        ]

    async def suffer(self, *faults: dict[str, Any], latency_ms: float | None = None) -> None:
        latency = None if latency_ms is None else {"model": "fixed", "ms": latency_ms}
        document = msgspec.json.encode({"faults": faults, "latency": latency})
        await self.sim.faults.load(decode(document))

    def hits(self) -> list[int]:
        return [armed.hits for armed in self.sim.faults.armed]

    # The desk's side.

    def visit(self, **fields: Any) -> Visit:
        return Visit(name=self.venue.name, config=self.config, venue=self.venue, **fields)

    async def stop(
        self, *, visit: dict[str, Any] | None = None, timeout_s: float = 10.0, **fields: Any
    ) -> VenueStatement:
        (stated,) = await stop_venues(
            [self.visit(**(visit or {}))],
            desk_id=DESK_ID,
            timeout_s=timeout_s,
            tell=self.events.append,
            **fields,
        )
        return stated

    def means(self) -> list[dict[str, int]]:
        return [
            {means.value: count for means, count in event.means.items()}
            for event in self.events
            if isinstance(event, Cancelling)
        ]

    def waits(self) -> list[float]:
        return [event.seconds for event in self.events if isinstance(event, Waiting)]


@contextlib.asynccontextmanager
async def house(
    face: str,
    *,
    name: str = "",
    limits: float = 0.0,
    weight: int | None = None,
    symbols: Sequence[str] | None = None,
    **config: Any,
) -> AsyncIterator[House]:
    """`limits`: the scale of the venue's rate limits; 0: none. `weight`: as in `FaceOptions`."""
    kind = KINDS[face]
    settings = testing.settings(
        [testing.StillMarket(face, **kind.markets)],
        face=face,
        credentials=(
            SimCredentials("main", KEY, SECRET),
            SimCredentials("main", ENGINE_KEY, ENGINE_SECRET),
        ),
        limit_scale=limits,
        weight_limit=weight,
        max_open_orders=5000,
    )
    async with testing.running_venue(settings) as sim:
        keys: dict[str, Any] = {"timeout": 3.0, "options": kind.options, **config}
        table = VenueConfig(
            adapter=face, url=sim.url, symbols=tuple(symbols or kind.symbols), **keys
        )
        venue = open_venue(name or face, table, Credentials(KEY, SECRET))
        try:
            yield House(kind, sim, venue, table)
        finally:
            await venue.close()
