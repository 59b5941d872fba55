"""Exposure, today's P&L and breaches from events and quotes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbell.config.models import DeskFile
from openbell.domain.market import Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrderFilled, OrderIntended, OrdType, Side
from openbell.state.risk_limits import LimitsChange, change_limits
from openbell.trading.limits_in_force import LimitsInForce
from openbell.trading.risk_watch import DAY_NS, DayStart, RiskWatch

D = Decimal
DAY = 20_000
MORNING_NS = DAY * DAY_NS + 3_600_000_000_000


def desk(**risk: Any) -> DeskFile:
    return DeskFile.model_validate_json(
        json.dumps(
            {
                "desk": {"name": "d"},
                "risk": risk,
                "services": {"x": {"command": ["true"]}},
            }
        )
    )


class Facts:
    def __init__(self, watch: RiskWatch) -> None:
        self.watch = watch
        self._number = 0

    def trade(self, side: Side, quantity: str, price: str, *, at_ns: int = MORNING_NS) -> None:
        self._number += 1
        cl_ord_id = ClOrdID(f"ob00000000-1-{self._number}")
        new = NewOrder(
            cl_ord_id=cl_ord_id,
            venue="sim",
            symbol="BTC/USDT",
            side=side,
            ord_type=OrdType.MARKET,
            order_qty=D(quantity),
            strategy="s",
        )
        self.watch.on_event(OrderIntended(cl_ord_id=cl_ord_id, at_ns=at_ns, order=new))
        self.watch.on_event(
            OrderFilled(
                cl_ord_id=cl_ord_id,
                at_ns=at_ns,
                exec_id=str(self._number),
                last_qty=D(quantity),
                last_px=D(price),
            )
        )

    def quote(self, bid: str, ask: str, *, at_ns: int = MORNING_NS, late_ns: int = 0) -> None:
        self.watch.on_quote(
            Quote(
                venue="sim",
                symbol="BTC/USDT",
                bid_px=D(bid),
                bid_qty=D(1),
                ask_px=D(ask),
                ask_qty=D(1),
                venue_time_ns=0,
                received_ns=at_ns,
                late_ns=late_ns,
            )
        )


def test_exposure_and_pnl_are_marked_at_the_mid() -> None:
    facts = Facts(RiskWatch(desk(max_total_exposure="1000")))
    facts.trade(Side.BUY, "2", "100")
    facts.quote("104", "106")
    seen = facts.watch.assess(MORNING_NS)
    assert seen.state.total_exposure == D(210)
    assert seen.state.daily_pnl == D(10)
    assert seen.state.breaches == ()
    (used,) = seen.utilisation
    assert (used.limit, used.used, used.percent) == ("max_total_exposure", D(210), D("21.00"))


def test_a_loss_beyond_the_limit_is_a_breach() -> None:
    facts = Facts(RiskWatch(desk(max_daily_loss="50")))
    facts.trade(Side.BUY, "2", "100")
    facts.quote("74", "76")
    assert facts.watch.assess(MORNING_NS).state.breaches == ("max_daily_loss",)


@pytest.mark.parametrize(("bid", "ask"), [("NaN", "1"), ("0", "0"), ("5", "1")])
def test_an_unsound_quote_breaches_nothing_and_is_named(bid: str, ask: str) -> None:
    facts = Facts(RiskWatch(desk(max_daily_loss="50", max_total_exposure="1")))
    facts.trade(Side.BUY, "2", "100")
    facts.quote(bid, ask)
    seen = facts.watch.assess(MORNING_NS)
    assert seen.state.breaches == ()
    assert seen.state.daily_pnl.is_nan(), "not known is not zero"
    assert seen.daily_pnl is None
    assert seen.exposure.unpriced == ("sim BTC/USDT",)


def test_a_stale_quote_breaches_nothing() -> None:
    facts = Facts(RiskWatch(desk(max_daily_loss="50", stale_quote_after="5s")))
    facts.trade(Side.BUY, "2", "100")
    facts.quote("10", "11")
    assert facts.watch.assess(MORNING_NS).state.breaches
    late = facts.watch.assess(MORNING_NS + 6_000_000_000)
    assert late.state.breaches == ()
    assert late.stale == ("sim BTC/USDT",)


def test_a_quote_that_just_came_from_a_feed_that_is_late_is_as_old_as_it_is_late() -> None:
    facts = Facts(RiskWatch(desk(max_daily_loss="50", stale_quote_after="5s")))
    facts.trade(Side.BUY, "2", "100")
    facts.quote("10", "11", late_ns=6_000_000_000)
    seen = facts.watch.assess(MORNING_NS)
    assert seen.state.breaches == () and seen.stale == ("sim BTC/USDT",)
    facts.quote("10", "11", late_ns=4_000_000_000)
    assert facts.watch.assess(MORNING_NS).state.breaches


def test_a_quote_from_before_the_clock_was_set_back_values_nothing_however_long_that_takes() -> (
    None
):
    """The feed ends and the clock is set back an hour: the last price was taken for fresh until the
    hour was over, and what was lost meanwhile went unseen."""
    facts = Facts(RiskWatch(desk(max_daily_loss="50", stale_quote_after="5s")))
    facts.trade(Side.BUY, "2", "100")
    facts.quote("100", "100", at_ns=MORNING_NS)
    for back_s in (3600, 60, 2):
        seen = facts.watch.assess(MORNING_NS - back_s * 1_000_000_000)
        assert seen.stale == ("sim BTC/USDT",) and seen.daily_pnl is None
    assert facts.watch.assess(MORNING_NS - 500_000_000).stale == ()


def test_at_midnight_utc_the_days_pnl_begins_at_zero() -> None:
    facts = Facts(RiskWatch(desk(max_daily_loss="50")))
    facts.trade(Side.BUY, "2", "100")
    facts.watch.live = True
    facts.quote("70", "70")
    assert facts.watch.assess(MORNING_NS).state.daily_pnl == D(-60)
    next_day_ns = (DAY + 1) * DAY_NS
    facts.quote("70", "70", at_ns=next_day_ns)
    assert facts.watch.assess(next_day_ns).state.daily_pnl == 0
    assert facts.watch.day_start == DayStart(day=DAY + 1, net=D(-60))


def test_a_restart_keeps_the_days_beginning_it_noted() -> None:
    facts = Facts(RiskWatch(desk(), day_start=DayStart(day=DAY, net=D(-60))))
    facts.trade(Side.BUY, "2", "100", at_ns=MORNING_NS - DAY_NS)
    facts.trade(Side.BUY, "1", "70")
    facts.quote("70", "70")
    assert facts.watch.assess(MORNING_NS).state.daily_pnl == 0


def test_without_a_note_what_was_realized_the_day_before_is_not_todays() -> None:
    facts = Facts(RiskWatch(desk()))
    yesterday_ns = MORNING_NS - DAY_NS
    facts.trade(Side.BUY, "2", "100", at_ns=yesterday_ns)
    facts.trade(Side.SELL, "1", "60", at_ns=yesterday_ns)
    facts.trade(Side.BUY, "1", "90")
    facts.quote("95", "95")
    assert facts.watch.assess(MORNING_NS).state.daily_pnl == D(0)


def test_it_judges_by_the_limits_in_force_as_the_engine_does(tmp_path: Path) -> None:
    file = desk(max_total_exposure="1000")
    path = tmp_path / "risk-limits.json"
    facts = Facts(RiskWatch(file, in_force=LimitsInForce(file.risk, path)))
    facts.trade(Side.BUY, "2", "100")
    facts.quote("104", "106")
    assert facts.watch.assess(MORNING_NS).state.breaches == ()
    tighter = LimitsChange(
        limits={"max_total_exposure": D(150)}, reason="storm", who="ann", at=datetime.now(UTC)
    )
    change_limits(path, lambda _: (tighter,))
    seen = facts.watch.assess(MORNING_NS)
    assert seen.state.breaches == ("max_total_exposure",)
    assert seen.utilisation[0].allowed == D(150)
    path.write_bytes(b"{")
    assert facts.watch.assess(MORNING_NS).state.breaches == ("limits_unknown",)
