"""A comparison of books and venue as a person reads it: each difference, what kind it is, which
executions explain it, and what would mend it.

Pure: the engine compares with what it has just asked, a controller without an engine with the books
at rest, by the same rules. Nothing here says that a venue agrees where it did not answer in full.

An external trade is found from two sides: the position differs, and the venue lists executions of
orders that are not the desk's. Those that add up to the difference explain it. What they leave over
is `unexplained`: a transfer, a correction by the venue, an execution that it lists only later.

Cash (`domain.cash_compared`) is told beside it, with a result of its own: it holds no trading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType

from openbell.domain import cash_compared, ids
from openbell.domain.cash_compared import CashFacts, CashFinding, compare_cash
from openbell.domain.compared import (
    MEND,
    BalanceRow,
    Difference,
    Execution,
    FillsSeen,
    PositionRow,
    VenueComparison,
)
from openbell.domain.external import Baseline, effect
from openbell.domain.market import base_quote
from openbell.domain.orders import ClOrdID
from openbell.domain.reconcile import (
    Agreement,
    ApplyFills,
    BookFacts,
    FillFacts,
    Kind,
    OrderFinding,
    PositionFinding,
    Reconciliation,
    VenueFacts,
    agreement_of,
)

ZERO = Decimal(0)

EMPTY_FOR_S = 30.0
"""An answer with nothing in it, where something is held, is believed when it stood so long. Ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceFacts:
    currency: str
    free: Decimal
    locked: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """What the classification needs besides the two sides."""

    adopted: Mapping[str, Baseline] = field(default_factory=dict)
    """By symbol: what was adopted before."""
    fee_in_kind: bool = True
    balances: Sequence[BalanceFacts] | None = None
    """None: not asked for."""
    holdings: Mapping[str, Decimal] | None = None
    """Declared holdings by currency; None where the venue keeps positions."""
    agreed_ns: int = 0
    """The venue's clock when books and venue last agreed."""
    stood_s: float = 0.0
    """For how long something differed, look after look."""
    fills_asked: bool = True
    cash: CashFacts | None = None
    """None: cash is not compared. What of it only the comparison knows (`clear`, `inferred`,
    `others`) is filled in there."""


def classify(
    ours: BookFacts, venue: VenueFacts, found: Reconciliation, more: More
) -> VenueComparison:
    """Names each difference that `reconcile` found, and explains it."""
    lacking = {a.cl_ord_id: a.fills for a in found.actions if isinstance(a, ApplyFills)}
    others = _others(ours, venue)
    differences = [_of_order(ours.venue, f, lacking) for f in found.orders if f.kind is not None]
    differences += _inferred(ours)
    differences += [
        _difference(
            ours.venue, Kind.FOREIGN_ORDER, "on this account, and not this desk's",
            symbol=order.symbol, cl_ord_id=order.cl_ord_id, venue_order_id=order.venue_order_id,
        )
        for order in found.foreign
    ]  # fmt: skip
    doubt = _doubt(ours, venue, more)
    rows = []
    for finding in found.positions:
        difference = _of_position(ours, finding, others.get(finding.symbol, ()), more, doubt)
        rows.append(_row(ours.venue, finding, difference))
        if difference is not None:
            differences.append(difference)
    if not venue.complete:
        why = "the list of open orders is not complete"
        differences.append(_difference(ours.venue, Kind.INCOMPLETE, why))
    contradiction = _locked_for_nothing(venue, more)
    if contradiction:
        differences.append(_difference(ours.venue, Kind.INCOMPLETE, contradiction))
    status = _worst([d.status for d in differences] + [row.status for row in rows])
    if status is Agreement.OK and not found.complete:
        status = Agreement.UNKNOWN
    first = next((d for d in differences if d.status is status), None)
    why = "" if status is Agreement.OK else _told(first)
    money = _cash(ours, more, others, why)
    return VenueComparison(
        venue=ours.venue,
        status=status,
        why=why,
        open_orders=len(venue.open_orders) - len(found.foreign) if venue.complete else None,
        positions=tuple(rows),
        balances=tuple(_balances(ours, more, money)),
        fills=_fills_seen(ours, venue, others, more) if more.fills_asked else None,
        differences=(*differences, *_of_cash(ours.venue, money)),
        cash=cash_compared.overall(finding.status for finding in money),
    )


