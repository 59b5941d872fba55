"""What the exchange does at its time: work for the `Timer`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from openbell.errors import ConfigError
from openbell_sim.clock import VenueClock
from openbell_sim.documents import is_json
from openbell_sim.exchange import Exchange
from openbell_sim.session_calendar import SessionCalendar


class DueOrders:
    """Dead-man's switches that fire, and cancels that were put off."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def due_in_s(self) -> float | None:
        due_ns = self._exchange.next_due_ns()
        return None if due_ns is None else (due_ns - self._exchange.now_ns()) / 1e9

    async def run_due(self) -> None:
        self._exchange.expire_due(self._exchange.now_ns())


class TradingHours:
    """Opens and closes the market by the calendar, on the clock as it would be without a fault."""

    def __init__(self, calendar: SessionCalendar, exchange: Exchange, clock: VenueClock) -> None:
        self._calendar = calendar
        self._exchange = exchange
        self._clock = clock
        self._next_ns: int | None = 0

    def due_in_s(self) -> float | None:
        return None if self._next_ns is None else (self._next_ns - self._clock.true_ns()) / 1e9

    async def run_due(self) -> None:
        now_ns = self._clock.true_ns()
        self._next_ns = self._calendar.next_change_ns(now_ns)
        self._exchange.set_session(None, self._calendar.state_at(now_ns), scheduled=True)


def read_calendar(path: Path) -> SessionCalendar:
    """From a TOML or JSON file, whatever its name. Raises ConfigError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the calendar {path} cannot be read: {error.strerror}") from error
    try:
        if is_json(data):
            return msgspec.json.decode(data, type=SessionCalendar)
        return msgspec.convert(tomllib.loads(data.decode()), SessionCalendar)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(
            f"the calendar {path} cannot be used: {error}",
            hint="docs/reference/simulated-venue.md shows one",
        ) from error
