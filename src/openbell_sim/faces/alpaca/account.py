"""Calls about the account: its money, its positions and their closing, its fills, the clock."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from zoneinfo import ZoneInfo

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.alpaca import errors, names, render, trading
from openbell_sim.faces.alpaca.errors import AlpacaError
from openbell_sim.faces.alpaca.orders import Note, as_accepted, note_text
from openbell_sim.faces.alpaca.render import Json
from openbell_sim.faces.alpaca.stocks import QTY_DIGITS
from openbell_sim.faces.alpaca.trading import MULTI_STATUS, Call, Result
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order
from openbell_sim.listing import shown
from openbell_sim.positions import Position
from openbell_sim.session_calendar import SessionCalendar, Weekday, Window
from openbell_sim.sessions import MarketState

NEW_YORK = ZoneInfo("America/New_York")
REGULAR = SessionCalendar(
    timezone=NEW_YORK.key,
    windows=(
        Window(
            days=(Weekday.MON, Weekday.TUE, Weekday.WED, Weekday.THU, Weekday.FRI),
            start=time_of_day(9, 30),
            end=time_of_day(16, 0),
        ),
    ),
)
"""What is told where no calendar was given: regular trading hours ("Orders at Alpaca"), holidays
not known."""
_MULTIPLIER = 2
"""Regulation T: a position may be worth twice the equity."""
_PAGE_MAX = 100
"""`page_size` of "Account Activities"."""
_ZERO = Decimal(0)


def account(call: Call) -> Result:
    """Bought shares are paid for in cash and sold ones bring it, so cash is what the exchange
    calls balance less what the positions cost."""
    margin = call.exchange.margin(call.account, "USD")
    positions = call.exchange.positions(call.account)
    cash = margin.balance - sum((position.cost for _, position in positions), _ZERO)
    values = [_value(call, symbol, position) for symbol, position in positions]
    long_value = sum((value for value in values if value > 0), _ZERO)
    short_value = sum((value for value in values if value < 0), _ZERO)
    power = max(_ZERO, margin.available * _MULTIPLIER)
    equity = names.number(margin.equity)
    return 200, {
        "id": names.account_id(call.account),
        "account_number": _account_number(call.account),
        "status": "ACTIVE",
        "crypto_status": "INACTIVE",
        "currency": "USD",
        "cash": names.number(cash),
        "buying_power": names.number(power),
        "regt_buying_power": names.number(power),
        "non_marginable_buying_power": names.number(max(_ZERO, margin.available)),
        "options_buying_power": "0",
        "accrued_fees": "0",
        "portfolio_value": equity,
        "equity": equity,
        "last_equity": names.number(margin.balance),
        "long_market_value": names.number(long_value),
        "short_market_value": names.number(short_value),
        "position_market_value": names.number(long_value - short_value),
        "initial_margin": names.number(margin.used),
        "maintenance_margin": names.number((long_value - short_value) * Decimal("0.3")),
        "last_maintenance_margin": "0",
        "sma": "0",
        "multiplier": str(_MULTIPLIER),
        "shorting_enabled": True,
        "trading_blocked": not call.credentials.may_trade,
        "transfers_blocked": True,
        "account_blocked": False,
        "trade_suspended_by_user": False,
        "created_at": "1970-01-01T00:00:00Z",
    }


def _account_number(name: str) -> str:
    """As those of paper accounts look."""
    return f"PA{uuid.UUID(names.account_id(name)).int % 10**10:010d}"


def configurations(call: Call) -> Result:
    """They can be read and not changed."""
    return 200, {
        "fractional_trading": True,
        "max_margin_multiplier": str(_MULTIPLIER),
        "no_shorting": False,
        "suspend_trade": False,
        "trade_confirm_email": "none",
        "ptp_no_exception_entry": False,
        "max_options_trading_level": 0,
    }


# Positions


def positions(call: Call) -> Result:
    held = call.exchange.positions(call.account)
    return 200, [_position(call, symbol, position) for symbol, position in shown(held)]


def position(call: Call) -> Result:
    symbol, held = _held(call)
    return 200, _position(call, symbol, held)


def close(call: Call) -> Result:
    """The whole position, or `qty` or `percentage` of it, by a market order."""
    symbol, held = _held(call)
    return 200, call.rendered(as_accepted(_close(call, symbol, held)), status="pending_new")


def close_all(call: Call) -> Result:
    """Each position's own status and body; `cancel_orders` clears the way first."""
    if call.query.get("cancel_orders", "").lower() == "true":
        trading.cancel_all(call)
    rows: list[Json] = []
    for symbol, held in call.exchange.positions(call.account):
        row: Json = {"symbol": symbol, "status": 200}
        try:
            order = _close(call, symbol, held)
            row |= {
                "order_id": names.order_id(order.order_id),
                "body": call.rendered(as_accepted(order), status="pending_new"),
            }
        except AlpacaError as error:
            row |= {"status": error.status, "body": error.body()}
        rows.append(row)
    return MULTI_STATUS, list(shown(rows))


