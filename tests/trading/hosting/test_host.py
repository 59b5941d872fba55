"""One strategy's host: isolation, states, unanswered intents."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderFilled,
    OrderIntended,
    OrdType,
    Purpose,
    Side,
)
from openbell.trading.action_check import ACTIONS_MAX
from openbell.trading.host import (
    HEARTBEATS_UNTIL_LOST,
    PAUSE_AFTER_REFUSAL_NS,
    RECANCEL_AFTER_NS,
    DeskFacts,
    StrategyHost,
    StrategyState,
)
from openbell.trading.messages import CancelIntent, IntentReply, SubmitIntent
from openbell.trading.strategy import Action, Cancel, Strategy, Submit, View

D = Decimal
BTC = "BTC/USDT"
QUOTE = Quote(
    venue="sim",
    symbol=BTC,
    bid_px=D(100),
    bid_qty=D(1),
    ask_px=D(101),
    ask_qty=D(1),
    venue_time_ns=0,
    received_ns=0,
)
RULES = InstrumentRules(
    symbol=BTC,
    base="BTC",
    quote="USDT",
    tick_size=D("0.01"),
    lot_size=D("0.01"),
    min_qty=D("0.01"),
    max_qty=D(100),
    min_notional=D(1),
)


@dataclass(frozen=True)
class Placed:
    venue: str = "sim"
    symbols: tuple[str, ...] = (BTC,)


class Scripted(Strategy):
    """Does what the test says; notes every view it was shown."""

    def __init__(self) -> None:
        super().__init__("s", (BTC,), None)
        self.next: Callable[[View], Iterable[Action]] = lambda view: ()
        self.views: list[View] = []
        self.heard: list[OrderEvent] = []

    def on_quote(self, quote: Quote, view: View) -> Iterable[Action]:
        self.views.append(view)
        return self.next(view)

    def on_order_event(self, event: OrderEvent, view: View) -> Iterable[Action]:
        self.heard.append(event)
        return ()


class Desk:
    """A host with an engine that does what the test says."""

    def __init__(self) -> None:
        self.facts = DeskFacts(why_not_trading="")
        self.facts.rules["sim"] = {BTC: RULES}
        self.strategy = Scripted()
        self.made = 0
        self.host = StrategyHost("s", Placed(), self._build, self.facts, run="r1")
        self.now_ns = 0

    def _build(self) -> Strategy:
        self.made += 1
        return self.strategy

    def quote(self, *actions: Action) -> list[Any]:
        self.strategy.next = lambda view: actions
        return self.host.on_quote(QUOTE, self.now_ns)

    def event(self, event: OrderEvent, *, live: bool = True) -> list[Any]:
        before = self.facts.books.orders.get(event.cl_ord_id)
        after = self.facts.books.apply(event)
        if isinstance(event, OrderFilled) and before is not None:
            self.facts.ledger.apply(before, event)
        if after.new.strategy != "s":
            return []
        return self.host.on_order_event(event, self.now_ns, live=live)

    def intended(
        self, intent: SubmitIntent, cl_ord_id: str = "ob00000000-1-1", *, live: bool = True
    ) -> list[Any]:
        new = NewOrder(
            cl_ord_id=ClOrdID(cl_ord_id),
            venue=intent.venue,
            symbol=intent.symbol,
            side=intent.side,
            ord_type=intent.ord_type,
            order_qty=intent.order_qty,
            price=intent.price,
            strategy=intent.strategy,
            intent_id=intent.intent_id,
        )
        event = OrderIntended(cl_ord_id=new.cl_ord_id, at_ns=1, order=new)
        return self.event(event, live=live)

    def filled(
        self, quantity: str, exec_id: str = "1", cl_ord_id: str = "ob00000000-1-1"
    ) -> list[Any]:
        return self.event(
            OrderFilled(
                cl_ord_id=ClOrdID(cl_ord_id),
                at_ns=2,
                exec_id=exec_id,
                last_qty=D(quantity),
                last_px=D(100),
            )
        )

    def desk_order(self, side: Side, quantity: str, number: int) -> None:
        """A flatten by the desk itself, filled wholly."""
        cl_ord_id = ClOrdID(f"ob00000000-1-f{number}")
        new = NewOrder(
            cl_ord_id=cl_ord_id,
            venue="sim",
            symbol=BTC,
            side=side,
            ord_type=OrdType.MARKET,
            order_qty=D(quantity),
            purpose=Purpose.FLATTEN,
        )
        self.event(OrderIntended(cl_ord_id=cl_ord_id, at_ns=1, order=new))
        self.filled(quantity, exec_id=f"f{number}", cl_ord_id=cl_ord_id)


@pytest.fixture
def desk() -> Desk:
    return Desk()


BUY = Submit(BTC, Side.BUY, D(1), D(100))


def test_an_action_becomes_an_intent_of_its_own_id(desk: Desk) -> None:
    first, second = desk.quote(BUY, BUY)
    assert first.strategy == "s"
    assert (first.venue, first.symbol, first.order_qty) == ("sim", BTC, D(1))
    assert first.intent_id != second.intent_id
    assert "r1" in first.intent_id


def test_a_send_without_an_answer_is_among_the_open_orders(desk: Desk) -> None:
    (intent,) = desk.quote(BUY)
    desk.quote()
    (order,) = desk.strategy.views[-1].open_orders
    assert (order.new.intent_id, order.leaves_qty) == (intent.intent_id, D(1))


def test_the_order_of_an_intent_is_seen_once_whichever_comes_first(desk: Desk) -> None:
    (intent,) = desk.quote(BUY)
    taken = IntentReply(intent_id=intent.intent_id, taken=True, cl_ord_id=ClOrdID("ob00000000-1-1"))
    desk.host.on_reply(taken, 0)
    assert [o.cl_ord_id for o in desk.host.open_orders()] == ["ob00000000-1-1"]
    desk.intended(intent)
    assert [o.cl_ord_id for o in desk.host.open_orders()] == ["ob00000000-1-1"]
    (other,) = desk.quote(BUY)
    desk.intended(other, "ob00000000-1-2")
    desk.host.on_reply(
        IntentReply(intent_id=other.intent_id, taken=True, cl_ord_id=ClOrdID("ob00000000-1-2")), 0
    )
    assert len(desk.host.open_orders()) == 2


def test_a_refusal_is_counted_and_pauses_new_orders_but_not_cancels(desk: Desk) -> None:
    (intent,) = desk.quote(BUY)
    desk.host.on_reply(
        IntentReply(intent_id=intent.intent_id, taken=False, code="limit_rate", text="50"), 0
    )
    assert desk.host.open_orders() == ()
    assert (desk.host.refused, desk.host.why) == (1, "refused: 50 (limit_rate)")
    (cancel,) = desk.quote(BUY, Cancel(ClOrdID("ob00000000-1-9")))
    assert isinstance(cancel, CancelIntent)
    desk.now_ns = PAUSE_AFTER_REFUSAL_NS
    assert len(desk.quote(BUY)) == 1


def test_a_refusal_is_told_until_an_intent_is_taken_again(desk: Desk) -> None:
    """The event of an order often comes before the answer: the refusal then stood for ever."""
    (intent,) = desk.quote(BUY)
    text = "the kill switch is latched for symbol:BTC/USDT"
    desk.host.on_reply(
        IntentReply(intent_id=intent.intent_id, taken=False, code="latched", text=text), 0
    )
    assert desk.host.why == f"refused: {text} (latched)"
    desk.now_ns = PAUSE_AFTER_REFUSAL_NS
    (taken,) = desk.quote(BUY)
    desk.intended(taken)
    assert desk.host.why == ""
    desk.host.on_reply(
        IntentReply(intent_id=taken.intent_id, taken=True, cl_ord_id=ClOrdID("ob00000000-1-1")), 0
    )
    assert desk.host.why == ""


def test_a_cancel_before_the_id_is_known_is_sent_once_it_is(desk: Desk) -> None:
    (intent,) = desk.quote(BUY)
    (placeholder,) = desk.host.open_orders()
    assert desk.quote(Cancel(placeholder.cl_ord_id)) == []
    (cancel,) = desk.host.on_reply(
        IntentReply(intent_id=intent.intent_id, taken=True, cl_ord_id=ClOrdID("ob00000000-1-1")), 0
    )
    assert cancel.cl_ord_id == "ob00000000-1-1"
    assert desk.intended(intent) == []


def test_a_lost_answer_keeps_the_order_in_view_until_the_engine_would_have_told(
    desk: Desk,
) -> None:
    (intent,) = desk.quote(BUY)
    desk.host.on_no_reply(intent)
    for _ in range(HEARTBEATS_UNTIL_LOST):
        desk.host.on_heartbeat()
        assert len(desk.host.open_orders()) == 1
    desk.host.on_heartbeat()
    assert desk.host.open_orders() == ()


def test_a_strategy_that_raises_fails_and_its_orders_are_cancelled_until_none_is_left(
    desk: Desk,
) -> None:
    (intent,) = desk.quote(BUY)
    desk.intended(intent)

    def explode(view: View) -> Iterable[Action]:
        yield BUY
        raise ZeroDivisionError("by zero")

    desk.strategy.next = explode
    (cancel,) = desk.host.on_quote(QUOTE, 0)
    assert isinstance(cancel, CancelIntent)
    assert cancel.cl_ord_id == "ob00000000-1-1"
    assert desk.host.state is StrategyState.FAILED
    assert desk.host.why == "raised: ZeroDivisionError: by zero"
    assert isinstance(desk.host.error, ZeroDivisionError)
    assert desk.quote(BUY) == []
    assert desk.host.on_timer(RECANCEL_AFTER_NS // 2) == []
    assert len(desk.host.on_timer(RECANCEL_AFTER_NS)) == 1
    desk.event(OrderCanceled(cl_ord_id=ClOrdID("ob00000000-1-1"), at_ns=3))
    assert desk.host.on_timer(RECANCEL_AFTER_NS * 3) == []


def test_a_failed_strategys_unanswered_order_is_cancelled_when_it_appears(desk: Desk) -> None:
    (intent,) = desk.quote(BUY)
    desk.quote(Submit("DOGE/USDT", Side.BUY, D(1)))
    assert desk.host.state is StrategyState.FAILED
    assert [type(each) for each in desk.intended(intent)] == [CancelIntent]


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (Submit("DOGE/USDT", Side.BUY, D(1)), "not among its symbols"),
        (Submit(BTC, Side.BUY, D("NaN")), "quantity"),
        (Submit(BTC, Side.BUY, D(0)), "quantity 0"),
        (Submit(BTC, Side.BUY, 0.1), "not a Decimal"),  # type: ignore[arg-type]
        (Submit(BTC, Side.BUY, D(1), D("Infinity")), "price"),
        (Submit(BTC, Side.BUY, D(1), D(-1)), "price"),
        (Submit(BTC, "HOLD", D(1)), "side is 'HOLD'"),  # type: ignore[arg-type]
        (Submit(BTC, Side.BUY, D(1), time_in_force="DAY"), "time_in_force"),  # type: ignore[arg-type]
        (Submit(BTC, Side.BUY, D(1), post_only="no"), "post_only"),  # type: ignore[arg-type]
        (Submit(["x"], Side.BUY, D(1)), "not among its symbols"),  # type: ignore[arg-type]
        (Submit(BTC, Side.BUY, None), "not a Decimal"),  # type: ignore[arg-type]
        (Cancel(None), "no ClOrdID"),  # type: ignore[arg-type]
        (Cancel(["x"]), "no ClOrdID"),  # type: ignore[arg-type]
        ("buy!", "neither Submit nor Cancel"),
    ],
)
def test_what_a_strategy_may_not_ask_for_stops_it(desk: Desk, action: Any, why: str) -> None:
    assert desk.quote(BUY, action) == []
    assert desk.host.state is StrategyState.FAILED
    assert why in desk.host.why


def test_the_cancel_of_an_order_of_the_desk_or_of_another_strategy_stops_it(desk: Desk) -> None:
    desk.desk_order(Side.BUY, "1", 1)
    assert desk.quote(Cancel(ClOrdID("ob00000000-1-f1"))) == []
    assert desk.host.state is StrategyState.FAILED
    assert "not its own order" in desk.host.why


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(1),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        GeneratorExit(),
        UnspeakableError(),
    ],
)
def test_whatever_a_strategy_raises_stops_it_alone(desk: Desk, error: BaseException) -> None:
    def explode(view: View) -> Iterable[Action]:
        raise error

    desk.strategy.next = explode
    assert desk.host.on_quote(QUOTE, 0) == []
    assert desk.host.state is StrategyState.FAILED
    assert type(error).__name__ in desk.host.why


def test_a_strategy_that_yields_for_ever_is_stopped(desk: Desk) -> None:
    desk.strategy.next = lambda view: itertools.repeat(BUY)
    assert desk.host.on_quote(QUOTE, 0) == []
    assert desk.host.state is StrategyState.FAILED
    assert f"more than {ACTIONS_MAX} actions" in desk.host.why


@pytest.mark.parametrize("timer_s", [0, -1, float("nan"), float("inf"), "1s", None])
def test_a_strategy_whose_timer_is_no_time_cannot_be_made(timer_s: Any) -> None:
    strategy = Scripted()
    strategy.timer_s = timer_s  # type: ignore[misc]
    host = StrategyHost("s", Placed(), lambda: strategy, DeskFacts(), run="r")
    assert host.state is StrategyState.FAILED
    assert "timer_s" in host.why
    assert host.timer_s == 1.0


def test_a_strategy_that_exits_while_it_is_made_is_failed() -> None:
    def leave() -> Strategy:
        sys.exit(7)

    host = StrategyHost("s", Placed(), leave, DeskFacts(), run="r")
    assert host.state is StrategyState.FAILED
    assert "SystemExit: 7" in host.why


def test_a_strategy_that_cannot_be_made_is_failed_and_says_why() -> None:
    def refuse() -> Strategy:
        raise ValueError("no such parameter")

    host = StrategyHost("s", Placed(), refuse, DeskFacts(), run="r")
    assert host.state is StrategyState.FAILED
    assert "no such parameter" in host.why
    assert host.on_quote(QUOTE, 0) == []


def test_only_a_person_who_names_it_revives_a_failed_strategy(desk: Desk) -> None:
    desk.quote("nonsense")  # type: ignore[arg-type]
    desk.host.resume(revive=False)
    assert desk.host.state is StrategyState.FAILED
    desk.host.resume(revive=True)
    assert desk.host.state is StrategyState.RUNNING
    assert desk.made == 2


def test_a_halted_strategy_sees_the_market_and_does_nothing(desk: Desk) -> None:
    desk.host.halt("lunch")
    assert desk.quote(BUY, Cancel(ClOrdID("x"))) == []
    assert (desk.host.state, desk.host.why) == (StrategyState.HALTED, "lunch")
    assert len(desk.strategy.views) == 1
    desk.host.resume(revive=False)
    assert len(desk.quote(BUY)) == 1


def test_a_disabled_strategy_may_cancel_and_nothing_else_and_a_halt_stands_above_it(
    desk: Desk,
) -> None:
    desk.host.disable("s is disabled by ann")
    (cancel,) = desk.quote(BUY, Cancel(ClOrdID("ob00000000-1-9")))
    assert isinstance(cancel, CancelIntent)
    assert (desk.host.state, desk.host.why) == (StrategyState.DISABLED, "s is disabled by ann")
    assert desk.host.intents == 0
    desk.host.halt("closing")
    assert desk.quote(BUY, Cancel(ClOrdID("ob00000000-1-8"))) == []
    assert desk.host.state is StrategyState.HALTED
    desk.host.resume(revive=False)
    assert desk.host.state is StrategyState.DISABLED, "a resume enables nothing"
    desk.host.disable("")
    assert len(desk.quote(BUY)) == 1


def test_while_the_engine_is_not_trading_only_cancels_pass(desk: Desk) -> None:
    desk.facts.why_not_trading = "no permit"
    (cancel,) = desk.quote(BUY, Cancel(ClOrdID("ob00000000-1-9")))
    assert isinstance(cancel, CancelIntent)
    assert (desk.host.state, desk.host.why) == (StrategyState.WAITING, "no permit")
    assert desk.host.intents == 0


def test_it_waits_for_the_rules_of_its_symbols(desk: Desk) -> None:
    desk.facts.rules.clear()
    assert desk.quote(BUY) == []
    assert BTC in desk.host.why
    assert desk.strategy.views == [], "a strategy may count on the rules of its symbols"


def test_its_position_is_the_sum_of_its_own_fills(desk: Desk) -> None:
    (intent,) = desk.quote(BUY)
    desk.intended(intent)
    desk.event(OrderAccepted(cl_ord_id=ClOrdID("ob00000000-1-1"), at_ns=1, venue_order_id="7"))
    desk.filled("0.4")
    desk.filled("0.4")  # told twice
    desk.quote()
    assert desk.strategy.views[-1].position(BTC) == D("0.4")


def test_events_of_the_past_are_counted_and_not_shown(desk: Desk) -> None:
    (intent,) = desk.quote(BUY)
    desk.intended(intent, live=False)
    assert desk.strategy.heard == []
    assert len(desk.host.open_orders()) == 1


def test_a_flatten_by_the_desk_closes_the_strategys_position_too(desk: Desk) -> None:
    """After a closing that flattened, the strategy used to believe in what it no longer held."""
    (intent,) = desk.quote(BUY)
    desk.intended(intent)
    desk.filled("1")
    desk.desk_order(Side.SELL, "1", 1)
    assert desk.host.positions() == {BTC: D(0)}
    desk.desk_order(Side.SELL, "2", 2)
    assert desk.host.positions() == {BTC: D(0)}
    held = {name: p.quantity for (name, _), p in desk.facts.ledger.held.items()}
    assert held == {"s": D(0), "": D(-2)}


def test_strategies_that_hold_against_each_other_are_flat_once_the_desk_is(desk: Desk) -> None:
    """One long 1, another short 0.6: the desk sold the net 0.4, and both went on with 0.6 that
    nobody had."""
    (intent,) = desk.quote(BUY)
    desk.intended(intent)
    desk.filled("1")
    other = NewOrder(
        cl_ord_id=ClOrdID("ob00000000-1-2"),
        venue="sim",
        symbol=BTC,
        side=Side.SELL,
        ord_type=OrdType.MARKET,
        order_qty=D("0.6"),
        strategy="t",
    )
    desk.event(OrderIntended(cl_ord_id=other.cl_ord_id, at_ns=1, order=other))
    desk.filled("0.6", exec_id="2", cl_ord_id=other.cl_ord_id)
    desk.desk_order(Side.SELL, "0.4", 1)
    assert {p.quantity for p in desk.facts.ledger.held.values()} == {D(0)}
