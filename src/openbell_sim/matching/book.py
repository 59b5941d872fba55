"""An order book with price-time priority over own orders and the crowd's quantity.

Invariants, held after every method:
- the book is not crossed: best bid < best ask;
- a level's total is the sum of its queue, and no level is empty;
- quantity is conserved: what a taker gets is what makers lose.

The market source is the authority over the crowd: its quantity declarations are absolute. Own
orders that take crowd quantity leave a hole that stays until the source declares another quantity
for that price.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from openbell.domain.orders import Side
from openbell_sim.matching.side import BookSide, Entry


class SelfTradePrevention(StrEnum):
    """What happens when an order would trade with one of the same account."""

    NONE = "NONE"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"


class Match(msgspec.Struct, frozen=True, gc=False):
    """One trade. `maker` has already been reduced."""

    price: int
    qty: int
    maker: Entry


class MatchResult(msgspec.Struct, gc=False):
    matches: list[Match] = msgspec.field(default_factory=list)
    expired_makers: list[Entry] = msgspec.field(default_factory=list)
    """Taken out of the book by self-trade prevention, with what was left of them."""
    taker_expired: bool = False
    """Self-trade prevention ended the taker."""
    leaves: int = 0
    """What is left of the taker, in lots; it does not rest in the book yet."""


class Taker(msgspec.Struct, frozen=True, gc=False):
    """An arriving order. `qty` lots, or as many as `budget` (ticks times lots) buys."""

    side: Side
    limit: int | None
    """In ticks; None: at any price."""
    qty: int
    account: str
    budget: int | None = None
    prevention: SelfTradePrevention = SelfTradePrevention.NONE


class Book:
    def __init__(self, first_update_id: int = 1) -> None:
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.update_id = first_update_id
        """Grows by one with each change of a level's total."""

    def side(self, side: Side) -> BookSide:
        return self.bids if side is Side.BUY else self.asks

    @property
    def is_empty(self) -> bool:
        return self.bids.best is None and self.asks.best is None

    def _settle(self, side: BookSide, price: int) -> None:
        self.update_id += 1
        side.settle(price)

    # Own orders

    def would_match(self, side: Side, limit: int | None) -> bool:
        book = self.side(side.opposite)
        return book.best is not None and book.reaches(book.best, limit)

    def available(self, taker: Taker) -> int:
        """Lots the taker could get now, at most its `qty`; asks what `match` would do."""
        book = self.side(taker.side.opposite)
        found = 0
        for price in book.prices():
            if found >= taker.qty or not book.reaches(price, taker.limit):
                break
            for entry in book.levels[price].queue:
                if self._is_self_trade(entry, taker):
                    if taker.prevention is SelfTradePrevention.EXPIRE_MAKER:
                        continue
                    return min(found, taker.qty)
                found += entry.qty
        return min(found, taker.qty)

    def cost(self, taker: Taker) -> int:
        """What the lots that the taker could get now cost, in ticks times lots."""
        book = self.side(taker.side.opposite)
        cost, left = 0, taker.qty
        for price in book.prices_through(taker.limit):
            for entry in book.levels[price].queue:
                if self._is_self_trade(entry, taker):
                    if taker.prevention is SelfTradePrevention.EXPIRE_MAKER:
                        continue
                    return cost
                lots = min(left, entry.qty)
                cost += price * lots
                left -= lots
                if not left:
                    return cost
        return cost

    @staticmethod
    def _is_self_trade(entry: Entry, taker: Taker) -> bool:
        return (
            not entry.is_crowd
            and entry.account == taker.account
            and taker.prevention is not SelfTradePrevention.NONE
        )

    def match(self, taker: Taker) -> MatchResult:
        """Matches what can be matched at once; what is left is the caller's to rest or expire."""
        book = self.side(taker.side.opposite)
        result = MatchResult(leaves=taker.qty)
        budget = taker.budget
        while result.leaves and not result.taker_expired:
            price = book.best
            if price is None or not book.reaches(price, taker.limit):
                break
            if budget is not None and budget < price:
                break
            level = book.levels[price]
            maker = level.queue[0]
            if self._is_self_trade(maker, taker):
                if taker.prevention is not SelfTradePrevention.EXPIRE_TAKER:
                    level.remove(maker.order_id)
                    result.expired_makers.append(maker)
                    self._settle(book, price)
                result.taker_expired = taker.prevention is not SelfTradePrevention.EXPIRE_MAKER
                continue
            qty = min(maker.qty, result.leaves)
            if budget is not None:
                qty = min(qty, budget // price)
                budget -= qty * price
            level.take(maker, qty)
            result.leaves -= qty
            result.matches.append(Match(price, qty, maker))
            self._settle(book, price)
        return result

    def rest(self, side: Side, price: int, entry: Entry) -> None:
        """Puts an order that cannot match at the end of its level's queue."""
        book = self.side(side)
        book.level(price).append(entry)
        self._settle(book, price)

    def remove(self, side: Side, price: int, order_id: int) -> int:
        """Takes an own order out; the lots that were left of it, 0 if it is not there."""
        book = self.side(side)
        level = book.levels.get(price)
        qty = level.remove(order_id) if level is not None else 0
        if qty:
            self._settle(book, price)
        return qty

    def resize(self, side: Side, price: int, order_id: int, qty: int) -> None:
        """Changes an own order to fewer lots, at least one; it keeps its place in the queue."""
        book = self.side(side)
        level = book.levels.get(price)
        if level is not None and level.resize(order_id, qty):
            self._settle(book, price)

    # The crowd

    def set_crowd(self, side: Side, price: int, qty: int) -> list[Match]:
        """The source declares the crowd's quantity at a price. Returns own orders' matches.

        A declaration that repeats the last one changes nothing, so that quantity taken by own
        orders does not come back by itself. An increase joins the queue behind own orders; a
        decrease is taken from the crowd's entries only. A quote that crosses own orders fills
        them, at their price, with what it grew by; crowd quotes that it crosses are stale and go.
        """
        book = self.side(side)
        before = book.declared.get(price, 0)
        if qty == before:
            return []
        if qty:
            book.declared[price] = qty
        else:
            del book.declared[price]
        matches: list[Match] = []
        opposite = self.side(side.opposite)
        if qty and self.would_match(side, price):
            self._drop_crowd(opposite, price)
            matches = self._fill_own(opposite, price, max(0, qty - before))
            still_crossed = self.would_match(side, price)
            qty = 0 if still_crossed else qty - sum(match.qty for match in matches)
        self._set_level_crowd(book, price, qty)
        return matches

    def _set_level_crowd(self, book: BookSide, price: int, qty: int) -> None:
        level = book.levels.get(price)
        held = level.crowd if level is not None else 0
        if qty == held:
            return
        level = book.level(price)
        if qty > held:
            level.grow_crowd(qty - held)
        else:
            level.shrink_crowd(held - qty)
        self._settle(book, price)

    def withdraw_crowd(self, side: Side, limit: int | None) -> None:
        """The crowd takes back all of a side that an order with this limit could trade with."""
        self._drop_crowd(self.side(side), limit)

    def _drop_crowd(self, book: BookSide, through: int | None) -> None:
        """Removes the crowd from a side's levels as far as `through` reaches."""
        for price in book.prices_through(through):
            book.declared.pop(price, None)
            self._set_level_crowd(book, price, 0)

    def _fill_own(self, book: BookSide, limit: int, qty: int) -> list[Match]:
        """A crowd quantity takes own orders; there is no crowd within its limit any more."""
        matches: list[Match] = []
        while qty and book.best is not None and book.reaches(book.best, limit):
            price = book.best
            level = book.levels[price]
            maker = level.queue[0]
            lots = min(qty, maker.qty)
            level.take(maker, lots)
            qty -= lots
            matches.append(Match(price, lots, maker))
            self._settle(book, price)
        return matches

    def set_best(
        self, bid: tuple[int, int] | None, ask: tuple[int, int] | None
    ) -> list[tuple[Side, Match]]:
        """The source says which prices are the crowd's best, as `(price, qty)`: crowd quantity
        better than that is gone. Matches carry the side of the own order."""
        found: list[tuple[Side, Match]] = []
        for side, quote in ((Side.BUY, bid), (Side.SELL, ask)):
            if quote is None:
                continue
            book = self.side(side)
            price, qty = quote
            if book.best is not None and book.best * side.sign > price * side.sign:
                self._drop_crowd(book, price + side.sign)
            found += [(side.opposite, match) for match in self.set_crowd(side, price, qty)]
        return found

    def reset_crowd(
        self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]
    ) -> list[tuple[Side, Match]]:
        """The source declares its whole book anew."""
        new = {Side.BUY: dict(bids), Side.SELL: dict(asks)}
        for side, levels in new.items():
            book = self.side(side)
            for price in [p for p in book.levels if p not in levels]:
                book.declared.pop(price, None)
                self._set_level_crowd(book, price, 0)
            for price in [p for p in book.declared if p not in levels]:
                del book.declared[price]
        return [
            (side.opposite, match)
            for side, levels in new.items()
            for price, qty in levels.items()
            for match in self.set_crowd(side, price, qty)
        ]

    def crowd_trade(self, aggressor: Side, price: int, qty: int) -> list[Match]:
        """The source reports a trade; returns what own orders get of it.

        The trade walks the queues in price-time order. The crowd quantity it meets goes to the
        back instead of away: the source's declarations tell the crowd's size before or after the
        trade itself, and counting the trade too would count it twice. So a trade moves own orders
        forward in the queue, and fills them when their turn comes.
        """
        book = self.side(aggressor.opposite)
        matches: list[Match] = []
        for level_price in book.prices_through(price):
            level = book.levels[level_price]
            if not qty:
                break
            if not level.has_own:
                qty -= min(qty, level.crowd)
                continue
            rotated, total = 0, level.total
            while qty and level.queue:
                entry = level.queue[0]
                lots = min(qty, entry.qty)
                level.take(entry, lots)
                qty -= lots
                if entry.is_crowd:
                    rotated += lots
                else:
                    matches.append(Match(level_price, lots, entry))
            if rotated:
                level.grow_crowd(rotated)
            if level.total != total:
                self._settle(book, level_price)
        return matches
