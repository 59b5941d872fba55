"""The request budget and the venue's clock."""

from __future__ import annotations

import time

import pytest

from openbell.venues.clock import VenueClock
from openbell.venues.pacing import Pacing


def test_nothing_is_sent_before_the_time_the_venue_named():
    pacing = Pacing()
    assert pacing.refused(429, {"Retry-After": "30"}, 100.0) == 30
    assert pacing.wait_s(110.0, query=False) == 20
    assert pacing.wait_s(131.0, query=True) == 0


def test_a_later_refusal_never_shortens_a_ban():
    pacing = Pacing()
    pacing.refused(418, {"Retry-After": "300"}, 0.0)
    pacing.refused(429, {"Retry-After": "1"}, 1.0)
    assert pacing.wait_s(1.0, query=False) == 299


@pytest.mark.parametrize("text", [None, "soon", "nan", "-5", "1e99"])
def test_a_refusal_without_a_time_waits_for_a_window(text):
    headers = {} if text is None else {"Retry-After": text}
    assert Pacing().refused(429, headers, 0.0) == 60
    assert Pacing().refused(418, headers, 0.0) == 120


def test_a_fifth_of_the_budget_is_kept_for_orders_and_cancels():
    pacing = Pacing(budget=6000)
    pacing.used(4799, 30, 0.0)
    assert pacing.wait_s(0.0, query=True) == 0
    pacing.used(4800, 30, 0.0)
    assert pacing.wait_s(0.0, query=True) == 30
    assert pacing.wait_s(0.0, query=False) == 0


def test_what_is_counted_and_what_is_under_way_never_exceed_the_budget():
    pacing = Pacing(budget=2400)
    pacing.used(2390, 30, 0.0)
    pacing.under_way = 9
    assert pacing.wait_s(0.0, query=False) == 0
    pacing.under_way = 10
    assert pacing.wait_s(0.0, query=False) == 30
    assert pacing.wait_s(30.0, query=False) == 0


def test_an_answer_that_was_overtaken_gives_nothing_back():
    pacing = Pacing(budget=2400)
    pacing.used(2400, 30, 0.0)
    pacing.used(2350, 29, 1.0)
    assert pacing.wait_s(1.0, query=False) == 29
    pacing.used(5, 60, 31.0)
    assert pacing.wait_s(31.0, query=False) == 0


def test_the_venues_clock_does_not_follow_a_jump_of_ours(monkeypatch):
    clock = VenueClock()
    now_s = time.monotonic()
    clock.measured(5_000_000, now_s, now_s)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert 5_000_000 <= clock.now_ms() < 5_010_000


@pytest.mark.parametrize("read_s", [100.0, 101.5, 103.0], ids=["at once", "halfway", "at last"])
def test_an_answer_that_took_seconds_never_gives_stamps_that_a_venue_refuses(
    monkeypatch: pytest.MonkeyPatch, read_s: float
) -> None:
    """Halfway between question and answer was taken for the moment at which the venue read its clock: a
    controller that loaded adapters meanwhile read the answer seconds later, and Binance refused all it
    asked (-1021, the stamp is 1000 ms ahead)."""
    sent_s, received_s = 100.0, 103.0
    clock = VenueClock()
    clock.measured(int(read_s * 1000), sent_s, received_s)  # its clock shows ours
    monkeypatch.setattr(time, "monotonic", lambda: received_s)
    ahead_ms = clock.now_ms() - received_s * 1000
    assert -5000 < ahead_ms < 1000, "what Binance accepts"
