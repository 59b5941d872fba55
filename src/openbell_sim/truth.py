"""The venue's own truth, for whoever checks a desk: `GET /sim/v1/...`.

Amounts are text, so that no reader loses a digit; times are nanoseconds since the epoch.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from openbell.domain.orders import OrdStatus
from openbell_sim.events import Refuse
from openbell_sim.exchange import Exchange
from openbell_sim.ledger import Order, OwnFill

Json = dict[str, object]


def orders(exchange: Exchange) -> list[Json]:
    """Every order that reached the exchange, refused ones included, in order of arrival. What a
    fault struck before is in `arrivals` alone."""
    ledger = exchange.ledger
    rows = [(item.order_id, order(item)) for item in ledger.orders.values()]
    rows += [(refusal.order_id, _refused(refusal)) for refusal in ledger.refused]
    rows.sort(key=lambda row: row[0])
    return [row for _, row in rows]


def order(order: Order) -> Json:
    return {
        "order_id": str(order.order_id),
        "cl_ord_id": order.cl_ord_id,
        "account": order.account,
        "symbol": order.symbol,
        "side": order.side.value,
        "ord_type": order.ord_type.value,
        "time_in_force": order.time_in_force.value,
        "post_only": order.post_only,
        "reduce_only": order.reduce_only,
        "price": None if order.price is None else str(order.price),
        "stop_price": None if order.stop_price is None else str(order.stop_price),
        "triggered": order.triggered,
        "order_qty": str(order.order_qty),
        "quote_qty": None if order.quote_qty is None else str(order.quote_qty),
        "cum_qty": str(order.cum_qty),
        "cum_quote": str(order.cum_quote),
        "leaves_qty": str(order.leaves_qty),
        "status": order.status.value,
        "reason": order.reason,
        "origin": order.origin,
        "received_ns": order.received_ns,
        "accepted_ns": order.accepted_ns,
        "updated_ns": order.updated_ns,
    }


def _refused(refusal: Refuse) -> Json:
    return {
        "order_id": str(refusal.order_id),
        "cl_ord_id": refusal.cl_ord_id,
        "account": refusal.account,
        "symbol": refusal.symbol,
        "side": refusal.side,
        "ord_type": refusal.ord_type,
        "time_in_force": "",
        "post_only": False,
        "reduce_only": False,
        "price": refusal.price or None,
        "stop_price": None,
        "triggered": False,
        "order_qty": refusal.order_qty or "0",
        "quote_qty": None,
        "cum_qty": "0",
        "cum_quote": "0",
        "leaves_qty": "0",
        "status": OrdStatus.REJECTED.value,
        "reason": " ".join(part for part in (refusal.reason, refusal.text) if part),
        "origin": refusal.origin,
        "received_ns": refusal.received_ns,
        "accepted_ns": None,
        "updated_ns": refusal.at_ns,
    }


def fills(exchange: Exchange) -> list[Json]:
    return [_fill(fill) for fill in exchange.ledger.fills]


def _fill(fill: OwnFill) -> Json:
    return {
        "exec_id": str(fill.exec_id),
        "order_id": str(fill.order_id),
        "cl_ord_id": fill.cl_ord_id,
        "account": fill.account,
        "symbol": fill.symbol,
        "side": fill.side.value,
        "price": str(fill.price),
        "qty": str(fill.qty),
        "fee": str(fill.fee),
        "fee_currency": fill.fee_currency,
        "is_maker": fill.is_maker,
        "at_ns": fill.at_ns,
    }


def positions(exchange: Exchange) -> Json:
    """`positions`: net base quantity of each account and symbol from its fills, less fees taken
    in that base currency; of margined symbols that is the position itself. `balances`: what each
    account holds, and what was deposited."""
    spent: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for fill in exchange.ledger.fills:
        spent[fill.account, fill.symbol] -= fill.side.sign * fill.quote_qty
    return {
        "positions": [
            {
                "account": account,
                "symbol": symbol,
                "quantity": str(quantity),
                "quote_flow": str(spent[account, symbol]),
            }
            for (account, symbol), quantity in sorted(net_quantities(exchange).items())
        ],
        "balances": [
            {
                "account": account.name,
                "currency": currency,
                "free": str(balance.free),
                "locked": str(balance.locked),
                "deposited": str(balance.deposited),
                "net": str(balance.total - balance.deposited),
            }
            for account in exchange.ledger.accounts.values()
            for currency, balance in sorted(account.balances.items())
        ],
    }


def net_quantities(exchange: Exchange) -> dict[tuple[str, str], Decimal]:
    """By `(account, symbol)`: what the fills brought in base currency; on the spot, less fees
    taken in it."""
    net: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for fill in exchange.ledger.fills:
        instrument = exchange.instruments[fill.symbol]
        net[fill.account, fill.symbol] += fill.side.sign * fill.qty
        if instrument.margin_rate is None and fill.fee_currency == instrument.base:
            net[fill.account, fill.symbol] -= fill.fee
    return net


def market(exchange: Exchange) -> list[Json]:
    """What is traded, and where it stands."""
    return [
        {
            "symbol": symbol,
            "session": item.state.value,
            "bid": _price(item.book.bids.best, item.instrument.tick),
            "ask": _price(item.book.asks.best, item.instrument.tick),
            "last": None if item.tape.last is None else str(item.tape.last.price),
            "update_id": item.book.update_id,
        }
        for symbol, item in exchange.markets.items()
    ]


def _price(ticks: int | None, tick: Decimal) -> str | None:
    return None if ticks is None else str(ticks * tick)
