"""Coinbase's shapes: what the exchange knows, as the API reference and its examples show it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from openbell.domain.orders import OrdStatus, OrdType, Side, TimeInForce
from openbell_sim.account import Balance
from openbell_sim.exchange import Exchange, Market
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.matching.side import BookSide
from openbell_sim.sessions import MarketState
from openbell_sim.tape import Bar, PublicTrade

Json = dict[str, object]
ZERO = Decimal(0)
SECOND_NS = 1_000_000_000


def money(number: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def when(at_ns: int) -> str:
    """RFC 3339 in UTC, with nine digits of a second as Coinbase's own."""
    seconds, rest = divmod(at_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


# Identifiers


def order_uuid(order_id: int) -> str:
    return str(uuid.UUID(int=order_id))


def order_number(text: str) -> int | None:
    """Of the exchange; None for what is no identifier of an order."""
    try:
        return uuid.UUID(text).int
    except ValueError:
        return None


def fill_uuid(fill: OwnFill) -> str:
    """The `trade_id`: of its own for each side of a trade."""
    return str(uuid.UUID(int=fill.order_id << 64 | fill.exec_id))


def named_uuid(*words: str) -> str:
    """The same for the same words."""
    return str(uuid.UUID(bytes=hashlib.sha256("\0".join(words).encode()).digest()[:16]))


def portfolio_uuid(account: str) -> str:
    return named_uuid("portfolio", account)


# Orders

_STATUSES = {
    OrdStatus.NEW: "OPEN",
    OrdStatus.PARTIALLY_FILLED: "OPEN",
    OrdStatus.FILLED: "FILLED",
    OrdStatus.CANCELED: "CANCELLED",
    # EXPIRED is an order that had an end time; what the venue itself ends is CANCELLED.
    OrdStatus.EXPIRED: "CANCELLED",
}
_TIMES_IN_FORCE = {
    TimeInForce.GTC: "GOOD_UNTIL_CANCELLED",
    TimeInForce.IOC: "IMMEDIATE_OR_CANCEL",
    TimeInForce.FOK: "FILL_OR_KILL",
}
_STOPS = (OrdType.STOP, OrdType.STOP_LIMIT)


def status(order: Order) -> str:
    return _STATUSES[order.status]


def time_in_force(order: Order) -> str:
    if order.ord_type is OrdType.MARKET:
        return "IMMEDIATE_OR_CANCEL"
    return _TIMES_IN_FORCE[order.time_in_force]


def configuration(order: Order) -> Json:
    base_size = money(order.order_qty)
    if order.ord_type is OrdType.MARKET:
        quote_size = order.quote_qty
        size = {"base_size": base_size} if quote_size is None else {"quote_size": money(quote_size)}
        return {"market_market_ioc": size}
    if order.ord_type in _STOPS:
        assert order.stop_price is not None
        direction = "UP" if order.side is Side.BUY else "DOWN"
        return {
            "stop_limit_stop_limit_gtc": {
                "base_size": base_size,
                "limit_price": "" if order.price is None else money(order.price),
                "stop_price": money(order.stop_price),
                "stop_direction": f"STOP_DIRECTION_STOP_{direction}",
            }
        }
    limit: Json = {"base_size": base_size, "limit_price": money(order.price or ZERO)}
    if order.time_in_force is TimeInForce.GTC:
        return {"limit_limit_gtc": {**limit, "post_only": order.post_only}}
    return {"sor_limit_ioc" if order.time_in_force is TimeInForce.IOC else "limit_limit_fok": limit}


def trigger_status(order: Order) -> str:
    if order.ord_type not in _STOPS:
        return "INVALID_ORDER_TYPE"
    return "STOP_TRIGGERED" if order.triggered else "STOP_PENDING"


def commission(fills: Sequence[OwnFill]) -> Decimal:
    """In the quote currency. The exchange takes a fee in what was bought where the account has no
    free dollars left; then it is told at the price of the fill."""
    return sum(
        (f.fee if f.symbol.endswith(f.fee_currency) else f.fee * f.price for f in fills), ZERO
    )


def _percent_done(order: Order) -> Decimal:
    whole, done = order.order_qty, order.cum_qty
    if order.quote_qty is not None:
        whole, done = order.quote_qty, order.cum_quote
    return (done / whole * 100).quantize(Decimal("0.01")) if whole else ZERO


def average_price(order: Order) -> Decimal:
    return (order.cum_quote / order.cum_qty).quantize(Decimal("1e-12")) if order.cum_qty else ZERO


def order(item: Order, fills: Sequence[OwnFill]) -> Json:
    fees = commission(fills)
    after_fees = item.cum_quote + fees if item.side is Side.BUY else item.cum_quote - fees
    return {
        "order_id": order_uuid(item.order_id),
        "product_id": item.symbol,
        "user_id": named_uuid("user", item.account),
        "order_configuration": configuration(item),
        "side": item.side.value,
        "client_order_id": item.cl_ord_id,
        "status": status(item),
        "time_in_force": time_in_force(item),
        "created_time": when(item.accepted_ns),
        "completion_percentage": money(_percent_done(item)),
        "filled_size": money(item.cum_qty),
        "average_filled_price": money(average_price(item)),
        "fee": "",
        "number_of_fills": str(len(fills)),
        "filled_value": money(item.cum_quote),
        "pending_cancel": False,
        "size_in_quote": item.quote_qty is not None,
        "total_fees": money(fees),
        "size_inclusive_of_fees": False,
        "total_value_after_fees": money(after_fees),
        "trigger_status": trigger_status(item),
        "order_type": item.ord_type.value,
        "reject_reason": "REJECT_REASON_UNSPECIFIED",
        "settled": not item.is_open,
        "product_type": "SPOT",
        "reject_message": "",
        "cancel_message": "User requested cancel" if item.status is OrdStatus.CANCELED else "",
        "order_placement_source": "RETAIL_ADVANCED",
        "outstanding_hold_amount": money(item.locked),
        "is_liquidation": False,
        "last_fill_time": when(fills[-1].at_ns) if fills else None,
        "last_update_time": when(item.updated_ns),
        "edit_history": [],
        "leverage": "",
        "margin_type": "UNKNOWN_MARGIN_TYPE",
        "retail_portfolio_id": portfolio_uuid(item.account),
    }


def pushed_order(item: Order, fills: Sequence[OwnFill]) -> Json:
    """As the `user` channel shows it. Nothing is left of an ended order (`leaves_quantity` 0)."""
    fees = commission(fills)
    after_fees = item.cum_quote + fees if item.side is Side.BUY else item.cum_quote - fees
    return {
        "avg_price": money(average_price(item)),
        "cancel_reason": "User requested cancel" if item.status is OrdStatus.CANCELED else "",
        "client_order_id": item.cl_ord_id,
        "completion_percentage": money(_percent_done(item)),
        "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE",
        "cumulative_quantity": money(item.cum_qty),
        "filled_value": money(item.cum_quote),
        "leaves_quantity": money(item.leaves_qty),
        "limit_price": money(item.price) if item.price is not None else "0",
        "number_of_fills": str(len(fills)),
        "order_id": order_uuid(item.order_id),
        "order_side": item.side.value,
        "order_type": item.ord_type.value.replace("_", " ").title(),
        "outstanding_hold_amount": money(item.locked),
        "post_only": "true" if item.post_only else "false",
        "product_id": item.symbol,
        "product_type": "SPOT",
        "reject_reason": "",
        "retail_portfolio_id": portfolio_uuid(item.account),
        "risk_managed_by": "UNKNOWN_RISK_MANAGEMENT_TYPE",
        "status": status(item),
        "stop_price": money(item.stop_price) if item.stop_price is not None else "",
        "time_in_force": time_in_force(item),
        "total_fees": money(fees),
        "total_value_after_fees": money(after_fees),
        "trigger_status": trigger_status(item),
        "creation_time": when(item.accepted_ns),
        "end_time": "0001-01-01T00:00:00Z",
        "start_time": "0001-01-01T00:00:00Z",
    }


def fill(item: OwnFill) -> Json:
    """The commission is in the quote currency always, so no field says which."""
    return {
        "entry_id": named_uuid("fill", fill_uuid(item)),
        "trade_id": fill_uuid(item),
        "order_id": order_uuid(item.order_id),
        "trade_time": when(item.at_ns),
        "trade_type": "FILL",
        "price": money(item.price),
        "size": money(item.qty),
        "commission": money(commission([item])),
        "product_id": item.symbol,
        "sequence_timestamp": when(item.at_ns),
        "liquidity_indicator": "MAKER" if item.is_maker else "TAKER",
        "size_in_quote": False,
        "user_id": named_uuid("user", item.account),
        "side": item.side.value,
        "retail_portfolio_id": portfolio_uuid(item.account),
        "fillSource": "FILL_SOURCE_CLOB",
    }


# Accounts

FIAT = {"USD", "EUR", "GBP"}


def account(owner: str, currency: str, balance: Balance, since_ns: int) -> Json:
    return {
        "uuid": named_uuid("account", owner, currency),
        "name": f"{currency} Wallet",
        "currency": currency,
        "available_balance": {"value": money(balance.free), "currency": currency},
        "default": True,
        "active": True,
        "created_at": when(since_ns),
        "updated_at": when(since_ns),
        "deleted_at": None,
        "type": "ACCOUNT_TYPE_FIAT" if currency in FIAT else "ACCOUNT_TYPE_CRYPTO",
        "ready": True,
        "hold": {"value": money(balance.locked), "currency": currency},
        "retail_portfolio_id": portfolio_uuid(owner),
        "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }


def wallet(owner: str, currency: str, balance: Balance) -> Json:
    """Of the older /v2/accounts: it tells the total and nothing of holds."""
    fiat = currency in FIAT
    return {
        "id": currency if fiat else named_uuid("account", owner, currency),
        "name": f"{currency} Wallet",
        "primary": False,
        "type": "fiat" if fiat else "wallet",
        "currency": {"code": currency, "name": currency, "type": "fiat" if fiat else "crypto"},
        "balance": {"amount": money(balance.total), "currency": currency},
        "created_at": None,
        "updated_at": None,
        "resource": "account",
        "resource_path": f"/v2/accounts/{currency}",
        "allow_deposits": True,
        "allow_withdrawals": False,
    }


# Market


def levels(side: BookSide, item: Instrument, count: int | None) -> list[Json]:
    return [
        {"price": money(item.price(price)), "size": money(item.quantity(total))}
        for price, total in side.top(len(side.levels) if count is None else count)
    ]


def price_book(market: Market, count: int | None, now_ns: int) -> Json:
    return {
        "product_id": market.instrument.symbol,
        "bids": levels(market.book.bids, market.instrument, count),
        "asks": levels(market.book.asks, market.instrument, count),
        "time": when(now_ns),
    }


def best_price(side: BookSide, item: Instrument) -> str:
    return money(item.price(side.best)) if side.best is not None else ""


def best_size(side: BookSide, item: Instrument) -> str:
    return money(item.quantity(side.total(side.best))) if side.best is not None else ""


def middle(market: Market) -> str:
    bid, ask = market.book.bids.best, market.book.asks.best
    if bid is None or ask is None:
        return ""
    return money(market.instrument.tick * (bid + ask) / 2)


def product(market: Market, exchange: Exchange) -> Json:
    item = market.instrument
    state = exchange.session(item.symbol)
    day = market.tape.day(exchange.now_ns())
    change = (day.close - day.open) / day.open * 100 if day is not None else ZERO
    mark = market.mark()
    return {
        "product_id": item.symbol,
        "price": money(mark) if mark is not None else "",
        "price_percentage_change_24h": f"{change:.8f}",
        "volume_24h": money(day.volume if day is not None else ZERO),
        "volume_percentage_change_24h": "0",
        "base_increment": money(item.lot),
        "quote_increment": money(item.tick),
        "quote_min_size": money(item.min_notional),
        "quote_max_size": money(item.max_notional),
        "base_min_size": money(item.min_qty),
        "base_max_size": money(item.max_qty),
        "base_name": item.base,
        "quote_name": item.quote,
        "watched": False,
        "is_disabled": False,
        "new": False,
        "status": "online",
        "cancel_only": state is MarketState.CANCEL_ONLY,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": state in (MarketState.HALTED, MarketState.CLOSED),
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": item.quote,
        "base_currency_id": item.base,
        "fcm_trading_session_details": None,
        "mid_market_price": middle(market),
        "alias": "",
        "alias_to": [],
        "base_display_symbol": item.base,
        "quote_display_symbol": item.quote,
        "view_only": False,
        "price_increment": money(item.tick),
        "display_name": item.symbol,
        "product_venue": "CBE",
        "approximate_quote_24h_volume": money(day.quote_volume if day is not None else ZERO),
    }


def public_trade(trade: PublicTrade) -> Json:
    """`side` is the maker's: Coinbase's way in market trades."""
    return {
        "trade_id": str(trade.trade_id),
        "product_id": trade.symbol,
        "price": money(trade.price),
        "size": money(trade.qty),
        "time": when(trade.at_ns),
        "side": "SELL" if trade.aggressor_is_buyer else "BUY",
        "exchange": "",
    }


def candle(bar: Bar) -> Json:
    return {
        "start": str(bar.open_ns // SECOND_NS),
        "low": money(bar.low),
        "high": money(bar.high),
        "open": money(bar.open),
        "close": money(bar.close),
        "volume": money(bar.volume),
    }


def ticker(market: Market, now_ns: int) -> Json:
    item, book = market.instrument, market.book
    day = market.tape.day(now_ns)
    mark = market.mark()
    price = money(mark) if mark is not None else ""
    change = (day.close - day.open) / day.open * 100 if day is not None else ZERO
    return {
        "type": "ticker",
        "product_id": item.symbol,
        "price": price,
        "volume_24_h": money(day.volume if day is not None else ZERO),
        "low_24_h": money(day.low) if day is not None else price,
        "high_24_h": money(day.high) if day is not None else price,
        "low_52_w": money(day.low) if day is not None else price,
        "high_52_w": money(day.high) if day is not None else price,
        "price_percent_chg_24_h": f"{change:.14f}",
        "best_bid": best_price(book.bids, item),
        "best_ask": best_price(book.asks, item),
        "best_bid_quantity": best_size(book.bids, item),
        "best_ask_quantity": best_size(book.asks, item),
    }
