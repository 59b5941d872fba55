"""Every kind of fault, as data. A document names a kind by its tag and may hold its fields:

    {"kind": "drop_reply", "kinds": ["submit"], "after": 2, "count": 1}

Four families, by what they work on:

    RequestFault   what becomes of a request         drop_reply, http_status, reject_cancels, ...
    StreamFault    what becomes of a stream's event   missing_events, delayed_events, ...
    Condition      what is wrong for a while          clock_skew, key_revoked, ...
    Happening      what takes place at a moment       disconnect_streams, ...
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Literal

import msgspec

from openbell.domain.orders import OrdType, Side
from openbell_sim.faces.port import RequestKind
from openbell_sim.sessions import MarketState

CANCELS = (RequestKind.CANCEL, RequestKind.MASS_CANCEL)
LISTS = (RequestKind.OPEN_ORDERS, RequestKind.ORDER, RequestKind.FILLS, RequestKind.POSITIONS)


class Fault(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """Which of the things it concerns it strikes, and when."""

    after: int = 0
    """So many of them pass first."""
    count: int | None = None
    """How often it strikes at most; null: as long as it is in the plan."""
    probability: float = 1.0
    from_s: float = 0.0
    until_s: float | None = None
    """The time in which it strikes, in seconds since it was given to the venue (the venue's start,
    for a plan that it was started with). null: without end."""

    @property
    def name(self) -> str:
        """As documents have it: `drop_reply`."""
        return str(self.__struct_config__.tag)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must lie between 0 and 1")
        if self.count is not None and self.count < 1:
            raise ValueError("count must be at least 1")
        if self.after < 0:
            raise ValueError("after must not be negative")
        if self.from_s < 0 or (self.until_s is not None and self.until_s <= self.from_s):
            raise ValueError("from_s must not be negative, and until_s must be later than it")


class _OfRequests(Fault, frozen=True, kw_only=True):
    """Concerns the requests that fit all of these."""

    CONCERNS: ClassVar[tuple[RequestKind, ...]] = ()
    """The kinds it makes sense for; empty: every kind."""

    kinds: tuple[RequestKind, ...] = ()
    """Empty: all that it makes sense for."""
    method: str = "*"
    path: str = "*"
    """With shell wildcards. Of a call on a socket: `WS`, and the call's name in the venue's
    words."""
    account: str = ""
    """The account whose key the request bears; empty: any, and none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        strange = [kind for kind in self.kinds if self.CONCERNS and kind not in self.CONCERNS]
        if strange:
            raise ValueError(
                f"{self.name} does not concern {', '.join(strange)}; "
                f"kinds may be {', '.join(self.CONCERNS)}"
            )

    @property
    def concerned(self) -> tuple[RequestKind, ...]:
        """Empty: every kind."""
        return self.kinds or self.CONCERNS


# What becomes of a request. Of those that concern a request, the first in the plan strikes it.


def _check_part(part: float) -> None:
    if not 0 < part <= 1:
        raise ValueError("part must be above 0 and at most 1")


class RequestFault(_OfRequests, frozen=True, kw_only=True):
    pass


class _Held(RequestFault, frozen=True, kw_only=True):
    hold_s: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hold_s < 0:
            raise ValueError("hold_s must not be negative")


class DropReply(RequestFault, frozen=True, kw_only=True, tag="drop_reply"):
    """The request is carried out, its reply lost: the connection is cut."""


class TimeoutBeforeAccept(_Held, frozen=True, kw_only=True, tag="timeout_before_accept"):
    """The request is not carried out; no answer comes for `hold_s`, then the connection is cut."""


class Hang(_Held, frozen=True, kw_only=True, tag="hang"):
    """The request waits for `hold_s` and is carried out then, whether or not its client waits."""


class StatusUnknown(RequestFault, frozen=True, kw_only=True, tag="status_503_unknown"):
    """503 "execution status unknown"."""

    accepted: bool | None = None
    """Whether the request was carried out; null leaves it to chance."""


