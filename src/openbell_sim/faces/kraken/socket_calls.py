"""What a client says on WebSocket v2: subscriptions, and the calls that REST has too.

Source: docs.kraken.com, "Spot WebSocket v2", each method's page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openbell_sim.faces.kraken import accounts, ids, orders, render, words
from openbell_sim.faces.kraken.accounts import TOKEN_LIFE_S, Token, Tokens
from openbell_sim.faces.kraken.errors import INVALID_SESSION, KrakenError, invalid
from openbell_sim.faces.kraken.hub import DEPTHS, Client, Hub, Subscription
from openbell_sim.faces.kraken.market_data import INTERVALS_MIN
from openbell_sim.faces.kraken.orders import Call, Desk
from openbell_sim.faces.kraken.parameters import Parameters
from openbell_sim.faces.kraken.render import Json
from openbell_sim.faces.port import RequestKind
from openbell_sim.keys import KeyRing
from openbell_sim.ledger import Order

KINDS = {
    "subscribe": RequestKind.STREAM,
    "unsubscribe": RequestKind.STREAM,
    "ping": RequestKind.OTHER,
    "add_order": RequestKind.SUBMIT,
    "batch_add": RequestKind.SUBMIT,
    "amend_order": RequestKind.AMEND,
    "edit_order": RequestKind.AMEND,
    "cancel_order": RequestKind.CANCEL,
    "batch_cancel": RequestKind.CANCEL,
    "cancel_all": RequestKind.MASS_CANCEL,
    "cancel_all_orders_after": RequestKind.DEAD_MAN,
}
_PRIVATE_CHANNELS = ("executions", "balances")
_OF_A_PAIR = ("ticker", "book", "trade", "ohlc")


@dataclass(frozen=True)
class Said:
    """A message of a client. Answers to it are put at once; there may be several."""

    client: Client
    method: str
    parameters: Parameters
    received_ns: int
    answer: Callable[[Json], None]
    """Adds what every answer carries: method, `req_id`, times."""


class SocketCalls:
    def __init__(self, desk: Desk, hub: Hub, keys: KeyRing, tokens: Tokens) -> None:
        self._desk = desk
        self._hub = hub
        self._keys = keys
        self._tokens = tokens
        self._calls: dict[str, Callable[[Said], None]] = {
            "ping": self._ping,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "add_order": self._add_order,
            "batch_add": self._batch_add,
            "amend_order": self._amend_order,
            "edit_order": self._edit_order,
            "cancel_order": self._cancel_order,
            "batch_cancel": self._batch_cancel,
            "cancel_all": self._cancel_all,
            "cancel_all_orders_after": self._cancel_all_after,
        }

    def run(self, said: Said) -> None:
        """Carries it out and answers. Raises KrakenError for what is refused as a whole."""
        call = self._calls.get(said.method)
        if call is None:
            raise KrakenError("Event(s) not found")
        call(said)

    def account_of(self, parameters: Parameters) -> str | None:
        """Whose token a message carries; None where there is none that is known."""
        try:
            token = self._tokens.find(parameters.text("token"))
        except KrakenError:
            return None
        return token.account if token is not None else None

    def _ping(self, said: Said) -> None:
        said.answer({"method": "pong"})

    # Subscriptions.

    def _identify(self, said: Said) -> Token:
        """A token must be used in time, unless this connection lives by it already; and its key
        must still be good."""
        token = self._tokens.find(said.parameters.text("token"))
        if token is None or self._keys.find(token.key) is None:
            raise KrakenError(INVALID_SESSION)
        in_use = any(s.key == token.key for s in said.client.subscriptions.values())
        age_ns = self._desk.exchange.now_ns() - token.made_ns
        if age_ns > TOKEN_LIFE_S * 10**9 and not in_use:
            raise KrakenError(INVALID_SESSION)
        return token

    def _subscribe(self, said: Said) -> None:
        p = said.parameters
        channel = p.text("channel")
        snapshot = p.flag("snapshot", True)
        if channel in _PRIVATE_CHANNELS:
            self._subscribe_private(said, channel, snapshot)
        elif channel == "instrument":
            self._begin(said, Subscription(channel), {"snapshot": snapshot}, snapshot)
        elif channel in _OF_A_PAIR:
            for symbol in p.texts("symbol"):
                self._subscribe_pair(said, channel, symbol, snapshot)
        else:
            raise KrakenError("Subscription name invalid")

    def _subscribe_private(self, said: Said, channel: str, snapshot: bool) -> None:
        p, token = said.parameters, self._identify(said)
        subscription = Subscription(
            channel,
            account=token.account,
            key=token.key,
            transitions=p.flag("order_status", True),
        )
        if channel == "balances":
            self._begin(said, subscription, {"snapshot": snapshot}, snapshot)
            return
        with_orders, with_trades = p.flag("snap_orders", True), p.flag("snap_trades")
        facts: Json = {
            "maxratecount": int(self._desk.limits.trading_max),
            "snap_orders": with_orders,
            "snap_trades": with_trades,
        }
        self._begin(said, subscription, facts, False)
        self._hub.snapshot_executions(
            said.client, subscription, orders=with_orders, trades=with_trades
        )

    def _subscribe_pair(self, said: Said, channel: str, symbol: str, snapshot: bool) -> None:
        p = said.parameters
        pair = self._desk.pairs.by_v2.get(symbol)
        if pair is None:
            said.answer(
                {
                    "success": False,
                    "error": f"Currency pair not supported {symbol}",
                    "symbol": symbol,
                }
            )
            return
        subscription = Subscription(channel, pair)
        facts: Json = {"symbol": symbol, "snapshot": snapshot}
        if channel == "book":
            subscription.depth = p.integer("depth", 10)
            if subscription.depth not in DEPTHS:
                raise KrakenError("Subscription depth not supported")
            facts["depth"] = subscription.depth
        elif channel == "ticker":
            trigger = p.text_or_none("event_trigger") or "trades"
            if trigger not in ("bbo", "trades"):
                raise invalid("event_trigger")
            subscription.on_quotes = trigger == "bbo"
            facts["event_trigger"] = trigger
        elif channel == "ohlc":
            subscription.interval_min = p.integer("interval", 1)
            if subscription.interval_min not in INTERVALS_MIN:
                raise KrakenError("Subscription ohlc interval not supported")
            facts["interval"] = subscription.interval_min
        self._begin(said, subscription, facts, snapshot)

    def _begin(self, said: Said, subscription: Subscription, facts: Json, snapshot: bool) -> None:
        if subscription.name in said.client.subscriptions:
            raise KrakenError("Already subscribed")
        said.answer({"success": True, "result": {"channel": subscription.channel, **facts}})
        self._hub.begin(said.client, subscription, snapshot=snapshot)

    def _unsubscribe(self, said: Said) -> None:
        p = said.parameters
        channel = p.text("channel")
        wanted = set(p.texts("symbol"))
        if channel in _PRIVATE_CHANNELS:
            self._identify(said)
        found = [
            subscription
            for subscription in said.client.subscriptions.values()
            if subscription.channel == channel
            and (subscription.pair is None or subscription.pair.v2 in wanted)
        ]
        if not found:
            raise KrakenError("Subscription Not Found")
        for subscription in found:
            del said.client.subscriptions[subscription.name]
            result: Json = {"channel": channel}
            if subscription.pair is not None:
                result["symbol"] = subscription.pair.v2
            said.answer({"success": True, "result": result})

    # Orders.

    def _call(self, said: Said) -> Call:
        token = self._identify(said)
        credentials = self._keys.find(token.key)
        assert credentials is not None
        return Call(self._desk, credentials, said.parameters, said.received_ns)

    def _read(self, call: Call, p: Parameters) -> words.NewOrder:
        return words.from_socket(
            p, self._desk.pairs, call.account, call.received_ns, call.exchange.now_ns()
        )

    def _add_order(self, said: Said) -> None:
        call, p = self._call(said), said.parameters
        if p.flag("validate"):
            orders.validate(call, self._read(call, p))
            said.answer({"success": True, "result": {}})
            return
        try:
            new = self._read(call, p)
        except KrakenError as error:
            orders.record_unreadable(call, p, error)
        placed = orders.place(call, new)
        said.answer({"success": True, "result": _placed(placed)})

    def _batch_add(self, said: Said) -> None:
        call, p = self._call(said), said.parameters
        shared = {"symbol": p.text("symbol"), "deadline": p.text_or_none("deadline")}
        read = [self._read(call, each.with_values(shared)) for each in p.inners("orders")]
        if p.flag("validate"):
            for new in read:
                orders.validate(call, new)
            said.answer({"success": True, "result": []})
            return
        results = [
            {"error": result.message} if isinstance(result, KrakenError) else _placed(result)
            for result in orders.place_batch(call, read)
        ]
        said.answer({"success": True, "result": results})

    def _amend_order(self, said: Said) -> None:
        order, amend_id = orders.amend(self._call(said), "order_id")
        result: Json = {"amend_id": amend_id}
        if said.parameters.has("order_id"):
            result["order_id"] = ids.order_txid(order.order_id)
        else:
            result["cl_ord_id"] = order.cl_ord_id
        said.answer({"success": True, "result": result})

    def _edit_order(self, said: Said) -> None:
        edited = orders.edit(self._call(said), "order_id", "order_qty", "limit_price")
        result: Json = {
            "order_id": ids.order_txid(edited.order.order_id),
            "original_order_id": ids.order_txid(edited.replaced.order_id),
        }
        said.answer({"success": True, "result": result})

    def _cancel_order(self, said: Said) -> None:
        """An answer for each order."""
        call, p = self._call(said), said.parameters
        given = [name for name in ("order_id", "order_userref", "cl_ord_id") if p.has(name)]
        if len(given) != 1:
            raise invalid()
        (name,) = given
        for reference in p.texts(name):
            try:
                if name == "cl_ord_id":
                    found = [orders.by_client_id(call, reference)]
                else:
                    found = orders.named(call, reference)
                orders.cancel(call, found)
            except KrakenError as error:
                said.answer({"success": False, "error": error.message, name: reference})
                continue
            for order in found:
                said.answer({"success": True, "result": _cancelled(order)})

    def _batch_cancel(self, said: Said) -> None:
        call, p = self._call(said), said.parameters
        count = orders.cancel_batch(call, p.texts("orders"), p.texts("cl_ord_id"))
        said.answer({"success": True, "result": {"count": count}})

    def _cancel_all(self, said: Said) -> None:
        count = orders.cancel_all(self._call(said))
        said.answer({"success": True, "result": {"count": count}})

    def _cancel_all_after(self, said: Said) -> None:
        said.answer({"success": True, "result": accounts.cancel_all_after(self._call(said))})


def _placed(order: Order) -> Json:
    result: Json = {"order_id": ids.order_txid(order.order_id)}
    given = words.client_id(order)
    if given is not None:
        result["cl_ord_id"] = given
    else:
        result["order_userref"] = words.note_of(order).userref
    return result


def _cancelled(order: Order) -> Json:
    result: Json = {"order_id": ids.order_txid(order.order_id)}
    given = words.client_id(order)
    if given is not None:
        result["cl_ord_id"] = given
    return result


def error_of(body: object) -> str:
    """The first message of a REST error body."""
    messages = body.get("error") if isinstance(body, dict) else None
    return str(messages[0]) if isinstance(messages, list) and messages else "EService:Unavailable"


def times(received_ns: int, now_ns: int) -> Json:
    return {"time_in": render.rfc3339(received_ns), "time_out": render.rfc3339(now_ns)}
