"""What the exchange knows, in the shapes of Kraken's WebSocket v2. Amounts are JSON numbers.

Source: docs.kraken.com, "Spot WebSocket v2": executions, balances, book, ticker, trade, ohlc,
instrument; "Book checksum (WebSocket v2)".
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from decimal import Decimal

from openbell.domain.orders import OrdStatus, OrdType
from openbell_sim.account import ZERO
from openbell_sim.events import Accept, Amend, Cancel, Deposit, Expire, Fill, Trigger
from openbell_sim.exchange import Exchange
from openbell_sim.faces.kraken import ids, render
from openbell_sim.faces.kraken.market_data import pair_status, vwap
from openbell_sim.faces.kraken.pairs import Asset, Pair
from openbell_sim.faces.kraken.render import Json, fixed, number, rfc3339
from openbell_sim.faces.kraken.words import client_id, note_of
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.markets import Market
from openbell_sim.matching.side import BookSide
from openbell_sim.recorder import Report
from openbell_sim.tape import MINUTE_NS, Bar, PublicTrade

CHECKED_LEVELS = 10
"""A checksum is over so many levels, whatever depth was subscribed to."""
_STATUS = {
    OrdStatus.NEW: "new",
    OrdStatus.PARTIALLY_FILLED: "partially_filled",
    OrdStatus.FILLED: "filled",
    OrdStatus.CANCELED: "canceled",
    OrdStatus.EXPIRED: "canceled",
}

# Orders.


def executions(report: Report, pair: Pair) -> Iterator[Json]:
    """The messages about one event; what is told in which differs by its kind."""
    order, event = report.order, report.event
    match event:
        case Accept():
            pending = {**standing(order, pair), "exec_type": "pending_new"}
            yield {**pending, "order_status": "pending_new"}
            yield {**_brief(order, event.at_ns), "exec_type": "new", "order_status": "new"}
        case Fill():
            assert report.fill is not None
            yield trade(order, report.fill, pair)
            if order.status is OrdStatus.FILLED:
                yield {**_ended(order, pair, event.at_ns), "exec_type": "filled"}
        case Cancel() | Expire():
            why = render.reason(order)
            ended = {**_ended(order, pair, event.at_ns), "exec_type": "canceled"}
            yield {**ended, "cancel_reason": why, "reason": why}
        case Amend():
            kind = "restated" if event.reason else "amended"
            yield {**standing(order, pair), "exec_type": kind, "amended": True}
        case Trigger():
            yield {**standing(order, pair), "exec_type": "status"}


def _brief(order: Order, at_ns: int) -> Json:
    body: Json = {"order_id": ids.order_txid(order.order_id), "timestamp": rfc3339(at_ns)}
    given = client_id(order)
    if given is not None:
        body["cl_ord_id"] = given
    else:
        body["order_userref"] = note_of(order).userref
    return body


def _so_far(order: Order, pair: Pair) -> Json:
    average = order.cum_quote / order.cum_qty if order.cum_qty else ZERO
    return {
        "cum_qty": number(order.cum_qty, pair.lot_decimals),
        "cum_cost": number(order.cum_quote, 10),
        "avg_price": number(average, pair.price_decimals),
        "fee_usd_equiv": number(ZERO, 1),
    }


def _ended(order: Order, pair: Pair, at_ns: int) -> Json:
    """Kraken names neither symbol nor quantity when an order ends."""
    return {
        **_brief(order, at_ns),
        **_so_far(order, pair),
        "order_status": _STATUS[order.status],
    }


def standing(order: Order, pair: Pair) -> Json:
    """An order with all its terms, as in a snapshot."""
    note = note_of(order)
    body: Json = {
        **_brief(order, order.updated_ns),
        **_so_far(order, pair),
        "symbol": pair.v2,
        "side": order.side.value.lower(),
        "order_type": render.type_name(order),
        "order_qty": number(order.order_qty, pair.lot_decimals),
        "time_in_force": order.time_in_force.value,
        "exec_type": "new",
        "order_status": _STATUS[order.status],
        "fee_ccy_pref": "fcib" if "fcib" in note.oflags else "fciq",
        "margin": False,
    }
    if order.quote_qty is not None:
        body["cash_order_qty"] = number(order.quote_qty, pair.price_decimals)
    if order.price is not None:
        body["limit_price"] = number(order.price, pair.price_decimals)
        body["limit_price_type"] = "static"
    if order.post_only:
        body["post_only"] = True
    if order.ord_type in (OrdType.STOP, OrdType.STOP_LIMIT) and order.stop_price is not None:
        stop = number(order.stop_price, pair.price_decimals)
        body["stop_price"] = stop
        body["triggers"] = {
            "reference": "last",
            "price": stop,
            "price_type": "static",
            "status": "triggered" if order.triggered else "untriggered",
        }
    return body


def trade(order: Order, fill: OwnFill, pair: Pair) -> Json:
    # A trade that fills an order leaves it partially filled; `filled` is told by itself.
    status = OrdStatus.PARTIALLY_FILLED if order.status is OrdStatus.FILLED else order.status
    asset = Asset(fill.fee_currency)
    return {
        **_brief(order, fill.at_ns),
        **_so_far(order, pair),
        "exec_type": "trade",
        "exec_id": render.trade_id(fill),
        "trade_id": fill.exec_id,
        "symbol": pair.v2,
        "side": fill.side.value.lower(),
        "last_qty": number(fill.qty, pair.lot_decimals),
        "last_price": number(fill.price, pair.price_decimals),
        "cost": number(fill.quote_qty, 10),
        "liquidity_ind": "m" if fill.is_maker else "t",
        "order_type": render.type_name(order),
        "order_status": _STATUS[status],
        "fees": [{"asset": asset.v2, "qty": number(fill.fee, 10)}],
    }


# Money.


def balances(exchange: Exchange, account: str) -> list[Json]:
    rows: list[Json] = []
    for name, entry in sorted(exchange.ledger.account(account).balances.items()):
        asset = Asset(name)
        total = number(entry.total, asset.decimals)
        wallet: Json = {"type": "spot", "id": "main", "balance": total}
        rows.append(
            {
                "asset": asset.v2,
                "asset_class": "currency",
                "balance": total,
                "wallets": [wallet],
            }
        )
    return rows


def _entry(
    exchange: Exchange,
    account: str,
    asset: Asset,
    *,
    amount: Decimal,
    fee: Decimal,
    reference: str,
    kind: str,
    at_ns: int,
) -> Json:
    total = exchange.ledger.account(account).balance(asset.altname).total
    return {
        "ledger_id": ids.ledger_id(reference, asset.altname),
        "ref_id": reference,
        "timestamp": rfc3339(at_ns),
        "type": kind,
        "asset": asset.v2,
        "asset_class": "currency",
        "category": kind,
        "wallet_type": "spot",
        "wallet_id": "main",
        "amount": number(amount, asset.decimals),
        "fee": number(fee, asset.decimals),
        "balance": number(total, asset.decimals),
    }


def ledger_of_fill(exchange: Exchange, fill: OwnFill, pair: Pair) -> list[Json]:
    """One entry of each currency; the balance in it is the one after all of a request's fills."""
    sign = fill.side.sign
    changes = ((pair.base, sign * fill.qty), (pair.quote, -sign * fill.quote_qty))
    return [
        _entry(
            exchange,
            fill.account,
            asset,
            amount=amount,
            fee=fill.fee if fill.fee_currency == asset.altname else ZERO,
            reference=render.trade_id(fill),
            kind="trade",
            at_ns=fill.at_ns,
        )
        for asset, amount in changes
    ]


