"""Wallets, portfolios, and what the key may do. An account of the exchange is one portfolio here,
and each of its currencies an "account" of Coinbase's."""

from __future__ import annotations

from openbell_sim.faces.coinbase import errors, render
from openbell_sim.faces.coinbase.call import Call, page
from openbell_sim.faces.coinbase.errors import Json


def accounts(call: Call) -> Json:
    balances = call.exchange.ledger.account(call.account).balances
    names = sorted(balances)
    shown_names, cursor = page(names, call, call.count("limit", 49, 250))
    return {
        "accounts": [
            render.account(call.account, name, balances[name], call.received_ns)
            for name in shown_names
        ],
        "has_next": bool(cursor),
        "cursor": cursor,
        "size": len(shown_names),
    }


def account(call: Call) -> Json:
    for name, balance in call.exchange.ledger.account(call.account).balances.items():
        if render.named_uuid("account", call.account, name) == call.name:
            return {"account": render.account(call.account, name, balance, call.received_ns)}
    raise errors.account_not_found()


def wallets(call: Call) -> Json:
    """The older list. It has no holds, so what is locked in orders looks free in it."""
    balances = call.exchange.ledger.account(call.account).balances
    return {
        "pagination": {
            "ending_before": None,
            "starting_after": None,
            "next_starting_after": None,
            "previous_ending_before": None,
            "limit": 250,
            "order": "desc",
            "previous_uri": None,
            "next_uri": None,
        },
        "data": [render.wallet(call.account, name, b) for name, b in sorted(balances.items())],
    }


def key_permissions(call: Call) -> Json:
    assert call.caller is not None
    return {
        "can_view": True,
        "can_trade": call.caller.may_trade,
        "can_transfer": False,
        "portfolio_uuid": render.portfolio_uuid(call.account),
        "portfolio_type": "DEFAULT",
    }


def portfolios(call: Call) -> Json:
    """A key sees the one that it belongs to."""
    portfolio = {
        "name": call.account,
        "uuid": render.portfolio_uuid(call.account),
        "type": "DEFAULT",
        "deleted": False,
    }
    return {"portfolios": [portfolio]}


def transaction_summary(call: Call) -> Json:
    fees = call.exchange.fees
    return {
        "total_volume": 0,
        "total_fees": 0,
        "fee_tier": {
            "pricing_tier": "Advanced 1",
            "usd_from": "0",
            "usd_to": "1000",
            "taker_fee_rate": render.money(fees.taker),
            "maker_fee_rate": render.money(fees.maker),
        },
        "margin_rate": None,
        "goods_and_services_tax": None,
        "advanced_trade_only_volume": 0,
        "advanced_trade_only_fees": 0,
        "coinbase_pro_volume": 0,
        "coinbase_pro_fees": 0,
    }


def no_positions(call: Call) -> Json:
    """There are no futures here."""
    return {"positions": []}
