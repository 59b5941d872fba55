"""Cash in the books: what a spot account should hold of its money, and how that compares.

The books know no deposits. They begin with what the venue told when nothing was under way, the
*opening* balance, which stands in the journal with its source (`CashBooked`); from then on they are
moved by the desk's own executions and their fees, and by executions that a person adopted:

    books == opening + sold - bought - fees, of executions after the opening

An execution that comes late and was executed before the opening is in it already, and moves nothing.

Where the books cannot know, the result is *not compared*, with the reason, and never a difference:
a venue that keeps positions (it books profit, funding and financing by its own rules), a currency
that is traded as a base as well, an execution whose price and fee are concluded only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from openbell.domain.market import base_quote
from openbell.domain.order_book import Counted, ImpossibleEventError
from openbell.domain.orders import Order, OrderFilled, Side

ZERO = Decimal(0)

Account = tuple[str, str]
"""Venue and currency."""

FIRST_SEEN = "first_seen"
ADOPTED = "adopted"

_FINE = frozenset({"BTC", "ETH", "BNB"})
_FINE_STEP = Decimal("0.00000001")
_COARSE_STEP = Decimal("0.0001")
"""By so much at most a venue rounds what one execution moves, amount and fee together: venues keep
eight digits of a coin, and at least four of money (Kraken keeps four of USD). Ours."""


class CashBooked(msgspec.Struct, frozen=True, kw_only=True, tag="cash"):
    """From here on the books hold `amount` of a currency at a venue."""

    at_ns: int
    """When (our clock)."""
    venue: str
    currency: str
    amount: Decimal
    """Free and locked, the venue's word."""
    as_of_ns: int
    """The venue's clock when it was so."""
    source: str
    """`first_seen`: the engine found it when the books held none. `adopted`: a person booked it."""
    books: Decimal | None = None
    """What the books held before; None: nothing was known."""
    by: str = ""
    approved_by: str = ""
    """The second person; empty where none was needed."""
    reason: str = ""
    request: str = ""
    """Id of the request that was approved."""

    @property
    def account(self) -> Account:
        return self.venue, self.currency


class Cash(msgspec.Struct, frozen=True, kw_only=True):
    """What the books hold of one currency at one venue."""

    venue: str
    currency: str
    opening: Decimal
    as_of_ns: int
    """The venue's clock at the opening."""
    change: Decimal = ZERO
    """What executions after the opening moved."""
    executions: int = 0
    """How many did: each may have been rounded."""
    inferred: Decimal = ZERO
    """Quantity that is counted by inference alone; its price and fee are not known."""
    unnamed_fees: int = 0
    """Executions whose fee is in a currency that the venue did not name."""

    @property
    def account(self) -> Account:
        return self.venue, self.currency

    @property
    def amount(self) -> Decimal:
        return self.opening + self.change

    @property
    def rounding(self) -> Decimal:
        """A difference up to this is the venue's rounding."""
        return self.executions * (_FINE_STEP if self.currency in _FINE else _COARSE_STEP)


def check(event: CashBooked) -> None:
    """Raises ImpossibleEventError for an amount that is none."""
    if not event.amount.is_finite():
        raise ImpossibleEventError(f"{event.amount} {event.currency} booked at {event.venue}")


def opened(event: CashBooked) -> Cash:
    check(event)
    return Cash(
        venue=event.venue, currency=event.currency, opening=event.amount, as_of_ns=event.as_of_ns
    )


def after_fill(
    held: Mapping[Account, Cash], order: Order, event: OrderFilled, counted: Counted
) -> dict[Account, Cash]:
    """Those accounts that an own execution moves; `order` is its order without it."""
    if not event.fee_in_kind:
        return {}
    new = order.new
    base, quote = base_quote(new.symbol)
    moved: dict[Account, Cash] = {}
    for (venue, currency), cash in held.items():
        if venue != new.venue or currency == base:
            continue
        late = 0 < event.venue_time_ns <= cash.as_of_ns
        replaced = sum((qty for qty, _ in counted.replaced), ZERO)
        change = ZERO
        if currency == quote:
            # An inference is never older than the opening: none is booked while one stands.
            change += sum((new.side.sign * qty * px for qty, px in counted.replaced), ZERO)
            change -= ZERO if late else new.side.sign * counted.qty * counted.px
        if currency == event.fee_currency and not late:
            change -= event.fee
        unnamed = int(bool(event.fee) and not event.fee_currency and not late)
        inferred = (counted.qty if event.inferred else ZERO) - replaced
        if not (change or unnamed or inferred):
            continue
        moved[venue, currency] = msgspec.structs.replace(
            cash,
            change=cash.change + change,
            executions=cash.executions + (not late),
            inferred=cash.inferred + inferred,
            unnamed_fees=cash.unnamed_fees + unnamed,
        )
    return moved


@dataclass(frozen=True, slots=True)
class Trade:
    """An execution of others, as far as it moves cash."""

    side: Side
    qty: Decimal
    px: Decimal
    fee: Decimal
    fee_currency: str
    venue_time_ns: int


def after_trades(
    held: Mapping[Account, Cash], venue: str, symbol: str, trades: Iterable[Trade]
) -> dict[Account, Cash]:
    """Those accounts that adopted executions move. What was adopted without an execution moves
    none: it may have been a transfer, and where it was a trade the comparison shows the rest."""
    moved: dict[Account, Cash] = {}
    for trade in trades:
        for account, cash in held.items():
            if account[0] != venue:
                continue
            cash = moved.get(account, cash)
            if 0 < trade.venue_time_ns <= cash.as_of_ns:
                continue
            change = effect(trade, symbol, account[1])
            if change:
                moved[account] = msgspec.structs.replace(
                    cash, change=cash.change + change, executions=cash.executions + 1
                )
    return moved


def effect(trade: Trade, symbol: str, currency: str) -> Decimal:
    """What an execution moves of a currency that is not its base."""
    base, quote = base_quote(symbol)
    change = ZERO
    if currency == quote:
        change -= trade.side.sign * trade.qty * trade.px
    if currency == trade.fee_currency and currency != base:
        change -= trade.fee
    return change


def currencies(symbols: Iterable[str], fee_currency: str | None) -> Iterator[tuple[str, str]]:
    """What a spot account's cash is: each currency with why it cannot be compared, empty where it
    can."""
    pairs = [base_quote(symbol) for symbol in symbols]
    bases = {base for base, _ in pairs}
    wanted = {quote for _, quote in pairs} | ({fee_currency} if fee_currency else set())
    for currency in sorted(wanted):
        also = f"{currency} is traded as a base as well: positions and money cannot be told apart"
        yield currency, also if currency in bases else ""


KEEPS_POSITIONS = (
    "the venue keeps positions and books profit, funding and fees by its own rules,"
    " which the books do not know"
)
NOT_OPENED = "no opening balance yet: the engine books one when nothing moves"
