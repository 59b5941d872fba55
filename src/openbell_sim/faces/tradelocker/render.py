"""Rows and documents as TradeLocker writes them: rows are text or null, columns as `columns` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell_sim.exchange import Exchange, Market, MarketState
from openbell_sim.faces.tradelocker import columns
from openbell_sim.faces.tradelocker.book import ZERO, Book, Bracket, Held, note_of
from openbell_sim.faces.tradelocker.markets import (
    HOME,
    INFO_ROUTE,
    LOT_STEP,
    MAX_LOT,
    TRADE_ROUTE,
    listing,
)
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order, OwnFill

Json = dict[str, object]
Row = list[str | None]
DAY_NS = 86_400 * 1_000_000_000

_STATUSES = {
    OrdStatus.NEW: "New",
    OrdStatus.PARTIALLY_FILLED: "PartiallyFilled",
    OrdStatus.FILLED: "Filled",
    # TradeLocker tells of no expiry: what of a market order finds no counterparty is cancelled.
    OrdStatus.CANCELED: "Cancelled",
    OrdStatus.EXPIRED: "Cancelled",
}
_TYPES = {
    OrdType.MARKET: "market",
    OrdType.LIMIT: "limit",
    OrdType.STOP: "stop",
    OrdType.STOP_LIMIT: "stop limit",
}
SESSIONS = {
    MarketState.OPEN: (1, "FULLY_OPEN", [1, 1, 1]),
    MarketState.CANCEL_ONLY: (2, "TRADING_HALT", [0, 0, 1]),
    MarketState.HALTED: (3, "TRADING_HALT", [0, 0, 0]),
    MarketState.CLOSED: (4, "CLOSED", [0, 0, 1]),
}
"""Id of the session's status, the symbol's status, and what may be done: new, modify, cancel."""
ORDER_TYPES = [0, 1, 1, 1, 0, 0]
"""Manual, market, stop, limit, stop limit, trailing stop."""


def ms(ns: int) -> int:
    return ns // 1_000_000


def text(number: Decimal | None) -> str | None:
    return None if number is None else f"{number.normalize():f}"


def _row(names: Sequence[str], facts: Mapping[str, str | None]) -> Row:
    return [facts[name] for name in names]


def order(item: Order, book: Book) -> Row:
    said, note = listing(item.symbol), note_of(item)
    position = book.position_of_order(item)
    return _row(
        columns.ORDER,
        {
            "id": str(item.order_id),
            "tradableInstrumentId": str(said.tradable_id),
            "routeId": str(TRADE_ROUTE),
            "qty": text(said.lots(item.order_qty)),
            "side": item.side.lower(),
            "type": _TYPES[item.ord_type],
            "status": _STATUSES[item.status],
            "filledQty": text(said.lots(item.cum_qty)) if item.cum_qty else None,
            "avgPrice": text(item.cum_quote / item.cum_qty) if item.cum_qty else None,
            "price": text(item.price),
            "stopPrice": text(item.stop_price),
            "validity": "IOC" if item.ord_type is OrdType.MARKET else item.time_in_force.value,
            "expireDate": None,
            "createdDate": str(ms(item.accepted_ns)),
            "lastModified": str(ms(item.updated_ns)),
            "isOpen": "true" if item.is_open else "false",
            "positionId": None if position is None else str(position),
            "stopLoss": text(note.stop_loss),
            "stopLossType": None if note.stop_loss is None else "absolute",
            "takeProfit": text(note.take_profit),
            "takeProfitType": None if note.take_profit is None else "absolute",
            "strategyId": item.cl_ord_id or None,
        },
    )


def execution(fill: OwnFill, book: Book) -> Row:
    said = listing(fill.symbol)
    return _row(
        columns.EXECUTION,
        {
            # Exec ids are the symbol's own.
            "id": f"{fill.exec_id}{said.tradable_id:04d}",
            "price": text(fill.price),
            "side": fill.side.lower(),
            "createdDate": str(ms(fill.at_ns)),
            "qty": text(said.lots(fill.qty)),
            "orderId": str(fill.order_id),
            "positionId": str(book.position_of_fill(fill)),
            "tradableInstrumentId": str(said.tradable_id),
        },
    )


def position(held: Held, market: Market, hanging: Mapping[tuple[int, Bracket], Order]) -> Row:
    said, mark = listing(held.symbol), market.mark()
    profit = ZERO
    if mark is not None:
        profit = market.instrument.settled(held.quantity * (mark - held.avg_price), mark)

    def bracket(kind: Bracket) -> str | None:
        found = hanging.get((held.id, kind))
        return None if found is None else str(found.order_id)

    return _row(
        columns.POSITION,
        {
            "id": str(held.id),
            "tradableInstrumentId": str(said.tradable_id),
            "routeId": str(TRADE_ROUTE),
            "side": (Side.BUY if held.quantity > 0 else Side.SELL).lower(),
            "qty": text(said.lots(abs(held.quantity))),
            "avgPrice": text(held.avg_price),
            "stopLossId": bracket(Bracket.STOP_LOSS),
            "takeProfitId": bracket(Bracket.TAKE_PROFIT),
            "openDate": str(ms(held.lots[0].at_ns)),
            "unrealizedPl": f"{profit:.2f}",
            "strategyId": held.strategy or None,
        },
    )


def state(exchange: Exchange, account: str, positions: int) -> list[Decimal]:
    """`accountDetailsData`. Nothing is liquidated here, so there is no stop-out level."""
    margin = exchange.margin(account, HOME)
    today_ns = exchange.now_ns() - exchange.now_ns() % DAY_NS
    fills = [f for f in exchange.ledger.fills if f.account == account and f.at_ns >= today_ns]
    gross = sum((fill.realized for fill in fills), ZERO)
    fees = sum((fill.fee for fill in fills), ZERO)
    facts = dict.fromkeys(columns.ACCOUNT, ZERO) | {
        "balance": margin.balance,
        "projectedBalance": margin.equity,
        "availableFunds": margin.available,
        "cashBalance": margin.balance,
        "withdrawalAvailable": margin.available,
        "initialMarginReq": margin.used,
        "maintMarginReq": margin.used,
        "marginWarningLevel": Decimal(100),
        "warningMarginReq": margin.used,
        "marginBeforeWarning": margin.available,
        "todayGross": gross,
        "todayNet": gross - fees,
        "todayFees": fees,
        "todayVolume": sum((listing(f.symbol).lots(f.qty) for f in fills), ZERO),
        "todayTradesCount": Decimal(len(fills)),
        "openGrossPnL": margin.unrealized,
        "openNetPnL": margin.unrealized,
        "positionsCount": Decimal(positions),
        "ordersCount": Decimal(len(exchange.ledger.open.get(account, {}))),
    }
    return [facts[name] for name in columns.ACCOUNT]


def instrument(item: Instrument) -> Json:
    said = listing(item.symbol)
    return {
        "tradableInstrumentId": said.tradable_id,
        "id": said.instrument_id,
        "name": item.symbol,
        "description": said.description,
        "type": said.type,
        "tradingExchange": "SIM",
        "marketDataExchange": "SIM",
        "country": None,
        "logoUrl": None,
        "localizedName": item.symbol,
        "routes": [{"id": INFO_ROUTE, "type": "INFO"}, {"id": TRADE_ROUTE, "type": "TRADE"}],
        "barSource": "BID",
        "hasIntraday": True,
        "hasDaily": True,
    }


def instrument_details(item: Instrument, market_state: MarketState) -> Json:
    said = listing(item.symbol)
    session, symbol_status, _ = SESSIONS[market_state]
    assert item.margin_rate is not None, "everything here is traded on margin"
    return {
        "name": item.symbol,
        "description": said.description,
        "localizedName": item.symbol,
        "type": said.type,
        "barSource": "BID",
        "baseCurrency": item.base if said.type == "FOREX" else None,
        "quotingCurrency": item.quote,
        "lotSize": said.contract_size,
        "lotStep": LOT_STEP,
        "minLot": LOT_STEP,
        "maxLot": MAX_LOT,
        "leverage": f"{1 / item.margin_rate:.2f}",
        "margin_hedging_type": "none",
        "tickSize": [{"leftRangeLimit": None, "tickSize": item.tick}],
        "tickCost": [{"leftRangeLimit": None, "tickCost": ZERO}],
        "symbolStatus": symbol_status,
        "tradeSessionId": 1,
        "tradeSessionStatusId": session,
        "tradingExchange": "SIM",
        "marketDataExchange": "SIM",
        "settlementSystem": "Immediate",
        "hasIntraday": True,
        "hasDaily": True,
        "country": None,
    }
