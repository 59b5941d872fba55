"""A new order in Kraken's words, from REST or WebSocket v2, and as the exchange takes it.

Source: docs.kraken.com, "Add Order" (REST and WebSocket v2) and "Spot Client Order Identifiers".
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.kraken.errors import DEADLINE, UNKNOWN_PAIR, KrakenError, invalid
from openbell_sim.faces.kraken.pairs import Pair, Pairs
from openbell_sim.faces.kraken.parameters import Parameters
from openbell_sim.ledger import Order
from openbell_sim.matching.book import SelfTradePrevention

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_FREE_TEXT = re.compile(r"[\x21-\x7e]{1,18}")
_OWN_ID = "~"
"""Begins the identifier that the exchange knows an order by whose client gave none."""
_TYPES = {
    "market": OrdType.MARKET,
    "limit": OrdType.LIMIT,
    "stop-loss": OrdType.STOP,
    "stop-loss-limit": OrdType.STOP_LIMIT,
}
TYPE_NAMES = {ord_type: name for name, ord_type in _TYPES.items()}
_PREVENTION = {
    "cancel-newest": SelfTradePrevention.EXPIRE_TAKER,
    "cancel-oldest": SelfTradePrevention.EXPIRE_MAKER,
    "cancel-both": SelfTradePrevention.EXPIRE_BOTH,
    "cancel_newest": SelfTradePrevention.EXPIRE_TAKER,
    "cancel_oldest": SelfTradePrevention.EXPIRE_MAKER,
    "cancel_both": SelfTradePrevention.EXPIRE_BOTH,
}
_FLAGS = {"post", "fcib", "fciq", "nompp", "viqc"}
_DEADLINE_MAX_NS = 60_000_000_000


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a client's order the exchange need not understand, and keeps."""

    userref: int = 0
    oflags: str = "fciq"


def note_of(order: Order) -> Note:
    """Empty for an order that a person gave at the venue."""
    return msgspec.json.decode(order.note, type=Note) if order.note else Note()


def client_id(order: Order) -> str | None:
    """The `cl_ord_id` that the client gave."""
    return order.cl_ord_id if is_client_id(order.cl_ord_id) else None


def is_client_id(text: str) -> bool:
    if text.startswith(_OWN_ID):
        return False
    return bool(_UUID.fullmatch(text) or _FREE_TEXT.fullmatch(text))


@dataclass(frozen=True, kw_only=True)
class NewOrder:
    request: OrderRequest
    pair: Pair


def from_rest(p: Parameters, pairs: Pairs, account: str, received_ns: int, now_ns: int) -> NewOrder:
    """Raises KrakenError."""
    pair = pairs.find(p.text("pair"))
    if pair is None:
        raise KrakenError(UNKNOWN_PAIR)
    kind = _type(p.text_or_none("ordertype"), "ordertype")
    flags = p.texts("oflags")
    if not _FLAGS.issuperset(flags) or {"fcib", "fciq"} <= set(flags):
        raise invalid("oflags")
    for name in ("starttm", "expiretm"):
        if p.text_or_none(name) not in (None, "0"):
            raise invalid(name)
    if p.text_or_none("leverage") not in (None, "none"):
        raise KrakenError("EOrder:Cannot open position")
    if p.has("close[ordertype]") or p.has("close"):
        raise invalid("close")
    in_quote = "viqc" in flags
    volume = p.decimal("volume")
    triggered = kind in (OrdType.STOP, OrdType.STOP_LIMIT)
    limit_name = "price2" if triggered else "price"
    return _order(
        p,
        pair,
        account=account,
        kind=kind,
        side=_side(p.text("type"), "type"),
        qty=None if in_quote else volume,
        quote_qty=volume if in_quote else None,
        limit_name=limit_name,
        stop_price=p.decimal("price") if triggered else None,
        time_in_force=p.text_or_none("timeinforce"),
        post_only="post" in flags,
        note=Note(p.integer("userref", 0), _flags_text(flags)),
        prevention=p.text_or_none("stptype") or "cancel-newest",
        received_ns=received_ns,
        now_ns=now_ns,
    )


