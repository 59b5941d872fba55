"""The `Venue` port: what Openbell asks of an exchange or broker account.

Rules every adapter keeps (the conformance suite in tests/venues tries them):

- It never guesses. A submit or cancel is accepted, rejected or unknown; a time-out, a 5xx, a cut
  connection after the request may have left is unknown.
- It never retries an order by itself, and no library under it may.
- An incomplete list is not an empty one: `complete` says whether everything was seen.
- Vendor exceptions do not pass: they become the errors below, texts trimmed of secrets, the original
  chained. What ccxt, aiohttp and the signing raise is chained as an `original`, without its secrets:
  whoever logs an error logs its chain.

Errors of queries:
    VenueError
    ├── VenueUnavailableError    retry later: cannot be reached, time-out, 5xx
    ├── VenueThrottledError      retry after `retry_after_s`: 429, 418
    ├── VenueAuthError           tell the user: key refused, clock skew
    └── VenueRefusedError        stop: the venue understood and said no
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side
from openbell.errors import OpenbellError


class VenueError(OpenbellError):
    code = "venue"


class VenueUnavailableError(VenueError):
    code = "venue_unavailable"


class VenueThrottledError(VenueError):
    code = "venue_throttled"

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s


class VenueAuthError(VenueError):
    code = "venue_auth"


class VenueRefusedError(VenueError):
    code = "venue_refused"


class NotSupportedError(VenueRefusedError):
    """This venue has no such thing; its `capabilities` say so beforehand."""

    code = "venue_not_supported"


OnSent = Callable[[ClOrdID, int], None]
"""Called with an order's ClOrdID and the monotonic time in ns, directly before its first byte is
written. It runs inside the send: it must not block. Where it raises NotSentError (the kill switch
was set, or the leave to send ended, while the order waited for a connection), the adapter writes
nothing and answers Rejected("never_arrived")."""


class QueryCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What questions cost: shares of what the venue lets an account ask in a minute.

    Without better knowledge each is one of 1,200 requests, which few venues undercut.
    """

    open_orders: float = 1 / 1200
    """Per symbol."""
    positions: float = 1 / 1200
    """Once, for all symbols."""
    fills: float = 1 / 1200
    """Per symbol: those of the last minutes."""
    order: float = 1 / 1200
    """One order, by its ClOrdID."""


class DeadMansSwitch(msgspec.Struct, frozen=True, kw_only=True):
    """The venue's own timer that cancels what rests when nobody refreshes it."""

    scope: Literal["account", "symbol"]
    min_s: float
    max_s: float
    """What may be asked for as its time-out."""
    conditional: bool | None = None
    """Whether it also withdraws orders that wait for a trigger; None: the venue does not say."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue can do, truthfully."""

    mass_cancel: bool
    """One call cancels every order of the account."""
    mass_cancel_per_symbol: bool
    batch_cancel: int
    """How many orders one call cancels at most; 0: there is no such call."""
    dead_mans_switch: DeadMansSwitch | None
    """None: the desk's own must do it."""
    lookup_by_cl_ord_id: bool
    positions: bool
    """The venue itself keeps positions; on spot they are balances less holdings."""
    reduce_only: bool
    """An order can be sent so that it only ever closes; used for all of Purpose.FLATTEN."""
    server_time: bool
    order_stream: bool
    """The venue pushes order events. False: `stream` asks every `poll_every` and reports what
    changed."""
    post_only: bool = True
    limit_ioc: bool = True
    """A limit order with IOC. Without, IOC is for market orders alone."""
    refuses_late_by_s: float | None = None
    """The request of an order carries its own end: the venue refuses one that reaches it later than
    `timeout` of desk.toml and this much after it was made. None: it carries none, or it is not known
    that the venue heeds it, so one that was given up may still land (`LANDS_WITHIN_S`)."""
    cl_ord_id_unique: bool = True
    """The venue makes no second order of the ClOrdID of an open one."""
    cancels_per_s: float | None = None
    """Single cancels that its budget allows in the long run; None: not stated by the venue."""
    cancel_burst: int | None = None
    """How many of them may leave at once, where the budget is counted over longer than a second and
    the adapter holds back by the venue's own count of it. None: as many as in a second."""
    conformance_tested: bool = False
    """The conformance suite was run over the adapter, against a server of this venue's protocol. An
    adapter says so itself: nothing counts as tested for having said nothing."""
    costs: QueryCosts = QueryCosts()


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    venue_order_id: str


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag="rejected"):
    code: str
    """The venue's own code, or one of ours: `throttled`."""
    text: str
    retry_after_s: float | None = None
    """Of `throttled`: before that nothing may be sent again; None: not said."""


class Unknown(msgspec.Struct, frozen=True, kw_only=True, tag="unknown"):
    why: str


SubmitOutcome = Accepted | Rejected | Unknown
CancelOutcome = Accepted | Rejected | Unknown
"""Of a cancel, Accepted means acknowledged. Not more: only asking again proves it gone."""


class VenueOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the venue tells it."""

    venue_order_id: str
    cl_ord_id: ClOrdID
    symbol: str
    side: Side
    ord_type: OrdType
    status: OrdStatus
    order_qty: Decimal
    cum_qty: Decimal
    price: Decimal | None
    created_ns: int
    updated_ns: int
    stop_px: Decimal | None = None
    """Of STOP and STOP_LIMIT: where it is triggered."""
    reduce_only: bool = False


class VenueFill(msgspec.Struct, frozen=True, kw_only=True):
    exec_id: str
    venue_order_id: str
    cl_ord_id: ClOrdID
    """Empty where the venue's trade list does not carry it."""
    symbol: str
    side: Side
    last_qty: Decimal
    last_px: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    venue_time_ns: int


