"""Rows of trades and quotes: which column is what, and what one row says.

Columns are found by their names, in any order and with any others beside them; letters and digits
of a name count, whatever their case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from openbell_sim.market.file import UNNAMED
from openbell_sim.market.timestamps import nanoseconds

LARGEST = Decimal(10) ** 15
"""No price and no quantity reaches it; beyond, a number is damage."""

_NAMES = {
    "time": ("timestamp", "time", "ts", "datetime", "date", "transacttime", "tradetime"),
    "symbol": ("symbol", "pair", "instrument", "ticker", "market"),
    "price": ("price", "px", "rate", "last"),
    "qty": ("qty", "quantity", "size", "volume", "amount", "vol", "sz"),
    "side": ("side", "takerside", "aggressorside", "aggressor", "direction"),
    "seller": ("isbuyermaker", "buyermaker"),
    "bid": ("bid", "bidprice", "bidpx", "bestbid"),
    "ask": ("ask", "askprice", "askpx", "bestask", "offer"),
    "bid_qty": ("bidqty", "bidsize", "bidsz", "bidvolume", "bidquantity"),
    "ask_qty": ("askqty", "asksize", "asksz", "askvolume", "askquantity"),
}
_BUYING = {"b", "buy", "buyer", "bought"}
_SELLING = {"s", "sell", "seller", "sold"}
_YES, _NO = {"true", "t", "1", "yes"}, {"false", "f", "0", "no"}

WANTED = (
    "a time, and price and qty (trades; a side too where it is known) or bid and ask (quotes; "
    "bid_qty and ask_qty too where they are known)"
)


@dataclass(frozen=True, slots=True)
class TradeRow:
    at_ns: int
    symbol: str
    price: Decimal
    qty: Decimal
    buying: bool | None
    """Whether the aggressor bought; None: the row does not tell."""


@dataclass(frozen=True, slots=True)
class QuoteRow:
    at_ns: int
    symbol: str
    bid: Decimal
    ask: Decimal
    bid_qty: Decimal | None
    ask_qty: Decimal | None


Row = TradeRow | QuoteRow


class Columns:
    """Which value of a row is what."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ValueError where a column that is needed is not there."""
        plain = ["".join(filter(str.isalnum, name.lower())) for name in names]
        self._at = {
            meaning: plain.index(found)
            for meaning, known in _NAMES.items()
            if (found := next((name for name in known if name in plain), None)) is not None
        }
        # MetaTrader writes day and time of day apart.
        self._day = plain.index("date") if "date" in plain and "time" in plain else None
        if self._day is not None:
            self._at["time"] = plain.index("time")
        self._quotes = "bid" in self._at and "ask" in self._at
        if "time" not in self._at or not (self._quotes or {"price", "qty"} <= self._at.keys()):
            raise ValueError(f"its columns are {', '.join(names)}; wanted are {WANTED}")
        self._before: dict[str, QuoteRow] = {}

    def row(self, values: Sequence[object]) -> Row:
        """Raises ValueError; its text says what is wrong, not with which number."""
        if len(values) <= max(self._at.values()):
            raise ValueError("it has too few columns")
        at_ns = self._time(values)
        symbol = self._text(values, "symbol") or UNNAMED
        if self._quotes:
            return self._quote(at_ns, symbol, values)
        return TradeRow(
            at_ns,
            symbol,
            _positive(values[self._at["price"]], "price"),
            _positive(values[self._at["qty"]], "quantity"),
            self._aggressor(values),
        )

    def _time(self, values: Sequence[object]) -> int:
        value = values[self._at["time"]]
        try:
            return nanoseconds(value if self._day is None else f"{values[self._day]} {value}")
        except ValueError:
            raise ValueError("its time is none") from None

    def _text(self, values: Sequence[object], meaning: str) -> str:
        index = self._at.get(meaning)
        value = None if index is None else values[index]
        return "" if value is None else str(value).strip()

    def _aggressor(self, values: Sequence[object]) -> bool | None:
        seller = self._text(values, "seller").lower()
        if seller in _YES | _NO:
            return seller in _NO
        side = self._text(values, "side").lower()
        return side in _BUYING if side in _BUYING | _SELLING else None

    def _quote(self, at_ns: int, symbol: str, values: Sequence[object]) -> QuoteRow:
        # Where a row tells only the side that changed, the other one is as it was.
        before = self._before.get(symbol)
        bid, ask = values[self._at["bid"]], values[self._at["ask"]]
        row = QuoteRow(
            at_ns,
            symbol,
            before.bid if before and bid in ("", None) else _positive(bid, "bid"),
            before.ask if before and ask in ("", None) else _positive(ask, "ask"),
            self._size(values, "bid_qty"),
            self._size(values, "ask_qty"),
        )
        if row.bid > row.ask:
            raise ValueError("its bid is above its ask")
        self._before[symbol] = row
        return row

    def _size(self, values: Sequence[object], meaning: str) -> Decimal | None:
        text = self._text(values, meaning)
        return _positive(text, "quantity") if text else None


def _positive(value: object, what: str) -> Decimal:
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError(f"its {what} is no number") from None
    if not number.is_finite():
        raise ValueError(f"its {what} is no number")
    if not 0 < number < LARGEST:
        raise ValueError(f"its {what} is not positive" if number <= 0 else f"its {what} is absurd")
    return number