def from_socket(
    p: Parameters, pairs: Pairs, account: str, received_ns: int, now_ns: int
) -> NewOrder:
    """Raises KrakenError."""
    pair = pairs.by_v2.get(p.text("symbol"))
    if pair is None:
        raise KrakenError(f"Currency pair not supported {p.text('symbol')}")
    kind = _type(p.text_or_none("order_type"), "order_type")
    for name in ("effective_time", "expire_time", "conditional", "display_qty"):
        if p.has(name):
            raise invalid(name)
    if p.flag("margin"):
        raise KrakenError("EOrder:Cannot open position")
    stop_price = None
    if kind in (OrdType.STOP, OrdType.STOP_LIMIT):
        triggers = p.inner("triggers")
        if triggers.text_or_none("price_type") not in (None, "static"):
            raise invalid("price_type")
        stop_price = triggers.decimal("price")
    flags = ["post"] if p.flag("post_only") else []
    flags.append("fcib" if p.text_or_none("fee_preference") == "base" else "fciq")
    cash = p.decimal_or_none("cash_order_qty")
    return _order(
        p,
        pair,
        account=account,
        kind=kind,
        side=_side(p.text("side"), "side"),
        qty=p.decimal("order_qty") if cash is None else None,
        quote_qty=cash,
        limit_name="limit_price",
        stop_price=stop_price,
        time_in_force=p.text_or_none("time_in_force"),
        post_only="post" in flags,
        note=Note(p.integer("order_userref", 0), _flags_text(flags)),
        prevention=p.text_or_none("stp_type") or "cancel_newest",
        received_ns=received_ns,
        now_ns=now_ns,
    )


def _order(
    p: Parameters,
    pair: Pair,
    *,
    account: str,
    kind: OrdType,
    side: Side,
    qty: Decimal | None,
    quote_qty: Decimal | None,
    limit_name: str,
    stop_price: Decimal | None,
    time_in_force: str | None,
    post_only: bool,
    note: Note,
    prevention: str,
    received_ns: int,
    now_ns: int,
) -> NewOrder:
    check_deadline(p, now_ns)
    limited = kind in (OrdType.LIMIT, OrdType.STOP_LIMIT)
    if post_only and kind is not OrdType.LIMIT:
        raise invalid("post only with order type")
    if quote_qty is not None and (kind is not OrdType.MARKET or side is not Side.BUY):
        raise invalid("viqc")
    if p.flag("reduce_only"):
        raise KrakenError("EOrder:Reduce only:No position exists")
    cl_ord_id = p.text_or_none("cl_ord_id")
    if cl_ord_id is not None and (note.userref or not is_client_id(cl_ord_id)):
        raise invalid("cl_ord_id")
    if time_in_force is not None and time_in_force.upper() not in ("GTC", "IOC"):
        raise invalid("timeinforce")
    if prevention not in _PREVENTION:
        raise invalid("stptype")
    request = OrderRequest(
        account=account,
        cl_ord_id=cl_ord_id or _OWN_ID + secrets.token_hex(8),
        symbol=pair.altname,
        side=side,
        ord_type=kind,
        time_in_force=TimeInForce((time_in_force or "GTC").upper()),
        qty=qty or Decimal(0),
        quote_qty=quote_qty,
        price=p.decimal(limit_name) if limited else None,
        stop_price=stop_price,
        post_only=post_only,
        prevention=_PREVENTION[prevention],
        note=msgspec.json.encode(note).decode(),
        received_ns=received_ns,
    )
    return NewOrder(request=request, pair=pair)


def check_deadline(p: Parameters, now_ns: int) -> None:
    """Raises KrakenError where the client's deadline has passed, or lies further off than allowed."""
    deadline_ns = p.moment_ns("deadline")
    if deadline_ns is None:
        return
    if deadline_ns < now_ns:
        raise KrakenError(DEADLINE)
    if deadline_ns > now_ns + _DEADLINE_MAX_NS:
        raise invalid("deadline")


def _type(name: str | None, parameter: str) -> OrdType:
    if name not in _TYPES:
        raise invalid(parameter)
    return _TYPES[name]


def _side(name: str, parameter: str) -> Side:
    if name not in ("buy", "sell"):
        raise invalid(parameter)
    return Side(name.upper())


def _flags_text(flags: list[str]) -> str:
    """Fees are taken in the quote currency whatever is preferred: so does the exchange."""
    fee = [] if {"fcib", "fciq"} & set(flags) else ["fciq"]
    return ",".join([*flags, *fee])
