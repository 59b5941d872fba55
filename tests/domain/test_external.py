"""External trades, adopted: every execution counts once, in whatever order it becomes known."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openbell.domain.books import Books, BooksSnapshot
from openbell.domain.external import EXTERNAL, AdoptedTrade, JournalEvent, PositionAdopted, effect
from openbell.domain.order_book import ImpossibleEventError
from openbell.domain.orders import ClOrdID, NewOrder, OrderFilled, OrderIntended, OrdType, Side
from openbell.trading.strategy_ledger import StrategyLedger

D = Decimal
VENUE, SYMBOL = INSTRUMENT = ("sim", "BTC/USDT")
STRATEGIES = ("a", "b", "")


@dataclass
class Execution:
    """One that really was; `order` is None where it was not of the desk."""

    number: int
    at: int
    order: int | None
    side: Side
    qty: Decimal
    fee: Decimal
    known: bool = False

    @property
    def effect(self) -> Decimal:
        return effect(self.side, self.qty, self.fee, "BTC", base="BTC", fee_in_kind=True)


@dataclass
class World:
    """A venue that tells the truth late, and books that hear of it."""

    random: Random
    books: Books = field(default_factory=Books)
    ledger: StrategyLedger = field(default_factory=StrategyLedger)
    executions: list[Execution] = field(default_factory=list)
    journal: list[JournalEvent] = field(default_factory=list)
    now: int = 1

    def hear(self, event: JournalEvent) -> None:
        self.journal.append(event)
        external = self.books.gives_way(event)
        if isinstance(event, PositionAdopted):
            self.books.apply(event)
        else:
            before = self.books.orders.get(event.cl_ord_id)
            self.books.apply(event)
            if isinstance(event, OrderFilled) and before is not None:
                self.ledger.apply(before, event)
        self.ledger.apply_external(INSTRUMENT, external)

    @property
    def truth(self) -> Decimal:
        return sum((e.effect for e in self.executions), D(0))

    @property
    def position(self) -> Decimal:
        return self.books.position(*INSTRUMENT).quantity

    def order(self, number: int) -> ClOrdID:
        return ClOrdID(f"ob00000000-1-{number}")

    def begin(self, number: int, side: Side, strategy: str) -> None:
        self.hear(
            OrderIntended(
                cl_ord_id=self.order(number),
                at_ns=number,
                order=NewOrder(
                    cl_ord_id=self.order(number), venue=VENUE, symbol=SYMBOL, side=side,
                    ord_type=OrdType.LIMIT, order_qty=D(1000), price=D(100), strategy=strategy,
                ),
            )
        )  # fmt: skip

    def execute(self, order: int | None, side: Side, qty: int, *, fee: bool) -> None:
        self.now += 1
        self.executions.append(
            Execution(
                len(self.executions), self.now, order, side, D(qty), D("0.25") if fee else D(0)
            )
        )

    def tell(self, execution: Execution) -> None:
        """The venue lists an execution of the desk's, at last."""
        assert execution.order is not None
        execution.known = True
        self.hear(
            OrderFilled(
                cl_ord_id=self.order(execution.order), at_ns=self.now,
                exec_id=f"e{execution.number}", last_qty=execution.qty, last_px=D(101),
                fee=execution.fee, fee_currency="BTC", venue_time_ns=execution.at,
            )
        )  # fmt: skip

    def infer(self, order: int) -> None:
        """The venue tells how much of an order is filled, and no execution."""
        cum = sum((e.qty for e in self.executions if e.order == order), D(0))
        missing = cum - self.books.orders[self.order(order)].cum_qty
        if missing > 0:
            self.hear(
                OrderFilled(
                    cl_ord_id=self.order(order), at_ns=self.now, exec_id=f"i{order}:{cum}",
                    last_qty=missing, last_px=D(100), inferred=True, cum_qty=cum,
                )
            )  # fmt: skip

    def adopt(self) -> None:
        listed = [e for e in self.executions if e.order is None and not e.known]
        trades = []
        for execution in listed:
            execution.known = True
            if self.random.random() < 0.5:
                trades.append(
                    AdoptedTrade(
                        exec_id=f"x{execution.number}", venue_order_id="theirs",
                        side=execution.side, qty=execution.qty, px=D(99), fee=execution.fee,
                        fee_currency="BTC", venue_time_ns=execution.at,
                    )
                )  # fmt: skip
        told = sum(
            (effect(t.side, t.qty, t.fee, t.fee_currency, base="BTC", fee_in_kind=True) for t in trades),
            D(0),
        )  # fmt: skip
        self.hear(
            PositionAdopted(
                at_ns=self.now, venue=VENUE, symbol=SYMBOL, books_qty=self.position,
                venue_qty=self.truth, as_of_ns=self.now, trades=tuple(trades),
                rest=self.truth - self.position - told, rest_px=D(98), by="alice", reason="test",
            )
        )  # fmt: skip
        self.now += 1
        assert self.position == self.truth

    @property
    def untold(self) -> list[Execution]:
        return [e for e in self.executions if e.order is not None and not e.known]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["own", "own", "others", "tell", "infer", "adopt"]),
        st.integers(0, 2), st.sampled_from(list(Side)), st.integers(1, 5), st.booleans(),
    ),
    max_size=40,
)  # fmt: skip


