"""The order book against a reference that is too slow and too simple to be wrong."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.domain.orders import Side
from openbell_sim.matching.book import Book, SelfTradePrevention, Taker
from openbell_sim.matching.side import CROWD, Entry

P = SelfTradePrevention


@dataclass
class Waiting:
    """A place in the reference's one long queue; its index is its time priority."""

    side: Side
    price: int
    order_id: int
    account: str
    qty: int


class Reference:
    """One list in time order, searched from its beginning for everything."""

    def __init__(self) -> None:
        self.queue: list[Waiting] = []
        self.declared: dict[tuple[Side, int], int] = {}

    def _sweep(self) -> None:
        self.queue = [waiting for waiting in self.queue if waiting.qty]

    def _reachable(self, side: Side, limit: int | None) -> list[Waiting]:
        """What an order of the other side with this limit meets, in priority order."""
        found = [
            w
            for w in self.queue
            if w.side is side and w.qty and (limit is None or (w.price - limit) * side.sign >= 0)
        ]
        return sorted(found, key=lambda w: -w.price * side.sign)  # stable: time order is kept

    def match(self, taker: Taker) -> tuple[list[tuple[int, int, int]], list[int], bool, int]:
        trades, expired, left, budget = [], [], taker.qty, taker.budget
        for waiting in self._reachable(taker.side.opposite, taker.limit):
            if not left or (budget is not None and budget < waiting.price):
                break
            if waiting.account == taker.account and taker.prevention is not P.NONE:
                if taker.prevention is not P.EXPIRE_TAKER:
                    expired.append(waiting.order_id)
                    waiting.qty = 0
                if taker.prevention is not P.EXPIRE_MAKER:
                    self._sweep()
                    return trades, expired, True, left
                continue
            qty = min(left, waiting.qty)
            if budget is not None:
                qty = min(qty, budget // waiting.price)
                budget -= qty * waiting.price
            waiting.qty -= qty
            left -= qty
            trades.append((waiting.price, qty, waiting.order_id))
        self._sweep()
        return trades, expired, False, left

    def rest(self, side: Side, price: int, order_id: int, account: str, qty: int) -> None:
        self.queue.append(Waiting(side, price, order_id, account, qty))

    def remove(self, order_id: int) -> int:
        qty = sum(w.qty for w in self.queue if w.order_id == order_id)
        self.queue = [w for w in self.queue if w.order_id != order_id]
        return qty

    def _set_level(self, side: Side, price: int, qty: int) -> None:
        level = [w for w in self.queue if (w.side, w.price, w.order_id) == (side, price, CROWD)]
        held = sum(w.qty for w in level)
        if qty > held:
            self.rest(side, price, CROWD, "", qty - held)
        for waiting in reversed(level):
            cut = min(waiting.qty, max(0, held - qty))
            waiting.qty -= cut
            held -= cut
        self._sweep()

    def set_crowd(self, side: Side, price: int, qty: int) -> list[tuple[int, int, int]]:
        before = self.declared.get((side, price), 0)
        if qty == before:
            return []
        self.declared[side, price] = qty
        trades = []
        if qty:
            grown = max(0, qty - before)
            for waiting in self._reachable(side.opposite, price):
                if waiting.order_id == CROWD:
                    waiting.qty = 0
                    self.declared[waiting.side, waiting.price] = 0
                    continue
                lots = min(grown, waiting.qty)
                waiting.qty -= lots
                grown -= lots
                qty -= lots
                if lots:
                    trades.append((waiting.price, lots, waiting.order_id))
            if self._reachable(side.opposite, price):
                qty = 0
        self._sweep()
        self._set_level(side, price, qty)
        return trades

    def crowd_trade(self, aggressor: Side, price: int, qty: int) -> list[tuple[int, int, int]]:
        trades, moved = [], []
        for waiting in self._reachable(aggressor.opposite, price):
            lots = min(qty, waiting.qty)
            if not lots:
                break
            qty -= lots
            waiting.qty -= lots
            if waiting.order_id == CROWD:
                moved.append(Waiting(waiting.side, waiting.price, CROWD, "", lots))
            else:
                trades.append((waiting.price, lots, waiting.order_id))
        self.queue += moved
        self._sweep()
        return trades

    def levels(self, side: Side) -> list[tuple[int, list[tuple[int, int]]]]:
        """From the best outwards: the queue at each price, neighbouring crowd merged."""
        result: dict[int, list[tuple[int, int]]] = {}
        for waiting in self._reachable(side, None):
            queue = result.setdefault(waiting.price, [])
            if queue and queue[-1][0] == waiting.order_id == CROWD:
                queue[-1] = (CROWD, queue[-1][1] + waiting.qty)
            else:
                queue.append((waiting.order_id, waiting.qty))
        return list(result.items())


def merged(trades: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The crowd is anonymous: how its quantity is cut into entries is nobody's business."""
    result: list[tuple[int, int, int]] = []
    for price, qty, order_id in trades:
        if result and result[-1][::2] == (price, order_id) == (price, CROWD):
            result[-1] = (price, result[-1][1] + qty, CROWD)
        else:
            result.append((price, qty, order_id))
    return result


def levels_of(book: Book, side: Side) -> list[tuple[int, list[tuple[int, int]]]]:
    result = []
    for price in book.side(side).prices():
        level = book.side(side).levels[price]
        queue: list[tuple[int, int]] = []
        for entry in level.queue:
            assert entry.qty > 0
            if queue and queue[-1][0] == entry.order_id == CROWD:
                queue[-1] = (CROWD, queue[-1][1] + entry.qty)
            else:
                queue.append((entry.order_id, entry.qty))
        assert level.total == sum(qty for _, qty in queue)
        assert level.crowd == sum(qty for order_id, qty in queue if order_id == CROWD)
        result.append((price, queue))
    return result


sides = st.sampled_from(Side)
prices = st.integers(95, 105)
lots = st.integers(1, 12)
orders = st.tuples(
    st.just("order"),
    sides,
    st.one_of(st.none(), prices),
    lots,
    st.sampled_from(["a", "b"]),
    st.sampled_from(P),
    st.one_of(st.none(), st.integers(1, 2000)),
)
actions = st.one_of(
    orders,
    st.tuples(st.just("cancel"), st.integers(1, 30)),
    st.tuples(st.just("crowd"), sides, prices, st.integers(0, 15)),
    st.tuples(st.just("trade"), sides, prices, st.integers(1, 25)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(actions, max_size=40))
def test_every_history_gives_what_the_reference_gives(history: list[tuple]) -> None:  # type: ignore[type-arg]
    book, reference = Book(), Reference()
    resting: dict[int, tuple[Side, int]] = {}
    next_id = 1
    for action, *values in history:
        if action == "order":
            side, limit, qty, account, prevention, budget = values
            if side is Side.SELL or limit is not None:
                budget = None
            taker = Taker(side, limit, qty, account, budget, prevention)
            available = book.available(taker)
            cost = book.cost(taker)
            result = book.match(taker)
            trades = [(m.price, m.qty, m.maker.order_id) for m in result.matches]
            expired = [entry.order_id for entry in result.expired_makers]
            expected, *outcome = reference.match(taker)
            assert merged(trades) == merged(expected)
            assert outcome == [expired, result.taker_expired, result.leaves]
            if budget is None:
                assert available == sum(q for _, q, _ in trades)
                assert cost == sum(p * q for p, q, _ in trades)
            if limit is not None and result.leaves and not result.taker_expired:
                entry = Entry(next_id, account, result.leaves)
                book.rest(side, limit, entry)
                reference.rest(side, limit, next_id, account, result.leaves)
                resting[next_id] = (side, limit)
            next_id += 1
        elif action == "cancel":
            (order_id,) = values
            if order_id in resting:
                assert book.remove(*resting[order_id], order_id) == reference.remove(order_id)
        elif action == "crowd":
            matches = book.set_crowd(*values)
            assert [(m.price, m.qty, m.maker.order_id) for m in matches] == reference.set_crowd(
                *values
            )
        else:
            matches = book.crowd_trade(*values)
            assert [(m.price, m.qty, m.maker.order_id) for m in matches] == reference.crowd_trade(
                *values
            )
        for side in Side:
            assert levels_of(book, side) == reference.levels(side)
        bid, ask = book.bids.best, book.asks.best
        assert bid is None or ask is None or bid < ask


def _book(*levels: tuple[Side, int, int]) -> Book:
    book = Book()
    for side, price, qty in levels:
        book.set_crowd(side, price, qty)
    return book


def test_an_order_waits_behind_the_crowd_that_was_there_and_before_the_crowd_that_came() -> None:
    book = _book((Side.BUY, 100, 5))
    book.rest(Side.BUY, 100, Entry(1, "a", 3))
    book.set_crowd(Side.BUY, 100, 9)
    assert levels_of(book, Side.BUY) == [(100, [(CROWD, 5), (1, 3), (CROWD, 4)])]
    assert not book.crowd_trade(Side.SELL, 100, 5)
    (match,) = book.crowd_trade(Side.SELL, 100, 2)
    assert (match.qty, match.maker.order_id) == (2, 1)


def test_a_cancel_in_the_crowd_does_not_improve_a_place_in_the_queue() -> None:
    book = _book((Side.BUY, 100, 5))
    book.rest(Side.BUY, 100, Entry(1, "a", 3))
    book.set_crowd(Side.BUY, 100, 9)
    book.set_crowd(Side.BUY, 100, 5)
    assert levels_of(book, Side.BUY) == [(100, [(CROWD, 5), (1, 3)])]


def test_a_trade_does_not_shrink_the_crowd_for_the_source_says_itself_how_much_is_left() -> None:
    book = _book((Side.BUY, 100, 5))
    book.rest(Side.BUY, 100, Entry(1, "a", 3))
    book.crowd_trade(Side.SELL, 100, 4)
    assert levels_of(book, Side.BUY) == [(100, [(CROWD, 1), (1, 3), (CROWD, 4)])]
    book.set_crowd(Side.BUY, 100, 1)
    assert levels_of(book, Side.BUY) == [(100, [(CROWD, 1), (1, 3)])]


def test_quantity_taken_from_the_crowd_stays_away_until_the_source_changes_its_mind() -> None:
    book = _book((Side.SELL, 100, 5))
    book.match(Taker(Side.BUY, None, 5, "a"))
    book.set_crowd(Side.SELL, 100, 5)
    assert book.asks.best is None
    book.set_crowd(Side.SELL, 100, 6)
    assert book.asks.top(1) == [(100, 6)]


def test_a_crossing_quote_fills_own_orders_at_their_price_and_removes_stale_quotes() -> None:
    book = _book((Side.SELL, 101, 4))
    book.rest(Side.SELL, 100, Entry(1, "a", 3))
    (match,) = book.set_crowd(Side.BUY, 102, 5)
    assert (match.price, match.qty) == (100, 3)
    assert book.asks.best is None
    assert book.bids.top(1) == [(102, 2)]


def test_naming_the_best_prices_removes_the_crowd_beyond_them_but_no_own_order() -> None:
    book = _book((Side.BUY, 100, 5), (Side.BUY, 99, 5), (Side.SELL, 103, 5))
    book.rest(Side.BUY, 101, Entry(1, "a", 2))
    assert not book.set_best((99, 7), (102, 1))
    assert book.bids.top(3) == [(101, 2), (99, 7)]
    assert book.asks.top(2) == [(102, 1), (103, 5)]


def test_a_new_snapshot_replaces_the_crowd_and_keeps_own_orders() -> None:
    book = _book((Side.BUY, 100, 5), (Side.SELL, 103, 5))
    book.rest(Side.BUY, 98, Entry(1, "a", 2))
    book.reset_crowd([(97, 1)], [(99, 1)])
    assert book.bids.top(3) == [(98, 2), (97, 1)]
    assert book.asks.top(3) == [(99, 1)]


def test_each_change_of_a_level_has_an_update_id() -> None:
    book = _book((Side.BUY, 100, 5))
    before = book.update_id
    book.set_crowd(Side.BUY, 100, 5)
    assert book.update_id == before
    book.set_crowd(Side.BUY, 100, 4)
    book.rest(Side.BUY, 99, Entry(1, "a", 1))
    assert book.update_id == before + 2
    assert book.bids.changed == {100, 99}
