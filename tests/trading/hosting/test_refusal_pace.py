"""Strategies whose orders are rejected ask less and less often, and say so once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trading.hosting.test_host import BTC, Desk

from openbell.domain.orders import ClOrdID, OrderAccepted, OrderRejected, Side
from openbell.trading.refusal_pace import FIRST_NS, LONGEST_NS, TOLD_AT, RefusalPace
from openbell.trading.strategy import Submit

D = Decimal
S_NS = 1_000_000_000
BUY = Submit(BTC, Side.BUY, D(1), D(100))
SELL = Submit(BTC, Side.SELL, D(1), D(101))


class RefusingDesk(Desk):
    """Whatever is asked for is rejected, as by an adapter before sending."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.asked_ns: list[int] = []
        self.code = "unsupported"

    def ask(self, *wanted: Submit) -> None:
        for intent in self.quote(*wanted):
            self.asked_ns.append(self.now_ns)
            self.number += 1
            cl_ord_id = ClOrdID(f"ob00000000-1-{self.number}")
            self.intended(intent, cl_ord_id)
            self.event(self.outcome(cl_ord_id))

    def outcome(self, cl_ord_id: ClOrdID) -> Any:
        if not self.code:
            return OrderAccepted(cl_ord_id=cl_ord_id, at_ns=2, venue_order_id="1")
        return OrderRejected(
            cl_ord_id=cl_ord_id, at_ns=2, code=self.code, text="no post-only orders here"
        )

    def run(self, seconds: float, *wanted: Submit, step_ns: int = 100_000_000) -> int:
        """Quotes at 10 a second for so long; returns how often it asked."""
        before = len(self.asked_ns)
        end_ns = self.now_ns + int(seconds * S_NS)
        while self.now_ns < end_ns:
            self.ask(*wanted)
            self.now_ns += step_ns
        return len(self.asked_ns) - before


@pytest.fixture
def desk() -> RefusingDesk:
    return RefusingDesk()


def test_a_refused_order_is_asked_for_ever_less_often(desk: RefusingDesk) -> None:
    assert desk.run(600, BUY) <= 17
    gaps = [after - before for before, after in zip(desk.asked_ns, desk.asked_ns[1:], strict=False)]
    assert gaps[:4] == [FIRST_NS, 2 * FIRST_NS, 4 * FIRST_NS, 8 * FIRST_NS]
    assert max(gaps) <= LONGEST_NS + 100_000_000


def test_it_is_told_once_with_the_reason_and_shown(desk: RefusingDesk) -> None:
    desk.run(600, BUY)
    (told,) = desk.host.to_warn
    assert "unsupported no post-only orders here" in told and "BUY BTC/USDT" in told
    assert "no post-only orders here" in desk.host.why
    assert desk.host.refused == len(desk.asked_ns)


def test_a_refusal_now_and_then_is_not_told(desk: RefusingDesk) -> None:
    for _ in range(10):
        desk.code = "-2010"
        desk.run(0.1, BUY)
        desk.code = ""
        desk.now_ns += S_NS
        desk.run(0.1, BUY)
    assert desk.host.to_warn == [] and desk.host.why == ""


def test_an_acceptance_begins_anew(desk: RefusingDesk) -> None:
    desk.run(60, BUY)
    desk.code = ""
    desk.now_ns += LONGEST_NS
    assert desk.run(0.1, BUY) == 1
    assert desk.host.pace.streaks == {}
    desk.code = "unsupported"
    assert desk.run(0.7, BUY) == 2


def test_what_is_asked_for_differently_is_not_held_back(desk: RefusingDesk) -> None:
    desk.run(60, BUY)
    assert desk.run(0.1, BUY) == 0
    plain = Submit(BTC, Side.BUY, D(1), D(100), post_only=True)
    assert desk.run(0.1, plain) == 1
    assert desk.run(0.1, SELL) == 1
    assert desk.run(0.1, Submit(BTC, Side.BUY, D(1), None)) == 1


def test_another_price_or_quantity_is_the_same_order(desk: RefusingDesk) -> None:
    """Both follow the market: a quote at a new price is no new reason to be taken."""
    desk.run(60, BUY)
    assert desk.run(0.1, Submit(BTC, Side.BUY, D("1.01"), D(99))) == 0


def test_a_person_who_resumes_it_lets_it_try_at_once(desk: RefusingDesk) -> None:
    desk.run(60, BUY)
    desk.host.halt("mended")
    desk.host.resume(revive=False)
    assert desk.run(0.1, BUY) == 1


@pytest.mark.parametrize("code", ["throttled", "never_sent", "never_arrived"])
def test_what_says_nothing_against_the_order_is_paced_elsewhere(
    desk: RefusingDesk, code: str
) -> None:
    desk.code = code
    assert desk.run(1, BUY) == 10


@given(
    st.lists(st.tuples(st.integers(0, 90 * S_NS), st.booleans()), min_size=1, max_size=60),
)
def test_between_two_tries_of_the_same_there_is_never_less_than_promised(
    history: list[tuple[int, bool]],
) -> None:
    """Random times between wishes, some orders accepted: n refusals in a row hold for
    min(FIRST * 2^(n-1), LONGEST), and not a moment longer."""
    desk = RefusingDesk()
    pace = RefusalPace()
    now_ns, refused, last_ns = 0, 0, 0
    for step_ns, accepted in history:
        now_ns += step_ns
        due = refused == 0 or now_ns >= last_ns + min(FIRST_NS << (refused - 1), LONGEST_NS)
        assert pace.holds(BUY, now_ns) is not due
        if not due:
            continue
        (intent,) = desk.quote(BUY)
        order = intent.order(ClOrdID("ob00000000-1-1"))
        if accepted:
            pace.accepted(order)
            refused = 0
        else:
            told = pace.refused(order, "x", "", now_ns)
            refused, last_ns = refused + 1, now_ns
            assert (told is not None) is (refused == TOLD_AT)
