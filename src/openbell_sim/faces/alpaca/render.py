"""The exchange's objects as Alpaca shows them: orders, trade updates, activities, assets."""

from __future__ import annotations

from decimal import Decimal

from openbell.domain.orders import OrdStatus, OrdType
from openbell_sim.faces.alpaca import names
from openbell_sim.faces.alpaca.orders import Replacements, note_of, status_of
from openbell_sim.faces.alpaca.stocks import LISTINGS, Listing
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order, OwnFill

Json = dict[str, object]

_TYPE = {
    OrdType.MARKET: "market",
    OrdType.LIMIT: "limit",
    OrdType.STOP: "stop",
    OrdType.STOP_LIMIT: "stop_limit",
}
_UNKNOWN = Listing("", "NYSE")


def order(item: Order, replacements: Replacements, *, status: str = "") -> Json:
    """`status` where the reply says another one than the order has by then."""
    note, shown = note_of(item), status or status_of(item)
    replaced_by = replacements.of(item)
    ended_at = names.rfc3339(item.updated_ns)
    filled_avg = item.cum_quote / item.cum_qty if item.cum_qty else None
    return {
        "id": names.order_id(item.order_id),
        "client_order_id": item.cl_ord_id,
        "created_at": names.rfc3339(item.accepted_ns),
        "updated_at": names.rfc3339(item.updated_ns),
        "submitted_at": names.rfc3339(item.accepted_ns),
        "filled_at": ended_at if item.status is OrdStatus.FILLED else None,
        "expired_at": ended_at if shown == "expired" else None,
        "canceled_at": ended_at if shown == "canceled" else None,
        "failed_at": None,
        "replaced_at": ended_at if shown == "replaced" else None,
        "replaced_by": None if replaced_by is None else names.order_id(replaced_by),
        "replaces": None if note.replaces is None else names.order_id(note.replaces),
        "asset_id": names.asset_id(item.symbol),
        "symbol": item.symbol,
        "asset_class": "us_equity",
        "notional": names.number_or_none(note.notional),
        "qty": names.number(item.order_qty) if note.notional is None else None,
        "filled_qty": names.number(item.cum_qty),
        "filled_avg_price": names.number_or_none(filled_avg),
        "order_class": "",
        "order_type": _TYPE[item.ord_type],
        "type": _TYPE[item.ord_type],
        "side": item.side.value.lower(),
        "time_in_force": note.time_in_force,
        "limit_price": names.number_or_none(item.price),
        "stop_price": names.number_or_none(item.stop_price),
        "status": shown,
        "extended_hours": note.extended_hours,
        "legs": None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "position_intent": note.position_intent or None,
        "subtag": None,
        "source": "access_key" if item.origin == "api" else None,
    }


def trade_update(
    event: str,
    item: Order,
    replacements: Replacements,
    *,
    at_ns: int,
    fill: OwnFill | None = None,
    position_qty: Decimal | None = None,
) -> Json:
    """The `data` of a message in the `trade_updates` stream."""
    update: Json = {
        "event": event,
        "timestamp": names.rfc3339(at_ns),
        "order": order(item, replacements),
    }
    if fill is not None:
        update |= {
            "execution_id": names.execution_id(fill.symbol, fill.exec_id, fill.order_id),
            "price": names.number(fill.price),
            "qty": names.number(fill.qty),
            "position_qty": names.number_or_none(position_qty),
        }
    return update


def fill_activity(fill: OwnFill, item: Order, cum_qty: Decimal) -> Json:
    """`cum_qty` as it was after this fill."""
    leaves_qty = item.order_qty - cum_qty
    execution = names.execution_id(fill.symbol, fill.exec_id, fill.order_id)
    return {
        "id": names.activity_id(fill.at_ns, execution),
        "activity_type": "FILL",
        "transaction_time": names.rfc3339(fill.at_ns),
        "type": "partial_fill" if leaves_qty else "fill",
        "price": names.number(fill.price),
        "qty": names.number(fill.qty),
        "side": fill.side.value.lower(),
        "symbol": fill.symbol,
        "leaves_qty": names.number(leaves_qty),
        "order_id": names.order_id(fill.order_id),
        "cum_qty": names.number(cum_qty),
        "order_status": "partially_filled" if leaves_qty else "filled",
    }


def asset(instrument: Instrument) -> Json:
    listing = LISTINGS.get(instrument.symbol, _UNKNOWN)
    return {
        "id": names.asset_id(instrument.symbol),
        "class": "us_equity",
        "exchange": listing.exchange,
        "symbol": instrument.symbol,
        "name": listing.name,
        "status": "active",
        "tradable": True,
        "marginable": instrument.margin_rate is not None,
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "30",
        "shortable": instrument.margin_rate is not None,
        "easy_to_borrow": instrument.margin_rate is not None,
        "fractionable": instrument.lot < 1,
        "attributes": [],
    }