def ledger_of_deposit(exchange: Exchange, deposit: Deposit) -> Json:
    return _entry(
        exchange,
        deposit.account,
        Asset(deposit.currency),
        amount=deposit.amount,
        fee=ZERO,
        reference=ids.ledger_id(str(deposit.at_ns), deposit.currency),
        kind="deposit",
        at_ns=deposit.at_ns,
    )


# The market.

Levels = dict[int, int]
"""Lots by price in ticks, the best first."""


def levels_of(side: BookSide, depth: int) -> Levels:
    return dict(side.top(depth))


def changed(before: Levels, now: Levels, side: BookSide) -> Levels:
    """What turns one view of a side into the next. A level that only fell out of the depth is not
    told: whoever keeps the book cuts it off."""
    gone = {price: 0 for price in before if price not in now and not side.total(price)}
    return gone | {price: lots for price, lots in now.items() if before.get(price) != lots}


def level_rows(pair: Pair, levels: Levels) -> list[Json]:
    item = pair.instrument
    return [
        {
            "price": number(item.price(price), pair.price_decimals),
            "qty": number(item.quantity(lots), pair.lot_decimals),
        }
        for price, lots in levels.items()
    ]


def checksum(pair: Pair, bids: Levels, asks: Levels) -> int:
    """CRC32 over the digits of the ten best asks, then of the ten best bids."""
    item = pair.instrument
    text = "".join(
        _digits(fixed(item.price(price), pair.price_decimals))
        + _digits(fixed(item.quantity(lots), pair.lot_decimals))
        for levels in (asks, bids)
        for price, lots in list(levels.items())[:CHECKED_LEVELS]
    )
    return zlib.crc32(text.encode())


