"""The bridge between a MetaTrader 5 terminal and a desk. Runs on Windows, beside the terminal.

    pip install MetaTrader5
    set OPENBELL_MT5_TOKEN=...            (the secret that desk.toml's secret_env names)
    python openbell_mt5_bridge.py --journal C:\\openbell\\bridge.jsonl

One file, on the standard library and the MetaTrader5 package alone, so that it can be copied and
read. It serves the protocol of docs/reference/venues/mt5.md on 127.0.0.1:8228; let nobody but the
desk reach that port (a tunnel, not an open one). Written against MetaTrader's documentation and
tried with a stand-in for its package; not yet run on Windows.

The promise that matters: an id makes at most one order. Before an order is handed to the terminal
its id is in the journal, on the disk; an id that is there already is answered with what is known of
it and never sent again. So one bridge at a time holds a journal. An order is found again by its
comment, which carries the id.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import sys
import threading
import time
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit

PROTOCOL = 1
MAGIC = 20_770_501
"""MetaTrader's mark of the program that sent an order."""
ID_MAX = 31
"""Characters of a comment that MetaTrader keeps."""
BODY_MAX = 16_384
DEALS_MAX = 1000
HISTORY_S = 30 * 86400
"""How far back an order is looked for by its comment."""
DEVIATION_POINTS = 20
"""How far a market order's price may have moved on its way (`deviation`)."""

STATES = {
    0: "placed", 1: "placed", 2: "canceled", 3: "partial", 4: "filled", 5: "rejected",
    6: "expired", 7: "placed", 8: "placed", 9: "placed",
}  # fmt: skip
"""ENUM_ORDER_STATE; a request that the server is still looking at rests as before."""
TYPES = {
    0: ("buy", "market"), 1: ("sell", "market"), 2: ("buy", "limit"), 3: ("sell", "limit"),
    4: ("buy", "stop"), 5: ("sell", "stop"), 6: ("buy", "stop_limit"), 7: ("sell", "stop_limit"),
}  # fmt: skip
"""ENUM_ORDER_TYPE."""
DONE = {10008, 10009, 10010}
"""TRADE_RETCODE_PLACED, _DONE, _DONE_PARTIAL."""
NOT_KNOWN = {10011, 10012, 10031}
"""TRADE_RETCODE_ERROR, _TIMEOUT, _CONNECTION: the server may have taken the order."""


class BridgeError(Exception):
    """`sent` None: whether the trade server took it is not known."""

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        retcode: int | None = None,
        sent: bool | None = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": error, "retcode": retcode, "message": message, "sent": sent}


