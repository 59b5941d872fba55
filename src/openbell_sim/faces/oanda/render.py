"""What OANDA answers: orders, trades, positions, transactions as JSON. Amounts are text."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from openbell_sim.faces.oanda.book import (
    ZERO,
    Book,
    Json,
    Moment,
    OandaOrder,
    OrderState,
    Trade,
    Transaction,
    account_id,
    user_id,
)
from openbell_sim.faces.oanda.markets import Listing, listing, money
from openbell_sim.faces.oanda.notes import ClientExtensions, Note, Protection
from openbell_sim.faces.oanda.times import TimeFormat
from openbell_sim.instruments import Instrument

_AVERAGE_DIGITS = 8
"""Decimals of an average price beyond those of a price."""

ProfitOf = Callable[[Trade], Decimal]
"""Unrealized profit of an open trade, in the home currency."""


def average(price: Decimal, said: Listing) -> str:
    """A price on the grid is written as such, an average with as many digits as it needs."""
    exact = f"{price:.{said.precision + _AVERAGE_DIGITS}f}"
    whole, _, digits = exact.partition(".")
    kept = digits.rstrip("0")
    return f"{whole}.{kept:0<{said.precision}}"


def extensions(client: ClientExtensions, name: str) -> Json:
    """`{name: {...}}`, or nothing at all."""
    given = {
        key: value
        for key, value in (("id", client.id), ("tag", client.tag), ("comment", client.comment))
        if value
    }
    return {name: given} if given else {}


def order_facts(note: Note, symbol: str, units: Decimal, item: Instrument | None) -> Json:
    """What an order and the transaction that made it have in common. `item` is None for an
    instrument that is not known; then amounts are written as they came."""
    said = None if item is None else listing(item)
    price_text = str if said is None else said.price
    facts: Json = {"timeInForce": note.time_in_force}
    if note.expires_ns:
        facts["gtdTime"] = Moment(note.expires_ns)
    if note.price is not None:
        facts["price"] = price_text(note.price)
    if note.kind != "MARKET":
        facts["triggerCondition"] = "DEFAULT"
    facts |= extensions(note.client, "clientExtensions")
    if note.replaces:
        facts["replacesOrderID"] = str(note.replaces)
    if note.kind in ("TAKE_PROFIT", "STOP_LOSS"):
        return facts | {"tradeID": str(note.trade_id)}
    facts |= {
        "instrument": symbol,
        "units": str(units) if said is None else said.units(units),
        "positionFill": note.position_fill,
    }
    if note.bound is not None:
        facts["priceBound"] = price_text(note.bound)
    facts |= extensions(note.trade_client, "tradeClientExtensions")
    for name, protection in (
        ("takeProfitOnFill", note.take_profit),
        ("stopLossOnFill", note.stop_loss),
    ):
        if protection is not None:
            facts[name] = _protection(protection, price_text)
    if note.reason == "TRADE_CLOSE":
        facts["tradeClose"] = {"tradeID": str(note.trade_id), "units": note.closes}
    elif note.reason == "POSITION_CLOSEOUT":
        # A sell closes what is long.
        which = "longPositionCloseout" if units < 0 else "shortPositionCloseout"
        facts[which] = {"instrument": symbol, "units": note.closes}
    return facts


def _protection(protection: Protection, price_text: Callable[[Decimal], str]) -> Json:
    return {
        "price": price_text(protection.price),
        "timeInForce": "GTC",
        **extensions(protection.client, "clientExtensions"),
    }


def transaction(item: Transaction, account: str, fmt: TimeFormat) -> Json:
    return {
        "id": str(item.id),
        "accountID": account_id(account),
        "userID": user_id(account),
        "batchID": str(item.batch),
        "time": fmt.write(item.at_ns),
        "type": item.kind,
        **_timed(item.body, fmt),
    }


def _timed(body: Json, fmt: TimeFormat) -> Json:
    return {k: fmt.write(v) if isinstance(v, Moment) else v for k, v in body.items()}


def order(item: OandaOrder, instrument: Instrument, fmt: TimeFormat) -> Json:
    facts: Json = {
        "id": str(item.id),
        "createTime": fmt.write(item.created_ns),
        "type": item.note.kind,
        "state": item.state.value,
        **_timed(order_facts(item.note, item.symbol, item.units, instrument), fmt),
    }
    if item.filled_by and item.state is not OrderState.PENDING:
        facts |= {
            "fillingTransactionID": str(item.filled_by),
            "filledTime": fmt.write(item.filled_ns),
        }
        if item.trade_opened:
            facts["tradeOpenedID"] = str(item.trade_opened)
        if item.trade_reduced:
            facts["tradeReducedID"] = str(item.trade_reduced)
        if item.trades_closed:
            facts["tradeClosedIDs"] = [str(number) for number in item.trades_closed]
    if item.cancelled_by:
        facts |= {
            "cancellingTransactionID": str(item.cancelled_by),
            "cancelledTime": fmt.write(item.cancelled_ns),
        }
    if item.replaced_by:
        facts["replacedByOrderID"] = str(item.replaced_by)
    return facts


def trade(item: Trade, instrument: Instrument, profit_of: ProfitOf, fmt: TimeFormat) -> Json:
    said = listing(instrument)
    facts: Json = {
        "id": str(item.id),
        "instrument": item.symbol,
        "price": average(item.price, said),
        "openTime": fmt.write(item.opened_ns),
        "initialUnits": said.units(item.initial_units),
        "currentUnits": said.units(item.units),
        "state": "OPEN" if item.is_open else "CLOSED",
        "realizedPL": money(item.realized),
        "financing": money(ZERO),
        "dividendAdjustment": money(ZERO),
        **extensions(item.client, "clientExtensions"),
    }
    if item.is_open:
        profit = profit_of(item)
        facts["unrealizedPL"] = money(profit)
        held = instrument.value(abs(item.units), item.price)
        facts["marginUsed"] = money((instrument.margin_rate or ZERO) * held)
    if item.closed_by:
        closed_at = item.closed_notional / item.closed_units
        facts["averageClosePrice"] = average(closed_at, said)
        facts["closingTransactionIDs"] = [str(number) for number in item.closed_by]
    if item.closed_ns:
        facts["closeTime"] = fmt.write(item.closed_ns)
    return facts


def position(book: Book, instrument: Instrument, profit_of: ProfitOf) -> Json:
    said, symbol = listing(instrument), instrument.symbol
    trades = list(book.open_trades.get(symbol, {}).values())
    sides: dict[str, Json] = {}
    total_realized, total_profit = ZERO, ZERO
    for name, is_long in (("long", True), ("short", False)):
        realized = book.realized.get((symbol, is_long), ZERO)
        mine = [item for item in trades if (item.units > 0) is is_long]
        units = sum((item.units for item in mine), ZERO)
        profit = sum((profit_of(item) for item in mine), ZERO)
        side: Json = {
            "units": said.units(units),
            "pl": money(realized),
            "resettablePL": money(realized),
            "unrealizedPL": money(profit),
            "financing": money(ZERO),
            "guaranteedExecutionFees": money(ZERO),
        }
        if mine:
            side["averagePrice"] = average(book.position(symbol).avg_price, said)
            side["tradeIDs"] = [str(item.id) for item in mine]
        sides[name] = side
        total_realized += realized
        total_profit += profit
    return {
        "instrument": symbol,
        "pl": money(total_realized),
        "resettablePL": money(total_realized),
        "unrealizedPL": money(total_profit),
        "financing": money(ZERO),
        "commission": money(ZERO),
        **sides,
    }


def instrument(item: Instrument) -> Json:
    said = listing(item)
    pip = Decimal(1).scaleb(said.pip_location)
    return {
        "name": item.symbol,
        "type": "CURRENCY",
        "displayName": item.symbol.replace("_", "/"),
        "pipLocation": said.pip_location,
        "displayPrecision": said.precision,
        "tradeUnitsPrecision": said.units_precision,
        "minimumTradeSize": said.units(item.min_qty),
        "maximumTrailingStopDistance": said.price(pip * 10_000),
        "minimumTrailingStopDistance": said.price(pip * 5),
        "maximumPositionSize": "0",
        "maximumOrderUnits": said.units(item.max_qty),
        "marginRate": str(item.margin_rate or 1),
        "guaranteedStopLossOrderMode": "DISABLED",
        "tags": [{"type": "ASSET_CLASS", "name": "CURRENCY"}],
    }
