"""What the bridge tells, from what the exchange knows. Volumes are lots, amounts are text."""

from __future__ import annotations

from decimal import Decimal

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell_sim.exchange import Exchange
from openbell_sim.faces.mt5.markets import CONTRACT_SIZE, VOLUME_MAX, VOLUME_STEP
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.positions import OpenLot
from openbell_sim.sessions import MarketState

Json = dict[str, object]

_STATES = {
    OrdStatus.NEW: "placed",
    OrdStatus.PARTIALLY_FILLED: "partial",
    OrdStatus.FILLED: "filled",
    OrdStatus.CANCELED: "canceled",
    OrdStatus.REJECTED: "rejected",
    OrdStatus.EXPIRED: "expired",
}
_TYPES = {
    OrdType.MARKET: "market",
    OrdType.LIMIT: "limit",
    OrdType.STOP: "stop",
    OrdType.STOP_LIMIT: "stop_limit",
}
_SESSIONS = {
    MarketState.OPEN: "open",
    MarketState.CANCEL_ONLY: "close_only",
    MarketState.HALTED: "disabled",
    MarketState.CLOSED: "closed",
}


def ms(ns: int) -> int:
    return ns // 1_000_000


def lots(quantity: Decimal) -> str:
    return f"{(quantity / CONTRACT_SIZE).normalize():f}"


def order(item: Order) -> Json:
    return {
        "id": item.cl_ord_id,
        "ticket": item.order_id,
        "symbol": item.symbol,
        "side": item.side.lower(),
        "type": _TYPES[item.ord_type],
        "volume": lots(item.order_qty),
        "filled": lots(item.cum_qty),
        "price": None if item.price is None else f"{item.price:f}",
        "stop_price": None if item.stop_price is None else f"{item.stop_price:f}",
        "state": _STATES[item.status],
        "reduce_only": item.reduce_only,
        "created_ms": ms(item.accepted_ns),
        "updated_ms": ms(item.updated_ns),
    }


def deal(fill: OwnFill, currency: str) -> Json:
    return {
        "ticket": fill.exec_id,
        "order": fill.order_id,
        "id": fill.cl_ord_id,
        "symbol": fill.symbol,
        "side": fill.side.lower(),
        "volume": lots(fill.qty),
        "price": f"{fill.price:f}",
        "commission": f"{-fill.fee:f}",
        "currency": currency,
        "maker": fill.is_maker,
        "time_ms": ms(fill.at_ns),
    }


def position(symbol: str, lot: OpenLot) -> Json:
    return {
        "ticket": lot.exec_id,
        "symbol": symbol,
        "side": (Side.BUY if lot.quantity > 0 else Side.SELL).lower(),
        "volume": lots(abs(lot.quantity)),
        "price_open": f"{lot.price:f}",
        "time_ms": ms(lot.at_ns),
    }


def symbol(instrument: Instrument, state: MarketState) -> Json:
    return {
        "name": instrument.symbol,
        "base": instrument.base,
        "quote": instrument.quote,
        "tick_size": f"{instrument.tick:f}",
        "contract_size": f"{CONTRACT_SIZE:f}",
        "volume_min": f"{VOLUME_STEP:f}",
        "volume_max": f"{VOLUME_MAX:f}",
        "volume_step": f"{VOLUME_STEP:f}",
        "trade_mode": _SESSIONS[state],
    }


def tick(exchange: Exchange, name: str) -> Json | None:
    """None where one side of the book is empty."""
    market = exchange.markets[name]
    bid, ask = market.book.bids.best, market.book.asks.best
    if bid is None or ask is None:
        return None
    item = market.instrument
    return {
        "symbol": name,
        "bid": f"{item.price(bid):f}",
        "ask": f"{item.price(ask):f}",
        "bid_volume": lots(item.quantity(market.book.bids.total(bid))),
        "ask_volume": lots(item.quantity(market.book.asks.total(ask))),
        "time_ms": ms(exchange.now_ns()),
    }


def account(exchange: Exchange, name: str, *, trade_allowed: bool) -> Json:
    margin = exchange.margin(name, "USD")
    return {
        "protocol": 1,
        "login": name,
        "server": "Simulated-Demo",
        "currency": "USD",
        "margin_mode": "netting",
        "balance": f"{margin.balance:f}",
        "equity": f"{margin.equity:f}",
        "margin": f"{margin.used:f}",
        "margin_free": f"{margin.available:f}",
        "trade_allowed": trade_allowed,
        "connected": True,
    }
