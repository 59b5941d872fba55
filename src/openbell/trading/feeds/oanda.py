"""OANDA's prices: the pricing stream, a reply that does not end with a JSON object in each line.

OANDA tells prices to known accounts only, so the service that streams them must be given the
venue's token (`venues = ["NAME"]` in its table of desk.toml). It shows no trades. Of each
instrument it sends at most four prices in a second, and a heartbeat every 5 s.

A price that cannot be traded on (the market is closed) is not given out.

Source: "Pricing Endpoints" and "Account Endpoints" (developer.oanda.com/rest-live-v20).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec

from openbell.config.models import Venue
from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.http_library import aiohttp
from openbell.trading.feeds.connecting import connecting, given, not_listed, words
from openbell.trading.feeds.port import FeedError
from openbell.venues.credentials import Credentials
from openbell.venues.oanda import wire
from openbell.venues.oanda.stream import SILENCE_MAX_S
from openbell.venues.oanda.venue import CONNECTS_PER_S, REST_URL, STREAM_URL
from openbell.venues.transport import CONNECT_WINDOW_S
from openbell.venues.turnstile import Turnstile

T = TypeVar("T")


class OandaFeed:
    """See `MarketFeed`. `venue.url` replaces both of OANDA's hosts, for a simulated one."""

    def __init__(self, name: str, venue: Venue, credentials: Credentials | None) -> None:
        self.unsound = 0
        self._name = name
        self._symbols = venue.symbols
        self._account = venue.account
        self._rest = (venue.url or REST_URL[venue.environment]).rstrip("/")
        self._stream = (venue.url or STREAM_URL[venue.environment]).rstrip("/")
        self._credentials = credentials
        self._timeout_s = venue.timeout
        self._turnstile = Turnstile(self._rest, CONNECTS_PER_S, CONNECT_WINDOW_S)
        self._session: aiohttp.ClientSession | None = None
        self._lines: aiohttp.ClientResponse | None = None

    async def connect(self) -> tuple[InstrumentRules, ...]:
        await self.close()
        token = given(self._credentials, "OANDA", self._name).secret
        self._session = session = aiohttp.ClientSession(
            headers={
                "Authorization": f"Bearer {token}",
                "Accept-Datetime-Format": "UNIX",
            },
            timeout=aiohttp.ClientTimeout(total=None),  # each call bounds itself
            trace_configs=[self._turnstile.trace()],
        )
        async with (
            connecting("OANDA", self._rest, self.close),
            asyncio.timeout(self._timeout_s),
        ):
            account = self._account or await self._first_account(session)
            rules = await self._rules(session, account)
            names = ",".join(map(wire.instrument_of, self._symbols))
            url = f"{self._stream}/v3/accounts/{account}/pricing/stream"
            self._lines = await session.get(url, params={"instruments": names})
            if self._lines.status != 200:
                raise FeedError(f"{url} answered {self._lines.status}")
        return rules

    async def messages(self) -> AsyncIterator[Quote | Trade]:
        assert self._lines is not None, "connect first"
        while True:
            try:
                async with asyncio.timeout(SILENCE_MAX_S):
                    line = await self._lines.content.readline()
                parsed = self._parse(line, time.time_ns()) if line.strip() else None
            except TimeoutError:
                raise FeedError(f"{self._stream} was silent for {SILENCE_MAX_S:g} s") from None
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise FeedError(f"{self._stream} sent what cannot be read: {error}") from error
            except (aiohttp.ClientError, ValueError, OSError) as error:
                raise FeedError(f"{self._stream} cut the stream: {words(error)}") from error
            if not line:
                raise FeedError(f"{self._stream} ended the stream")
            if parsed is not None:
                yield parsed

    async def close(self) -> None:
        lines, self._lines = self._lines, None
        session, self._session = self._session, None
        if lines is not None:
            lines.close()
        if session is not None:
            await session.close()

    def _parse(self, line: bytes, received_ns: int) -> Quote | None:
        if msgspec.json.decode(line, type=wire.StreamLine).type != "PRICE":
            return None
        price = msgspec.json.decode(line, type=wire.Price)
        quote = price.to_port(venue=self._name, received_ns=received_ns)
        if quote is not None and quote.is_sound:
            return quote if price.can_be_traded_on else None
        self.unsound += 1
        return None

    async def _first_account(self, session: aiohttp.ClientSession) -> str:
        known = (await self._ask(session, "/v3/accounts", wire.Accounts)).accounts
        first = next((account.id for account in known if account.mt4_account_id is None), None)
        if first is None:
            raise FeedError(f"{self._rest}: the token reaches no v20 account")
        return first

    async def _rules(
        self, session: aiohttp.ClientSession, account: str
    ) -> tuple[InstrumentRules, ...]:
        answer = await self._ask(session, f"/v3/accounts/{account}/instruments", wire.Instruments)
        listed = {rules.symbol: rules for rules in map(wire.Instrument.to_port, answer.instruments)}
        missing = [symbol for symbol in self._symbols if symbol not in listed]
        if missing:
            raise not_listed(self._rest, missing, self._name)
        return tuple(listed[symbol] for symbol in self._symbols)

    async def _ask(self, session: aiohttp.ClientSession, path: str, shape: type[T]) -> T:
        async with session.get(self._rest + path) as response:
            body = await response.read()
            if response.status != 200:
                raise FeedError(f"{self._rest}{path} answered {response.status}")
        return msgspec.json.decode(body, type=shape)