def _held(call: Call) -> tuple[str, Position]:
    instrument = find_asset(call, call.named["symbol"])
    if instrument is not None:
        held = call.exchange.ledger.position(call.account, instrument.symbol)
        if held.quantity:
            return instrument.symbol, held
    raise errors.not_found("position does not exist")


def _close(call: Call, symbol: str, held: Position) -> Order:
    side = Side.SELL if held.quantity > 0 else Side.BUY
    qty = _part(call, abs(held.quantity))
    promised = trading.promised_qty(call, symbol, side)
    trading.check_available(symbol, qty, abs(held.quantity), promised)
    note = Note(time_in_force="day", position_intent=f"{side.value.lower()}_to_close")
    request = OrderRequest(
        account=call.account,
        cl_ord_id=str(uuid.uuid4()),
        symbol=symbol,
        side=side,
        ord_type=OrdType.MARKET,
        time_in_force=TimeInForce.GTC,
        qty=qty,
        reduce_only=True,
        note=note_text(note),
        received_ns=call.received_ns,
    )
    return trading.submit(call, request)


def _part(call: Call, quantity: Decimal) -> Decimal:
    given = {name: call.query[name] for name in ("qty", "percentage") if call.query.get(name)}
    if not given:
        return quantity
    if len(given) > 1:
        raise errors.malformed("qty and percentage exclude each other")
    try:
        number = Decimal(next(iter(given.values())))
    except ArithmeticError:
        raise errors.malformed("invalid qty or percentage") from None
    part = number if "qty" in given else round(quantity * number / 100, QTY_DIGITS)
    if not (part.is_finite() and part > 0):
        raise errors.unprocessable("qty must be > 0")
    return part


def _value(call: Call, symbol: str, held: Position) -> Decimal:
    """At the mark; at cost where nobody knows a price."""
    mark = call.exchange.markets[symbol].mark()
    return held.cost if mark is None else held.quantity * mark


def _position(call: Call, symbol: str, held: Position) -> Json:
    """The day's own figures are those since the position was opened: no day ends here."""
    instrument = call.exchange.instruments[symbol]
    asset = render.asset(instrument)
    value = _value(call, symbol, held)
    profit = value - held.cost
    price = value / held.quantity
    share = profit / abs(held.cost) if held.cost else _ZERO
    side = Side.SELL if held.quantity > 0 else Side.BUY
    available = abs(held.quantity) - trading.promised_qty(call, symbol, side)
    return {
        "asset_id": asset["id"],
        "symbol": symbol,
        "exchange": asset["exchange"],
        "asset_class": "us_equity",
        "asset_marginable": True,
        "qty": names.number(held.quantity),
        "qty_available": names.number(max(_ZERO, available) * -side.sign),
        "avg_entry_price": names.number(held.avg_price),
        "side": "long" if held.quantity > 0 else "short",
        "market_value": names.number(value),
        "cost_basis": names.number(held.cost),
        "unrealized_pl": names.number(profit),
        "unrealized_plpc": names.number(share),
        "unrealized_intraday_pl": names.number(profit),
        "unrealized_intraday_plpc": names.number(share),
        "current_price": names.number(price),
        "lastday_price": names.number(price),
        "change_today": "0",
    }


# Fills


def activities(call: Call) -> Result:
    """Fills are the only activity here. Pages go on after the `page_token`, an activity's id."""
    wanted = call.named.get("kind") or call.query.get("activity_types") or "FILL"
    if "FILL" not in wanted.split(","):
        if not wanted.replace(",", "").isalpha() or not wanted.isupper():
            raise errors.malformed(f"invalid activity type: {wanted}")
        return 200, []
    found = list(_fills(call))
    after_ns, until_ns = (_bound(call, name) for name in ("after", "until"))
    if after_ns is not None:
        found = [(at_ns, row) for at_ns, row in found if at_ns > after_ns]
    if until_ns is not None:
        found = [(at_ns, row) for at_ns, row in found if at_ns < until_ns]
    rows = [row for _, row in found]
    if call.query.get("direction", "desc") == "desc":
        rows.reverse()
    token = call.query.get("page_token")
    if token:
        position = next((i for i, row in enumerate(rows) if row["id"] == token), None)
        if position is None:
            raise errors.malformed("invalid page_token")
        rows = rows[position + 1 :]
    return 200, list(shown(rows[: _page_size(call)]))