def _digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")


def book(pair: Pair, bids: Levels, asks: Levels) -> Json:
    return {"symbol": pair.v2, "bids": level_rows(pair, bids), "asks": level_rows(pair, asks)}


def ticker(pair: Pair, market: Market, now_ns: int) -> Json:
    day, last = market.tape.day(now_ns), market.tape.last
    price_decimals = pair.price_decimals
    item = pair.instrument

    def side(of: BookSide) -> tuple[object, object]:
        if of.best is None:
            return number(ZERO, price_decimals), number(ZERO, pair.lot_decimals)
        quantity = item.quantity(of.total(of.best))
        return number(item.price(of.best), price_decimals), number(quantity, pair.lot_decimals)

    bid, bid_qty = side(market.book.bids)
    ask, ask_qty = side(market.book.asks)
    close = last.price if last else ZERO
    change = close - day.open if day else ZERO
    percent = change / day.open * 100 if day else ZERO
    return {
        "symbol": pair.v2,
        "bid": bid,
        "bid_qty": bid_qty,
        "ask": ask,
        "ask_qty": ask_qty,
        "last": number(close, price_decimals),
        "volume": number(day.volume if day else ZERO, pair.lot_decimals),
        "vwap": number(vwap(day), price_decimals),
        "low": number(day.low if day else ZERO, price_decimals),
        "high": number(day.high if day else ZERO, price_decimals),
        "change": number(change, price_decimals),
        "change_pct": number(percent, 2),
        "timestamp": rfc3339(now_ns),
    }


def public_trade(pair: Pair, found: PublicTrade) -> Json:
    return {
        "symbol": pair.v2,
        "side": "buy" if found.aggressor_is_buyer else "sell",
        "price": number(found.price, pair.price_decimals),
        "qty": number(found.qty, pair.lot_decimals),
        "ord_type": "market",
        "trade_id": found.trade_id,
        "timestamp": rfc3339(found.at_ns),
    }


def candle(pair: Pair, bar: Bar, interval_min: int) -> Json:
    decimals = pair.price_decimals
    return {
        "symbol": pair.v2,
        "open": number(bar.open, decimals),
        "high": number(bar.high, decimals),
        "low": number(bar.low, decimals),
        "close": number(bar.close, decimals),
        "vwap": number(vwap(bar), decimals),
        "trades": bar.trades,
        "volume": number(bar.volume, pair.lot_decimals),
        "interval_begin": rfc3339(bar.open_ns),
        "interval": interval_min,
        "timestamp": rfc3339(bar.open_ns + interval_min * MINUTE_NS),
    }


def instruments(exchange: Exchange, pairs: Sequence[Pair], assets: Sequence[Asset]) -> Json:
    return {
        "assets": [
            {
                "id": asset.v2,
                "status": "enabled",
                "precision": asset.decimals,
                "precision_display": asset.display_decimals,
                "borrowable": False,
                "collateral_value": number(ZERO, 1),
            }
            for asset in assets
        ],
        "pairs": [
            {
                "symbol": pair.v2,
                "base": pair.base.v2,
                "quote": pair.quote.v2,
                "status": pair_status(exchange, pair),
                "qty_precision": pair.lot_decimals,
                "qty_increment": number(pair.instrument.lot, pair.lot_decimals),
                "price_precision": pair.price_decimals,
                "price_increment": number(pair.instrument.tick, pair.price_decimals),
                "tick_size": number(pair.instrument.tick, pair.price_decimals),
                "cost_precision": 5,
                "cost_min": number(pair.instrument.min_notional, 2),
                "qty_min": number(pair.instrument.min_qty, pair.lot_decimals),
                "marginable": False,
                "has_index": False,
            }
            for pair in pairs
        ],
    }
