"""The last minute's accepted and rejected orders."""

from __future__ import annotations

from openbell.domain.orders import ClOrdID, OrderAccepted, OrderRejected
from openbell.trading.engine.outcomes import Outcomes


def accepted() -> OrderAccepted:
    return OrderAccepted(cl_ord_id=ClOrdID("ob1"), at_ns=0, venue_order_id="1")


def rejected(code: str) -> OrderRejected:
    return OrderRejected(cl_ord_id=ClOrdID("ob1"), at_ns=0, code=code, text="")


def test_only_what_a_venue_answered_within_the_window_counts() -> None:
    now = [0.0]
    outcomes = Outcomes(clock=lambda: now[0])
    outcomes.note(accepted())
    now[0] = 50.0
    outcomes.note(accepted())
    outcomes.note(rejected("insufficient_funds"))
    outcomes.note(rejected("throttled"))
    outcomes.note(rejected("never_sent"))
    outcomes.note(object())  # in doubt: neither
    assert outcomes.document() == {"within_s": 60.0, "accepted": 2, "rejected": 1}
    now[0] = 61.0
    assert outcomes.document() == {"within_s": 60.0, "accepted": 1, "rejected": 1}
    now[0] = 200.0
    assert outcomes.document() == {"within_s": 60.0, "accepted": 0, "rejected": 0}