class Journal:
    """Ids and what became of them: a line before an order is sent, a line after."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where it cannot be opened, or another bridge has it."""
        self._entries: dict[str, dict[str, Any]] = {}
        self._held = _held(path.with_name(f"{path.name}.lock"))
        self._file = path.open("a+b")
        self._file.seek(0)
        good = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # torn: nothing was sent on the strength of it
            entry = json.loads(line)
            self._entries.setdefault(entry["id"], {}).update(entry)
            good += len(line)
        self._file.truncate(good)

    def close(self) -> None:
        self._file.close()
        self._held.close()

    def get(self, name: str) -> dict[str, Any] | None:
        return self._entries.get(name)

    def write(self, **entry: Any) -> None:
        """On the disk when this returns. Raises OSError; then nothing may be sent."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._entries.setdefault(entry["id"], {}).update(entry)


def _held(path: Path) -> IO[bytes]:
    """A file that this process alone holds, until it closes it or ends. Raises OSError."""
    file = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


class Bridge:
    """The protocol over one terminal. One call at a time: MetaTrader's package is not made for
    several threads."""

    def __init__(self, mt5: Any, journal: Journal, utc_offset_s: int) -> None:
        self._mt5 = mt5
        self._journal = journal
        self._offset_ms = utc_offset_s * 1000
        self._lock = threading.Lock()

    def handle(
        self, method: str, path: list[str], query: dict[str, str], body: bytes
    ) -> dict[str, Any]:
        """Raises BridgeError."""
        with self._lock:
            match method, path:
                case "GET", ["account"]:
                    return self._account()
                case "GET", ["symbols"]:
                    return self._symbols(_names(query))
                case "GET", ["ticks"]:
                    return self._ticks(_names(query))
                case "GET", ["orders"]:
                    return self._open_orders()
                case "POST", ["orders"]:
                    return self._submit(_document(body))
                case "GET", ["orders", name]:
                    return {"order": self._known(name)}
                case "DELETE", ["orders", name]:
                    return self._cancel(self._known(name))
                case "GET", ["tickets", ticket]:
                    return {"order": self._by_ticket(_whole(ticket, "ticket"))}
                case "DELETE", ["tickets", ticket]:
                    return self._cancel(self._by_ticket(_whole(ticket, "ticket")))
                case "GET", ["deals"]:
                    return self._deals(query)
                case "GET", ["positions"]:
                    return self._positions()
        raise BridgeError(404, "no_such_call", f"{method} /v1/{'/'.join(path)}")

    # Account and market

    def _account(self) -> dict[str, Any]:
        account, terminal = self._ask("account_info"), self._ask("terminal_info")
        hedging = account.margin_mode == self._mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING
        return {
            "protocol": PROTOCOL,
            "login": str(account.login),
            "server": account.server,
            "currency": account.currency,
            "margin_mode": "hedging" if hedging else "netting",
            "balance": _text(account.balance),
            "equity": _text(account.equity),
            "margin": _text(account.margin),
            "margin_free": _text(account.margin_free),
            "trade_allowed": bool(account.trade_allowed and terminal.trade_allowed),
            "connected": bool(terminal.connected),
        }

    def _symbols(self, names: list[str]) -> dict[str, Any]:
        found = {name: self._mt5.symbol_info(name) for name in names}
        modes = {0: "disabled", 1: "open", 2: "open", 3: "close_only", 4: "open"}
        return {
            "symbols": [
                {
                    "name": name,
                    "base": info.currency_base,
                    "quote": info.currency_profit,
                    "tick_size": _text(info.trade_tick_size),
                    "contract_size": _text(info.trade_contract_size),
                    "volume_min": _text(info.volume_min),
                    "volume_max": _text(info.volume_max),
                    "volume_step": _text(info.volume_step),
                    "trade_mode": modes.get(info.trade_mode, "disabled"),
                }
                for name, info in found.items()
                if info is not None and self._mt5.symbol_select(name, True)
            ],
            "unknown": [name for name, info in found.items() if info is None],
        }

    def _ticks(self, names: list[str]) -> dict[str, Any]:
        ticks = {name: self._mt5.symbol_info_tick(name) for name in names}
        return {
            "ticks": [
                {
                    "symbol": name,
                    "bid": _text(tick.bid),
                    "ask": _text(tick.ask),
                    "time_ms": tick.time_msc - self._offset_ms,
                }
                for name, tick in ticks.items()
                if tick is not None and tick.bid > 0 and tick.ask > 0
            ]
        }

    def _positions(self) -> dict[str, Any]:
        positions = [self._position(position) for position in self._ask("positions_get")]
        return {"positions": positions, "total": self._ask("positions_total")}

    def _position(self, position: Any) -> dict[str, Any]:
        return {
            "ticket": position.ticket,
            "symbol": position.symbol,
            "side": "buy" if position.type == 0 else "sell",
            "volume": _text(position.volume),
            "price_open": _text(position.price_open),
            "time_ms": position.time_msc - self._offset_ms,
        }

    def _deals(self, query: dict[str, str]) -> dict[str, Any]:
        order, after = query.get("order"), query.get("after")
        from_ms = _whole(query.get("from_ms", "0"), "from_ms")
        if order is not None:
            found = self._ask("history_deals_get", ticket=_whole(order, "order"))
        else:
            start_s = (from_ms + self._offset_ms) // 1000 if from_ms else 0
            found = self._ask("history_deals_get", start_s, self._until_s())
        currency = self._ask("account_info").currency
        trades = [
            self._deal(deal, currency)
            for deal in found
            if deal.type in (0, 1)  # others are deposits, fees and corrections of the broker
            and (after is None or deal.ticket > _whole(after, "after"))
            and deal.time_msc - self._offset_ms >= from_ms
        ]
        trades.sort(key=lambda deal: deal["ticket"])
        return {"deals": trades[:DEALS_MAX], "more": len(trades) > DEALS_MAX}

    def _deal(self, deal: Any, currency: str) -> dict[str, Any]:
        return {
            "ticket": deal.ticket,
            "order": deal.order,
            "id": deal.comment,
            "symbol": deal.symbol,
            "side": "buy" if deal.type == 0 else "sell",
            "volume": _text(deal.volume),
            "price": _text(deal.price),
            "commission": _text(deal.commission + deal.fee),
            "currency": currency,
            "time_ms": deal.time_msc - self._offset_ms,
        }

    # Orders

    def _open_orders(self) -> dict[str, Any]:
        orders = [self._order(order) for order in self._ask("orders_get")]
        return {"orders": orders, "total": self._ask("orders_total")}

    def _submit(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("id")
        if not isinstance(name, str) or not 0 < len(name) <= ID_MAX:
            raise BridgeError(400, "malformed", f"id has 1 to {ID_MAX} characters")
        entry = self._journal.get(name)
        if entry is not None:
            return self._again(name, given, entry)
        request = self._request(name, given)
        try:
            self._journal.write(id=name, given=given)
        except OSError as error:
            raise BridgeError(500, "journal", f"cannot be written: {error.strerror}") from error
        result = self._mt5.order_send(request)
        retcode = None if result is None else result.retcode
        if retcode in DONE:
            self._journal.write(id=name, ticket=result.order, retcode=retcode)
            return {"order": self._by_ticket(result.order, name), "known": False}
        if result is None or retcode in NOT_KNOWN:
            raise self._in_doubt(retcode)
        self._journal.write(id=name, retcode=retcode, message=result.comment)
        raise BridgeError(409, "rejected", result.comment, retcode=retcode)

    def _again(self, name: str, given: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        """What is known of an id that was sent before; it is not sent a second time."""
        if entry["given"] != given:
            raise BridgeError(409, "id_in_use", "another order has this id", retcode=10013)
        if "retcode" in entry and "ticket" not in entry:
            raise BridgeError(409, "rejected", entry["message"], retcode=entry["retcode"])
        found = self._find(name, entry)
        if found is None:
            raise self._in_doubt(None)
        return {"order": found, "known": True}

    def _in_doubt(self, retcode: int | None) -> BridgeError:
        return BridgeError(
            503, "unknown", "the trade server gave no answer", retcode=retcode, sent=None
        )

    def _request(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """MetaTrader's request for an order. Raises BridgeError for one that cannot be."""
        mt5 = self._mt5
        info = mt5.symbol_info(given.get("symbol"))
        kind, side = given.get("type"), given.get("side")
        if info is None or kind not in ("market", "limit", "stop") or side not in ("buy", "sell"):
            raise BridgeError(400, "malformed", "symbol, type and side are needed")
        volume = _amount(given, "volume")
        request: dict[str, Any] = {
            "symbol": given["symbol"],
            "volume": float(volume),
            "comment": name,
            "magic": MAGIC,
            "type_time": mt5.ORDER_TIME_GTC,
        }
        if given.get("reduce_only"):
            request |= self._closing(given["symbol"], side, volume)
        if kind == "market":
            tick = mt5.symbol_info_tick(given["symbol"])
            if tick is None:
                raise BridgeError(409, "rejected", "there is no quote", retcode=10021)
            return request | {
                "action": mt5.TRADE_ACTION_DEAL,
                "type": mt5.ORDER_TYPE_BUY if side == "buy" else mt5.ORDER_TYPE_SELL,
                "price": tick.ask if side == "buy" else tick.bid,
                "deviation": DEVIATION_POINTS,
                "type_filling": self._filling(info),
            }
        types = {
            ("limit", "buy"): mt5.ORDER_TYPE_BUY_LIMIT,
            ("limit", "sell"): mt5.ORDER_TYPE_SELL_LIMIT,
            ("stop", "buy"): mt5.ORDER_TYPE_BUY_STOP,
            ("stop", "sell"): mt5.ORDER_TYPE_SELL_STOP,
        }
        return request | {
            "action": mt5.TRADE_ACTION_PENDING,
            "type": types[kind, side],
            "price": float(_amount(given, "price" if kind == "limit" else "stop_price")),
            "type_filling": mt5.ORDER_FILLING_RETURN,
        }

    def _closing(self, symbol: str, side: str, volume: Decimal) -> dict[str, Any]:
        """Closes at most the position: the trade server refuses more than a named one holds."""
        held = self._ask("positions_get", symbol=symbol)
        against = next((p for p in held if (p.type == 0) != (side == "buy")), None)
        if against is None:
            raise BridgeError(409, "rejected", "there is nothing to close", retcode=10036)
        return {"position": against.ticket, "volume": float(min(volume, _exact(against.volume)))}

    def _filling(self, info: Any) -> int:
        """What the symbol allows of a market order: all that can be had, else all or nothing."""
        if info.filling_mode & 2:  # SYMBOL_FILLING_IOC
            return int(self._mt5.ORDER_FILLING_IOC)
        if info.filling_mode & 1:  # SYMBOL_FILLING_FOK
            return int(self._mt5.ORDER_FILLING_FOK)
        return int(self._mt5.ORDER_FILLING_RETURN)

    def _cancel(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["state"] not in ("placed", "partial"):
            raise BridgeError(409, "not_open", f"it is {order['state']}")
        result = self._mt5.order_send(
            {"action": self._mt5.TRADE_ACTION_REMOVE, "order": order["ticket"]}
        )
        if result is None or result.retcode in NOT_KNOWN:
            raise self._in_doubt(None if result is None else result.retcode)
        if result.retcode not in DONE:
            raise BridgeError(409, "rejected", result.comment, retcode=result.retcode)
        return {"order": self._by_ticket(order["ticket"], order["id"])}

    # Finding orders

    def _known(self, name: str) -> dict[str, Any]:
        entry = self._journal.get(name)
        found = self._find(name, entry or {})
        if found is not None:
            return found
        if entry is None or "retcode" in entry:
            raise BridgeError(404, "unknown_order", "no order of this id")
        raise self._in_doubt(None)

    def _find(self, name: str, entry: dict[str, Any]) -> dict[str, Any] | None:
        """By its ticket where that was answered, else by the comment that carries the id."""
        if "ticket" in entry:
            return self._by_ticket(entry["ticket"], name)
        for order in self._ask("orders_get"):
            if order.comment == name:
                return self._order(order)
        until_s = self._until_s()
        for order in self._ask("history_orders_get", until_s - HISTORY_S, until_s):
            if order.comment == name:
                return self._order(order)
        return None

    def _by_ticket(self, ticket: int, name: str = "") -> dict[str, Any]:
        """An order moves from the open ones to the history; between the two it is asked again."""
        for _ in range(3):
            for call in ("orders_get", "history_orders_get"):
                found = self._ask(call, ticket=ticket)
                if found:
                    return {**self._order(found[0]), **({"id": name} if name else {})}
            time.sleep(0.05)
        if name:
            raise self._in_doubt(None)
        raise BridgeError(404, "unknown_order", "no such order")

    def _order(self, order: Any) -> dict[str, Any]:
        side, kind = TYPES.get(order.type, ("buy", "market"))
        done_ms = getattr(order, "time_done_msc", 0) or order.time_setup_msc
        stop = kind in ("stop", "stop_limit")
        price = order.price_stoplimit if kind == "stop_limit" else order.price_open
        return {
            "id": order.comment,
            "ticket": order.ticket,
            "symbol": order.symbol,
            "side": side,
            "type": kind,
            "volume": _text(order.volume_initial),
            "filled": _text(_exact(order.volume_initial) - _exact(order.volume_current)),
            "price": _text(price) if kind in ("limit", "stop_limit") else None,
            "stop_price": _text(order.price_open) if stop else None,
            "state": STATES.get(order.state, "unknown"),
            "reduce_only": bool(getattr(order, "position_id", 0)),
            "created_ms": order.time_setup_msc - self._offset_ms,
            "updated_ms": done_ms - self._offset_ms,
        }

    # The terminal

    def _until_s(self) -> int:
        """A day ahead of now in the broker's time, so that nothing of today is left out."""
        return int(time.time()) + self._offset_ms // 1000 + 86400

    def _ask(self, call: str, *arguments: Any, **named: Any) -> Any:
        """None is MetaTrader's word for a failure, and no empty list."""
        answer = getattr(self._mt5, call)(*arguments, **named)
        if answer is None:
            raise BridgeError(503, "terminal", f"{call}: {self._mt5.last_error()}", sent=None)
        return answer


def _exact(number: float) -> Decimal:
    """The shortest decimal that means this float: what the terminal itself shows."""
    return Decimal(repr(float(number)))


def _text(number: float | Decimal) -> str:
    exact = number if isinstance(number, Decimal) else _exact(number)
    return f"{exact.normalize():f}"


def _amount(given: dict[str, Any], name: str) -> Decimal:
    try:
        value = Decimal(given[name])
    except (KeyError, TypeError, InvalidOperation):
        value = Decimal("NaN")
    if not value.is_finite() or value <= 0:
        raise BridgeError(400, "malformed", f"{name} is a positive number as text")
    return value


def _whole(text: str, name: str) -> int:
    if not text.isdigit():
        raise BridgeError(400, "malformed", f"{name} is a whole number")
    return int(text)


def _names(query: dict[str, str]) -> list[str]:
    return [name for name in query.get("names", "").split(",") if name]


def _document(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise BridgeError(400, "malformed", "a JSON object is needed")
    return given


def make_server(bridge: Bridge, token: str, host: str, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def _serve(self) -> None:
            told = self.headers.get("Content-Length", "0")
            length = int(told) if told.isdigit() else 0
            body = self.rfile.read(min(length, BODY_MAX + 1))
            if length > BODY_MAX:
                self.close_connection = True  # the rest of it is not read
            parts = urlsplit(self.path)
            try:
                answer = self._answer(parts.path, parts.query, body)
                status = 200
            except BridgeError as error:
                answer, status = error.body, error.status
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _answer(self, path: str, query: str, body: bytes) -> dict[str, Any]:
            given = self.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise BridgeError(401, "unauthorized", "the bridge wants its bearer token")
            if len(body) > BODY_MAX or not path.startswith("/v1/"):
                raise BridgeError(400, "malformed", "not a call of this protocol")
            named = {name: values[0] for name, values in parse_qs(query).items()}
            steps = [unquote(step) for step in path.removeprefix("/v1/").split("/")]
            return bridge.handle(self.command, steps, named, body)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 # the names that http.server calls

        def log_message(self, format: str, *arguments: Any) -> None:
            """Requests are the desk's to log: a terminal's console is nobody's."""

    class Server(ThreadingHTTPServer):
        # On Windows it would let two bridges listen on one port.
        allow_reuse_address = sys.platform != "win32"

    return Server((host, port), Handler)


def utc_offset_s(mt5: Any, text: str) -> int:
    """How far the broker's clock is ahead of UTC. `auto`: from the newest quote, to half an hour;
    only while a market is open."""
    if text != "auto":
        return int(float(text) * 3600)
    newest = max((info.time for info in mt5.symbols_get() or ()), default=0)
    offset_s = round((newest - time.time()) / 1800) * 1800
    if not newest or abs(newest - time.time() - offset_s) > 300 or abs(offset_s) > 14 * 3600:
        raise SystemExit("the broker's clock cannot be read now: give --utc-offset in hours")
    return int(offset_s)


def main() -> int:
    parser = argparse.ArgumentParser(description="The bridge from MetaTrader 5 to a desk.")
    parser.add_argument("--port", type=int, default=8228)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--journal", type=Path, required=True, help="file of the ids it has sent")
    parser.add_argument("--token-env", default="OPENBELL_MT5_TOKEN", metavar="NAME")
    parser.add_argument("--terminal", help="path of terminal64.exe; else the one that runs")
    parser.add_argument("--utc-offset", default="auto", help="of the broker's clock, in hours")
    options = parser.parse_args()
    token = os.environ.get(options.token_env, "")
    if len(token) < 32:
        sys.exit(f"set {options.token_env} to a token of at least 32 characters")
    import MetaTrader5 as mt5  # noqa: N813 # exists on Windows alone

    started = mt5.initialize(options.terminal) if options.terminal else mt5.initialize()
    if not started:
        sys.exit(f"the terminal cannot be reached: {mt5.last_error()}")
    try:
        journal = Journal(options.journal)
    except OSError as error:
        sys.exit(f"the journal cannot be used ({error.strerror}); does another bridge run on it?")
    bridge = Bridge(mt5, journal, utc_offset_s(mt5, options.utc_offset))
    server = make_server(bridge, token, options.host, options.port)
    sys.stdout.write(f"serving on {options.host}:{server.server_address[1]}\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
