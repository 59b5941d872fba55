"""One request, as the handlers see it, and how its parts are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from multidict import MultiMapping

from openbell_sim.exchange import Exchange, Market
from openbell_sim.faces.coinbase import errors
from openbell_sim.keys import Credentials

T = TypeVar("T")
SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Call:
    exchange: Exchange
    caller: Credentials | None
    """None on public endpoints."""
    query: MultiMapping[str]
    body: Mapping[str, object]
    name: str
    """What stands in the path in place of an identifier; empty where nothing does."""
    received_ns: int

    @property
    def account(self) -> str:
        assert self.caller is not None, "a public endpoint has no account"
        return self.caller.account

    def market(self, product_id: str) -> Market:
        """Raises CoinbaseError 404."""
        market = self.exchange.markets.get(product_id)
        if market is None:
            raise errors.product_not_found(product_id)
        return market

    def listed(self, *names: str) -> set[str]:
        """All values of query parameters that may be repeated."""
        return {value for name in names for value in self.query.getall(name, ())}

    def count(self, name: str, default: int, most: int) -> int:
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdecimal() or int(text) == 0:
            raise errors.invalid_argument(f"{name} must be a positive integer")
        return min(int(text), most)

    def time_ns(self, name: str) -> int | None:
        """An RFC 3339 time of the query."""
        text = self.query.get(name)
        return None if text is None else nanoseconds(text, name)


def nanoseconds(text: str, name: str) -> int:
    """Raises CoinbaseError 400 for what is no RFC 3339 time."""
    whole, dot, rest = text.partition(".")
    digits = rest.rstrip("Z") if dot else ""
    try:
        moment = datetime.fromisoformat(whole.rstrip("Z")).replace(tzinfo=UTC)
        fraction = int(digits.ljust(9, "0")[:9]) if digits else 0
    except ValueError:
        raise errors.invalid_argument(f"{name} is not an RFC 3339 time") from None
    return int(moment.timestamp()) * SECOND_NS + fraction


def positive(values: Mapping[str, object], name: str) -> Decimal | None:
    """A number given as text; None where it is absent. Raises ValueError for anything else."""
    text = values.get(name)
    if text is None or text == "":
        return None
    try:
        number = Decimal(str(text))
    except InvalidOperation:
        raise ValueError(name) from None
    if not number.is_finite() or number <= 0:
        raise ValueError(name)
    return number


def page(items: Sequence[T], call: Call, limit: int) -> tuple[Sequence[T], str]:
    """One page and the cursor of the next one, empty after the last.

    A cursor is the number of items before its page. Items are newest first, so those that come
    meanwhile shift the pages: an item may come twice, none is left out.
    """
    text = call.query.get("cursor") or "0"
    if not text.isdecimal():
        raise errors.invalid_argument("invalid cursor")
    start = int(text)
    end = start + limit
    return items[start:end], str(end) if end < len(items) else ""


def newest_first(items: Sequence[T]) -> Iterator[T]:
    return reversed(items)
