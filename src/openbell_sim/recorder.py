"""What happened is applied, recorded and told, in this order.

The ledger takes each event at once, so that what follows in the same request sees its result. The
events of one request (or of one market event) are appended to the order log in one write, and
only then the listeners hear of them and the caller gets an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from openbell_sim.events import Deposit, Event, Expire, Fill
from openbell_sim.ledger import Ledger, Order, OwnFill
from openbell_sim.sessions import MarketState
from openbell_sim.tape import PublicTrade


class Report(msgspec.Struct, frozen=True, gc=False):
    """One event of one order, with the order as it was right after it."""

    event: Event
    order: Order
    fill: OwnFill | None = None


class Listener(Protocol):
    """A face that tells its clients. Called after the events are recorded."""

    def on_reports(self, reports: Sequence[Report]) -> None: ...
    def on_deposit(self, deposit: Deposit) -> None: ...
    def on_trade(self, trade: PublicTrade) -> None: ...
    def on_book(self, symbol: str) -> None: ...
    def on_session(self, symbol: str, state: MarketState) -> None: ...


class Record(Protocol):
    """Where events go before anybody hears of them."""

    def append(self, events: Sequence[Event]) -> None: ...


class Forgetful:
    """A record for a venue that lives in memory only."""

    def append(self, events: Sequence[Event]) -> None:
        pass


class Recorder:
    def __init__(self, ledger: Ledger, record: Record | None, *, keep_history: bool) -> None:
        self.ledger = ledger
        self.listeners: list[Listener] = []
        self.history: list[Event] | None = [] if keep_history else None
        """Every event since the order log began, in order, but for those that nobody is told of;
        None where it is not kept."""
        self._record = record or Forgetful()
        self._events: list[Event] = []
        self._reports: list[Report] = []
        self._trades: list[PublicTrade] = []

    @property
    def has_trades(self) -> bool:
        """Whether anything was printed since the last commit."""
        return bool(self._trades)

    def restore(self, events: Iterable[Event]) -> int:
        """Takes up what was recorded before; the number of events."""
        count = 0
        for event in events:
            self.ledger.apply(event)
            if self.history is not None and not _is_silent(event):
                self.history.append(event)
            count += 1
        return count

    def emit(self, event: Event) -> Order | None:
        """Applies an event; the order that it concerns."""
        order = self.ledger.apply(event)
        self._events.append(event)
        if order is not None and not _is_silent(event):
            fill = self.ledger.fills_of(order.order_id)[-1] if isinstance(event, Fill) else None
            self._reports.append(Report(event, msgspec.structs.replace(order), fill))
        return order

    def print(self, trade: PublicTrade) -> None:
        self._trades.append(trade)

    def commit(self, symbols: Sequence[str] = ()) -> None:
        """Records what was emitted, then tells the listeners. `symbols`: whose books changed."""
        events, self._events = self._events, []
        reports, self._reports = self._reports, []
        trades, self._trades = self._trades, []
        if events:
            self._record.append(events)
            if self.history is not None:
                self.history += [event for event in events if not _is_silent(event)]
        for listener in self.listeners:
            for symbol in symbols:
                listener.on_book(symbol)
            for trade in trades:
                listener.on_trade(trade)
            if reports:
                listener.on_reports(reports)


def _is_silent(event: Event) -> bool:
    return isinstance(event, Expire) and event.is_silent
