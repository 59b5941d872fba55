"""What feeds share: the way to a venue, and what is said where it does not lead there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from openbell.config.models import Venue
from openbell.domain.market import base_quote
from openbell.http_library import aiohttp
from openbell.trading.feeds.port import FeedError
from openbell.venues.credentials import Credentials

PING_EVERY_S = 10.0
"""A peer that does not answer a ping within half of this is gone, even if TCP has not noticed. Ours."""


@asynccontextmanager
async def connecting(
    vendor: str, where: str, close: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Whatever goes wrong inside becomes a FeedError, after `close`."""
    try:
        yield
    except BaseException as error:
        await close()
        if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
            raise FeedError(f"cannot connect to {where}: {words(error)}") from error
        if isinstance(error, msgspec.MsgspecError | ValueError | TypeError):
            raise FeedError(f"{where} did not answer as {vendor} does: {error}") from error
        raise


def given(credentials: Credentials | None, vendor: str, name: str) -> Credentials:
    """Raises FeedError where there are none."""
    if credentials is None:
        raise FeedError(
            f"{vendor} gives market data to known accounts only, and this service was given no "
            f"credentials of {name}",
            hint=f'add venues = ["{name}"] to its table in desk.toml',
        )
    return credentials


def not_listed(where: str, symbols: Iterable[str], name: str) -> FeedError:
    return FeedError(
        f"{where} does not list {', '.join(symbols)}", hint=f"mend symbols of [venues.{name}]"
    )


def fee_symbol(venue: Venue) -> str:
    """The symbol that prices the fee currency, where no declared one does: fees in BNB would
    otherwise be missing from every P&L. Empty where there is none to add."""
    currencies = [base_quote(symbol) for symbol in venue.symbols]
    known = {currency for pair in currencies for currency in pair}
    if not venue.fee_currency or venue.fee_currency in known:
        return ""
    return f"{venue.fee_currency}/{currencies[0][1]}"


def websocket_url(url: str) -> str:
    """Of a simulated venue, whose WebSockets are at its own address."""
    return "ws" + url.removeprefix("http").rstrip("/")


def words(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        # Its own text begins with the address, which is told already, and aiohttp's word for TLS.
        cause = getattr(error, "os_error", None)  # a refused certificate has none
        if cause is not None:
            known = cause.errno is not None and cause.errno > 0  # a name that is unknown has less
            return os.strerror(cause.errno) if known else str(cause.strerror or cause)
    return str(error) or type(error).__name__
