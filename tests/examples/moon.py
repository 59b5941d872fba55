"""Moon, the imaginary exchange of examples/venue-adapter: its rules, without a network.

One account, one price per market that tests move by hand. What the protocol promises is kept here:
an id names at most one order, for ever; funds are locked and paid to the last digit.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

FEE = Decimal("0.001")
"""Of the value, in the quote currency."""
CURRENCIES = ("BTC", "ETH", "USD")
ZERO = Decimal(0)


class RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Market:
    name: str
    tick: Decimal
    step: Decimal
    min_size: Decimal
    max_size: Decimal
    min_value: Decimal

    @property
    def base(self) -> str:
        return self.name.split("-")[0]

    @property
    def quote(self) -> str:
        return self.name.split("-")[1]


@dataclass(kw_only=True)
class Order:
    number: int
    client_id: str
    market: Market
    side: str
    type: str
    size: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    filled: Decimal = ZERO
    status: str = "open"
    created: int = field(default_factory=lambda: now_ms())
    updated: int = field(default_factory=lambda: now_ms())

    @property
    def id(self) -> str:
        return f"o{self.number}"

    @property
    def left(self) -> Decimal:
        return self.size - self.filled

    def locks(self) -> tuple[str, Decimal]:
        """What an open order keeps from being spent."""
        if self.status != "open" or self.price is None:
            return self.market.quote, ZERO
        if self.side == "sell":
            return self.market.base, self.left
        return self.market.quote, self.left * self.price * (1 + FEE)

    def told(self) -> dict[str, object]:
        return {
            "id": self.id,
            "client_id": self.client_id,
            "market": self.market.name,
            "side": self.side,
            "type": self.type,
            "size": str(self.size),
            "filled": str(self.filled),
            "price": None if self.price is None else str(self.price),
            "stop_price": None if self.stop_price is None else str(self.stop_price),
            "status": self.status,
            "created": self.created,
            "updated": self.updated,
        }


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Moon:
    """Raises RefusedError where the exchange says no."""

    def __init__(self) -> None:
        self.markets = {
            "BTC-USD": _market("BTC-USD", "0.01", "0.00001", "0.0001", "100", "10"),
            "ETH-USD": _market("ETH-USD", "0.01", "0.0001", "0.001", "1000", "10"),
        }
        self.prices = {
            "BTC-USD": (Decimal("50000.10"), Decimal("50000.30")),
            "ETH-USD": (Decimal("3000.00"), Decimal("3000.50")),
        }
        self.funds = {"BTC": Decimal(10), "ETH": ZERO, "USD": Decimal(1_000_000)}
        self.orders: list[Order] = []
        """Every one that was ever taken, in order of their making."""
        self.fills: list[dict[str, object]] = []
        self._numbers = itertools.count(1)

    # Orders.

    def place(self, sent: Mapping[str, object]) -> Order:
        market = self._market(sent.get("market"))
        client_id, size = str(sent.get("client_id", "")), _number(sent, "size")
        if not 1 <= len(client_id) <= 36 or sent.get("side") not in ("buy", "sell"):
            raise RefusedError(400, "bad_request", "client_id or side")
        if any(order.client_id == client_id for order in self.orders):
            raise RefusedError(409, "client_id_used", f"{client_id} names an order already")
        is_limit = sent.get("type") == "limit"
        price = _number(sent, "price") if is_limit else None
        if not is_limit and (sent.get("type") != "market" or "price" in sent):
            raise RefusedError(400, "bad_request", "type or price")
        if size % market.step or (price is not None and price % market.tick):
            raise RefusedError(400, "off_grid", f"{market.name} goes in {market.tick}")
        order = Order(
            number=next(self._numbers),
            client_id=client_id,
            market=market,
            side=str(sent["side"]),
            type=str(sent["type"]),
            size=size,
            price=price,
        )
        touch = self._touch(order)
        if size < market.min_size or size * (price or touch) < market.min_value:
            raise RefusedError(400, "too_small", f"the least is {market.min_size}")
        if size > market.max_size:
            raise RefusedError(400, "too_large", f"the most is {market.max_size}")
        takes = price is None or (price >= touch if order.side == "buy" else price <= touch)
        if takes and sent.get("post_only") is True:
            raise RefusedError(400, "would_take", "post_only")
        currency, needed = order.locks() if price is not None else self._cost(order, touch)
        if needed > self.funds[currency] - self.locked(currency):
            raise RefusedError(400, "no_funds", f"{needed} {currency} are not free")
        self.orders.append(order)
        if takes:
            self.execute(order, order.size, touch, maker=False)
        elif sent.get("tif") in ("ioc", "fok"):
            self._end(order, "expired")
        return order

    def by_hand(self, market: str, side: str, size: Decimal, stop_price: Decimal) -> Order:
        """A stop order that a person made on the website: no client id, and nothing locked."""
        order = Order(
            number=next(self._numbers),
            client_id="",
            market=self._market(market),
            side=side,
            type="stop",
            size=size,
            stop_price=stop_price,
        )
        self.orders.append(order)
        return order

    def cancel(self, order: Order) -> Order:
        if order.status != "open":
            raise RefusedError(409, "not_open", f"{order.id} is {order.status}")
        self._end(order, "cancelled")
        return order

    def execute(self, order: Order, size: Decimal, price: Decimal, *, maker: bool) -> None:
        """So much of an open order is filled."""
        value = size * price
        sign = 1 if order.side == "buy" else -1
        self.funds[order.market.base] += sign * size
        self.funds[order.market.quote] -= sign * value + value * FEE
        order.filled += size
        order.updated = now_ms()
        if not order.left:
            self._end(order, "filled")
        self.fills.append(
            {
                "id": f"f{len(self.fills) + 1}",
                "order": order.id,
                "client_id": order.client_id,
                "market": order.market.name,
                "side": order.side,
                "size": str(size),
                "price": str(price),
                "fee": str(value * FEE),
                "fee_currency": order.market.quote,
                "maker": maker,
                "time": now_ms(),
            }
        )

    def _end(self, order: Order, status: str) -> None:
        order.status, order.updated = status, now_ms()

    # What is told.

    def found(self, *, order_id: str = "", client_id: str = "") -> Order:
        for order in self.orders:
            if order.id == order_id or (client_id and order.client_id == client_id):
                return order
        raise RefusedError(404, "no_such_order", order_id or client_id)

    @property
    def open_orders(self) -> list[Order]:
        return [order for order in self.orders if order.status == "open"]

    def locked(self, currency: str) -> Decimal:
        locks = (order.locks() for order in self.open_orders)
        return sum((amount for name, amount in locks if name == currency), ZERO)

    def ticker(self, market: object) -> dict[str, object]:
        name = self._market(market).name
        bid, ask = self.prices[name]
        return {
            "market": name,
            "bid": str(bid),
            "bid_size": "1.5",
            "ask": str(ask),
            "ask_size": "2.25",
            "time": now_ms(),
        }

    def balances(self) -> list[dict[str, str]]:
        return [
            {
                "currency": currency,
                "free": str(self.funds[currency] - self.locked(currency)),
                "locked": str(self.locked(currency)),
            }
            for currency in CURRENCIES
        ]

    def _market(self, name: object) -> Market:
        if not isinstance(name, str) or name not in self.markets:
            raise RefusedError(400, "unknown_market", str(name))
        return self.markets[name]

    def _touch(self, order: Order) -> Decimal:
        bid, ask = self.prices[order.market.name]
        return ask if order.side == "buy" else bid

    def _cost(self, order: Order, price: Decimal) -> tuple[str, Decimal]:
        if order.side == "sell":
            return order.market.base, order.size
        return order.market.quote, order.size * price * (1 + FEE)


def _market(name: str, *numbers: str) -> Market:
    return Market(name, *map(Decimal, numbers))


def _number(sent: Mapping[str, object], name: str) -> Decimal:
    """Amounts are text: a JSON number is refused."""
    text = sent.get(name)
    try:
        number = Decimal(text) if isinstance(text, str) else ZERO
    except InvalidOperation:
        number = ZERO
    if not number.is_finite() or number <= 0:
        raise RefusedError(400, "bad_request", name)
    return number
