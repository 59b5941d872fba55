"""Trading hours: the calendar, and what a market that does not trade takes and refuses."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.exchange_kit import Clock, D, Kept, crowd, funded, printed, request

from openbell.domain.orders import OrdStatus
from openbell_sim.account import FeeSchedule
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.market.events import BestSet, LevelsSet, Snapshot, Traded
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.session_calendar import SessionCalendar
from openbell_sim.sessions import MarketState

NYSE = msgspec.toml.decode(
    """
    timezone = "America/New_York"
    holidays = [2026-12-25]
    [[windows]]
    days = ["mon", "tue", "wed", "thu", "fri"]
    start = 09:30:00
    end = 16:00:00
    """,
    type=SessionCalendar,
)
FOREX = msgspec.json.decode(
    """{"timezone": "America/New_York", "windows": [
        {"days": ["sun", "mon", "tue", "wed", "thu"], "start": "16:59:00", "end": "17:05:00",
         "state": "cancel_only"},
        {"days": ["sun", "mon", "tue", "wed", "thu"], "start": "17:00:00", "end": "17:00:00"}
    ]}""",
    type=SessionCalendar,
)


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("calendar", "moment", "state", "change"),
    [
        (NYSE, "2026-03-06T14:29:59+00:00", MarketState.CLOSED, "2026-03-06T14:30:00+00:00"),
        (NYSE, "2026-03-06T14:30:00+00:00", MarketState.OPEN, "2026-03-06T21:00:00+00:00"),
        # Over the weekend daylight saving time begins: the market opens an hour earlier in UTC.
        (NYSE, "2026-03-06T21:00:00+00:00", MarketState.CLOSED, "2026-03-09T13:30:00+00:00"),
        (NYSE, "2026-12-24T21:00:00+00:00", MarketState.CLOSED, "2026-12-28T14:30:00+00:00"),
        (FOREX, "2026-03-06T21:59:59+00:00", MarketState.OPEN, "2026-03-06T22:00:00+00:00"),
        (FOREX, "2026-03-07T12:00:00+00:00", MarketState.CLOSED, "2026-03-08T20:59:00+00:00"),
        (FOREX, "2026-03-10T21:04:00+00:00", MarketState.CANCEL_ONLY, "2026-03-10T21:05:00+00:00"),
        (FOREX, "2026-03-10T21:05:00+00:00", MarketState.OPEN, "2026-03-11T20:59:00+00:00"),
        (SessionCalendar(otherwise=MarketState.OPEN), "2026-03-07T12:00:00+00:00", "open", None),
    ],
)
def test_the_calendar_tells_the_state_and_its_next_change(
    calendar: SessionCalendar, moment: str, state: MarketState, change: str | None
) -> None:
    assert calendar.state_at(ns(moment)) is MarketState(state)
    found = calendar.next_change_ns(ns(moment))
    assert found == (None if change is None else ns(change))


@pytest.mark.parametrize(
    ("calendar", "moment", "opens", "closes"),
    [
        (
            NYSE,
            "2026-03-06T14:00:00+00:00",
            "2026-03-06T14:30:00+00:00",
            "2026-03-06T21:00:00+00:00",
        ),
        (
            NYSE,
            "2026-03-06T15:00:00+00:00",
            "2026-03-09T13:30:00+00:00",
            "2026-03-06T21:00:00+00:00",
        ),
        (
            NYSE,
            "2026-12-24T22:00:00+00:00",
            "2026-12-28T14:30:00+00:00",
            "2026-12-28T21:00:00+00:00",
        ),
        # From closed by cancel-only to open: only the last of them is an opening.
        (
            FOREX,
            "2026-03-07T12:00:00+00:00",
            "2026-03-08T21:05:00+00:00",
            "2026-03-09T20:59:00+00:00",
        ),
        (SessionCalendar(otherwise=MarketState.OPEN), "2026-03-07T12:00:00+00:00", None, None),
        (SessionCalendar(), "2026-03-07T12:00:00+00:00", None, None),
    ],
)
def test_the_next_opening_and_the_next_close(
    calendar: SessionCalendar, moment: str, opens: str | None, closes: str | None
) -> None:
    told = (calendar.next_open_ns(ns(moment)), calendar.next_close_ns(ns(moment)))
    assert told == tuple(None if each is None else ns(each) for each in (opens, closes))


@pytest.mark.parametrize(
    ("calendar", "day", "hours"),
    [
        (NYSE, "2026-03-06", ("2026-03-06T09:30-05:00", "2026-03-06T16:00-05:00")),
        (NYSE, "2026-03-07", None),
        (NYSE, "2026-12-25", None),
        (FOREX, "2026-03-07", None),
        # Open from the evening before, but for six minutes, and on into the night.
        (FOREX, "2026-03-10", ("2026-03-10T00:00-04:00", "2026-03-11T00:00-04:00")),
        (FOREX, "2026-03-08", ("2026-03-08T17:05-04:00", "2026-03-09T00:00-04:00")),
        (FOREX, "2026-03-06", ("2026-03-06T00:00-05:00", "2026-03-06T17:00-05:00")),
        (
            SessionCalendar(otherwise=MarketState.OPEN), "2026-03-07",
            ("2026-03-07T00:00-05:00", "2026-03-08T00:00-05:00"),
        ),
    ],
)  # fmt: skip
def test_the_hours_of_a_day(
    calendar: SessionCalendar, day: str, hours: tuple[str, str] | None
) -> None:
    told = calendar.open_hours_ns(dt.date.fromisoformat(day), ZoneInfo("America/New_York"))
    assert told == (None if hours is None else (ns(hours[0]), ns(hours[1])))


@given(st.dates(dt.date(2026, 1, 1), dt.date(2026, 12, 31)), st.sampled_from([NYSE, FOREX]))
def test_a_days_hours_begin_and_end_with_an_open_market(
    day: dt.date, calendar: SessionCalendar
) -> None:
    hours = calendar.open_hours_ns(day, ZoneInfo("Asia/Tokyo"))
    noon = dt.datetime.combine(day, dt.time(12), ZoneInfo("Asia/Tokyo"))
    if hours is None:
        assert calendar.state_at(int(noon.timestamp()) * 10**9) is not MarketState.OPEN
    else:
        assert calendar.state_at(hours[0]) is calendar.state_at(hours[1] - 1) is MarketState.OPEN


@given(st.integers(ns("2026-01-01T00:00:00+00:00"), ns("2026-12-31T00:00:00+00:00")))
def test_the_state_does_not_change_before_the_calendar_says(moment: int) -> None:
    for calendar in (NYSE, FOREX):
        change = calendar.next_change_ns(moment)
        assert change is not None
        assert calendar.state_at(change) is not calendar.state_at(moment)
        assert calendar.state_at((moment + change) // 2) is calendar.state_at(moment)
        assert calendar.state_at(change - 1) is calendar.state_at(moment)


@pytest.mark.parametrize(
    "text",
    [
        '{"timezone": "Mars/Olympus"}',
        '{"windows": [{"days": ["someday"], "start": "09:30:00", "end": "16:00:00"}]}',
        '{"holidays": ["2026-12-25"]}',
        '{"opens": "09:30"}',
    ],
)
def test_a_calendar_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=SessionCalendar)


def make(record: Kept | None = None) -> Exchange:
    return Exchange(
        [KNOWN["BTCUSDT"], KNOWN["ETHUSDT"]],
        now_ns=Clock().now_ns,
        fees=FeeSchedule(maker=D(0), taker=D(0)),
        record=record,
    )


class Told:
    """A listener that keeps what it hears of sessions and fills."""

    def __init__(self, exchange: Exchange) -> None:
        self.words: list[str] = []
        exchange.listeners.append(self)

    def on_reports(self, reports: Any) -> None:
        self.words += [type(report.event).__name__ for report in reports]

    def on_deposit(self, deposit: object) -> None: ...
    def on_trade(self, trade: object) -> None: ...
    def on_book(self, symbol: str) -> None: ...

    def on_session(self, symbol: str, state: MarketState) -> None:
        self.words.append(f"{symbol} {state}")


@pytest.mark.parametrize(
    ("state", "orders", "cancels"),
    [
        (MarketState.CANCEL_ONLY, Reason.CANCEL_ONLY, None),
        (MarketState.CLOSED, Reason.MARKET_CLOSED, None),
        (MarketState.HALTED, Reason.HALTED, Reason.HALTED),
    ],
)
def test_what_a_market_that_does_not_trade_refuses(
    state: MarketState, orders: Reason, cancels: Reason | None
) -> None:
    exchange = funded(make())
    crowd(exchange, bid="100", ask="101", qty="5")
    order = exchange.submit(request("BUY", "1", "99"))
    exchange.set_session("BTCUSDT", state)
    assert order.is_open
    for refused in (
        lambda: exchange.submit(request("BUY", "1", "99", cl_ord_id="x")),
        lambda: exchange.test(request("BUY", "1", "99", cl_ord_id="x")),
        lambda: exchange.amend(order, qty=D("0.5")),
        lambda: exchange.close_lot("main", "BTCUSDT", 1),
    ):
        with pytest.raises(RefusedError) as refusal:
            refused()
        assert refusal.value.reason is orders
    exchange.set_session("ETHUSDT", MarketState.OPEN)
    if cancels is None:
        exchange.cancel(order)
        assert not order.is_open
    else:
        with pytest.raises(RefusedError) as refusal:
            exchange.cancel(order)
        assert refusal.value.reason is cancels
        assert order.is_open


def test_a_closed_market_does_not_trade_and_opens_with_the_last_quotes() -> None:
    exchange = funded(make())
    crowd(exchange, bid="100", ask="101", qty="5")
    order = exchange.submit(request("BUY", "1", "99"))
    told = Told(exchange)
    exchange.set_session(None, MarketState.CLOSED)
    exchange.play(Traded("BTCUSDT", D(90), D(5), aggressor_is_buyer=False))
    crowd(exchange, bid="80", ask="81", qty="5")
    exchange.play(LevelsSet("BTCUSDT", ((D(97), D(3)), (D(80), D(0))), ((D(81), D(0)),)))
    exchange.play(BestSet("BTCUSDT", (D(97), D(3)), (D("98.5"), D(2))))
    market = exchange.markets["BTCUSDT"]
    assert order.cum_qty == 0
    assert market.book.bids.best == 10000
    assert market.tape.last is None
    exchange.set_session(None, MarketState.OPEN)
    assert order.status is OrdStatus.FILLED
    assert (market.book.bids.best, market.book.asks.best) == (9700, 9850)
    assert told.words == [
        "BTCUSDT closed",
        "ETHUSDT closed",
        "BTCUSDT open",
        "Fill",
        "ETHUSDT open",
    ]


def test_a_market_that_is_closed_from_the_start_has_quotes_all_the_same() -> None:
    exchange = make()
    exchange.set_session(None, MarketState.CLOSED, scheduled=True)
    exchange.play(Snapshot("BTCUSDT", ((D(100), D(1)),), ((D(101), D(1)),)))
    assert exchange.markets["BTCUSDT"].mark() == D("100.5")


def test_what_somebody_sets_goes_before_the_calendar_until_it_is_taken_back() -> None:
    record = Kept()
    exchange = make(record)
    exchange.set_session(None, MarketState.OPEN, scheduled=True)
    exchange.set_session("BTCUSDT", MarketState.HALTED)
    exchange.set_session(None, MarketState.CLOSED, scheduled=True)
    assert exchange.session("BTCUSDT") is MarketState.HALTED
    assert exchange.session("ETHUSDT") is MarketState.CLOSED
    count = len(record.events)
    exchange.set_session(None, MarketState.CLOSED, scheduled=True)
    assert len(record.events) == count
    again = make()
    again.restore(record.events)
    assert again.session("BTCUSDT") is MarketState.HALTED
    exchange.set_session("BTCUSDT", None)
    assert exchange.session("BTCUSDT") is MarketState.CLOSED
    exchange.set_session("ETHUSDT", MarketState.CANCEL_ONLY)
    exchange.set_session(None, MarketState.OPEN)
    assert {exchange.session(symbol) for symbol in exchange.markets} == {MarketState.OPEN}


def test_stops_wait_while_nothing_trades() -> None:
    exchange = funded(make())
    crowd(exchange, bid="100", ask="101", qty="5")
    printed(exchange, "100.5")
    exchange.set_session("BTCUSDT", MarketState.HALTED)
    printed(exchange, "90")
    exchange.set_session("BTCUSDT", None)
    assert exchange.markets["BTCUSDT"].mark() == D("100.5")


def test_a_halt_does_not_keep_the_venue_itself_from_cancelling() -> None:
    exchange = funded(make())
    order = exchange.submit(request("BUY", "1", "99"))
    exchange.set_session("BTCUSDT", MarketState.HALTED)
    told = Told(exchange)
    exchange.cancel(order, reason="day_ended")
    assert (order.status, order.reason) == (OrdStatus.CANCELED, "day_ended")
    assert told.words == ["Cancel"]
