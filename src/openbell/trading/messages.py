"""What goes over the bus. Every message travels in an `Envelope`.

Sockets (ZeroMQ, ipc endpoints in the desk's run folder, each bound by its producer):

    market.sock   PUB     market-data      Quote, Trade             may be conflated
                                           Instruments              said again and again
    intents.sock  ROUTER  execution-engine Intent -> IntentReply    each is answered
    events.sock   PUB     execution-engine EngineEvent              sequenced; gaps are replayed:
    replay.sock   ROUTER  execution-engine ReplayRequest -> ReplayReply
    risk.sock     PUB     risk-management  RiskState

Topics (first frame of a published message; subscribers match them by prefix):

    quote/VENUE/SYMBOL   trade/VENUE/SYMBOL   instruments/VENUE   order   engine   risk
"""

from __future__ import annotations

from decimal import Decimal
from typing import Generic, TypeVar

import msgspec

from openbell.domain.external import JournalEvent
from openbell.domain.market import InstrumentRules
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrdType,
    Purpose,
    Side,
    TimeInForce,
)

T = TypeVar("T")

MARKET_SOCKET = "market.sock"
INTENTS_SOCKET = "intents.sock"
EVENTS_SOCKET = "events.sock"
REPLAY_SOCKET = "replay.sock"
RISK_SOCKET = "risk.sock"

QUOTE_TOPIC = "quote/"
"""Prefix of every quote's topic."""
TRADE_TOPIC = "trade/"
INSTRUMENTS_TOPIC = "instruments/"
ORDER_TOPIC = "order"
"""EngineEvent."""
ENGINE_TOPIC = "engine"
"""EngineHeartbeat."""
RISK_TOPIC = "risk"
"""RiskState."""


def quote_topic(venue: str, symbol: str) -> str:
    return f"{QUOTE_TOPIC}{venue}/{symbol}"


def trade_topic(venue: str, symbol: str) -> str:
    return f"{TRADE_TOPIC}{venue}/{symbol}"


def instruments_topic(venue: str) -> str:
    return f"{INSTRUMENTS_TOPIC}{venue}"


class Envelope(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    producer: str
    """Service name and start: `execution-engine/1732147200000000000`; a new one starts at seq 1."""
    seq: int
    """Counts up by one per producer, socket and topic, so that a subscriber of some topics sees
    its own loss and no other."""
    sent_ns: int
    body: T


class Instruments(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a venue's declared symbols, twice a second: the bus keeps no last value."""

    venue: str
    rules: tuple[InstrumentRules, ...]


class SubmitIntent(msgspec.Struct, frozen=True, kw_only=True, tag="submit"):
    intent_id: str
    """Unique per strategy run; repeated after a lost reply, it makes no second order."""
    strategy: str
    venue: str
    symbol: str
    side: Side
    ord_type: OrdType
    order_qty: Decimal
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False

    def order(self, cl_ord_id: ClOrdID, purpose: Purpose = Purpose.TRADE) -> NewOrder:
        """The order that this intent becomes under an id."""
        return NewOrder(
            cl_ord_id=cl_ord_id,
            venue=self.venue,
            symbol=self.symbol,
            side=self.side,
            ord_type=self.ord_type,
            order_qty=self.order_qty,
            price=self.price,
            time_in_force=self.time_in_force,
            post_only=self.post_only,
            strategy=self.strategy,
            intent_id=self.intent_id,
            purpose=purpose,
        )


class CancelIntent(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    intent_id: str
    strategy: str
    cl_ord_id: ClOrdID


Intent = SubmitIntent | CancelIntent


class IntentReply(msgspec.Struct, frozen=True, kw_only=True):
    """Taken (journaled and sent, or about to be) or refused by the last gate."""

    intent_id: str
    taken: bool
    cl_ord_id: ClOrdID | None = None
    code: str = ""
    """Why refused: `no_permit`, `halted`, `latched`, `disabled`, `not_reconciled`,
    `limit_position`, `limit_notional`, `limit_exposure`, `limit_open_positions`, `limit_daily_loss`,
    `limit_rate`, `limit_open_orders`, `price_collar`, `stale_quote`, `bad_order`, `storage`,
    `venue_down`, `risk_down`, `limits_unknown`, `limits_changed`, `unknown_order`, `stopping`,
    `never_sent`, `rejected`."""
    text: str = ""


class EngineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as journaled. `journal_seq` counts up; a gap is replayed from the journal."""

    journal_seq: int
    strategy: str
    """Whose order it is; empty for the desk's own, `external` for an adoption."""
    event: JournalEvent


class EngineHeartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """Sent on events.sock (topic `engine`) once a second and at every change."""

    trading: bool
    """True while strategies' orders are sent: reconciled, permit held, no halt, no latch."""
    why_not: str = ""
    epoch: int = 0
    last_journal_seq: int = 0
    unreconciled: tuple[str, ...] | None = None
    """Venues of which it is not known now that books and venue agree; None: not said."""


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True):
    after_seq: int
    limit: int = 1000


class ReplayReply(msgspec.Struct, frozen=True, kw_only=True):
    events: tuple[EngineEvent, ...]
    last_seq: int


class RiskState(msgspec.Struct, frozen=True, kw_only=True):
    """Four times a second and at every change, on risk.sock."""

    breaches: tuple[str, ...]
    """Names of the limits that are breached; any blocks orders that increase risk."""
    total_exposure: Decimal
    daily_pnl: Decimal
    """Net, since midnight UTC; NaN where something held has no price: not known."""
    open_positions: int
