"""tradelocker 0.56.2, unmodified: only its environment is another. Run in the vendors' environment.

    python tradelocker_tales.py TALE < {"url": ..., "email": ..., "password": ...}

Prints what TALE saw, as one JSON document. The client sleeps a second before every request.
"""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tradelocker import TLAPI
from tradelocker.exceptions import TLAPIException, TLAPIOrderException

EURUSD, USDJPY, NAS100 = 278, 280, 817


def market(tl: Any) -> dict[str, Any]:
    """Everything that is asked of instruments and markets."""
    name = tl.get_symbol_name_from_instrument_id(EURUSD)
    details = tl.get_instrument_details(EURUSD)
    quotes = tl.get_quotes(EURUSD)
    depth = tl.get_market_depth(EURUSD)
    bars = tl.get_price_history(EURUSD, resolution="15m", lookback_period="5H")
    day = tl.get_daily_bar(EURUSD)
    status = tl.get_session_status_details(details["tradeSessionStatusId"])
    session = tl.get_session_details(details["tradeSessionId"])
    limit = tl.get_route_rate_limit("PLACE_ORDER")
    return {
        "id": [int(tl.get_instrument_id_from_symbol_name(name)), name],
        "routes": [tl.get_info_route_id(EURUSD), tl.get_trade_route_id(EURUSD)],
        "details": [details["lotSize"], details["minLot"], details["quotingCurrency"]],
        "quotes": [sorted(quotes), quotes["bp"] < quotes["ap"]],
        "depth": [len(depth["asks"]) > 0, depth["bids"][0][0] < depth["asks"][0][0]],
        "bars": [list(bars.columns), len(bars) > 0],
        "day": sorted(day),
        "session": [len(status["allowedOperations"]), len(status["allowedOrderTypes"])],
        "continuous": session["isContinuous"],
        "limit": [limit["measure"], limit["limit"]],
        "no_data": len(tl.get_price_history(EURUSD, "1D", "", 1000, 2000)),
    }


def account(tl: Any) -> dict[str, Any]:
    """Who it is, and what the account has."""
    accounts = tl.get_all_accounts()
    before = tl.get_access_token()
    tl.refresh_access_tokens()
    state = tl.get_account_state()
    return {
        "accounts": [len(accounts), tl.acc_num, str(accounts["currency"].iloc[0])],
        "trade_accounts": [each["accNum"] for each in tl.get_trade_accounts()],
        "refreshed": tl.get_access_token() != before,
        "state": [state["balance"], state["positionsCount"], state["ordersCount"], len(state)],
    }


def orders(tl: Any) -> dict[str, Any]:
    """Limit, stop, change, cancel, history, refusals."""
    limit = tl.create_order(
        USDJPY, 0.1, "buy", price=100.0, type_="limit", validity="GTC", strategy_id="tale-1"
    )
    stop = tl.create_order(USDJPY, 0.1, "buy", type_="stop", stop_price=200.0, validity="GTC")
    listed = tl.get_all_orders()
    row = listed[listed["id"] == limit].iloc[0]
    modified = tl.modify_order(limit, {"price": "101", "qty": "0.2"})
    changed = tl.get_all_orders()
    deleted = tl.delete_order(limit)
    again = tl.delete_order(limit)
    history = tl.get_all_orders(history=True, lookback_period="1H")
    ended = history[history["id"] == limit].iloc[0]
    refused = []
    for quantity in (0.001, 1e6):
        try:
            tl.create_order(USDJPY, quantity, "buy", price=100.0, type_="limit", validity="GTC")
        except TLAPIOrderException as error:
            refused.append(str(error))
    cleared = tl.delete_all_orders(instrument_id_filter=USDJPY)
    return {
        "row": [row["status"], float(row["qty"]), float(row["price"]), row["strategyId"]],
        # It sends an order again that is not answered in time: on a busy machine there are more.
        "types": sorted(set(listed["type"])),
        "stop": float(listed[listed["id"] == stop].iloc[0]["stopPrice"]),
        "modified": [modified, float(changed[changed["id"] == limit].iloc[0]["price"])],
        "deleted": [deleted, again],
        "ended": [ended["status"], ended["strategyId"]],
        "refused": refused,
        "cleared": [cleared, len(tl.get_all_orders(instrument_id_filter=USDJPY))],
    }


def positions(tl: Any) -> dict[str, Any]:
    """A market order, its position, brackets, and a part of it closed by the order's id."""
    order = tl.create_order(EURUSD, 0.03, "buy", type_="market", strategy_id="tale-2")
    [held] = _held(tl, EURUSD)
    position = int(held["id"])
    tl.modify_position(position, {"stopLoss": 0.9, "takeProfit": 1.5})
    [protected] = _held(tl, EURUSD)
    brackets = tl.get_all_orders(instrument_id_filter=EURUSD)
    found = tl.get_position_id_from_order_id(order)
    reduced = tl.close_position(order_id=order, close_quantity=0.01)
    [left] = _held(tl, EURUSD)
    return {
        "row": [held["side"], float(held["qty"]), held["strategyId"], int(held["stopLossId"])],
        "brackets": [
            sorted(brackets["type"]),
            set(brackets["id"]) == {protected["stopLossId"], protected["takeProfitId"]},
        ],
        "found": found == position != order,
        "reduced": [reduced, float(left["qty"])],
    }


def closing(tl: Any) -> dict[str, Any]:
    """Positions closed by their id and all at once."""
    tl.create_order(NAS100, 0.5, "sell", type_="market")
    [short] = _held(tl, NAS100)
    by_id = tl.close_position(position_id=int(short["id"]))
    left = len(_held(tl, NAS100))
    tl.create_order(NAS100, 0.5, "buy", type_="market")
    closed = tl.close_all_positions(instrument_id_filter=NAS100)
    executions = tl.get_all_executions()
    own = executions[executions["tradableInstrumentId"] == NAS100]
    return {
        "by_id": [short["side"], by_id, left],
        "all": [closed, len(_held(tl, NAS100))],
        "executed": [round(float(own["qty"].sum()), 2), len(set(own["positionId"]))],
    }


def _held(tl: Any, instrument: int) -> list[Any]:
    held = tl.get_all_positions()
    return [row for _, row in held[held["tradableInstrumentId"] == instrument].iterrows()]


def hazard(tl: Any) -> dict[str, Any]:
    """One call of `create_order` while answers get lost."""
    try:
        tl.create_order(
            EURUSD, 0.01, "buy", price=1.0, type_="limit", validity="GTC", strategy_id="once"
        )
        ended = "placed"
    except (TLAPIException, OSError) as error:
        ended = type(error).__name__
    return {"ended": ended}


TALES: dict[str, Callable[[Any], dict[str, Any]]] = {
    each.__name__: each for each in (market, account, orders, positions, closing, hazard)
}


def main() -> None:
    given = json.load(sys.stdin)
    started_s = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        tl = TLAPI(
            environment=given["url"],
            username=given["email"],
            password=given["password"],
            server="SIM",
            log_level="critical",
        )
        told = TALES[sys.argv[1]](tl)
    told["sleeps"] = time.monotonic() - started_s > 2
    print(json.dumps(told, default=str))


main()
