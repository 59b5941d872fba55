"""The facts that the kill rules are judged by: what is doubtful is no fact."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.config.models import DeskFile
from openbell.domain.books import Books
from openbell.domain.kill_rules import Judge, Judgement, Now, State
from openbell.domain.market import Quote
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrderAccepted,
    OrderEvent,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    OrdType,
    Purpose,
    Side,
)
from openbell.trading.kill_watch import KillWatch
from openbell.trading.messages import EngineHeartbeat

D = Decimal
S = 1_000_000_000
DAY_NS = 86_400 * S
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2  # a Wednesday
BTC = "BTC/USDT"


def desk_file(**rules: Any) -> DeskFile:
    return DeskFile.model_validate_json(
        json.dumps(
            {
                "desk": {"name": "d"},
                "risk": {"stale_quote_after": "5s"},
                "kill_switch": {"rules": rules},
                "venues": {
                    name: {"url": "http://127.0.0.1:1", "symbols": [BTC, "ETH/USDT"]}
                    for name in ("a", "b")
                },
                "strategies": {
                    name: {"type": "x:X", "venue": "a", "symbols": [BTC]} for name in ("s", "t")
                },
                "services": {"risk": {"command": ["true"], "role": "risk"}},
            }
        )
    )


class Desk:
    def __init__(self, *, heard: bool = True, **rules: Any) -> None:
        self.now_ns = 0
        self.books = Books()
        self.number = 0
        self.latches: set[str] = set()
        self.judge = Judge()
        self.watch = KillWatch(desk_file(**rules), self.books, self.judge, self.at())
        if heard:
            self.watch.live = True
            self.beat()

    def at(self) -> Now:
        return Now(NOON_NS + self.now_ns, self.now_ns, frozenset(getattr(self, "latches", ())))

    def beat(self, *unreconciled: str) -> None:
        beat = EngineHeartbeat(trading=True, unreconciled=unreconciled)
        self.watch.on_heartbeat(beat, self.now_ns)

    def quote(
        self,
        price: str,
        *,
        venue: str = "a",
        symbol: str = BTC,
        age_s: float = 0,
        late_s: float = 0,
    ) -> None:
        px = D(price)
        self.watch.on_quote(
            Quote(
                venue=venue, symbol=symbol, bid_px=px, bid_qty=D(1), ask_px=px, ask_qty=D(1),
                venue_time_ns=0, received_ns=NOON_NS + self.now_ns - int(age_s * S),
                late_ns=int(late_s * S),
            ),
            self.now_ns,
        )  # fmt: skip

    def event(self, event: OrderEvent) -> None:
        self.watch.before_event(event)
        self.books.apply(event)
        self.watch.after_event(event)

    def order(
        self,
        *,
        venue: str = "a",
        strategy: str = "s",
        at_ns: int | None = None,
        purpose: Purpose = Purpose.TRADE,
    ) -> ClOrdID:
        self.number += 1
        cl_ord_id = ClOrdID(f"ob00000000-1-{self.number}")
        new = NewOrder(
            cl_ord_id=cl_ord_id, venue=venue, symbol=BTC, side=Side.BUY, ord_type=OrdType.LIMIT,
            order_qty=D(1), price=D(100), strategy=strategy, purpose=purpose,
        )  # fmt: skip
        at_ns = NOON_NS + self.now_ns if at_ns is None else at_ns
        self.event(OrderIntended(cl_ord_id=cl_ord_id, at_ns=at_ns, order=new))
        return cl_ord_id

    def buy(self, price: str = "100", **of: Any) -> None:
        cl_ord_id = self.order(**of)
        self.event(
            OrderFilled(
                cl_ord_id=cl_ord_id, at_ns=NOON_NS + self.now_ns, exec_id=f"{self.number}",
                last_qty=D(1), last_px=D(price),
            )
        )  # fmt: skip

    def outcome(self, *, rejected: bool, code: str = "x", **order: Any) -> None:
        cl_ord_id = self.order(**order)
        at_ns = order.get("at_ns") or NOON_NS + self.now_ns
        self.event(
            OrderRejected(cl_ord_id=cl_ord_id, at_ns=at_ns, code=code)
            if rejected
            else OrderAccepted(cl_ord_id=cl_ord_id, at_ns=at_ns, venue_order_id="1")
        )

    def look(self) -> list[Judgement]:
        return self.watch.look(self.at())

    def one(self) -> Judgement:
        (found,) = self.look()
        return found

    def states(self) -> dict[str, str]:
        return {str(each.scope): str(each.state) for each in self.look()}


LOSS = {"max_daily_loss": {"amount": "50"}}


def test_a_position_that_loses_too_much_triggers_at_the_next_look() -> None:
    desk = Desk(**LOSS)
    desk.buy("100")
    desk.quote("51")
    assert desk.one().state is State.ARMED
    desk.quote("50")
    assert desk.one().state is State.TRIGGERED


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda desk: desk.quote("NaN"), "no sound, fresh price"),
        (lambda desk: desk.quote("0"), "no sound, fresh price"),
        (lambda desk: desk.quote("Infinity"), "no sound, fresh price"),
        (lambda desk: desk.quote("10", age_s=6), "no sound, fresh price"),
        (lambda desk: desk.quote("10", age_s=-9), "no sound, fresh price"),
        (lambda desk: desk.quote("10", late_s=6), "no sound, fresh price"),
        (lambda desk: desk.beat("a"), "not reconciled: a"),
        (lambda desk: setattr(desk.watch, "live", False), "journal was not read"),
    ],
)
def test_a_loss_of_which_a_part_is_doubtful_triggers_nothing(act: Any, told: str) -> None:
    desk = Desk(**LOSS)
    desk.buy("100")
    desk.quote("10")
    act(desk)
    found = desk.one()
    assert found.state is State.NOT_JUDGED
    assert told in found.text


def test_a_price_grows_stale_and_an_engine_silent_by_themselves() -> None:
    desk = Desk(**LOSS)
    desk.buy("100")
    desk.quote("99")
    desk.now_ns += 4 * S
    assert "not heard for 4 s" in desk.one().text
    desk.now_ns += 2 * S
    desk.beat()
    assert "no sound, fresh price in USDT for a BTC/USDT" in desk.one().text


def test_a_venue_that_is_down_hides_no_loss_at_another() -> None:
    desk = Desk(**LOSS)
    desk.buy("100")
    desk.quote("10")
    desk.beat("b")
    assert desk.one().state is State.TRIGGERED


def test_a_venue_that_is_down_with_an_order_of_ours_makes_the_loss_unknown() -> None:
    desk = Desk(**LOSS)
    desk.buy("100")
    desk.order(venue="b")
    desk.quote("10")
    desk.beat("b")
    assert desk.one().text == "not reconciled: b"


def test_a_loss_in_a_currency_that_nothing_converts_is_not_judged() -> None:
    desk = Desk(max_daily_loss={"amount": "50", "currency": "EUR"})
    desk.buy("100")
    desk.quote("10")
    assert "no sound, fresh price in EUR" in desk.one().text


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("venue", {"venue:a": "triggered", "venue:b": "armed"}),
        ("strategy", {"strategy:s": "triggered", "strategy:t": "armed"}),
        ("symbol", {"symbol:BTC/USDT": "triggered", "symbol:ETH/USDT": "armed"}),
    ],
)
def test_each_scope_is_measured_by_itself(scope: str, expected: dict[str, str]) -> None:
    desk = Desk(max_daily_loss={"amount": "50", "scope": scope})
    desk.buy("100")
    desk.quote("50")
    assert desk.states() == expected


def test_what_was_realized_yesterday_is_no_loss_of_today() -> None:
    desk = Desk(heard=False, **LOSS)
    yesterday = NOON_NS - DAY_NS
    desk.now_ns = -DAY_NS
    desk.buy("100")
    cl_ord_id = ClOrdID("ob00000000-1-999")
    new = NewOrder(
        cl_ord_id=cl_ord_id, venue="a", symbol=BTC, side=Side.SELL, ord_type=OrdType.MARKET,
        order_qty=D(1), strategy="s",
    )  # fmt: skip
    desk.event(OrderIntended(cl_ord_id=cl_ord_id, at_ns=yesterday, order=new))
    desk.event(
        OrderFilled(cl_ord_id=cl_ord_id, at_ns=yesterday, exec_id="z", last_qty=D(1), last_px=D(10))
    )
    desk.now_ns = 0
    desk.watch.live = True
    desk.beat()
    found = desk.one()
    assert (found.state, found.value) == (State.ARMED, 0)


REJECTS = {"reject_rate": {"share": "50%", "within": "60s", "at_least": 4}}


def test_a_storm_of_rejections_triggers() -> None:
    desk = Desk(**REJECTS)
    for rejected in (False, True, False):
        desk.outcome(rejected=rejected)
    assert desk.one().state is State.NOT_JUDGED
    desk.outcome(rejected=True)
    found = desk.one()
    assert found.state is State.TRIGGERED
    assert "2 of 4 orders of desk were rejected" in found.text


def test_old_outcomes_and_what_the_venue_did_not_reject_are_not_counted() -> None:
    desk = Desk(**REJECTS)
    for _ in range(4):
        desk.outcome(rejected=True)
    desk.now_ns += 61 * S
    for code in ("throttled", "never_sent", "never_arrived"):
        desk.outcome(rejected=True, code=code)
    for _ in range(4):
        desk.outcome(rejected=False)
    found = desk.one()
    assert (found.state, found.value) == (State.ARMED, 0)


def test_an_order_counts_once_however_often_its_acceptance_is_told() -> None:
    desk = Desk(**REJECTS)
    cl_ord_id = desk.order()
    for _ in range(9):
        desk.event(OrderAccepted(cl_ord_id=cl_ord_id, at_ns=NOON_NS, venue_order_id="1"))
    assert desk.one().text == "1 outcomes of orders, judged from 4 on"


def test_rejections_are_of_their_strategy() -> None:
    desk = Desk(reject_rate={**REJECTS["reject_rate"], "scope": "strategy"})
    for _ in range(4):
        desk.outcome(rejected=True, strategy="t")
        desk.outcome(rejected=False, strategy="s")
    assert desk.states() == {"strategy:s": "armed", "strategy:t": "triggered"}


def test_one_order_too_many_that_trades_latches_its_strategy_until_a_person_releases_it() -> None:
    desk = Desk(repeated_executions={"at_most": 3, "within": "60s"})
    for _ in range(3):
        desk.buy(strategy="t")
        desk.outcome(rejected=False, strategy="t")  # one that rests is no execution
    assert desk.states() == {"strategy:s": "armed", "strategy:t": "armed"}
    desk.buy(strategy="t")
    (found,) = [each for each in desk.look() if each.state is State.TRIGGERED]
    assert "4 orders of strategy:t traded within 60 s, 3 may" in found.text
    desk.judge.latched(found, ("latch",), desk.at())
    desk.latches.add("latch")

    desk.now_ns += 3600 * S
    assert desk.states()["strategy:t"] == "triggered", "it does not end by itself"
    desk.buy(strategy="t")
    desk.now_ns += S
    desk.latches.clear()
    for _ in range(3):
        assert desk.states()["strategy:t"] == "armed"
        desk.now_ns += S
        desk.buy(strategy="t")
    assert desk.states()["strategy:t"] == "armed"
    desk.buy(strategy="t")
    assert desk.states() == {"strategy:s": "armed", "strategy:t": "triggered"}


def test_parts_of_one_order_flattens_and_old_executions_are_no_repetition() -> None:
    desk = Desk(repeated_executions={"at_most": 1, "within": "60s", "scope": "desk"})
    cl_ord_id = desk.order()
    for number in range(4):
        desk.event(
            OrderFilled(
                cl_ord_id=cl_ord_id, at_ns=NOON_NS, exec_id=f"p{number}",
                last_qty=D("0.25"), last_px=D(100),
            )
        )  # fmt: skip
    assert desk.one().value == 1
    desk.now_ns += 61 * S
    assert desk.one().value == 0
    desk.buy()
    desk.buy(purpose=Purpose.FLATTEN)
    assert (desk.one().value, desk.one().state) == (1, State.ARMED)


STALE = {"stale_market_data": {"after": "10s", "scope": "symbol"}}


def test_a_silent_feed_triggers_where_an_order_rests_and_nowhere_else() -> None:
    desk = Desk(**STALE)
    desk.quote("100")
    desk.now_ns += 20 * S
    assert set(desk.states().values()) == {"armed"}
    desk.quote("100")
    desk.order()
    desk.now_ns += 9 * S
    assert set(desk.states().values()) == {"armed"}
    desk.quote("NaN")  # says nothing
    desk.now_ns += 1 * S
    assert desk.states() == {"symbol:BTC/USDT": "triggered", "symbol:ETH/USDT": "armed"}


def test_a_closed_market_is_silent_by_right() -> None:
    rule = {**STALE["stale_market_data"], "open_hours": {"a": "mon-fri 14:30-21:00"}}
    desk = Desk(stale_market_data=rule)
    desk.order()
    desk.now_ns += 60 * S
    assert set(desk.states().values()) == {"armed"}
    desk.now_ns = 3 * 3600 * S
    assert desk.states()["symbol:BTC/USDT"] == "triggered"


prices = st.one_of(
    st.decimals(1, 200, places=1).map(str), st.sampled_from(["NaN", "Infinity", "0", "-5"])
)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 8), prices, st.sampled_from([0.0, 0.0, 6.0]), st.booleans(), st.booleans()
        ),
        min_size=1,
        max_size=40,
    )
)
def test_random_histories_trigger_by_known_losses_alone_and_by_each_at_once(
    history: list[tuple[float, str, float, bool, bool]],
) -> None:
    """Prices that are no numbers, zero or stale, an engine that falls silent, books in doubt."""
    desk = Desk(**LOSS)
    desk.buy("100")
    desk.quote("100")
    assert desk.one().state is State.ARMED
    for silent_s, price, age_s, heard, reconciled in history:
        desk.now_ns += int(silent_s * S)
        beat_ns = desk.watch._heard_mono_ns
        if heard:
            desk.beat(*(() if reconciled else ("a",)))
            beat_ns = desk.now_ns
        desk.quote(price, age_s=age_s)
        assert beat_ns is not None
        known = (
            desk.now_ns - beat_ns <= 3 * S
            and desk.watch._unreconciled == ()
            and D(price).is_finite()
            and D(price) > 0
            and not age_s
        )
        found = desk.one()
        if not known:
            assert found.state is State.NOT_JUDGED, found
        else:
            breached = D(100) - D(price) >= 50
            assert found.state is (State.TRIGGERED if breached else State.ARMED), found
