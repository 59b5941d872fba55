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

EURUSD = 278


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
        "depth": [len(depth["asks"]) > 0, depth["asks"][0][0] == quotes["ap"]],
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
        EURUSD, 0.1, "buy", price=1.0, type_="limit", validity="GTC", strategy_id="tale-1"
    )
    stop = tl.create_order(EURUSD, 0.1, "buy", type_="stop", stop_price=1.3, validity="GTC")
    listed = tl.get_all_orders()
    row = listed[listed["id"] == limit].iloc[0]
    modified = tl.modify_order(limit, {"price": "1.01", "qty": "0.2"})
    changed = tl.get_all_orders()
    deleted = tl.delete_order(limit)
    again = tl.delete_order(limit)
    history = tl.get_all_orders(history=True, lookback_period="1H")
    ended = history[history["id"] == limit].iloc[0]
    refused = []
    for quantity in (0.001, 1e6):
        try:
            tl.create_order(EURUSD, quantity, "buy", price=1.0, type_="limit", validity="GTC")
        except TLAPIOrderException as error:
            refused.append(str(error))
    cleared = tl.delete_all_orders(instrument_id_filter=EURUSD)
    return {
        "row": [row["status"], float(row["qty"]), float(row["price"]), row["strategyId"]],
        "types": sorted(listed["type"]),
        "stop": float(listed[listed["id"] == stop].iloc[0]["stopPrice"]),
        "modified": [modified, float(changed[changed["id"] == limit].iloc[0]["price"])],
        "deleted": [deleted, again],
        "ended": [ended["status"], ended["strategyId"]],
        "refused": refused,
        "cleared": [cleared, len(tl.get_all_orders())],
    }


def positions(tl: Any) -> dict[str, Any]:
    """A market order, its position, brackets, a part of it closed, then all."""
    order = tl.create_order(EURUSD, 0.03, "buy", type_="market", strategy_id="tale-2")
    held = tl.get_all_positions()
    row = held.iloc[0]
    position = int(row["id"])
    tl.modify_position(position, {"stopLoss": 0.9, "takeProfit": 1.5})
    protected = tl.get_all_positions().iloc[0]
    brackets = tl.get_all_orders()
    found = tl.get_position_id_from_order_id(order)
    reduced = tl.close_position(order_id=order, close_quantity=0.01)
    left = tl.get_all_positions()
    closed = tl.close_all_positions()
    after = [len(tl.get_all_positions()), len(tl.get_all_orders())]
    executions = tl.get_all_executions()
    tl.create_order(EURUSD, 0.01, "sell", type_="market")
    short = tl.get_all_positions().iloc[0]
    tl.close_position(position_id=int(short["id"]))
    return {
        "row": [row["side"], float(row["qty"]), row["strategyId"], int(row["stopLossId"])],
        "brackets": [
            sorted(brackets["type"]),
            set(brackets["id"]) == {protected["stopLossId"], protected["takeProfitId"]},
        ],
        "found": found == position != order,
        "reduced": [reduced, float(left.iloc[0]["qty"])],
        "closed": [closed, *after],
        "executed": [
            round(float(executions["qty"].sum()), 2), sorted(set(executions["side"])),
            set(executions["positionId"]) == {position},
        ],
        "short": [short["side"], len(tl.get_all_positions())],
    }  # fmt: skip


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
    each.__name__: each for each in (market, account, orders, positions, hazard)
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
