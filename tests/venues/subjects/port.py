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
    face: str = ""
    """What `openbell-sim --face` serves; empty where `server` is given."""
    server: tuple[str, ...] = ()
    """Command that serves the venue's protocol on the loopback port `{port}`, for a venue that has
    no face. It takes the key and secret of its account from CONFORMANCE_KEY and CONFORMANCE_SECRET,
    and answers besides, as `openbell-sim` does (docs/reference/simulated-venue.md):

    - `GET /ready`: 200 when it serves.
    - `GET /sim/v1/orders`: `{"orders": [...]}`, every order that ever reached it, each with
      `order_id`, `cl_ord_id`, `side`, `order_qty`, `cum_qty`, `leaves_qty` and `status`.
    - `GET /sim/v1/market` and `POST /sim/v1/orders`, unless "list others' stop orders" is in
      `untested`.

    The price must stay within a per cent for a test's time, and market orders fill."""
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
