"""Keeps one venue's feed running: connects, publishes, notices silence, connects again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.service.logging import get_logger
from openbell.trading.feeds.lag import LAG_S_MAX, Lag
from openbell.trading.feeds.port import FeedError, MarketFeed
from openbell.trading.messages import (
    Instruments,
    instruments_topic,
    quote_topic,
    trade_topic,
)

log = get_logger()

Publish = Callable[[str, msgspec.Struct], None]

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
SILENCE_MAX_S = 60.0
"""A connection that gives nothing for so long is dropped and made again: a venue may answer pings
while its stream is dead."""
INSTRUMENTS_EVERY_S = 0.1
"""The bus keeps no last value, so rules are said again for those who came later."""


class FeedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol, as `/v1/feeds` tells it."""

    venue: str
    symbol: str
    connected: bool
    last_quote_age_s: float | None
    """None: no quote since the start."""
    messages: int
    reconnects: int
    why: str = ""
    """Why it is not connected."""
    lag_s: float | None = None
    """How much later than the venue's time its messages come, the least within a second. None: not
    known, as of venues that put no time on them."""


@dataclass
class _Heard:
    messages: int = 0
    quote: Quote | None = None
    quote_at: float = 0.0
    """Monotonic clock."""
    lag: Lag = field(default_factory=Lag)


class FeedRunner:
    """`run` for ever. The rest tells how it stands."""

    def __init__(
        self,
        venue: str,
        symbols: tuple[str, ...],
        open_feed: Callable[[], MarketFeed],
        publish: Publish,
    ) -> None:
        self.venue = venue
        self.connected = False
        self.reconnects = 0
        self.why = "not connected yet"
        self.rules: tuple[InstrumentRules, ...] = ()
        self._open_feed = open_feed
        self._publish = publish
        self._symbols = symbols
        self._heard = {symbol: _Heard() for symbol in symbols}
        self._streams = True
        """False where the venue is asked: its answers tell when the market moved last, not when they were."""
        self._lags: set[str] = set()
        """Symbols of which it was told."""

    async def run(self) -> None:
        """Returns never; ends when cancelled."""
        feed = self._open_feed()
        self._streams = not getattr(feed, "polled", False)
        backoff_s = BACKOFF_FIRST_S
        telling = asyncio.create_task(self._tell_instruments())
        try:
            while True:
                before = self._messages()
                try:
                    await self._listen(feed)
                except FeedError as error:
                    self._disconnected(error.message)
                if self._messages() > before:
                    backoff_s = BACKOFF_FIRST_S
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
                self.reconnects += 1
        finally:
            telling.cancel()
            self.connected = False
            await feed.close()

    async def _listen(self, feed: MarketFeed) -> None:
        self.rules = await feed.connect()
        self.connected, self.why = True, ""
        for heard in self._heard.values():
            heard.lag.begin_anew()
        log.info("market data connected", venue=self.venue, reconnects=self.reconnects)
        self._publish_instruments()
        messages = feed.messages()
        try:
            while True:
                async with asyncio.timeout(SILENCE_MAX_S):
                    message = await anext(messages)
                self._hear(message)
        except TimeoutError:
            raise FeedError(f"nothing was heard for {SILENCE_MAX_S:g}s") from None
        except StopAsyncIteration:
            raise FeedError("the stream ended") from None
        finally:
            await feed.close()

    def _hear(self, message: Quote | Trade) -> None:
        heard = self._heard.setdefault(message.symbol, _Heard())
        heard.messages += 1
        now_s = time.monotonic()
        if self._streams and heard.lag.hear(message.venue_time_ns, message.received_ns, now_s):
            self._tell_lag(message.symbol, heard.lag.seconds(now_s) or 0.0)
        if isinstance(message, Quote):
            if late_s := heard.lag.seconds(now_s):
                message = msgspec.structs.replace(message, late_ns=int(late_s * 1e9))
            heard.quote, heard.quote_at = message, now_s
            self._publish(quote_topic(self.venue, message.symbol), message)
        else:
            self._publish(trade_topic(self.venue, message.symbol), message)

    def _tell_lag(self, symbol: str, lag_s: float) -> None:
        """Once, as it begins, and once as it is over."""
        if lag_s > LAG_S_MAX and symbol not in self._lags:
            self._lags.add(symbol)
            log.error(
                "market data lags", alert=True, venue=self.venue, symbol=symbol, lag_s=round(lag_s, 3),
                hint="look at this machine's load and clock (`openbell connections`, `openbell health`), "
                "then at the venue's status page; beyond [risk] stale_quote_after it opens no position",
            )  # fmt: skip
        elif lag_s <= LAG_S_MAX and symbol in self._lags:
            self._lags.discard(symbol)
            log.info("market data is up to date", venue=self.venue, symbol=symbol)

    def _disconnected(self, why: str) -> None:
        if self.connected or self.why != why:
            log.warning("market data away", venue=self.venue, why=why)
        self.connected, self.why = False, why

    async def _tell_instruments(self) -> None:
        while True:
            await asyncio.sleep(INSTRUMENTS_EVERY_S)
            self._publish_instruments()

    def _publish_instruments(self) -> None:
        if self.rules:
            body = Instruments(venue=self.venue, rules=self.rules)
            self._publish(instruments_topic(self.venue), body)

    def _messages(self) -> int:
        return sum(heard.messages for heard in self._heard.values())

    # --- how it stands -----------------------------------------------------------------------

    def quotes(self) -> list[Quote]:
        """The last quote of each symbol that had one."""
        return [heard.quote for heard in self._heard.values() if heard.quote is not None]

    def quote_age_s(self, symbol: str) -> float | None:
        heard = self._heard[symbol]
        return None if heard.quote is None else time.monotonic() - heard.quote_at

    def status(self) -> list[FeedStatus]:
        return [
            FeedStatus(
                venue=self.venue,
                symbol=symbol,
                connected=self.connected,
                last_quote_age_s=None if age is None else round(age, 3),
                messages=heard.messages,
                reconnects=self.reconnects,
                why=self.why,
                lag_s=None if lag is None else round(lag, 3),
            )
            for symbol, heard in self._heard.items()
            for age in (self.quote_age_s(symbol),)
            for lag in (heard.lag.seconds(time.monotonic()),)
        ]

    def lagging(self) -> str:
        """Which symbols' messages come late, in a sentence; empty where none is known to."""
        now_s = time.monotonic()
        late = [
            f"{symbol} {lag:.1f}s"
            for symbol, heard in self._heard.items()
            for lag in (heard.lag.seconds(now_s),)
            if self.connected and lag is not None and lag > LAG_S_MAX
        ]
        told = ", ".join(late)
        return f"{self.venue} lags, or a clock is wrong: {told} behind its own time" if late else ""

    def stale(self, after_s: float) -> str:
        """What is wrong with this feed, in a sentence; empty when every declared symbol's quote is
        younger."""
        if not self.connected:
            return f"{self.venue} is not connected: {self.why}"
        old = [
            f"{symbol} {'never' if age is None else f'{age:.1f}s ago'}"
            for symbol in self._symbols
            for age in (self.quote_age_s(symbol),)
            if age is None or age > after_s
        ]
        return f"{self.venue}: last quote of {', '.join(old)}" if old else ""
