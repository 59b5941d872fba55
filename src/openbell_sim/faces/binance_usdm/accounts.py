"""Money, positions and income of an account.

Positions are never liquidated: the liquidation price is 0, as Binance tells it where there is none.

Source: "Account" and "Trade" of the USD-M futures API: Futures Account Balance V2 and V3, Account
Information V2 and V3, Position Information V2 and V3, Get Income History.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from openbell_sim.exchange import Exchange
from openbell_sim.faces.binance.common import orders
from openbell_sim.faces.binance.common.operation import Call, Json
from openbell_sim.faces.binance_usdm import render, settings
from openbell_sim.faces.binance_usdm.render import ZERO, money
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import OwnFill
from openbell_sim.listing import shown
from openbell_sim.margin import held
from openbell_sim.positions import Position

# Money


def balances(call: Call) -> list[Json]:
    """As `GET /fapi/v2/balance` and v3 show them."""
    return [
        {
            "accountAlias": f"{call.account_number:08x}",
            "asset": row["asset"],
            "balance": row["walletBalance"],
            "crossWalletBalance": row["crossWalletBalance"],
            "crossUnPnl": row["crossUnPnl"],
            "availableBalance": row["availableBalance"],
            "maxWithdrawAmount": row["maxWithdrawAmount"],
            "marginAvailable": True,
            "updateTime": row["updateTime"],
        }
        for row in _assets(call)
    ]


def account_v2(call: Call) -> Json:
    assets = _assets(call)
    symbols = list(call.exchange.instruments)
    return {
        "feeTier": 0,
        "feeBurn": False,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": False,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
        **_totals(assets),
        "assets": assets,
        "positions": [_account_position(call, symbol, v2=True) for symbol in shown(symbols)],
    }


def account_v3(call: Call) -> Json:
    assets = _assets(call)
    return {
        **_totals(assets),
        "assets": assets,
        "positions": [_account_position(call, symbol, v2=False) for symbol in shown(_held(call))],
    }


def _assets(call: Call) -> list[Json]:
    exchange, name = call.exchange, call.account
    account = exchange.ledger.account(name)
    currencies = sorted({*account.balances, *exchange.ledger.settlement})
    return [_asset(call, currency, render.ms(account.updated_ns)) for currency in currencies]


def _asset(call: Call, currency: str, updated_ms: int) -> Json:
    exchange = call.exchange
    margin = exchange.margin(call.account, currency)
    of_positions = sum(
        (
            _initial(exchange, call.account, item)
            for symbol, _ in exchange.positions(call.account)
            if (item := exchange.instruments[symbol]).settle_currency == currency
        ),
        ZERO,
    )
    available = max(ZERO, margin.available)
    return {
        "asset": currency,
        "walletBalance": money(margin.balance),
        "unrealizedProfit": money(margin.unrealized),
        "marginBalance": money(margin.equity),
        "maintMargin": money(of_positions * settings.MAINTENANCE),
        "initialMargin": money(margin.used),
        "positionInitialMargin": money(of_positions),
        "openOrderInitialMargin": money(margin.used - of_positions),
        "crossWalletBalance": money(margin.balance),
        "crossUnPnl": money(margin.unrealized),
        "availableBalance": money(available),
        "maxWithdrawAmount": money(min(available, max(ZERO, margin.balance))),
        "marginAvailable": True,
        "updateTime": updated_ms,
    }


_TOTALS = {
    "totalInitialMargin": "initialMargin",
    "totalMaintMargin": "maintMargin",
    "totalWalletBalance": "walletBalance",
    "totalUnrealizedProfit": "unrealizedProfit",
    "totalMarginBalance": "marginBalance",
    "totalPositionInitialMargin": "positionInitialMargin",
    "totalOpenOrderInitialMargin": "openOrderInitialMargin",
    "totalCrossWalletBalance": "crossWalletBalance",
    "totalCrossUnPnl": "crossUnPnl",
    "availableBalance": "availableBalance",
    "maxWithdrawAmount": "maxWithdrawAmount",
}


def _totals(assets: Iterable[Json]) -> Json:
    """In single-asset mode they are those of USDT."""
    usdt = next((row for row in assets if row["asset"] == "USDT"), {})
    return {total: usdt.get(name, money(ZERO)) for total, name in _TOTALS.items()}


# Positions


def positions_v2(call: Call) -> list[Json]:
    """Of every symbol, flat ones included."""
    wanted = call.symbol_or_none()
    symbols = [s for s in call.exchange.instruments if wanted in (None, s)]
    return [_position_v2(call, symbol) for symbol in shown(symbols)]


def positions_v3(call: Call) -> list[Json]:
    """Of symbols with a position or an open order only."""
    wanted = call.symbol_or_none()
    symbols = [s for s in _held(call) if wanted in (None, s)]
    return [_position_v3(call, symbol) for symbol in shown(symbols)]


def _held(call: Call) -> list[str]:
    with_position = {symbol for symbol, _ in call.exchange.positions(call.account)}
    with_orders = {order.symbol for order in orders.open_orders(call, None)}
    return sorted(with_position | with_orders)


def _facts(call: Call, symbol: str) -> Json:
    """What every way of showing a position has."""
    exchange = call.exchange
    item = exchange.instruments[symbol]
    position = exchange.ledger.position(call.account, symbol)
    mark = _mark(exchange, symbol)
    return {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": render.on_grid(position.quantity, item.lot),
        "entryPrice": money(position.avg_price),
        "breakEvenPrice": money(position.avg_price),
        "markPrice": money(mark),
        "unRealizedProfit": money(_unrealized(position, item, mark)),
        "liquidationPrice": "0",
        "isolatedMargin": money(ZERO),
        "notional": money(position.quantity * mark),
        "isolatedWallet": "0",
        "updateTime": render.ms(position.opened_ns),
    }


def _position_v2(call: Call, symbol: str) -> Json:
    return {
        **_facts(call, symbol),
        "leverage": str(settings.leverage(call.exchange.instruments[symbol])),
        "maxNotionalValue": settings.MOST_NOTIONAL,
        "marginType": "cross",
        "isAutoAddMargin": "false",
    }


def _position_v3(call: Call, symbol: str) -> Json:
    exchange = call.exchange
    item = exchange.instruments[symbol]
    initial = _initial(exchange, call.account, item)
    with_orders = _with_orders(exchange, call.account, item)
    working = exchange.ledger.working(call.account, symbol)
    return {
        **_facts(call, symbol),
        "marginAsset": item.settle_currency,
        "initialMargin": money(with_orders),
        "maintMargin": money(initial * settings.MAINTENANCE),
        "positionInitialMargin": money(initial),
        "openOrderInitialMargin": money(with_orders - initial),
        "adl": 0,
        "bidNotional": money(working.buy_value),
        "askNotional": money(working.sell_value),
    }


def _account_position(call: Call, symbol: str, *, v2: bool) -> Json:
    exchange = call.exchange
    item = exchange.instruments[symbol]
    position = exchange.ledger.position(call.account, symbol)
    mark = _mark(exchange, symbol)
    initial = _initial(exchange, call.account, item)
    with_orders = _with_orders(exchange, call.account, item)
    working = exchange.ledger.working(call.account, symbol)
    facts: Json = {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": render.on_grid(position.quantity, item.lot),
        "unrealizedProfit": money(_unrealized(position, item, mark)),
        "isolatedMargin": money(ZERO),
        "notional": money(position.quantity * mark),
        "isolatedWallet": "0",
        "initialMargin": money(with_orders),
        "maintMargin": money(initial * settings.MAINTENANCE),
        "updateTime": render.ms(position.opened_ns),
    }
    if not v2:
        return facts
    return {
        **facts,
        "positionInitialMargin": money(initial),
        "openOrderInitialMargin": money(with_orders - initial),
        "leverage": str(settings.leverage(item)),
        "isolated": False,
        "entryPrice": money(position.avg_price),
        "breakEvenPrice": money(position.avg_price),
        "maxNotional": settings.MOST_NOTIONAL,
        "bidNotional": money(working.buy_value),
        "askNotional": money(working.sell_value),
    }


def _mark(exchange: Exchange, symbol: str) -> Decimal:
    return exchange.markets[symbol].mark() or ZERO


def _unrealized(position: Position, item: Instrument, mark: Decimal) -> Decimal:
    return position.unrealized(item, mark) if position.quantity and mark else ZERO


def _initial(exchange: Exchange, account: str, item: Instrument) -> Decimal:
    """Margin held for the position alone."""
    position = exchange.ledger.position(account, item.symbol)
    value = abs(position.quantity) * _mark(exchange, item.symbol)
    return (item.margin_rate or ZERO) * value


def _with_orders(exchange: Exchange, account: str, item: Instrument) -> Decimal:
    """Margin held for the position and what rests."""
    position = exchange.ledger.position(account, item.symbol)
    working = exchange.ledger.working(account, item.symbol)
    return held(item, position, working, exchange.markets[item.symbol].mark())


# History


def income(call: Call) -> list[Json]:
    """Realized profits and commissions, the oldest first."""
    wanted = call.parameters.text_or_none("incomeType")
    symbol = call.symbol_or_none()
    rows = [
        row
        for fill in call.exchange.ledger.fills
        if fill.account == call.account
        and symbol in (None, fill.symbol)
        and orders.within(call, fill.at_ns)
        for row in _income(fill)
        if wanted in (None, row["incomeType"])
    ]
    limit = call.parameters.limit(100, 1000)
    return list(shown(rows[:limit]))


def _income(fill: OwnFill) -> Iterable[Json]:
    parts = (("REALIZED_PNL", fill.realized, "USDT"), ("COMMISSION", -fill.fee, fill.fee_currency))
    for kind, amount, asset in parts:
        if amount:
            yield {
                "symbol": fill.symbol,
                "incomeType": kind,
                "income": money(amount),
                "asset": asset,
                "info": str(fill.exec_id),
                "time": render.ms(fill.at_ns),
                "tranId": fill.exec_id,
                "tradeId": str(fill.exec_id),
            }
