"""What the engine counts, for `/metrics`. Labels are bound in advance where a path is hot."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_S = (
    *(n / 4000 for n in range(1, 21)),  # a quarter of a millisecond each, up to the 5 ms promised
    *(0.0075, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0),
)

SENT = Counter("openbell_orders_sent_total", "Orders sent to a venue", ["venue"])
CANCELS = Counter("openbell_cancels_sent_total", "Cancels sent to a venue", ["venue"])
OUTCOMES = Counter("openbell_order_outcomes_total", "Outcomes of sent orders", ["venue", "outcome"])
REFUSED = Counter("openbell_intents_refused_total", "Intents the last gate refused", ["code"])
FILLS = Counter("openbell_fills_total", "Executions booked", ["venue"])
INTENT_TO_SENT = Histogram(
    "openbell_intent_to_sent_seconds",
    "From an intent's arrival to the hand-over of its order to the venue's connection",
    buckets=_LATENCY_S,
)
JOURNAL = Histogram(
    "openbell_journal_append_seconds", "One append, fsync included", buckets=_LATENCY_S
)
ROUND_TRIP = Histogram(
    "openbell_submit_seconds", "From the send of an order to its outcome", buckets=_LATENCY_S
)
IN_DOUBT = Gauge("openbell_orders_in_doubt", "Orders whose outcome the venue must be asked for")
TRADING = Gauge("openbell_engine_trading", "1 while strategies' orders are sent")
VENUE_UP = Gauge("openbell_venue_connected", "1 while the venue answers", ["venue"])
MISMATCHES = Gauge(
    "openbell_reconcile_mismatches", "Differences the last reconciliation left", ["venue"]
)
THROTTLED = Counter(
    "openbell_venue_throttled_total",
    "Orders, cancels and questions that the venue's limits held back",
    ["venue"],
)
HELD_BACK = Gauge(
    "openbell_venue_held_back", "1 while the venue's limits hold something back", ["venue"]
)