class VenuePosition(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    quantity: Decimal
    """Signed, in the base currency; several legs of one symbol are several entries."""
    leg: str = ""
    """The venue's own name of this leg (a ticket, LONG, SHORT); empty where positions net."""
    avg_px: Decimal | None = None


def net_positions(positions: Iterable[VenuePosition]) -> dict[str, Decimal]:
    """Signed quantity by symbol, legs added up."""
    net: dict[str, Decimal] = {}
    for position in positions:
        net[position.symbol] = net.get(position.symbol, Decimal(0)) + position.quantity
    return net


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Open orders as of one moment."""

    orders: tuple[VenueOrder, ...]
    complete: bool
    """False where a page was cut or a symbol could not be asked: then absence proves nothing."""
    elsewhere: int | None = None
    """Open orders of the account in symbols that were not asked for; None: not known."""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    currency: str
    free: Decimal
    locked: Decimal

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An account that the credentials reach."""

    account_id: str
    kind: str
    """The venue's own word: SPOT, margin, paper, hedging, ..."""
    currency: str = ""
    equity: Decimal | None = None
    """In `currency`; None where the venue does not tell one figure."""
    active: bool = False
    """The one that this venue of the desk trades on."""


class KeyPermissions(msgspec.Struct, frozen=True, kw_only=True):
    """What the credentials may do; None: the venue does not say."""

    trade: bool | None = None
    withdraw: bool | None = None
    note: str = ""
    """Anything a person should know: an expiry, an IP restriction."""


class StreamUp(msgspec.Struct, frozen=True, kw_only=True, tag="up"):
    """The order event stream is connected; events before it may have been missed: ask once."""


class StreamDown(msgspec.Struct, frozen=True, kw_only=True, tag="down"):
    """Nothing will be heard until the next StreamUp."""

    why: str


class OrderReport(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """Pushed by the venue: the order now, and the fill that changed it, if one did."""

    order: VenueOrder
    fill: VenueFill | None = None


StreamEvent = StreamUp | StreamDown | OrderReport


class Venue(Protocol):
    """One account at one venue. Every call has the venue's `timeout` from desk.toml."""

    name: str
    capabilities: Capabilities
    on_sent: OnSent | None

    async def connect(self) -> None:
        """Loads instrument rules and proves the credentials. Raises VenueError; may be called again."""

    async def close(self) -> None: ...

    def rules(self, symbol: str) -> InstrumentRules:
        """After `connect`. Raises KeyError for a symbol that the desk file does not name."""

    async def server_time_ns(self) -> int:
        """Nanoseconds since the epoch by the venue's clock. Raises NotSupportedError where
        `capabilities.server_time` is False."""
        ...

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        """Sends once. Does not raise for anything the venue or the network does."""

    async def cancel(
        self, symbol: str, cl_ord_id: ClOrdID, *, venue_order_id: str = ""
    ) -> CancelOutcome:
        """Asks once to cancel. Does not raise for anything the venue or the network does.

        With `venue_order_id` the order of that id, for one that carries no ClOrdID of ours.
        """

    async def cancel_many(self, symbol: str, cl_ord_ids: Sequence[ClOrdID]) -> list[CancelOutcome]:
        """Cancels at most `capabilities.batch_cancel` orders by one request; an outcome each, in
        their order. Raises NotSupportedError where that is 0, and for nothing else."""

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        """The venue's own mass cancel in one symbol: account-wide, others' orders included.
        Raises NotSupportedError without `capabilities.mass_cancel_per_symbol`, and nothing else."""

    async def cancel_account(self) -> CancelOutcome:
        """The venue's own mass cancel of the account, in every symbol, others' orders included.
        Raises NotSupportedError without `capabilities.mass_cancel`, and nothing else."""

    async def arm_dead_mans_switch(self, timeout_s: float, symbols: Sequence[str] = ()) -> None:
        """Starts or refreshes the venue's timer, for the account or for these symbols (all
        declared ones where none is named); 0 disarms it. Raises VenueError."""

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        """Open orders of the account; all of the venue's declared symbols where none is named.

        This and the other questions about the account may come before `connect`. An adapter that
        knows our orders and holdings only after it raises VenueError then, and never answers as if
        there were none."""

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """The order, final ones included; None: the venue says it knows none of this id."""

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        """All of the account's executions from `since_ns` on (or of one order), oldest first."""

    async def balances(self) -> dict[str, Balance]: ...

    async def positions(self) -> list[VenuePosition]:
        """One per declared symbol, zero included."""

    async def quote(self, symbol: str) -> Quote: ...

    async def accounts(self) -> list[AccountSummary]:
        """Every account that the credentials reach. Raises VenueError."""

    async def key_permissions(self) -> KeyPermissions:
        """As far as the venue tells them. Raises VenueError."""

    def stream(self) -> AsyncIterator[StreamEvent]:
        """Order events for ever: reconnects by itself, and says when it was away. To be iterated
        after the first `connect`, which loads what the events are read with."""
