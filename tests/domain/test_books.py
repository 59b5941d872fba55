"""Books: the fold of every event, its snapshot, and what is looked up in it."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.domain import books as books_module
from openbell.domain.books import Books, BooksSnapshot
from openbell.domain.order_book import ImpossibleEventError
from openbell.domain.orders import (
    CancelIntended,
    ClOrdID,
    NewOrder,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderFilled,
    OrderInDoubt,
    OrderIntended,
    OrderRejected,
    OrdType,
    Side,
)

D = Decimal
SYMBOLS = ["BTC/USDT", "ETH/USDT"]


def intended(
    number: int,
    *,
    side: Side = Side.BUY,
    qty: str = "10",
    symbol: str = "BTC/USDT",
    strategy: str = "mm",
    intent_id: str = "",
    venue: str = "binance",
) -> OrderIntended:
    cl_ord_id = ClOrdID(f"ob3f9a01c4-1-{number}")
    return OrderIntended(
        cl_ord_id=cl_ord_id,
        at_ns=number,
        order=NewOrder(
            cl_ord_id=cl_ord_id,
            venue=venue,
            symbol=symbol,
            side=side,
            ord_type=OrdType.LIMIT,
            order_qty=D(qty),
            price=D(100),
            strategy=strategy,
            intent_id=intent_id or f"i{number}",
        ),
    )


def fill(number: int, exec_id: str, qty: str, px: str = "100", **more: object) -> OrderFilled:
    return msgspec.convert(
        {
            "type": "filled",
            "cl_ord_id": f"ob3f9a01c4-1-{number}",
            "at_ns": 100 + number,
            "exec_id": exec_id,
            "last_qty": qty,
            "last_px": px,
            **more,
        },
        OrderFilled,
    )


@st.composite
def histories(draw: st.DrawFn) -> list[OrderEvent]:
    """Events of a few orders, intents first, the rest in any order."""
    count = draw(st.integers(1, 4))
    intents: list[OrderEvent] = [
        intended(
            number,
            side=draw(st.sampled_from(Side)),
            symbol=draw(st.sampled_from(SYMBOLS)),
            strategy=draw(st.sampled_from(["mm", "arb", ""])),
        )
        for number in range(count)
    ]
    later: list[OrderEvent] = []
    for _ in range(draw(st.integers(0, 15))):
        number = draw(st.integers(0, count - 1))
        head = {"cl_ord_id": ClOrdID(f"ob3f9a01c4-1-{number}"), "at_ns": 50 + len(later)}
        kind = draw(st.integers(0, 6))
        if kind == 0:
            later.append(OrderAccepted(**head, venue_order_id=f"v{number}"))
        elif kind == 1:
            later.append(OrderCanceled(**head))
        elif kind == 2:
            later.append(OrderInDoubt(**head, why="cut"))
        elif kind == 3:
            later.append(
                draw(st.sampled_from([OrderRejected(**head, code="x"), CancelIntended(**head)]))
            )
        else:
            inferred = draw(st.booleans())
            later.append(
                OrderFilled(
                    **head,
                    exec_id=draw(st.sampled_from("abcdefgh")) + ("?" if inferred else ""),
                    last_qty=D(draw(st.integers(1, 5))),
                    last_px=D(draw(st.integers(90, 110))),
                    fee=D("0") if inferred else D("0.01"),
                    fee_currency=draw(st.sampled_from(["USDT", "BTC", "BNB"])),
                    inferred=inferred,
                )
            )
    return [*intents, *later]


def folded(events: list[OrderEvent], books: Books | None = None) -> Books:
    books = books or Books()
    for event in events:
        before = books.to_snapshot()
        try:
            books.apply(event)
        except ImpossibleEventError:
            assert books.to_snapshot() == before, "a refused event changes nothing"
    return books


@settings(max_examples=200)
@given(histories(), st.data())
def test_a_snapshot_and_the_events_after_it_are_as_good_as_all(
    events: list[OrderEvent], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(events)))
    stored = msgspec.msgpack.encode(folded(events[:cut]).to_snapshot())
    restored = Books.from_snapshot(msgspec.msgpack.decode(stored, type=BooksSnapshot))
    whole = folded(events)
    again = folded(events[cut:], restored)
    assert again.to_snapshot() == whole.to_snapshot()
    assert again.open_orders() == whole.open_orders()


@settings(max_examples=200)
@given(histories())
def test_positions_are_what_the_orders_filled(events: list[OrderEvent]) -> None:
    books = folded(events)
    for symbol in SYMBOLS:
        base = symbol.split("/")[0]
        position = books.position("binance", symbol)
        filled = sum(
            (o.new.side.sign * o.cum_qty for o in books.orders.values() if o.new.symbol == symbol),
            D(0),
        )
        assert position.quantity == filled - position.fees.get(base, D(0))
        assert position.bought - position.sold == sum(
            (o.new.side.sign * o.notional for o in books.orders.values() if o.new.symbol == symbol),
            D(0),
        )
        by_strategy = (
            held.quantity
            for (_, (_, traded)), held in books.strategy_positions.items()
            if traded == symbol
        )
        assert sum(by_strategy, D(0)) == position.quantity
        worst = books.worst_case("binance", symbol)
        leaves = books.open_orders(symbol=symbol)
        assert worst.open_buys + worst.open_sells == sum((o.leaves_qty for o in leaves), D(0))
        assert worst.largest >= abs(position.quantity)


def test_a_real_fill_replaces_the_price_of_the_inferred_one() -> None:
    books = folded(
        [
            intended(1),
            fill(1, "told", "4", "100", inferred=True),
            fill(1, "t1", "4", "101", fee="0.4", fee_currency="USDT"),
        ]
    )
    position = books.position("binance", "BTC/USDT")
    assert (position.quantity, position.avg_px, position.bought) == (4, 101, 404)
    assert position.realized_pnl == D("-0.4")


def test_a_repeated_fill_is_booked_once() -> None:
    books = folded([intended(1), fill(1, "t1", "4"), fill(1, "t1", "4")])
    assert books.position("binance", "BTC/USDT").quantity == 4


def test_open_orders_are_found_by_venue_symbol_and_strategy() -> None:
    books = folded(
        [
            intended(1, symbol="ETH/USDT"),
            intended(2, strategy="arb"),
            intended(3, venue="alpaca"),
            intended(4),
            OrderCanceled(cl_ord_id=ClOrdID("ob3f9a01c4-1-4"), at_ns=9),
        ]
    )

    def numbers(**scope: str) -> list[str]:
        return [order.cl_ord_id[-1] for order in books.open_orders(**scope)]

    assert numbers() == ["1", "2", "3"]
    assert numbers(symbol="BTC/USDT") == ["2", "3"]
    assert numbers(venue="binance", strategy="mm") == ["1"]


def test_orders_in_doubt_are_listed_until_the_venue_was_asked() -> None:
    cl_ord_id = ClOrdID("ob3f9a01c4-1-1")
    books = folded([intended(1), OrderInDoubt(cl_ord_id=cl_ord_id, at_ns=2, why="503")])
    assert [order.cl_ord_id for order in books.in_doubt()] == [cl_ord_id]
    assert books.worst_case("binance", "BTC/USDT").longest == 10
    books.apply(OrderRejected(cl_ord_id=cl_ord_id, at_ns=3, code="never_arrived"))
    assert books.in_doubt() == ()
    assert books.open_orders() == ()


def test_an_intent_is_recognised_again_even_after_its_order_is_forgotten() -> None:
    cl_ord_id = ClOrdID("ob3f9a01c4-1-1")
    books = folded([intended(1, intent_id="run7-1"), OrderCanceled(cl_ord_id=cl_ord_id, at_ns=5)])
    assert books.forget(final_before_ns=5) == 0
    assert books.forget(final_before_ns=6) == 1
    assert books.orders == {}
    assert books.order_of_intent("mm", "run7-1") == cl_ord_id
    assert books.order_of_intent("arb", "run7-1") is None


def test_only_recent_intents_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books_module, "RECENT_INTENTS", 3)
    books = folded([intended(number) for number in range(5)])
    known = [books.order_of_intent("mm", f"i{number}") is not None for number in range(5)]
    assert known == [False, False, True, True, True]


def test_open_orders_are_never_forgotten() -> None:
    books = folded([intended(1)])
    assert books.forget(final_before_ns=10**18) == 0


def test_what_the_books_give_out_cannot_change_them() -> None:
    books = folded([intended(1)])
    with pytest.raises(TypeError):
        books.orders["x"] = None  # type: ignore[index,assignment]


def test_an_intent_without_a_proper_symbol_changes_nothing() -> None:
    books = Books()
    with pytest.raises(ValueError, match="unified symbol"):
        books.apply(intended(1, symbol="BTCUSDT"))
    assert books.to_snapshot() == BooksSnapshot()