class HttpStatus(RequestFault, frozen=True, kw_only=True, tag="http_status"):
    """This status, in the venue's words; the request is not carried out."""

    status: int = 429
    retry_after_s: int | None = None
    """Told in `Retry-After`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 400 <= self.status <= 599:
            raise ValueError("status must be an error: 400 to 599")
        if self.retry_after_s is not None and self.retry_after_s < 0:
            raise ValueError("retry_after_s must not be negative")


class BadNonce(RequestFault, frozen=True, kw_only=True, tag="bad_nonce"):
    """Refused as for a nonce or time stamp out of order."""


class KeyRefused(RequestFault, frozen=True, kw_only=True, tag="key_refused"):
    """Refused as for a key that is unknown, though the key is as good as ever."""


class RejectCancels(RequestFault, frozen=True, kw_only=True, tag="reject_cancels"):
    """Cancels are refused, the orders stay."""

    CONCERNS = CANCELS


class LazyCancels(RequestFault, frozen=True, kw_only=True, tag="lazy_cancels"):
    """Cancels are acknowledged at once and done `delay_s` later. Until then the order is open, may
    be filled, and is listed."""

    CONCERNS = CANCELS
    delay_s: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delay_s <= 0:
            raise ValueError("delay_s must be positive")


class FillDuringCancel(RequestFault, frozen=True, kw_only=True, tag="fill_during_cancel"):
    """The order is filled to this part of what is left of it just before its cancel: at 1 the
    cancel comes too late, below it cancels the rest."""

    CONCERNS = CANCELS
    part: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_part(self.part)


class PartialFill(RequestFault, frozen=True, kw_only=True, tag="partial_fill"):
    """The order gets this part of what it could take at once, at least one lot. What is left of it
    rests or expires, as its kind does."""

    CONCERNS = (RequestKind.SUBMIT, RequestKind.AMEND, RequestKind.CLOSE_POSITION)
    part: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_part(self.part)


class EmptyList(RequestFault, frozen=True, kw_only=True, tag="empty_list"):
    """The list is answered with success and nothing in it."""

    CONCERNS = LISTS
    kinds: tuple[RequestKind, ...] = (RequestKind.OPEN_ORDERS,)


class TruncatedPage(RequestFault, frozen=True, kw_only=True, tag="truncated_page"):
    """The list is answered with success and only its first rows."""

    CONCERNS = LISTS
    kinds: tuple[RequestKind, ...] = (RequestKind.OPEN_ORDERS,)
    keep: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep < 0:
            raise ValueError("keep must not be negative")


# What becomes of an event on a stream. Of those that concern an event, the first in the plan
# strikes it. An event that goes to two clients is two.


class Streams(StrEnum):
    PRIVATE = "private"
    """Of an account: orders, fills, balances."""
    PUBLIC = "public"
    """Of the market."""
    BOTH = "both"


class StreamFault(Fault, frozen=True, kw_only=True):
    streams: Streams = Streams.PRIVATE


class MissingEvents(StreamFault, frozen=True, kw_only=True, tag="missing_events"):
    """They never arrive."""


class DuplicateEvents(StreamFault, frozen=True, kw_only=True, tag="duplicate_events"):
    """They arrive twice."""


class DelayedEvents(StreamFault, frozen=True, kw_only=True, tag="delayed_events"):
    """They arrive late. What follows them on the stream waits for them."""

    delay_s: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delay_s <= 0:
            raise ValueError("delay_s must be positive")


class ReorderedEvents(StreamFault, frozen=True, kw_only=True, tag="reordered_events"):
    """Others overtake them."""

    by: int = 1
    """So many."""
    within_s: float = 1.0
    """An event that nothing has overtaken by then arrives all the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by < 1 or self.within_s <= 0:
            raise ValueError("by must be at least 1, within_s positive")


# What is wrong for a while, and what takes place at a moment. Both begin at `from_s`; or, where
# they name requests (kinds, method, path), with such a request, before it is carried out.


class Occurrence(_OfRequests, frozen=True, kw_only=True):
    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.waits_for_request and (self.after or self.probability < 1):
            raise ValueError("after and probability are of requests: name kinds, method or path")

    @property
    def waits_for_request(self) -> bool:
        return bool(self.concerned) or (self.method, self.path) != ("*", "*")


class Condition(Occurrence, frozen=True, kw_only=True):
    """Holds until `until_s`, or for `lasts_s`, or until it is cleared."""

    lasts_s: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count is not None:
            raise ValueError(f"{self.name} has no count: say lasts_s or until_s")
        if self.lasts_s is not None and self.lasts_s <= 0:
            raise ValueError("lasts_s must be positive")


class ClockSkew(Condition, frozen=True, kw_only=True, tag="clock_skew"):
    """The venue's clock is wrong. Several add up."""

    skew_ms: int


class KeyRevoked(Condition, frozen=True, kw_only=True, tag="key_revoked"):
    """The venue knows the keys of `account` no more; empty: of the account whose request set this
    off, else of the venue's first account."""

    keys: Literal["all", "trading", "closing"] = "all"
    """Those that may trade, those that may only cancel and close, or both."""


class MarketStateSet(Condition, frozen=True, kw_only=True, tag="market_state"):
    """The market is in this state, whatever the calendar says."""

    state: MarketState
    symbol: str = ""
    """Empty: every symbol."""


class DropProtective(Condition, frozen=True, kw_only=True, tag="drop_protective_orders"):
    """Stop orders vanish and nobody is told: those that wait when it begins, and those that come
    as soon as they were acknowledged."""


class Happening(Occurrence, frozen=True, kw_only=True):
    """Takes place once at `from_s`; or with every such request, `count` times."""


class DisconnectStreams(Happening, frozen=True, kw_only=True, tag="disconnect_streams"):
    """Every stream is closed."""


class FillOrders(Happening, frozen=True, kw_only=True, tag="fill_orders"):
    """The crowd takes `part` of what is left of each resting order of the account."""

    symbol: str = ""
    """Empty: in every symbol."""
    part: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_part(self.part)


class DeadManFires(Happening, frozen=True, kw_only=True, tag="dead_man_fires"):
    """The account's dead-man's switch fires though its time has not come."""

    symbol: str = ""
    """The switch of this symbol; empty: of the whole account, and every single one."""


class ManualOrder(Happening, frozen=True, kw_only=True, tag="manual_order"):
    """A person gives an order at the venue itself, past every desk."""

    symbol: str
    side: Side
    quantity: Decimal
    type: OrdType = OrdType.MARKET
    price: Decimal | None = None
    stop_price: Decimal | None = None


class ManualClose(Happening, frozen=True, kw_only=True, tag="manual_close"):
    """A person closes what the account holds."""

    symbol: str = ""
    """Empty: everything."""


AnyFault = (
    DropReply
    | TimeoutBeforeAccept
    | Hang
    | StatusUnknown
    | HttpStatus
    | BadNonce
    | KeyRefused
    | RejectCancels
    | LazyCancels
    | FillDuringCancel
    | PartialFill
    | EmptyList
    | TruncatedPage
    | MissingEvents
    | DuplicateEvents
    | DelayedEvents
    | ReorderedEvents
    | ClockSkew
    | KeyRevoked
    | MarketStateSet
    | DropProtective
    | DisconnectStreams
    | FillOrders
    | DeadManFires
    | ManualOrder
    | ManualClose
)
"""What a document may hold."""
