"""What the desk has at stake, and which limits that breaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from openbell.config.models import Risk
from openbell.domain.books import WorstCase
from openbell.domain.market import InstrumentRules, base_quote
from openbell.domain.positions import Instrument, Position, common_quote

ZERO = Decimal(0)


class PositionExposure(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    symbol: str
    quantity: Decimal
    mark_px: Decimal | None
    notional: Decimal | None
    """Absolute, in the report's currency; None: no price."""
    dust: bool = False
    """Too small for any order to close; not counted as an open position."""


class ExposureReport(msgspec.Struct, frozen=True, kw_only=True):
    positions: tuple[PositionExposure, ...]
    """Those that are not flat."""
    total: Decimal
    """Sum of the absolute notionals that are known."""
    net: Decimal
    """Longs less shorts."""
    open_positions: int
    currency: str
    unpriced: tuple[str, ...] = ()
    """Positions that `total` and `net` leave out, such as `binance BTC/USDT`."""


def exposure(
    positions: Iterable[Position],
    marks: Mapping[Instrument, Decimal],
    *,
    rules: Mapping[Instrument, InstrumentRules] | None = None,
    conversion: Mapping[str, Decimal] | None = None,
    currency: str | None = None,
) -> ExposureReport:
    """Exposure of positions at the marks, in one currency: by default the quote currency of most.

    A position without a sound mark, or in a quote currency that `conversion` lacks, is named in
    `unpriced`; it still counts as open. With `rules`, dust does not.
    """
    positions = list(positions)
    currency = currency or common_quote(position.symbol for position in positions)
    found: list[PositionExposure] = []
    unpriced: list[str] = []
    net = ZERO
    for position in positions:
        if position.is_flat:
            continue
        mark = _sound(marks.get(position.instrument))
        worth = _worth(position.symbol, mark, currency, conversion or {})
        rule = (rules or {}).get(position.instrument)
        dust = (
            rule is not None and mark is not None and not rule.is_tradable(position.quantity, mark)
        )
        if worth is None:
            unpriced.append(f"{position.venue} {position.symbol}")
        else:
            net += position.quantity * worth
        found.append(
            PositionExposure(
                venue=position.venue,
                symbol=position.symbol,
                quantity=position.quantity,
                mark_px=mark,
                notional=None if worth is None else abs(position.quantity) * worth,
                dust=dust,
            )
        )
    return ExposureReport(
        positions=tuple(found),
        total=sum((each.notional for each in found if each.notional is not None), ZERO),
        net=net,
        open_positions=sum(not each.dust for each in found),
        currency=currency,
        unpriced=tuple(unpriced),
    )


def worst_exposure(
    worst_cases: Mapping[Instrument, WorstCase],
    marks: Mapping[Instrument, Decimal],
    *,
    leave_out: Instrument | None = None,
    conversion: Mapping[str, Decimal] | None = None,
    currency: str | None = None,
) -> Decimal | None:
    """Exposure if the open orders filled as badly as they can; None: an instrument has no price.
    `leave_out` is the instrument that the last gate weighs together with its new order."""
    currency = currency or common_quote(symbol for _, symbol in worst_cases)
    total = ZERO
    for instrument, worst in worst_cases.items():
        if instrument == leave_out or worst.largest == 0:
            continue
        worth = _worth(instrument[1], _sound(marks.get(instrument)), currency, conversion or {})
        if worth is None:
            return None
        total += worst.largest * worth
    return total


def breaches(report: ExposureReport, pnl: Decimal | None, risk: Risk) -> tuple[str, ...]:
    """Names of the limits that are breached now, such as `max_daily_loss` or
    `max_position:BTC/USDT`. `pnl` is today's net P&L.

    What is not known breaches nothing: a missing price or P&L must not set off an automatic act.
    It is named in the report, and the last gate opens no position on it.
    """
    names: list[str] = []
    for symbol, most in sorted(risk.max_position.items()):
        held = [each.quantity for each in report.positions if each.symbol == symbol]
        # Long at one venue and short at another is no smaller a position than either.
        if max((abs(qty) for qty in (*held, sum(held, ZERO))), default=ZERO) > most:
            names.append(f"max_position:{symbol}")
    most_each = risk.max_notional_per_position
    if most_each is not None:
        names += [
            f"max_notional_per_position:{each.symbol}"
            for each in report.positions
            if each.notional is not None and each.notional > most_each
        ]
    if risk.max_total_exposure is not None and report.total > risk.max_total_exposure:
        names.append("max_total_exposure")
    if risk.max_open_positions is not None and report.open_positions > risk.max_open_positions:
        names.append("max_open_positions")
    if (
        risk.max_daily_loss is not None
        and pnl is not None
        and pnl.is_finite()
        and pnl <= -risk.max_daily_loss
    ):
        names.append("max_daily_loss")
    return tuple(dict.fromkeys(names))


def _sound(mark: Decimal | None) -> Decimal | None:
    return mark if mark is not None and mark.is_finite() and mark > 0 else None


def _worth(
    symbol: str, mark: Decimal | None, currency: str, conversion: Mapping[str, Decimal]
) -> Decimal | None:
    """What one unit of the base is worth in `currency`, if that is known."""
    if mark is None:
        return None
    quote = base_quote(symbol)[1]
    if quote == currency:
        return mark
    rate = _sound(conversion.get(quote))
    return None if rate is None else mark * rate