def history(steps: list[tuple[str, int, Side, int, bool]], seed: int) -> World:
    world = World(Random(seed))
    sides = [Side.BUY, Side.SELL, Side.BUY]
    for number, strategy in enumerate(STRATEGIES):
        world.begin(number, sides[number], strategy)
    for what, number, side, qty, flag in steps:
        match what:
            case "own":
                world.execute(number, sides[number], qty, fee=flag)
            case "others":
                world.execute(None, side, qty, fee=flag)
            case "tell" if world.untold:
                world.tell(world.random.choice(world.untold))
            case "infer":
                world.infer(number)
            case "adopt":
                world.adopt()
    world.adopt()
    return world


THIRDS = [
    ("own", 0, Side.BUY, 1, False), ("own", 0, Side.BUY, 1, False), ("own", 0, Side.BUY, 1, False),
    ("own", 1, Side.BUY, 1, False), ("own", 1, Side.BUY, 2, False), ("own", 1, Side.BUY, 4, False),
    ("own", 1, Side.BUY, 4, False), ("own", 1, Side.BUY, 5, False), ("own", 2, Side.BUY, 1, False),
    ("own", 2, Side.BUY, 1, False), ("others", 0, Side.BUY, 3, True), ("tell", 0, Side.BUY, 1, False),
]  # fmt: skip
"""A fee in kind that is dealt out in thirds."""


@example(steps=THIRDS, seed=4)
@settings(max_examples=300)
@given(steps=STEPS, seed=st.integers(0, 1 << 30))
def test_inferred_adopted_and_late_real_fills_give_the_exact_quantity_in_any_order(
    steps: list[tuple[str, int, Side, int, bool]], seed: int
) -> None:
    world = history(steps, seed)
    later = [(0, Side.BUY, 3), (1, Side.SELL, 2)] if seed % 2 else []
    for number, side, qty in later:
        world.execute(number, side, qty, fee=False)
        if seed % 3:
            world.infer(number)
    untold = world.untold
    world.random.shuffle(untold)
    for execution in untold:
        world.tell(execution)
        world.tell(execution)  # twice changes nothing
    assert world.position == world.truth
    strategies = sum((p.quantity for p in world.books.strategy_positions.values()), D(0))
    assert strategies == world.position
    assert sum((p.quantity for p in world.ledger.held.values()), D(0)) == world.position


@settings(max_examples=100)
@given(steps=STEPS, seed=st.integers(0, 1 << 30), cut=st.integers(0, 60))
def test_a_replay_or_a_snapshot_and_what_follows_gives_equal_books(
    steps: list[tuple[str, int, Side, int, bool]], seed: int, cut: int
) -> None:
    world = history(steps, seed)
    for execution in world.untold:
        world.tell(execution)
    encoded = msgspec.msgpack.encode(world.journal)
    journal = msgspec.msgpack.decode(encoded, type=list[JournalEvent])
    books = Books()
    for number, event in enumerate(journal):
        if number == cut:
            kept = msgspec.msgpack.encode(books.to_snapshot())
            books = Books.from_snapshot(msgspec.msgpack.decode(kept, type=BooksSnapshot))
        books.apply(event)
    assert books.to_snapshot() == world.books.to_snapshot()


def adopted(**changes: object) -> PositionAdopted:
    return msgspec.structs.replace(
        PositionAdopted(
            at_ns=1, venue=VENUE, symbol=SYMBOL, books_qty=D(0), venue_qty=D(1), as_of_ns=5,
            rest=D(1), rest_px=D(100),
        ),
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"venue_qty": D(2)},
        {"rest_px": D(0)},
        {"rest": D("NaN")},
        {"rest_px": D("Infinity")},
        {"trades": (AdoptedTrade(exec_id="x", venue_order_id="", side=Side.BUY, qty=D(0), px=D(1)),)},
    ],
)  # fmt: skip
def test_an_adoption_that_does_not_add_up_is_refused_and_changes_nothing(
    changes: dict[str, object],
) -> None:
    books = Books()
    with pytest.raises(ImpossibleEventError):
        books.apply(adopted(**changes))
    assert books.to_snapshot() == Books().to_snapshot()


def test_what_was_adopted_is_nobodys_profit_but_its_own() -> None:
    """A manual close: the strategy's profit is what it was, and the person's trade stands apart."""
    world = World(Random(1))
    world.begin(0, Side.BUY, "a")
    world.execute(0, Side.BUY, 2, fee=False)
    world.tell(world.untold[0])
    before = world.books.strategy_positions["a", INSTRUMENT]
    trade = AdoptedTrade(
        exec_id="x1", venue_order_id="hand", side=Side.SELL, qty=D(2), px=D(111), venue_time_ns=9
    )
    world.hear(adopted(books_qty=D(2), venue_qty=D(0), trades=(trade,), rest=D(0), rest_px=D(0)))
    assert world.books.strategy_positions["a", INSTRUMENT] == before
    external = world.books.strategy_positions[EXTERNAL, INSTRUMENT]
    assert (external.quantity, external.sold) == (D(-2), D(222))
    total = world.books.position(*INSTRUMENT)
    assert (total.quantity, total.realized_pnl) == (D(0), D(2) * (D(111) - D(101)))
    # What the strategy may still sell is another matter: nothing.
    assert world.ledger.position("a", INSTRUMENT).quantity == 0
