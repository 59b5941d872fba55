"""One account as OANDA tells it: its transactions, orders and trades.

Built by `journal.Journal`; read by everything that answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from zlib import crc32

from openbell_sim.faces.oanda.notes import ClientExtensions, Note
from openbell_sim.positions import Position

Json = dict[str, object]
ZERO = Decimal(0)


class Moment(int):
    """Nanoseconds since the epoch, in a body: each request asks for its own format of times."""


def account_id(name: str) -> str:
    """`101-001-1234567-001` of an account of the exchange: the same at every start."""
    return f"101-001-{user_id(name):07d}-001"


def user_id(name: str) -> int:
    return crc32(name.encode()) % 10**7


@dataclass(frozen=True, slots=True)
class Transaction:
    id: int
    at_ns: int
    batch: int
    """Id of the first transaction of the same request or fill."""
    kind: str
    """`LIMIT_ORDER`, `ORDER_FILL`, ..."""
    body: Json
    """All but id, time, type, account and batch."""


class OrderState(StrEnum):
    PENDING = "PENDING"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"


@dataclass(slots=True)
class OandaOrder:
    """An order. Its id is that of the transaction that created it."""

    id: int
    exchange_id: int
    """0: the exchange never had it; it was created and cancelled in one."""
    symbol: str
    units: Decimal
    """Signed."""
    note: Note
    created_ns: int
    state: OrderState = OrderState.PENDING
    filled_units: Decimal = ZERO
    """Absolute."""
    filled_before: Decimal = ZERO
    """Of the orders that it replaced; the exchange knows them as one."""
    filled_by: int = 0
    """Its last fill. 0 here and below: none."""
    filled_ns: int = 0
    cancelled_by: int = 0
    cancelled_ns: int = 0
    trade_opened: int = 0
    trade_reduced: int = 0
    trades_closed: list[int] = field(default_factory=list)
    replaced_by: int = 0


@dataclass(slots=True)
class Trade:
    """What one fill opened. Its id is that of the fill's transaction."""

    id: int
    symbol: str
    price: Decimal
    initial_units: Decimal
    exec_ids: tuple[int, ...]
    """Of the exchange's lots that it is made of, oldest first."""
    opened_ns: int
    client: ClientExtensions
    units: Decimal
    """What is left of it, signed."""
    realized: Decimal = ZERO
    closed_by: list[int] = field(default_factory=list)
    """Fills that reduced or closed it."""
    closed_ns: int = 0
    closed_units: Decimal = ZERO
    """Absolute."""
    closed_notional: Decimal = ZERO

    @property
    def is_open(self) -> bool:
        return bool(self.units)


@dataclass
class Book:
    """Everything that OANDA knows of an account."""

    name: str
    """The exchange's."""
    created_ns: int = 0
    transactions: list[Transaction] = field(default_factory=list)
    """Their ids count from 1 without a gap."""
    orders: dict[int, OandaOrder] = field(default_factory=dict)
    pending: dict[int, OandaOrder] = field(default_factory=dict)
    trades: dict[int, Trade] = field(default_factory=dict)
    open_trades: dict[str, dict[int, Trade]] = field(default_factory=dict)
    """By instrument, oldest first."""
    positions: dict[str, Position] = field(default_factory=dict)
    """By instrument, whatever was ever held."""
    trade_of_lot: dict[tuple[str, int], Trade] = field(default_factory=dict)
    """By instrument and exec id."""
    realized: dict[tuple[str, bool], Decimal] = field(default_factory=dict)
    """By instrument and whether the long side."""
    hanging: dict[tuple[int, str], OandaOrder] = field(default_factory=dict)
    """The newest take profit and stop loss of a trade, by its id and their type."""
    opened: dict[int, tuple[Trade, Note]] = field(default_factory=dict)
    """Trades opened by orders that ask for protection; `protections.settle` empties it."""
    touched: dict[int, Trade] = field(default_factory=dict)
    """Trades closed, in part or whole; emptied likewise."""
    balance: Decimal = ZERO
    realized_total: Decimal = ZERO
    commission: Decimal = ZERO
    by_exchange_id: dict[int, OandaOrder] = field(default_factory=dict)
    by_client_id: dict[str, OandaOrder] = field(default_factory=dict)
    """The newest of each."""

    @property
    def id(self) -> str:
        return account_id(self.name)

    @property
    def last_id(self) -> int:
        return len(self.transactions)

    def find_order(self, specifier: str) -> OandaOrder | None:
        """By id, or by `@` and the client's id. The latter finds pending orders only: OANDA says
        that these ids are unique among them, and not that they are kept any longer."""
        if specifier.startswith("@"):
            found = self.by_client_id.get(specifier[1:])
            return found if found is not None and found.state is OrderState.PENDING else None
        return self.orders.get(int(specifier)) if specifier.isdecimal() else None

    def find_trade(self, specifier: str) -> Trade | None:
        if specifier.startswith("@"):
            return next((t for t in self.all_open_trades() if t.client.id == specifier[1:]), None)
        return self.trades.get(int(specifier)) if specifier.isdecimal() else None

    def all_open_trades(self) -> Iterator[Trade]:
        for trades in self.open_trades.values():
            yield from trades.values()

    def position(self, symbol: str) -> Position:
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position()
        return position
