"""Cash in the books: it follows the venue over any history, and no difference is told that is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.domain.books import Books, BooksSnapshot
from openbell.domain.cash import FIRST_SEEN, CashBooked, currencies
from openbell.domain.cash_compared import CashFacts, CashFinding, compare_cash, overall, to_open
from openbell.domain.external import AdoptedTrade, JournalEvent, PositionAdopted
from openbell.domain.order_book import ImpossibleEventError
from openbell.domain.orders import ClOrdID, NewOrder, OrderFilled, OrderIntended, OrdType, Side
from openbell.domain.reconcile import Agreement, FillFacts, Kind

D = Decimal
VENUE, SYMBOL = "sim", "BTC/USDT"
FEES = ("BTC", "USDT", "BNB")


@dataclass
class Execution:
    number: int
    at: int
    order: int
    side: Side
    qty: Decimal
    px: Decimal
    fee: Decimal
    fee_currency: str
    known: bool = False


@dataclass
class Account:
    """A spot account that tells of its executions late, and the books of a desk that trades on it."""

    random: Random
    step: Decimal | None = None
    """To which the venue rounds what it moves."""
    books: Books = field(default_factory=Books)
    balances: dict[str, Decimal] = field(
        default_factory=lambda: {"BTC": D(50), "USDT": D(1000), "BNB": D(10)}
    )
    executions: list[Execution] = field(default_factory=list)
    journal: list[JournalEvent] = field(default_factory=list)
    now: int = 1

    def hear(self, event: JournalEvent) -> None:
        self.journal.append(event)
        self.books.apply(event)

    def order(self, number: int) -> ClOrdID:
        return ClOrdID(f"ob00000000-1-{number}")

    def begin(self, number: int, side: Side) -> None:
        self.hear(
            OrderIntended(
                cl_ord_id=self.order(number), at_ns=number,
                order=NewOrder(
                    cl_ord_id=self.order(number), venue=VENUE, symbol=SYMBOL, side=side,
                    ord_type=OrdType.LIMIT, order_qty=D(1000), price=D(100), strategy="s",
                ),
            )
        )  # fmt: skip

    def _rounded(self, amount: Decimal) -> Decimal:
        return amount if self.step is None else amount.quantize(self.step, ROUND_HALF_EVEN)

    def execute(
        self, order: int, side: Side, qty: Decimal, px: Decimal, fee: Decimal, of: str
    ) -> None:
        self.now += 1
        self.executions.append(
            Execution(len(self.executions), self.now, order, side, qty, px, fee, of)
        )
        self.balances["BTC"] += side.sign * qty
        self.balances["USDT"] -= self._rounded(side.sign * qty * px)
        self.balances[of] -= self._rounded(fee) if of == "USDT" else fee

    def tell(self, execution: Execution) -> None:
        execution.known = True
        self.hear(
            OrderFilled(
                cl_ord_id=self.order(execution.order), at_ns=self.now,
                exec_id=f"e{execution.number}", last_qty=execution.qty, last_px=execution.px,
                fee=execution.fee, fee_currency=execution.fee_currency, venue_time_ns=execution.at,
            )
        )  # fmt: skip

    def infer(self, order: int) -> None:
        cum = sum((e.qty for e in self.executions if e.order == order), D(0))
        missing = cum - self.books.orders[self.order(order)].cum_qty
        if missing > 0:
            self.hear(
                OrderFilled(
                    cl_ord_id=self.order(order), at_ns=self.now, exec_id=f"i{order}:{cum}",
                    last_qty=missing, last_px=D(100), inferred=True, cum_qty=cum,
                )
            )  # fmt: skip

    def facts(self, **changes: Any) -> CashFacts:
        """As a comparison takes them, with what it would see of the rest."""
        unclear = [e for e in self.executions if not e.known]
        orders = self.books.orders.values()
        made: dict[str, Any] = {
            "symbols": (SYMBOL,), "books": self.books.cash_at(VENUE), "venue": dict(self.balances),
            "keeps_positions": False, "fee_currency": "BNB",
            "clear": "an execution is not in the books" if unclear else "",
            "inferred": any(order.inferred_qty for order in orders),
        }  # fmt: skip
        return CashFacts(**{**made, **changes})

    def open(self) -> None:
        amounts = to_open(self.facts())
        for currency, amount in amounts.items():
            self.hear(
                CashBooked(
                    at_ns=self.now, venue=VENUE, currency=currency, amount=amount,
                    as_of_ns=self.now, source=FIRST_SEEN,
                )
            )  # fmt: skip
        self.now += 1

    def found(self) -> dict[str, CashFinding]:
        return {finding.currency: finding for finding in compare_cash(self.facts())}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["own", "own", "own", "tell", "tell", "infer", "open"]),
        st.integers(0, 1), st.integers(1, 9999), st.integers(1, 99999),
        st.integers(0, 999), st.sampled_from(FEES),
    ),
    max_size=16,
)  # fmt: skip
Step = tuple[str, int, int, int, int, str]


def history(steps: list[Step], seed: int, step: Decimal | None = None) -> Account:
    """Every comparison on the way finds no difference, whatever is under way."""
    account = Account(Random(seed), step)
    sides = (Side.BUY, Side.SELL)
    for number, side in enumerate(sides):
        account.begin(number, side)
    for what, number, qty, px, fee, of in steps:
        untold = [e for e in account.executions if not e.known]
        match what:
            case "own":
                amounts = D(qty).scaleb(-3), D(px).scaleb(-2), D(fee).scaleb(-7)
                account.execute(number, sides[number], *amounts, of)
            case "tell" if untold:
                account.tell(account.random.choice(untold))
            case "infer":
                account.infer(number)
            case "open":
                account.open()
        assert not _differing(account)
    return account


def _differing(account: Account) -> list[CashFinding]:
    return [f for f in account.found().values() if f.status is Agreement.MISMATCH or f.rest]


@settings(max_examples=60)
@given(steps=STEPS, seed=st.integers(0, 1 << 30))
def test_over_any_history_the_books_hold_what_the_venue_does_to_the_last_digit(
    steps: list[Step], seed: int
) -> None:
    account = history(steps, seed)
    for execution in [e for e in account.executions if not e.known]:
        account.tell(execution)
        account.tell(execution)  # twice changes nothing
    account.open()
    account.open()  # and neither does this
    found = account.found()
    assert set(found) == {"USDT", "BNB"}
    for currency, finding in found.items():
        assert (finding.status, finding.kind) == (Agreement.OK, None)
        assert finding.books == finding.venue_says == account.balances[currency]


@settings(max_examples=60)
@given(steps=STEPS, seed=st.integers(0, 1 << 30), cut=st.integers(0, 60))
def test_a_replay_or_a_snapshot_and_what_follows_gives_equal_cash(
    steps: list[Step], seed: int, cut: int
) -> None:
    account = history(steps, seed)
    encoded = msgspec.msgpack.encode(account.journal)
    books = Books()
    for number, event in enumerate(msgspec.msgpack.decode(encoded, type=list[JournalEvent])):
        if number == cut:
            kept = msgspec.msgpack.encode(books.to_snapshot())
            books = Books.from_snapshot(msgspec.msgpack.decode(kept, type=BooksSnapshot))
        books.apply(event)
    assert books.to_snapshot() == account.books.to_snapshot()


@settings(max_examples=60)
@given(steps=STEPS, seed=st.integers(0, 1 << 30), off=st.integers(1, 10**6))
def test_a_transfer_is_told_to_the_digit_and_adopting_it_mends_it(
    steps: list[Step], seed: int, off: int
) -> None:
    account = history(steps, seed)
    for execution in [e for e in account.executions if not e.known]:
        account.tell(execution)
    account.open()
    account.balances["USDT"] += D(off)
    finding = account.found()["USDT"]
    assert finding.status is Agreement.MISMATCH
    assert (finding.kind, finding.rest) == (Kind.EXTERNAL_TRANSFER, D(off))
    assert finding.books is not None and finding.venue_says is not None
    account.hear(
        CashBooked(
            at_ns=account.now, venue=VENUE, currency="USDT", amount=finding.venue_says,
            books=finding.books, as_of_ns=account.now, source="adopted", by="alice", reason="deposit",
        )
    )  # fmt: skip
    assert not _differing(account)
    account.execute(0, Side.BUY, D(1), D(100), D("0.5"), "USDT")
    account.tell(account.executions[-1])
    assert not _differing(account)


@settings(max_examples=60)
@given(steps=STEPS, seed=st.integers(0, 1 << 30))
def test_a_venue_that_rounds_what_it_moves_is_not_told_as_a_difference(
    steps: list[Step], seed: int
) -> None:
    account = history(steps, seed, D("0.0001"))
    for execution in [e for e in account.executions if not e.known]:
        account.tell(execution)
    account.open()
    assert not [f for f in account.found().values() if f.currency == "USDT" and f.rest]


def test_rounding_hides_no_more_than_each_execution_may_have_left() -> None:
    account = Account(Random(0))
    account.begin(0, Side.BUY)
    account.open()
    account.balances["USDT"] += D("0.0001")
    assert account.found()["USDT"].kind is Kind.EXTERNAL_TRANSFER
    account.execute(0, Side.BUY, D(1), D(10), D(0), "USDT")
    account.tell(account.executions[0])
    finding = account.found()["USDT"]
    assert (finding.status, finding.kind, finding.rest) == (Agreement.OK, Kind.ROUNDING, 0)
    account.balances["USDT"] += D("0.0001")
    assert account.found()["USDT"].rest == D("0.0002")


def opened(**balances: str) -> Account:
    account = Account(Random(0))
    account.begin(0, Side.BUY)
    account.open()
    account.balances |= {currency: D(amount) for currency, amount in balances.items()}
    return account


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"clear": "LTC/USDT: the venue did not say"}, "the venue did not say"),
        ({"still": False}, "executions were booked while it was asked"),
        ({"inferred": True}, "by inference alone"),
        ({"books": {}}, "no opening balance yet"),
        ({"keeps_positions": True}, "keeps positions"),
        ({"symbols": (SYMBOL, "USDT/EUR")}, "traded as a base as well"),
    ],
)
def test_where_the_books_cannot_know_nothing_is_said_to_differ(
    changes: dict[str, Any], why: str
) -> None:
    """1000 more are there than the books hold, and none of these may call it a difference."""
    account = opened(USDT="2000")
    found = {f.currency: f for f in compare_cash(account.facts(**changes))}
    assert found["USDT"].status is None and why in found["USDT"].why
    assert found["USDT"].rest == 0
    assert compare_cash(account.facts())[1].status is Agreement.MISMATCH, "without it, it is one"


@pytest.mark.parametrize(
    "changes",
    [{"clear": "unclear"}, {"still": False}, {"inferred": True}, {"keeps_positions": True},
     {"venue": None}, {"venue": {}}],
)  # fmt: skip
def test_no_opening_is_booked_while_anything_is_under_way(changes: dict[str, Any]) -> None:
    account = Account(Random(0))
    assert set(to_open(account.facts())) == {"USDT", "BNB"}
    assert to_open(account.facts(**changes)) == {}


def test_a_currency_that_the_answer_leaves_out_is_unknown_and_not_zero() -> None:
    account = opened()
    del account.balances["USDT"]
    finding = account.found()["USDT"]
    assert (finding.status, finding.kind) == (Agreement.UNKNOWN, Kind.INCOMPLETE)
    assert (finding.venue_says, finding.rest) == (None, 0)


def test_a_round_trip_by_hand_is_explained_by_its_executions() -> None:
    """It leaves the position as it was, and its cost in cash."""
    account = opened(USDT="995")
    trades = [
        FillFacts(
            exec_id=f"x{n}", venue_order_id="theirs", cl_ord_id=ClOrdID(""), symbol=SYMBOL, side=side,
            last_qty=D(1), last_px=D(px), venue_time_ns=100 + n,
        )
        for n, (side, px) in enumerate([(Side.BUY, 105), (Side.SELL, 100)])
    ]  # fmt: skip
    (_, finding) = compare_cash(account.facts(others=trades))
    assert (finding.kind, finding.rest) == (Kind.EXTERNAL_TRADE, D(-5))
    assert [fill.exec_id for fill in finding.executions] == ["x0", "x1"]
    (_, finding) = compare_cash(account.facts(others=trades[:1]))
    assert (finding.kind, finding.executions) == (Kind.EXTERNAL_TRANSFER, ())


def test_a_fee_whose_currency_was_not_named_is_no_external_transfer() -> None:
    account = opened()
    account.execute(0, Side.BUY, D(1), D(10), D("0.5"), "USDT")
    account.executions[0].fee_currency = ""
    account.tell(account.executions[0])
    finding = account.found()["USDT"]
    assert (finding.status, finding.kind, finding.rest) == (None, Kind.FEE_UNKNOWN, D("-0.5"))


def test_an_execution_that_was_never_listed_leaves_a_fee_that_is_not_known() -> None:
    account = opened()
    account.execute(0, Side.BUY, D(1), D(101), D("0.5"), "USDT")
    account.infer(0)
    account.executions[0].known = True
    assert account.found()["USDT"].status is None
    # The order has ended and is forgotten: nobody can list it any more.
    (_, finding) = compare_cash(account.facts(inferred=False))
    assert (finding.status, finding.kind, finding.rest) == (None, Kind.FEE_UNKNOWN, D("-1.5"))


def test_adopted_executions_move_cash_and_what_none_explains_moves_none() -> None:
    account = opened(USDT="893.5")
    trade = AdoptedTrade(
        exec_id="x1", venue_order_id="theirs", side=Side.BUY, qty=D(1), px=D(106), fee=D("0.5"),
        fee_currency="USDT", venue_time_ns=account.now,
    )  # fmt: skip
    early = msgspec.structs.replace(trade, exec_id="x0", venue_time_ns=1)
    account.hear(
        PositionAdopted(
            at_ns=account.now, venue=VENUE, symbol=SYMBOL, books_qty=D(0), venue_qty=D(5),
            as_of_ns=account.now, trades=(early, trade), rest=D(3), rest_px=D(100),
        )
    )  # fmt: skip
    finding = account.found()["USDT"]
    assert (finding.status, finding.books, finding.kind) == (Agreement.OK, D("893.5"), None)


def test_a_venue_that_keeps_positions_moves_no_cash_of_the_books() -> None:
    account = opened()
    account.hear(
        OrderFilled(
            cl_ord_id=account.order(0), at_ns=5, exec_id="e1", last_qty=D(1), last_px=D(10),
            fee=D(1), fee_currency="USDT", fee_in_kind=False,
        )
    )  # fmt: skip
    assert account.books.cash_at(VENUE)["USDT"].amount == 1000


def test_cash_that_is_no_number_is_refused_with_nothing_changed() -> None:
    books = Books()
    with pytest.raises(ImpossibleEventError):
        books.apply(
            CashBooked(
                at_ns=1,
                venue=VENUE,
                currency="USDT",
                amount=D("NaN"),
                as_of_ns=1,
                source=FIRST_SEEN,
            )
        )
    assert books.cash_at(VENUE) == {}


def test_money_is_every_quote_and_the_declared_fee_currency_and_no_base() -> None:
    told = dict(currencies(("BTC/USDT", "ETH/BTC", "SOL/EUR"), "BNB"))
    assert {currency: bool(why) for currency, why in told.items()} == {
        "BNB": False, "BTC": True, "EUR": False, "USDT": False,
    }  # fmt: skip


def test_one_difference_outweighs_what_is_unknown_and_nothing_compared_is_no_agreement() -> None:
    ok, unknown, mismatch = Agreement.OK, Agreement.UNKNOWN, Agreement.MISMATCH
    assert overall([ok, unknown, mismatch, None]) is mismatch
    assert overall([ok, unknown, None]) is unknown
    assert overall([None, ok]) is ok
    assert overall([None]) is overall([]) is None