def _fills(call: Call) -> Iterator[tuple[int, Json]]:
    """Oldest first."""
    filled: dict[int, Decimal] = {}
    ledger = call.exchange.ledger
    for fill in ledger.fills:
        if fill.account == call.account:
            filled[fill.order_id] = cum_qty = filled.get(fill.order_id, _ZERO) + fill.qty
            order = ledger.orders[fill.order_id]
            yield fill.at_ns, render.fill_activity(fill, order, cum_qty)


def _bound(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    try:
        return names.time_ns(text) if text else None
    except ValueError:
        raise errors.malformed(f"invalid {name}") from None


def _page_size(call: Call) -> int:
    text = call.query.get("page_size") or str(_PAGE_MAX)
    if not text.isdecimal() or not 0 < int(text) <= _PAGE_MAX:
        raise errors.malformed(f"page_size must be between 1 and {_PAGE_MAX}")
    return int(text)


# Assets and the clock


def find_asset(call: Call, symbol_or_id: str) -> Instrument | None:
    found = call.exchange.instruments.get(symbol_or_id)
    if found is not None:
        return found
    instruments = call.exchange.instruments.values()
    return next((i for i in instruments if names.asset_id(i.symbol) == symbol_or_id), None)


def assets(call: Call) -> Result:
    if call.query.get("asset_class", "us_equity") != "us_equity":
        return 200, []
    rows = [render.asset(instrument) for instrument in call.exchange.instruments.values()]
    return 200, [
        row
        for row in rows
        if call.query.get("status", "active") in ("active", "")
        and call.query.get("exchange", row["exchange"]) == row["exchange"]
    ]


def asset(call: Call) -> Result:
    instrument = find_asset(call, call.named["symbol"])
    if instrument is None:
        raise errors.not_found(f"asset not found for {call.named['symbol']}")
    return 200, render.asset(instrument)


def clock(call: Call) -> Result:
    """`is_open`: whether any symbol is traded now, whoever said so. The next times are the
    calendar's; one that never comes is the end of the year 9999, since clients want a time."""
    exchange = call.exchange
    now_ns = exchange.now_ns()
    return 200, {
        "timestamp": names.rfc3339(now_ns),
        "is_open": MarketState.OPEN in map(exchange.session, exchange.markets),
        "next_open": _in_new_york(call.calendar.next_open_ns(now_ns)).isoformat(),
        "next_close": _in_new_york(call.calendar.next_close_ns(now_ns)).isoformat(),
    }


def calendar(call: Call) -> Result:
    """Every day from `start` to `end` on which the market opens. What lies beyond midnight belongs
    to the next day; without extended hours, the session is no longer than trading."""
    try:
        first, last = (
            date.fromisoformat(call.query[name][:10]) if call.query.get(name) else None
            for name in ("start", "end")
        )
    except ValueError:
        raise errors.malformed("invalid start or end") from None
    today = _in_new_york(call.exchange.now_ns()).date()
    first, last = first or today, last or today + timedelta(days=30)
    rows: list[Json] = []
    for number in range(max(0, (last - first).days + 1)):
        day = first + timedelta(days=number)
        hours = call.calendar.open_hours_ns(day, NEW_YORK)
        if hours is not None:
            rows.append(_day(day, *map(_in_new_york, hours)))
    return 200, rows


def _day(day: date, opens: datetime, closes: datetime) -> Json:
    till = f"{closes:%H:%M}" if closes.date() == day else "23:59"
    return {
        "date": day.isoformat(),
        "open": f"{opens:%H:%M}",
        "close": till,
        "session_open": f"{opens:%H%M}",
        "session_close": till.replace(":", ""),
    }


def _in_new_york(at_ns: int | None) -> datetime:
    if at_ns is None:
        return datetime(9999, 12, 30, tzinfo=NEW_YORK)
    return datetime.fromtimestamp(at_ns // 1_000_000_000, NEW_YORK)