def unreachable(
    venue: str, why: str, books: Mapping[str, Decimal] = MappingProxyType({})
) -> VenueComparison:
    """A venue that gave no answer. `books`: what they hold there."""
    return VenueComparison(
        venue=venue,
        status=Agreement.UNKNOWN,
        why=why,
        open_orders=None,
        positions=tuple(
            PositionRow(
                venue=venue, symbol=symbol, books=quantity, venue_says=None,
                status=Agreement.UNKNOWN, kind=Kind.UNREACHABLE, why="the venue could not be asked",
            )
            for symbol, quantity in sorted(books.items())
        ),
        differences=(_difference(venue, Kind.UNREACHABLE, why),),
    )  # fmt: skip


def overall(comparisons: Iterable[VenueComparison]) -> Agreement:
    """A difference is certain whatever else is unknown; without any venue nothing is known."""
    statuses = [each.status for each in comparisons]
    return _worst(statuses) if statuses else Agreement.UNKNOWN


def to_adopt(comparisons: Iterable[VenueComparison]) -> tuple[Difference, ...]:
    """What an adoption would book: of venues whose answer is complete."""
    return tuple(
        difference
        for comparison in comparisons
        if all(d.kind not in (Kind.INCOMPLETE, Kind.UNREACHABLE) for d in comparison.differences)
        for difference in comparison.differences
        if difference.adoptable
    )


def digest_of(differences: Iterable[Difference]) -> str:
    """Of what would be adopted: instruments, quantities and executions. Prices of what is
    unexplained move on, and are not part of it."""
    said = sorted(
        [
            d.venue, d.symbol or d.currency, d.kind.value,
            # Of cash the difference is what stays: both sides move with every execution.
            *(("", "") if d.currency else (_plain(d.books), _plain(d.venue_says))),
            _plain(d.unexplained), [execution.exec_id for execution in d.executions],
        ]
        for d in differences
    )  # fmt: skip
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _plain(number: Decimal | None) -> str:
    return "" if number is None else f"{number.normalize():f}"


def _difference(venue: str, kind: Kind, why: str, **more: object) -> Difference:
    made = {
        "venue": venue, "kind": kind, "status": agreement_of(kind), "why": why,
        "mend": MEND[kind], **more,
    }  # fmt: skip
    return Difference(**made)  # type: ignore[arg-type]


def _of_order(
    venue: str, finding: OrderFinding, lacking: Mapping[ClOrdID, tuple[FillFacts, ...]]
) -> Difference:
    assert finding.kind is not None
    return _difference(
        venue, finding.kind, finding.why,
        symbol=finding.symbol, cl_ord_id=finding.cl_ord_id, venue_order_id=finding.venue_order_id,
        executions=tuple(map(_execution, lacking.get(finding.cl_ord_id, ()))),
    )  # fmt: skip


def _inferred(ours: BookFacts) -> Iterable[Difference]:
    for order in ours.orders:
        if order.inferred_qty:
            why = f"{order.inferred_qty.normalize():f} of it is known by inference alone"
            yield _difference(
                ours.venue, Kind.INFERRED_FILL, why, symbol=order.new.symbol,
                cl_ord_id=order.cl_ord_id, venue_order_id=order.venue_order_id,
            )  # fmt: skip


def _of_position(
    ours: BookFacts, finding: PositionFinding, others: Sequence[FillFacts], more: More, doubt: str
) -> Difference | None:
    if finding.kind is None:
        return None
    kind, why = finding.kind, finding.why
    executions: tuple[FillFacts, ...] = ()
    rest = ZERO
    if kind is Kind.UNEXPLAINED:
        assert finding.venue_says is not None
        executions, rest = explain(
            finding.venue_says - finding.books, others, symbol=finding.symbol, more=more
        )
        if executions and not rest:
            kind, why = Kind.EXTERNAL_TRADE, f"explained by {_executions(executions)}"
        elif executions:
            why = f"explained in part by {_executions(executions)}"
        elif doubt:
            kind, why, rest = Kind.INCOMPLETE, doubt, ZERO
        else:
            why = "no order of ours explains it, and no execution that the venue lists"
    elif kind not in (Kind.ROUNDING, Kind.INCOMPLETE, Kind.MOVING, Kind.IN_DOUBT):
        return None  # told with the order that explains it
    return _difference(
        ours.venue, kind, why, symbol=finding.symbol, books=finding.books,
        venue_says=finding.venue_says, executions=tuple(map(_execution, executions)),
        unexplained=rest,
    )  # fmt: skip


