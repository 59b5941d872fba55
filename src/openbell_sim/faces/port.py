"""What every face is: one venue's protocol over the exchange.

A face translates. It knows its venue's addresses, signatures, codes, shapes and limits, and nothing
of books, matching or money, which are the exchange's. What the exchange refuses comes as
`refusals.Reason`; each face has its venue's code and HTTP status for it.

A face joins by an entry in `faces.FACES`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, TypeVar

from aiohttp import web

from openbell_sim.exchange import Exchange
from openbell_sim.instruments import Instrument
from openbell_sim.keys import KeyRing
from openbell_sim.outbox import Gate, straight
from openbell_sim.rules import VenueRules
from openbell_sim.session_calendar import SessionCalendar


class RequestKind(StrEnum):
    """What a request means, whatever the venue calls it. Faults choose their victims by it."""

    SUBMIT = "submit"
    AMEND = "amend"
    CANCEL = "cancel"
    """One order, or a list of named ones."""
    MASS_CANCEL = "mass_cancel"
    OPEN_ORDERS = "open_orders"
    ORDER = "order"
    """One order, or the history of orders."""
    FILLS = "fills"
    POSITIONS = "positions"
    CLOSE_POSITION = "close_position"
    ACCOUNT = "account"
    DEAD_MAN = "dead_man"
    MARKET_DATA = "market_data"
    STREAM = "stream"
    """Opening one, or what one needs (listen keys, tokens)."""
    OTHER = "other"


class Trouble(StrEnum):
    """What a face must be able to say in its venue's words without asking the exchange."""

    UNAVAILABLE = "unavailable"
    """An answer with the status asked for (5xx); where the venue has one, "outcome unknown"."""
    THROTTLED = "throttled"
    """429, 418 or the venue's own way of saying so."""
    CANCEL_REFUSED = "cancel_refused"
    """As for an order that is not there (or that cannot be cancelled now)."""
    BAD_NONCE = "bad_nonce"
    """Nonce or time stamp out of order."""
    KEY_REVOKED = "key_revoked"


@dataclass(frozen=True)
class Answer:
    """A reply: `body` is JSON-able; None sends none."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


T = TypeVar("T")

ON_SOCKET = "WS"
"""The `method` of a call that came as a message on a socket."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, as far as faults tell one from another."""

    kind: RequestKind
    method: str
    """Of HTTP, or `ON_SOCKET`."""
    path: str
    """On a socket: the name of the call in the venue's words (`order.place`)."""
    account: str | None = None
    """None: not known, or none."""
    said: tuple[bytes, ...] = field(default=(), repr=False)
    """The query and the body, or the message on the socket, for the list of arrivals."""


class Meet(Protocol):
    """How a request meets the faults of the day. Middleware does it for HTTP; a face does it for
    each call on a socket:

        outcome = await options.meet(asked, lambda: carry_out(message))

    The outcome is what `carry_out` returned; or an `Answer` to give in its place; or None: the
    call is answered by nothing, and its connection is closed. It may come late: a face does not
    let one call wait for another.
    """

    async def __call__(
        self, asked: Asked, carry_out: Callable[[], Awaitable[T]]
    ) -> T | Answer | None: ...


async def meet_nothing(asked: Asked, carry_out: Callable[[], Awaitable[T]]) -> T | Answer | None:
    """A venue without faults."""
    return await carry_out()


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """What whoever starts the venue may say about any face."""

    limit_scale: float = 1.0
    """Multiplies every request budget that the venue documents; 0: no limits."""
    weight_limit: int | None = None
    """Binance: request weight per minute and address, instead of what it documents."""
    gate: Gate = straight
    """Where every streamed event passes: faces hand it to each `Outbox` they make."""
    calendar: SessionCalendar | None = None
    """When the market opens and closes, for venues that tell it. None: it is always open."""
    meet: Meet = meet_nothing
    """Where every call on a socket passes."""


class Face(Protocol):
    name: str

    @property
    def replies(self) -> Mapping[tuple[str, str, int], int]:
        """By method, path (as routed, without identifiers) and status; for /metrics."""

    def add_routes(self, app: web.Application) -> None: ...

    def kind_of(self, method: str, path: str) -> RequestKind:
        """Of a REST request, or of a call on a socket (the face passes its own words then)."""
        ...

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        """`status` is a wish, kept where the venue has such statuses at all."""
        ...

    async def run(self) -> None:
        """Feeds the streams, until cancelled."""

    async def disconnect(self) -> int:
        """Closes every stream; the number of them."""
        ...

    def stream_counts(self) -> tuple[int, int]:
        """Connected clients, and messages given to clients since the start."""
        ...


@dataclass(frozen=True, kw_only=True)
class FaceKind:
    """An entry of `FACES`: how a face is made, and the market it has by default."""

    name: str
    """`kraken`; what `--face` takes."""
    title: str
    make: Callable[[Exchange, KeyRing, FaceOptions], Face]
    instruments: Mapping[str, Instrument]
    """Known ones, by the exchange's symbol; recordings and generators look them up here."""
    symbols: tuple[str, ...]
    """Generated unless somebody asks for others."""
    deposits: Mapping[str, Decimal]
    """What an account begins with."""
    credentials: str
    """What key and secret are here, in one sentence for people."""
    keeps_history: bool = False
    """Whether the face reads `Exchange.history`."""
    rules: VenueRules = field(default_factory=VenueRules)
    """Where the venue's own order entry differs from Binance spot's."""
    takes_any_symbol: bool = False
    """Whether recorded symbols that are not in `instruments` can be traded: they get an instrument
    made from what is recorded of them."""
    weighs_requests: bool = False
    """Whether requests have weights here, so that a limit on them means something."""
    secret_problem: Callable[[str], str] = lambda _: ""
    """Why no client can sign with this secret; empty where one can."""
