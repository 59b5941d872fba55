"""Positions per strategy always add up to the books' position."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.books import Books
from openbell.domain.orders import ClOrdID, NewOrder, OrderFilled, OrderIntended, OrdType, Side
from openbell.trading.strategy_ledger import StrategyLedger

VENUE, SYMBOL = INSTRUMENT = ("sim", "BTC/USDT")

step = st.tuples(
    st.sampled_from(["a", "b", ""]), st.sampled_from(list(Side)), st.integers(1, 9), st.booleans()
)


@given(st.lists(step, max_size=30))
def test_strategies_and_desk_add_up_to_the_books(
    steps: list[tuple[str, Side, int, bool]],
) -> None:
    books, ledger = Books(), StrategyLedger()
    for number, (strategy, side, quantity, inferred_first) in enumerate(steps):
        cl_ord_id = ClOrdID(f"ob00000000-1-{number}")
        new = NewOrder(
            cl_ord_id=cl_ord_id,
            venue=VENUE,
            symbol=SYMBOL,
            side=side,
            ord_type=OrdType.MARKET,
            order_qty=Decimal(quantity),
            strategy=strategy,
        )
        books.apply(OrderIntended(cl_ord_id=cl_ord_id, at_ns=number, order=new))
        for inferred in (True, False) if inferred_first else (False,):
            event = OrderFilled(
                cl_ord_id=cl_ord_id,
                at_ns=number,
                exec_id=f"{number}-{inferred}",
                last_qty=Decimal(quantity),
                last_px=Decimal(100 + number),
                inferred=inferred,
            )
            before = books.orders[cl_ord_id]
            books.apply(event)
            ledger.apply(before, event)
        total = sum((p.quantity for p in ledger.held.values()), Decimal(0))
        assert total == books.position(VENUE, SYMBOL).quantity