def explain(
    difference: Decimal, others: Sequence[FillFacts], *, symbol: str, more: More
) -> tuple[tuple[FillFacts, ...], Decimal]:
    """The executions of others that lead to a difference, and what they leave over.

    Preferred are all since books and venue last agreed; else the most of the newest that add up: a
    trade that was undone at the venue is no difference any more, and may still be listed.
    """
    base = base_quote(symbol)[0]
    baseline = more.adopted.get(symbol)
    fills = sorted(
        (f for f in others if baseline is None or not baseline.covers(f.exec_id, f.venue_time_ns)),
        key=lambda fill: fill.venue_time_ns,
    )
    effects = [
        effect(f.side, f.last_qty, f.fee, f.fee_currency, base=base, fee_in_kind=more.fee_in_kind)
        for f in fills
    ]
    first = next((i for i, f in enumerate(fills) if f.venue_time_ns > more.agreed_ns), len(fills))
    left = sum(effects, ZERO)
    sums = []
    for change in effects:
        sums.append(left)
        left -= change
    for start in (first, *range(len(fills))):
        if start < len(fills) and sums[start] == difference:
            return tuple(fills[start:]), ZERO
    since = tuple(fills[first:])
    return since, difference - (sums[first] if since else ZERO)


def _others(ours: BookFacts, venue: VenueFacts) -> dict[str, list[FillFacts]]:
    """Executions of orders that are not the desk's, by symbol."""
    known = {order.cl_ord_id for order in ours.orders}
    by_venue_id = {(o.new.symbol, o.venue_order_id) for o in ours.orders if o.venue_order_id}
    booked = _booked(ours)
    found: dict[str, dict[str, FillFacts]] = {}
    for fill in venue.fills:
        if fill.cl_ord_id in known or ids.is_own(fill.cl_ord_id, ours.desk_id):
            continue
        if (fill.symbol, fill.venue_order_id) in by_venue_id:
            continue
        if (fill.symbol, fill.exec_id) in booked:
            continue
        found.setdefault(fill.symbol, {}).setdefault(fill.exec_id, fill)
    return {symbol: list(fills.values()) for symbol, fills in found.items()}


def _booked(ours: BookFacts) -> set[tuple[str, str]]:
    """A venue's execution ids are unique in a symbol."""
    return {(order.new.symbol, each) for order in ours.orders for each in order.exec_ids}


def _doubt(ours: BookFacts, venue: VenueFacts, more: More) -> str:
    """Why positions that nothing explains are not to be believed; empty where they are.

    An account in which there is nothing at all, though the books hold something, is likelier an
    answer that lacks everything (HTTP 200 with an empty list) than the truth.
    """
    if more.stood_s >= EMPTY_FOR_S:
        return ""
    expects = any(ours.positions.values()) or any((more.holdings or {}).values())
    if more.holdings is None:
        nothing = venue.positions is not None and not any(venue.positions.values())
    else:
        nothing = more.balances is not None and not any(b.free + b.locked for b in more.balances)
    if expects and nothing:
        return "the venue tells of nothing at all, and one such answer proves nothing"
    return ""


def _locked_for_nothing(venue: VenueFacts, more: More) -> str:
    """An open order locks what it would spend: a list without any and funds that are locked
    contradict each other."""
    if more.holdings is None or more.balances is None or venue.open_orders:
        return ""
    locked = ", ".join(f"{b.locked.normalize():f} {b.currency}" for b in more.balances if b.locked)
    return f"no open order is listed, yet {locked} is locked" if locked else ""


def _cash(
    ours: BookFacts,
    more: More,
    others: Mapping[str, Sequence[FillFacts]],
    unclear: str,
) -> tuple[CashFinding, ...]:
    if more.cash is None:
        return ()
    strangers = [
        fill
        for symbol, fills in others.items()
        for fill in fills
        if (baseline := more.adopted.get(symbol)) is None
        or not baseline.covers(fill.exec_id, fill.venue_time_ns)
    ]
    facts = replace(
        more.cash,
        clear=unclear or ("" if more.fills_asked else "executions were not asked for"),
        inferred=any(order.inferred_qty for order in ours.orders),
        others=sorted(strangers, key=lambda fill: fill.venue_time_ns),
    )
    return compare_cash(facts)


