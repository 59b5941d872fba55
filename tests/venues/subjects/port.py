"""What the suite must know of an adapter and the face it is tried against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Subject:
    name: str
    """In the table of results: `kraken`, `ccxt (kraken)`."""
    adapter: str
    """Entry point in `openbell.venues`."""
    face: str
    """What `openbell-sim --face` serves."""
    symbols: tuple[str, str]
    """Unified. Orders are sent in the first; the second stays quiet."""
    quantity: Decimal
    """Of a usual order in the first symbol, in the base currency: on its grid, above its minima."""
    funds: str
    """A currency the account has some of."""
    submit: bytes
    """How a request begins that sends an order, as far as it tells it from all others:
    `b"POST /api/v3/order"`."""
    cancel: bytes
    """How a request begins that cancels one."""
    open_orders: bytes
    """How a request begins that lists open orders."""
    coarse_tick: str = "0.01"
    """A price step that lies on the first symbol's grid."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """More keys of the venue's table in desk.toml: account, options, ..."""
    sim: tuple[str, ...] = ()
    """More arguments of openbell-sim."""
    key: str = "4b" * 32
    secret: str = "5c" * 32
    own_id: Callable[[str], str] = str
    """Our ClOrdID of an identifier as the venue keeps it, where the adapter sends another form."""
    untested: Mapping[str, str] = field(default_factory=dict)
    """Operations that cannot be tried against this face, and why. What the venue itself does not
    have is told by the adapter's capabilities and needs no word here."""