def _of_cash(venue: str, findings: Iterable[CashFinding]) -> Iterable[Difference]:
    for finding in findings:
        if finding.kind is not None and finding.rest:
            yield _difference(
                venue, finding.kind, finding.why, currency=finding.currency,
                books=finding.books, venue_says=finding.venue_says, unexplained=finding.rest,
                executions=tuple(map(_execution, finding.executions)),
            )  # fmt: skip


def _balances(ours: BookFacts, more: More, money: Iterable[CashFinding]) -> Iterable[BalanceRow]:
    cash = {finding.currency: finding for finding in money}
    expected: dict[str, Decimal] = {}
    tolerance: dict[str, Decimal] = {}
    if more.holdings is not None:
        for symbol, quantity in ours.positions.items():
            base = base_quote(symbol)[0]
            expected.setdefault(base, more.holdings.get(base, ZERO))
            expected[base] += quantity
            tolerance[base] = max(tolerance.get(base, ZERO), ours.tolerance.get(symbol, ZERO))
    for balance in more.balances or ():
        total = balance.free + balance.locked
        books = expected.get(balance.currency)
        finding = cash.pop(balance.currency, None) if books is None else None
        if finding is not None:
            yield _cash_row(ours.venue, finding, balance.free, balance.locked)
            continue
        if books is None and not total:
            continue
        status = None
        if books is not None:
            off = abs(total - books)
            agrees = off == 0 or off < tolerance.get(balance.currency, ZERO)
            status = Agreement.OK if agrees else Agreement.MISMATCH
        yield BalanceRow(
            venue=ours.venue, currency=balance.currency, free=balance.free, locked=balance.locked,
            expected=books, status=status,
        )  # fmt: skip
    for finding in cash.values():
        if finding.books and finding.venue_says is None:
            yield _cash_row(ours.venue, finding, ZERO, ZERO)


def _cash_row(venue: str, finding: CashFinding, free: Decimal, locked: Decimal) -> BalanceRow:
    return BalanceRow(
        venue=venue, currency=finding.currency, free=free, locked=locked,
        expected=finding.books, status=finding.status, kind=finding.kind, why=finding.why,
    )  # fmt: skip


def _fills_seen(
    ours: BookFacts, venue: VenueFacts, others: Mapping[str, Sequence[FillFacts]], more: More
) -> FillsSeen:
    booked = _booked(ours)
    listed = {(fill.symbol, fill.exec_id) for fill in venue.fills}
    strangers = [fill for fills in others.values() for fill in fills]
    return FillsSeen(
        listed=len(listed),
        own=len(listed) - len(strangers),
        booked=len(listed & booked),
        others=len(strangers),
        adopted=sum(
            1
            for fill in strangers
            if (baseline := more.adopted.get(fill.symbol)) is not None
            and baseline.covers(fill.exec_id, fill.venue_time_ns)
        ),
    )


def _row(venue: str, finding: PositionFinding, difference: Difference | None) -> PositionRow:
    told = difference if difference is not None else finding
    return PositionRow(
        venue=venue, symbol=finding.symbol, books=finding.books, venue_says=finding.venue_says,
        status=told.status, kind=told.kind, why=told.why,
    )  # fmt: skip


def _execution(fill: FillFacts) -> Execution:
    return Execution(
        exec_id=fill.exec_id, venue_order_id=fill.venue_order_id, symbol=fill.symbol,
        side=fill.side.value, qty=fill.last_qty, px=fill.last_px, fee=fill.fee,
        fee_currency=fill.fee_currency, venue_time_ns=fill.venue_time_ns,
    )  # fmt: skip


def _executions(fills: Sequence[FillFacts]) -> str:
    return f"{len(fills)} execution{'' if len(fills) == 1 else 's'} of others"


def _told(difference: Difference | None) -> str:
    if difference is None:
        return "the venue's answer was not complete"
    about = difference.symbol or difference.currency or difference.cl_ord_id
    return f"{about}: {difference.why}" if about else difference.why


def _worst(statuses: Sequence[Agreement]) -> Agreement:
    for status in (Agreement.MISMATCH, Agreement.UNKNOWN):
        if status in statuses:
            return status
    return Agreement.OK
